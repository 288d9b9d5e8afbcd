"""Text as search words: the same on every database, because both are given words that are already cut and folded.

A word is folded (lower case, no accents) and holds letters and digits only. `FlashAttention-2` gives flashattention2,
flashattention, flash, attention and 2, so that whatever people type of a name finds it.
"""

import re
import unicodedata
from functools import cache

import snowballstemmer

PIECE = re.compile(r"[^\W_]+(?:[-.·'’/+][^\W_]+)*")
PART = re.compile(r"[^\W_]+")
CAMEL = re.compile(r"[A-Z]?[a-z]{2,}|[A-Z]+(?![a-z])|\d+")
BRITISH = re.compile(r"is(ation|ations|e|ed|er|es|ing)$")
UNFOLDED = str.maketrans({"ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "æ": "ae", "Æ": "AE", "ı": "i"})


def fold(text: str) -> str:
    """Lower case without accents: Ré becomes re."""
    plain = unicodedata.normalize("NFKD", text.translate(UNFOLDED))
    return "".join(c for c in plain if not unicodedata.combining(c)).casefold()


def words(text: str) -> list[str]:
    """The plain words of a text, in order: what a phrase is matched against. A plus sign is a word: SmoothQuant+."""
    return PART.findall(fold(text.replace("+", " plus ")))


def forms(text: str) -> list[str]:
    """Words that are no plain words but find a text as well: parts of CamelCase, and hyphenated words in one."""
    found: dict[str, None] = {}
    for piece in PIECE.findall(text):
        parts = PART.findall(piece)
        if len(parts) > 1:
            found["".join(map(fold, parts))] = None
        for part in parts:
            camel = CAMEL.findall(part)
            if len(camel) > 1 and "".join(camel) == part:
                found.update(dict.fromkeys(map(fold, camel)))
    return list(found)


@cache
def _stemmer():
    return snowballstemmer.stemmer("english")


@cache
def stem(word: str) -> str:
    """The stem of a folded English word: decoding and decodes give decod, quantisation and quantizing quantiz."""
    return _stemmer().stemWord(BRITISH.sub(r"iz\1", word))


def stems(text: str) -> list[str]:
    """The stem of each word that is not its own."""
    return [s for word in words(text) if (s := stem(word)) != word]
