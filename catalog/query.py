"""What people type into the search box, taken apart. Whatever is not understood is kept as a word or said."""

import re
from dataclasses import dataclass, field

from catalog.arxiv_ids import find
from catalog.words import words

FIELDS = ("author", "topic", "category", "kind", "year", "from", "to", "code", "stars", "highlight", "runnable",
          "verdict", "device")  # fmt: skip
PIECE = re.compile(r"""(?P<minus>-)?(?:(?P<field>[A-Za-z]+):)?(?:"(?P<quoted>[^"]*)"?|(?P<plain>\S+))""")
MAX_WORDS = 20


@dataclass
class Query:
    """Words that must all be found, phrases, words that must not, `field:value` pairs, or one pasted arXiv id."""

    words: list[str] = field(default_factory=list)
    phrases: list[list[str]] = field(default_factory=list)
    excluded: list[list[str]] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    open_end: bool = False
    arxiv_id: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def needs_match(self) -> bool:
        """Whether there is anything for a text index to do."""
        return bool(self.words or self.phrases or self.excluded)


def parse(text: str) -> Query:
    """Take a line apart; the last word is open-ended while it is being typed, that is unless a space follows it."""
    query = Query(open_end=bool(text) and not text[-1].isspace() and text[-1] != '"')
    if found := find(text.strip()):
        query.arxiv_id = found
        return query
    for piece in PIECE.finditer(text):
        _take(query, piece)
    if len(query.words) > MAX_WORDS:
        query.problems.append(f"only the first {MAX_WORDS} words were searched for")
        query.words, query.open_end = query.words[:MAX_WORDS], False
    return query


def _take(query: Query, piece: re.Match) -> None:
    name, value = (piece["field"] or "").lower(), piece["quoted"] if piece["quoted"] is not None else piece["plain"]
    if not name and value.endswith(":") and value[:-1].lower() in FIELDS:
        query.problems.append(f"“{value}” has no value after it")
        return
    if name == "highlights" or name == "flames":
        name = "highlight"
    if name in FIELDS and not piece["minus"]:
        if not value.strip():
            query.problems.append(f"“{name}:” has no value after it")
        elif name in query.fields:
            query.problems.append(f"“{name}:” was given twice; only the first, “{query.fields[name]}”, counts")
        else:
            query.fields[name] = value
        return
    if name in FIELDS:
        query.problems.append(f"“-{name}:” cannot be left out; only words and phrases can")
        return
    if name and re.match(r"\w", value):
        query.problems.append(f"“{name}:” is no field; fields are {', '.join(FIELDS)}")
    found = words(f"{piece['field'] or ''} {value}")
    if not found:
        if re.search(r"\S", value or ""):
            query.problems.append(f"“{piece[0]}” holds nothing to search for")
        return
    if piece["minus"]:
        query.excluded.append(found)
    elif piece["quoted"] is not None and len(found) > 1:
        query.phrases.append(found)
    else:
        query.words += [word for word in found if word not in query.words]
