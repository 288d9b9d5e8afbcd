"""One table row or list item becomes one row of the list: title, tag, month, rating, links, people."""

import re
from dataclasses import dataclass, replace

from catalog import addresses
from catalog import markdown_facts as facts
from catalog.markdown_text import BOLD, CODE_LABEL, LINK_MARK, Found, Text
from catalog.markdown_titles import Draft, is_generic, read_title

MAX_STARS = 5
HEADERS = [
    ("date", r"\b(?:date|month|time|published?|when)\b|日期|时间|发布|发表"),
    ("year", r"\byear\b|年份"),
    ("title", r"\btitles?\b|标题|题目|论文名"),
    ("rating", r"\b(?:recommend\w*|recom|rating|rate|score)\b|推荐|评分|⭐"),
    ("stars", r"\bstars?\b"),
    ("venue", r"\b(?:venue|conference|journal|conf|pub|publication|published in|publisher)\b|会议|期刊"),
    ("authors", r"\bauthors?\b|作者"),
    ("code", r"\b(?:codes?|git|github|repo|repository|repositories|implementations?|project|source)\b|代码|开源|项目"),
    ("paper", r"\b(?:papers?|pdfs?|links?|urls?|arxiv|doi|resources?)\b|论文|链接|地址"),
    ("tag", r"\b(?:tags?|names?|methods?|models?|abbr\w*|acronym|alias|short|algorithms?|systems?|works?)\b|简称|方法"),
]  # fmt: skip


@dataclass(frozen=True)
class RowLink:
    """A link of a row, for the paper or the code."""

    role: str
    label: str
    url: str


@dataclass(frozen=True)
class Row:
    """What a list says of one work. `stars` and `highlights` are None where it does not rate; `unkept` has no place."""

    line: int
    category: tuple[str, ...]
    title: str
    tag: str = ""
    bold: bool = False
    month: str = ""
    stars: int | None = None
    highlights: int | None = None
    links: tuple[RowLink, ...] = ()
    authors: tuple[str, ...] = ()
    venue: str = ""
    unkept: tuple[str, ...] = ()


def column_role(header: str) -> str:
    """What a column holds, by its header; an empty string if that is not known."""
    name = " ".join(header.lower().split())
    return next((role for role, pattern in HEADERS if re.search(pattern, name)), "")


def from_item(text: Text, line: int, category: tuple[str, ...]) -> Row:
    """A list item that has a link, with the lines below it."""
    draft = Draft()
    read_title(draft, text, in_table=False)
    draft.links = [("", link) for link in text.links]
    return _finish(draft, line, category, text.stars or None, text.flames)


def from_cells(cells: list[Text], headers: list[str], line: int, category: tuple[str, ...]) -> Row | None:
    """A table row; None if it does not look like an entry. An empty title is the caller's to refuse."""
    roles = [column_role(header) for header in headers] + [""] * (len(cells) - len(headers))
    known = "title" in roles or "paper" in roles
    if not {"title", "paper", "tag"} & set(roles):
        roles = _guess_roles(cells, roles)
    if not any(cell.web_links for cell in cells) and not (known and any(_says(cell) for cell in cells)):
        return None
    draft = Draft()
    title_at = _title_cell(cells, roles)
    if title_at is not None:
        read_title(draft, cells[title_at], in_table=True)
    for i, (cell, role) in enumerate(zip(cells, roles, strict=False)):
        draft.links += [("title" if i == title_at else role, link) for link in cell.links]
        if i != title_at:
            _read_cell(draft, cell, role, headers[i] if i < len(headers) else "a cell beyond the last column")
    draft.title = draft.title or draft.tag
    stars = sum(cell.stars for cell in cells) or _rating(cells, roles)
    rated = stars or (0 if {"rating", "stars"} & set(roles) else None)
    return _finish(draft, line, category, rated, sum(cell.flames for cell in cells))


def _says(cell: Text) -> bool:
    return bool(re.search(r"[^\W_]", cell.plain()))


def _guess_roles(cells: list[Text], roles: list[str]) -> list[str]:
    """For a table whose headers say nothing: a date, a link, and the longest words as the title."""
    guessed = [
        role or ("date" if facts.is_date(cell.plain()) else "") for cell, role in zip(cells, roles, strict=False)
    ]
    free = [i for i, role in enumerate(guessed) if not role and _title_words(cells[i])]
    if free:
        guessed[max(free, key=lambda i: len(_title_words(cells[i])))] = "title"
    return guessed


def _title_words(cell: Text) -> str:
    """The words of a cell that could be a title: no generic labels, dates or venues."""
    words = LINK_MARK.sub(lambda m: "" if is_generic(cell.link(m[0])) else cell.link(m[0]).label, cell.marked)
    words = facts.clean_title(facts.without_empty_brackets(words))
    return (
        words
        if re.search(r"[^\W\d_]", words) and words.lower() not in ("n/a", "na", "none", "tba", "todo", "x")
        else ""
    )


def _title_cell(cells: list[Text], roles: list[str]) -> int | None:
    for role in ("title", "paper", "tag", ""):
        for i, cell in enumerate(cells):
            if roles[i] == role and _title_words(cell):
                return i
    return None


def _read_cell(draft: Draft, cell: Text, role: str, header: str) -> None:
    words = facts.tidy(facts.without_empty_brackets(cell.plain(labels=False)))
    if role in ("date", "year"):
        draft.note_date(cell.plain())
    elif role == "venue":
        if not facts.is_date(words):
            draft.venue = draft.venue or facts.tidy(cell.plain())
        if not draft.month:
            draft.note_date(cell.plain())
    elif role == "authors":
        draft.authors = facts.names(cell.plain() + " et al")
    elif role == "tag" and _title_words(cell):
        draft.tag, draft.bold = draft.tag or _title_words(cell), draft.bold or BOLD in cell.marked
    elif role not in ("rating", "stars") and re.search(r"[^\W_]", words):
        draft.unkept.append(f"{header.strip()}: {words}"[:300])


def _rating(cells: list[Text], roles: list[str]) -> int:
    for cell, role in zip(cells, roles, strict=False):
        number = re.fullmatch(r"\s*([0-5])(?:\s*/\s*5)?\s*", cell.plain())
        if role == "rating" and number:
            return int(number[1])
    return 0


def _finish(draft: Draft, line: int, category: tuple[str, ...], stars: int | None, flames: int) -> Row:
    if stars is not None and stars > MAX_STARS:
        draft.unkept.append(f"{stars} stars, read as {MAX_STARS}")
        stars = MAX_STARS
    links = _links(draft)
    for link in (link for _, link in draft.links if link.url and re.match(r"(?:https?:)?//[^/?#]*@", link.written)):
        draft.unkept.append(f"the name and password before the host of {link.url}"[:300])
    month = draft.month if draft.month[:4] >= "1900" else ""
    return Row(
        line=line,
        category=category,
        title=draft.title,
        tag=draft.tag,
        bold=draft.bold,
        month=month,
        stars=stars,
        highlights=flames,
        links=links,
        authors=tuple(draft.authors),
        venue=draft.venue[:200],
        unkept=tuple(draft.unkept),
    )


def _links(draft: Draft) -> tuple[RowLink, ...]:
    """The links once each, with their roles: the column says it, then the label, then the host."""
    found: dict[str, RowLink] = {}
    for column, link in draft.links:
        key = addresses.key(link.url) if link.url else ""
        if key and key not in found:
            label = link.label if link.label and link is not draft.title_link and not _is_title(draft, link) else ""
            found[key] = RowLink(_role(column, link, key), _label(label, link.url), link.url)
    links = list(found.values())
    title = draft.title_link or next((link for column, link in draft.links if column == "title" and link.url), None)
    others = [link for link in links if link.role == "paper"]
    if title and not others:
        links = [replace(link, role="paper") if link.url == title.url else link for link in links]
    return tuple(sorted(links, key=lambda link: link.role != "paper"))


def _is_title(draft: Draft, link: Found) -> bool:
    return facts.clean_title(link.label) == draft.title


def _role(column: str, link: Found, key: str) -> str:
    if not key.startswith("url:"):
        return "paper"
    if column == "code" or CODE_LABEL.search(link.label) and column != "title":
        return "code"
    named = column == "paper" and bool(link.label)  # [blog](github.com/…) in the column of papers is the paper
    return "code" if addresses.is_code(link.url) and not named else "paper"


def _label(label: str, url: str) -> str:
    """The label as written, or what kind of address it is."""
    if label and not label.startswith(("http://", "https://")):
        return label[:120]
    kind = addresses.key(url).partition(":")[0]
    if url.lower().split("?")[0].endswith(".pdf") or "/pdf" in url:
        return "pdf"
    if kind != "url":
        return kind
    return addresses.repository(url).rpartition("/")[2] or re.sub(r"^https?://(?:www\.)?([^/]+).*", r"\1", url)[:120]
