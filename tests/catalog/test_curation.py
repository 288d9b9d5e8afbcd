"""Changes of the catalogue by people: who, when, from what to what, and back again."""

import pytest
from django.core.exceptions import ValidationError

from catalog import curation, history, imports, load
from catalog.models import Category, Claim, Entry, Link, Work
from catalog.selection import Selection, choose
from tests.site.people import person

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def listed(catalogue):
    """The bundled list."""


@pytest.fixture
def work():
    return Work.objects.get(slug="vllm")


def told(work) -> list[tuple]:
    """All changes, the newest first, as a person reads them."""
    return [
        (str(c.record.history_user), c.kind, c.what, {f.name: (f.before, f.after) for f in c.fields})
        for c in history.of_work(work)
    ]


def undo(work, place: int = 0) -> None:
    change = history.of_work(work)[place]
    history.undo(change.kind, change.record.history_id, person("other"))


def found(q: str) -> set[str]:
    chosen = choose(Selection(q=q))
    return set(Work.objects.filter(pk__in=chosen.found.snapshot.pks[chosen.mask]).values_list("slug", flat=True))


def test_loading_the_files_writes_no_history(work):
    assert not any(model.history.exists() for model in (Work, Entry, Link, Claim, Category))
    assert told(work) == []


def test_a_change_has_author_time_before_and_after_and_search_knows_it(work):
    before = work.title
    curation.change(work, {"title": "Zyxwv", "venue": work.venue}, person("curator"), "a typo")
    assert told(work) == [("curator", "work", "changed", {"title": (before, "Zyxwv")})]
    record = history.of_work(work)[0].record
    assert record.history_date and record.history_change_reason == "a typo"
    assert found("zyxwv") == {"vllm"}
    undo(work)
    assert Work.objects.get(slug="vllm").title == before and found("zyxwv") == set()
    assert told(work)[0] == ("other", "work", "changed", {"title": ("Zyxwv", before)})


def test_what_stays_as_it_is_is_no_change(work):
    curation.change(work, {"title": work.title}, person("curator"))
    assert told(work) == [] and not Work.history.exists()


def test_authors_and_topics_are_part_of_it(work):
    before = curation.values(work)
    curation.change(work, {"authors": ["B. Two", "A. One"], "topics": ["new-topic"]}, person("curator"))
    (who, _, _, fields), *rest = told(work)
    assert (who, rest) == ("curator", []) and fields["authors"] == (", ".join(before["authors"]), "B. Two, A. One")
    assert fields["topics"][1] == "new-topic" and found("author:two") == found("topic:new-topic") == {"vllm"}
    undo(work)
    assert curation.values(Work.objects.get(pk=work.pk)) == before


def test_a_change_over_one_is_not_undone_by_mistake(work):
    entry = work.entries.first()
    stars, title = entry.stars, entry.title
    curation.change(entry, {"stars": 4, "title": "T"}, person("curator"))
    curation.change(entry, {"stars": 5}, person("reader"))
    with pytest.raises(history.Refused, match="stars was changed again since: undo that first"):
        undo(work, 1)
    undo(work, 0)
    undo(work, 2)
    entry.refresh_from_db()
    assert (entry.stars, entry.title) == (stars, title)


def test_another_field_may_have_changed_since(work):
    entry = work.entries.first()
    stars = entry.stars
    curation.change(entry, {"stars": 4}, person("curator"))
    curation.change(entry, {"title": "T"}, person("reader"))
    undo(work, 1)
    entry.refresh_from_db()
    assert (entry.stars, entry.title) == (stars, "T")


def test_what_files_change_between_is_not_taken_for_a_persons(work):
    curation.change(work, {"venue": "A"}, person("curator"))
    Work.objects.filter(pk=work.pk).update(title="By a file")
    curation.change(work, {"venue": "B"}, person("curator"))
    assert [fields for *_, fields in told(work)] == [{"venue": ("A", "B")}, {"venue": (work.venue, "A")}]


def test_an_entry_comes_back_with_its_links(work):
    entry = work.entries.first()
    pk, links, before = entry.pk, list(entry.links.values()), curation.values(entry)
    curation.remove(entry, person("curator"), "not about this")
    assert not Entry.objects.filter(pk=pk).exists() and len(links) > 0
    assert [(kind, what) for _, kind, what, _ in told(work)] == [("entry", "removed")] + [("link", "removed")] * len(
        links
    )
    undo(work)
    assert curation.values(Entry.objects.get(pk=pk)) == before
    assert list(Entry.objects.get(pk=pk).links.values()) == links


def test_a_link_of_a_removed_entry_waits_for_it(work):
    curation.remove(work.entries.first(), person("curator"))
    with pytest.raises(history.Refused, match="its entry is gone: bring that back first"):
        undo(work, 1)


def test_claims_come_and_go_and_come_back(work):
    claim = work.claims.first()
    pk, before = claim.pk, curation.values(claim)
    curation.remove(claim, person("curator"))
    assert work.claims.filter(key=claim.key).count() == 0
    new = Claim(work=work, key="new", position=99, statement="It zyxwvs", direction="trend")
    curation.add(new, person("curator"))
    assert found("zyxwvs") == {"vllm"}
    undo(work, 0)  # the new one goes
    assert not Claim.objects.filter(key="new").exists() and found("zyxwvs") == set()
    undo(work, 2)  # the old one comes back
    assert curation.values(Claim.objects.get(pk=pk)) == before
    with pytest.raises(history.Refused, match="there again already"):
        undo(work, 3)


def test_a_place_that_was_taken_since_is_said(work):
    claim = work.claims.first()
    curation.remove(claim, person("curator"))
    curation.add(Claim(work=work, key=claim.key, position=0, statement="Other", direction="trend"), person("curator"))
    with pytest.raises(history.Refused, match="has a claim with that key already"):
        undo(work, 1)


@pytest.mark.parametrize(
    ("fields", "word"),
    [({"title": ""}, "blank"), ({"url": "x"}, "URL"), ({"arxiv_id": "2312.07104"}, "already exists")],
)
def test_what_cannot_be_is_refused_whole(work, fields, word):
    Work.objects.filter(slug="mamba").update(arxiv_id="2312.07104")
    before = curation.values(work)
    with pytest.raises(ValidationError, match=word):
        curation.change(work, {"venue": "V"} | fields, person("curator"))
    assert curation.values(Work.objects.get(pk=work.pk)) == before and told(work) == []


def test_loading_again_keeps_what_people_did(work):
    entry, claim = work.entries.first(), work.claims.first()
    pks = entry.pk, claim.pk
    other = Work.objects.get(slug="orca").entries.first()
    curation.change(work, {"title": "Mine"}, person("curator"))
    curation.remove(entry, person("curator"))
    curation.remove(claim, person("curator"))
    curation.change(other, {"stars": 5}, person("curator"))
    counts = load.load()
    assert counts["created"] == counts["updated"] == counts["removed"] == 0
    assert Work.objects.get(slug="vllm").title == "Mine" and Entry.objects.get(pk=other.pk).stars == 5
    assert not Entry.objects.filter(pk=pks[0]).exists() and not Claim.objects.filter(pk=pks[1]).exists()


LIST = """## Routing

|Date|Title|Paper|Code|Recommend|
|-|-|-|-|-|
|2024.01|[Router] A Router of Tokens|[[pdf]](https://arxiv.org/pdf/2401.09999)|[[r]](https://github.com/a/r)|⭐️|
"""


def test_an_import_is_somebodys(work):
    entry = work.entries.first()
    before = entry.stars
    text = (
        LIST
        + f"\n## {entry.category.name}\n\n|Date|Title|Paper|Code|Recommend|\n|-|-|-|-|-|\n"
        + f"|{entry.month.replace('-', '.')}|[**{entry.tag}**] {entry.title}"
        + f"|[[pdf]]({work.entries.first().links.filter(role='paper').first().url})|⚠️|⭐️⭐️⭐️⭐️|\n"
    )
    imports.apply(imports.plan(text), person("curator"), "import of list.md")
    router = Work.objects.get(slug="router")
    changes = told(router)
    assert {(who, kind, what) for who, kind, what, _ in changes} == {
        ("curator", kind, "added") for kind in ("work", "entry", "link")
    }
    assert {c.record.history_change_reason for c in history.of_work(router)} == {"import of list.md"}
    assert ("curator", "entry", "changed", {"stars": (str(before), "4")}) in told(work)
    undo(work, [c.kind for c in history.of_work(work)].index("entry"))
    entry.refresh_from_db()
    assert entry.stars == before
    curation.change(router, {"authors": ["Someone"]}, person("curator"))
    assert len(told(router)) == len(changes) + 1
    with pytest.raises(history.Refused, match="not removed"):
        undo(router, len(changes))


def test_pages_with_a_long_history_ask_little(work, django_assert_max_num_queries):
    for n in range(30):
        curation.change(work, {"venue": f"V{n}"}, person("curator"))
    with django_assert_max_num_queries(80):
        assert len(history.of_work(work)) == 30
