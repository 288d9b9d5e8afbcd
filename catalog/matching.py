"""Which work a row means: by arXiv id, DOI or address, then by title. A near title is only a question."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from rapidfuzz import fuzz, process

from catalog import addresses
from catalog.markdown_rows import Row
from catalog.models import Entry, Link, Work
from catalog.words import words

CLOSE = 88  # per cent of the letters
MANY = 5  # candidates shown
LONG_ENOUGH = 3  # words of a title that say which work it is
SHORTEST = CLOSE / (200 - CLOSE)  # shorter than this share of a title, no other can be so close
CHUNK = 250


@dataclass(frozen=True)
class Match:
    """The work a row means, or those it may mean with the reason to ask; neither for a new work."""

    work: int | None = None
    candidates: tuple[int, ...] = ()
    question: str = ""


@dataclass
class Known:
    """What is known of one work that may be matched."""

    keys: set[str] = field(default_factory=set)
    titles: set[str] = field(default_factory=set)


def title_key(text: str) -> str:
    """A title as it is compared: lower case without accents and punctuation."""
    return " ".join(words(text))


def keys_of(row: Row) -> list[str]:
    """The keys of a row's paper links, the most telling first."""
    found = {addresses.key(link.url): None for link in row.links if link.role == "paper"}
    return sorted(found, key=lambda key: ("arxiv", "doi", "acl", "openreview", "url").index(key.partition(":")[0]))


def titles_of(title: str, tag: str) -> set[str]:
    """The forms in which a title may stand: alone, and behind its tag."""
    return {key for key in (title_key(title), title_key(f"{tag} {title}")) if key}


def names_of(title: str, tag: str) -> set[str]:
    """What a work goes by: its tag, and the name before its title's colon."""
    name, colon, _ = title.partition(":")
    names = [tag, name if colon and len(name.split()) <= 3 else ""]
    return {key for text in names if len(key := title_key(text)) > 2}


class Matcher:
    """All works of the catalogue, and those that the rows so far would make. Works are known by number."""

    def __init__(self, works: Iterable[Work], entries: Iterable[Entry], links: Iterable[Link]) -> None:
        self.known: dict[int, Known] = defaultdict(Known)
        self.by_key: dict[str, set[int]] = defaultdict(set)
        self.by_title: dict[str, set[int]] = defaultdict(set)
        self.by_name: dict[str, set[int]] = defaultdict(set)
        self.plain: set[str] = set()
        self.near: dict[str, list[str]] = {}
        owner = {}
        for work in works:
            keys = [f"arxiv:{work.arxiv_id}"] if work.arxiv_id else []
            keys += [addresses.key(f"https://doi.org/{work.doi}")] if work.doi else []
            self.add(work.pk, [*keys, *([addresses.key(work.url)] if work.url else [])], {title_key(work.title)})
            self.call(work.pk, work.title, "")
        for entry in entries:
            owner[entry.pk] = entry.work_id
            self.add(entry.work_id, [], titles_of(entry.title, entry.tag))
            self.call(entry.work_id, entry.title, entry.tag)
        for link in links:
            if link.role == Link.Role.PAPER:
                self.add(owner[link.entry_id], [addresses.key(link.url)], set())

    def add(self, number: int, keys: Iterable[str], titles: Iterable[str]) -> None:
        """Make a work known by these keys and titles."""
        for key in keys:
            self.known[number].keys.add(key)
            self.by_key[key].add(number)
        for title in titles:
            if title:
                self.known[number].titles.add(title)
                self.by_title[title].add(number)

    def call(self, number: int, title: str, tag: str) -> None:
        """Make a work known by what it goes by, which is enough for a question only."""
        self.plain.add(title_key(title))
        for name in names_of(title, tag):
            self.by_name[name].add(number)

    def prepare(self, rows: Iterable[Row]) -> None:
        """Look for near titles of all rows that nothing else decides, at once: one by one would take minutes."""
        wanted = {title_key(row.title) for row in rows if not any(key in self.by_key for key in keys_of(row))}
        asked = sorted((title for title in wanted if len(title) > 8 and title not in self.by_title), key=len)
        pool = sorted((title for title in self.plain if len(title) > 8), key=len)
        lengths = [len(title) for title in pool]
        for start in range(0, len(asked), CHUNK):
            part = asked[start : start + CHUNK]
            first = bisect_left(lengths, len(part[0]) * SHORTEST)
            within = pool[first : bisect_right(lengths, len(part[-1]) / SHORTEST)]
            if not within:
                continue
            scores = process.cdist(part, within, scorer=fuzz.ratio, score_cutoff=CLOSE, dtype=np.uint8)
            for title, line in zip(part, scores, strict=True):
                hits = line.nonzero()[0]
                self.near[title] = [within[i] for i in hits[np.argsort(-line[hits].astype(int))][:MANY]]

    def find(self, row: Row) -> Match:
        """What a row means."""
        keys = keys_of(row)
        strong = [key for key in keys if not key.startswith("url:")]
        for group in (strong, [key for key in keys if key.startswith("url:")]):
            found = {number for key in group for number in self.by_key.get(key, ())}
            if len(found) == 1:
                number = found.pop()
                if group is strong or not row.title or self._share_words(row, number):
                    return Match(work=number)
                return Match(candidates=(number,), question="the same address under another title")
            if found:
                return self._choose(row, found, "its links belong to several works")
        return self._by_title(row, strong)

    def _choose(self, row: Row, found: set[int], question: str) -> Match:
        named = found & self._titled(row)
        return Match(work=named.pop()) if len(named) == 1 else Match(candidates=tuple(sorted(found)), question=question)

    def _titled(self, row: Row) -> set[int]:
        return {number for title in titles_of(row.title, row.tag) for number in self.by_title.get(title, ())}

    def _by_title(self, row: Row, strong: list[str]) -> Match:
        if not row.title:
            return Match()
        found = self._titled(row)
        if len(found) > 1:
            return Match(candidates=tuple(sorted(found)), question="several works have this title")
        if found:
            number = next(iter(found))
            if self._contradicts(number, strong):
                return Match(candidates=(number,), question="the same title, but another identifier")
            if len(title_key(row.title).split()) >= LONG_ENOUGH or not row.links:
                return Match(work=number)
            return Match(candidates=(number,), question="the same short title, but another address")
        near = {number for title in self.near.get(title_key(row.title), ()) for number in self.by_title[title]}
        if near := {number for number in near if not self._contradicts(number, strong)}:
            return Match(candidates=tuple(sorted(near))[:MANY], question="a title much like it")
        names = {title_key(row.title), *names_of(row.title, "")}
        named = {number for name in names for number in self.by_name.get(name, ())}
        named = {number for number in named if not self._contradicts(number, strong)}
        return Match(candidates=tuple(sorted(named))[:MANY], question="a work goes by this name" if named else "")

    def _contradicts(self, number: int, strong: list[str]) -> bool:
        """Whether a work has an identifier of the same kind as the row, and another."""
        kinds = {key.partition(":")[0]: key for key in self.known[number].keys}
        return any(kinds.get(key.partition(":")[0], key) != key for key in strong)

    def _share_words(self, row: Row, number: int) -> bool:
        ours = {word for title in self.known[number].titles for word in title.split() if len(word) > 2}
        return not ours or bool(ours & set(title_key(f"{row.tag} {row.title}").split()))
