"""The words of a cell or an item: which are the title, and what stands around it."""

import re
from dataclasses import dataclass, field

from catalog import markdown_facts as facts
from catalog.markdown_text import BOLD, LINK_MARK, PLAIN, Found, Text


@dataclass
class Draft:
    """A row being read."""

    title: str = ""
    tag: str = ""
    bold: bool = False
    month: str = ""
    venue: str = ""
    authors: list[str] = field(default_factory=list)
    title_link: Found | None = None
    links: list[tuple[str, Found]] = field(default_factory=list)
    unkept: list[str] = field(default_factory=list)

    def note_date(self, text: str) -> None:
        found = facts.find_date(text)
        if len(found) > len(self.month):
            self.month = found


def is_generic(link: Found) -> bool:
    """Whether a link's label names no work: pdf, Code, ICLR 2024, 2023.10."""
    return link.generic or facts.is_date(link.label) or facts.is_venue(link.label)


def read_title(draft: Draft, text: Text, *, in_table: bool) -> None:
    """Title, tag and what stands around them, from a cell or an item."""
    groups, rest = facts.leading_groups(text.marked)
    for inner, bold in groups:
        words = facts.tidy(inner)
        if not words and LINK_MARK.search(inner):
            rest = inner + " " + rest if not is_generic(text.link(LINK_MARK.findall(inner)[0])) else rest
        elif facts.is_date(words):
            draft.note_date(words)
        elif facts.is_venue(words):
            draft.venue = draft.venue or words
        elif not draft.tag and len(words) > 1:
            draft.tag, draft.bold = words, bold
        elif len(words) > 1:
            rest = f"[{words}] {rest}"
    title, after = _split_title(draft, text, rest, in_table)
    draft.title = facts.clean_title(title)
    _read_rest(draft, after)
    if not draft.month:
        draft.note_date(draft.venue)


def _split_title(draft: Draft, text: Text, rest: str, in_table: bool) -> tuple[str, str]:
    """The title's words and what follows them."""
    rest = _drop_generic_start(text, rest)
    line, below = _first_line(rest)
    start = line.lstrip(BOLD + facts.EDGES)
    if start and LINK_MARK.match(start):
        draft.title_link = text.link(start[0])
        after = start[1:]
        if in_table and facts.clean_title(with_labels(text, after)):
            return with_labels(text, line), below
        return draft.title_link.label, f"{after}\n{below}"
    if not in_table and line.lstrip(facts.EDGES).startswith(BOLD):
        return _bold_title(draft, text, line.lstrip(facts.EDGES), below)
    if in_table:
        return with_labels(text, line), below
    return _plain_title(draft, text, line, below)


def _drop_generic_start(text: Text, rest: str) -> str:
    """`[[Paper]](…) [[Code]](…) Title`: the title comes after links that name no work."""
    while True:
        start = rest.lstrip(BOLD + PLAIN + facts.EDGES + "[](|)")
        if start and LINK_MARK.match(start) and is_generic(text.link(start[0])):
            rest = start[1:].lstrip("])")
        else:
            return rest


def _first_line(rest: str) -> tuple[str, str]:
    """The first line with words, joined with the next if that goes on in lower case."""
    found = [line for line in rest.split("\n") if LINK_MARK.search(line) or facts.tidy(line).strip(facts.EDGES)]
    if not found:
        return "", ""
    line, below = found[0], found[1:]
    while below and facts.tidy(below[0])[:1].islower() and not LINK_MARK.match(below[0].strip()):
        line, below = f"{line} {below[0]}", below[1:]
    return line, "\n".join(below)


def with_labels(text: Text, line: str) -> str:
    """The words of a line with the labels of its links, but for those that name no work."""
    line = LINK_MARK.sub(lambda m: "" if is_generic(text.link(m[0])) else text.link(m[0]).label, line)
    return facts.without_empty_brackets(line)


def _bold_title(draft: Draft, text: Text, line: str, below: str) -> tuple[str, str]:
    """`**Title** …`, or `**Name**: Title …`."""
    run, _, after = line[1:].partition(PLAIN)
    words = facts.tidy(with_labels(text, run))
    separated = words.endswith((":", "：")) or after.lstrip().startswith((":", "：", "-", "–", "—"))
    head = re.split(LINK_MARK, after)[0]
    next_link = LINK_MARK.search(after)
    names_work = next_link and not is_generic(text.link(next_link[0])) and not facts.tidy(head).strip(facts.EDGES)
    title_follows = names_work or (separated and len(facts.tidy(head).strip(facts.EDGES).split()) > 1)
    if title_follows and len(words.split()) <= 4 and not facts.names(head) and not draft.tag:
        draft.tag, draft.bold = words.rstrip(":： "), True
        return _split_title(draft, text, after, in_table=False)[0], f"{_after_title(text, after)}\n{below}"
    marks = LINK_MARK.findall(run)
    draft.title_link = next((text.link(m) for m in marks if not is_generic(text.link(m))), None)
    return words, f"{after}\n{below}"


def _after_title(text: Text, after: str) -> str:
    mark = LINK_MARK.search(after)
    return after[mark.end() :] if mark else ""


def _plain_title(draft: Draft, text: Text, line: str, below: str) -> tuple[str, str]:
    """Words first: `Title, Author et al. [[Paper]](…)`, `Name: [Title](…)`, `Authors. “Title”. Venue.`"""
    mark = next((m for m in LINK_MARK.finditer(line) if not is_generic(text.link(m[0]))), None)
    first = LINK_MARK.search(line)
    head = line[: first.start()] if first else line
    words = facts.tidy(head)
    if mark and mark.start() == len(head):
        short = words.strip(facts.EDGES)
        if len(short.split()) <= 4 or facts.is_date(short) or facts.is_venue(short) or facts.names(short):
            draft.title_link = text.link(mark[0])
            if words.rstrip().endswith((":", "：")) and not draft.tag:
                draft.tag, draft.bold = facts.clean_title(words), BOLD in head
            return draft.title_link.label, f"{head}\n{line[mark.end() :]}\n{below}"
    if quoted := re.search(r"[“\"《「](.{8,}?)[”\"》」]", words):
        return quoted[1], f"{words[: quoted.start()]}\n{words[quoted.end() :]}\n{line[len(head) :]}\n{below}"
    dated = re.search(r"\s*[,，(（]\s*([^,，(（]*?)[)）]?\s*[,，:：]?\s*$", words)
    if dated and (facts.is_date(dated[1]) or facts.is_venue(dated[1])):
        return words[: dated.start()], f"{dated[1]}\n{line[len(head) :]}\n{below}"
    title, rest = _cut_names(words)
    return title, f"{rest}\n{line[len(head) :]}\n{below}"


def _cut_names(words: str) -> tuple[str, str]:
    for found in re.finditer(r"[,，]\s|\s[-–—|]\s|\sby\s", words):
        if facts.names(words[found.end() :]) or facts.names(re.split(r"\. |\(", words[found.end() :])[0]):
            return words[: found.start()], words[found.end() :]
    sentence = re.match(r"(?P<title>(?:\S+ ){2,}\S+?)[.。]\s+(?=[A-Z])(?P<rest>.+)", words)
    return (sentence["title"], sentence["rest"]) if sentence else (words, "")


def _read_rest(draft: Draft, after: str) -> None:
    """Month, venue and people from the words beside the title; what is none of these is told as not kept."""
    words = facts.without_empty_brackets(LINK_MARK.sub(" ", after))
    left = []
    for line in words.split("\n"):
        draft.note_date(line)
        for part in re.split(r"[()（）\[\]]|[,，.。;]\s|\s[-–—|]\s", facts.tidy(line)):
            if facts.is_venue(part):
                draft.venue = draft.venue or part.strip(facts.EDGES + ".")
        people = facts.names(re.split(r"[(（\[]|\s[-–—|]\s", facts.tidy(line).strip(facts.EDGES))[0])
        draft.authors = draft.authors or people
        if not people and len(facts.tidy(line).split()) > 3:
            left.append(facts.tidy(line).strip(facts.EDGES))
    draft.unkept += [part[:300] for part in left]
