"""Works of the local arXiv server, and the command that syncs them."""

from io import StringIO

from django.core.management import call_command

from catalog import index
from catalog.models import Author, Authorship, Work

SINKS, OLD = "2309.17453", "hep-th/9901001"


def work(number: str = SINKS, title: str = "Sinks: a paper", **fields) -> Work:
    Work.objects.filter(arxiv_id=number).delete()
    made = Work.objects.create(
        slug=f"w-{number[-4:]}", title=title, kind="paper", arxiv_id=number, url=f"https://arxiv.org/abs/{number}",
        published="2023-09-29", **fields,
    )  # fmt: skip
    for i, name in enumerate(("Ann Author", "Bob Böse")):
        Authorship.objects.create(work=made, position=i, author=Author.objects.get_or_create(name=name)[0])
    index.touch()  # an earlier test's list is not this one's
    return made


def sync(*words: str) -> str:
    out = StringIO()
    call_command("sync_arxiv", *words, stdout=out)
    return out.getvalue()
