"""The list as the Markdown it came as: a table a category, the same columns, tags, flames, stars and links."""

import re
from collections.abc import Iterable, Iterator

from django.db.models import QuerySet

from catalog import addresses
from catalog.models import Category, Entry, Link, Work

HEAD = "|Date|Title|Paper|Code|Recommend|\n|:---:|:---|:---|:---|:---|\n"
# What would be read as Markdown where it stands: escaped anywhere, or only at a word's edge.
SPECIAL = re.compile(r"[\\`*\[\]<>|~]|(?<![^\W_])_|_(?![^\W_])|&(?=#|\w+;)|!(?=\[)|https?(?=://)")


def whole() -> str:
    """Every category with its entries."""
    return _of(Entry.objects.all())


def of_works(works: Iterable[Work]) -> str:
    """The entries of some works, in the list's order."""
    wanted = {work.pk for work in works}
    return _of(Entry.objects.all(), wanted)


def _of(entries: QuerySet[Entry], wanted: set[int] | None = None) -> str:
    listed: dict[int, list[Entry]] = {}
    for entry in entries.prefetch_related("links").order_by("position", "pk"):
        if wanted is None or entry.work_id in wanted:
            listed.setdefault(entry.category_id, []).append(entry)
    return "".join(lines(Category.objects.all(), listed))


def lines(categories: Iterable[Category], listed: dict[int, list[Entry]]) -> Iterator[str]:
    """The list, piece by piece."""
    shown = [category for category in categories if listed.get(category.pk)]
    yield "# Papers on LLM inference\n\n## Contents\n\n"
    for category in shown:
        yield f"* [{escape(category.name)}](#{category.slug})\n"
    for category in shown:
        yield f'\n## {escape(category.name)}\n<a id="{category.slug}"></a>\n\n{HEAD}'
        for entry in listed[category.pk]:
            yield row(entry)


def row(entry: Entry) -> str:
    """One line of a table."""
    links = list(entry.links.all())
    tag = f"**{escape(entry.tag)}**" if entry.bold else escape(entry.tag)
    title = f"{'🔥' * entry.highlights}{f'[{tag}] ' if entry.tag else ''}{escape(entry.title)}"
    paper, code = (" ".join(link_of(link) for link in links if link.role == role) for role in ("paper", "code"))
    return f"|{entry.month.replace('-', '.')}|{title}|{paper or '⚠️'}|{code or '⚠️'}|{'⭐️' * entry.stars}|\n"


def link_of(link: Link) -> str:
    """`[[label]](address)`, with the badge of stars that a list shows for code on GitHub."""
    target = link.url if re.fullmatch(r"[^\s()<>|\\]+", link.url) else f"<{re.sub(r'[<>|]', _quoted, link.url)}>"
    written = f"[[{escape(link.label)}]]({target})"
    repository = addresses.repository(link.url) if link.role == Link.Role.CODE else ""
    badge = f" ![](https://img.shields.io/github/stars/{repository}.svg?style=social)" if repository else ""
    return written + badge


def escape(text: str) -> str:
    """Words that Markdown leaves as they are."""
    return SPECIAL.sub(
        lambda found: f"\\{found[0]}" if len(found[0]) == 1 else f"{found[0][:-1]}&#{ord(found[0][-1])};",
        " ".join(text.split()),
    )


def _quoted(found: re.Match) -> str:
    return f"%{ord(found[0]):02X}"
