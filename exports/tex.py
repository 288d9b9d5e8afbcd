"""Text for TeX: escaped, with inner capitals kept, and in ASCII where that is asked for."""

import re
import unicodedata

# A brace by its name: BibTeX counts braces, those behind a backslash too.
SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\textbraceleft{}",
    "}": r"\textbraceright{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_"},
}
ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u0304": "=", "\u0307": ".",
           "\u0306": "u", "\u030c": "v", "\u030b": "H", "\u0327": "c", "\u0328": "k", "\u0323": "d", "\u030a": "r",
           "\u0331": "b"}  # fmt: skip
LETTERS = {"ß": r"{\ss}", "æ": r"{\ae}", "Æ": r"{\AE}", "œ": r"{\oe}", "Œ": r"{\OE}", "ø": r"{\o}", "Ø": r"{\O}",
           "ł": r"{\l}", "Ł": r"{\L}", "ı": r"{\i}", "–": "--", "—": "---", "‘": "`", "’": "'", "“": "``", "”": "''",
           "…": r"{\ldots}", "\u00a0": "~", "×": r"{\texttimes}", "§": r"{\S}", "©": r"{\copyright}"}  # fmt: skip


def escape(text: str, *, ascii_only: bool = False) -> str:
    """Text for a field. A character without a TeX name becomes `?` in ASCII: nothing is dropped in silence."""
    escaped = "".join(SPECIAL.get(character, character) for character in " ".join(text.split()))
    return to_ascii(escaped) if ascii_only else escaped


def to_ascii(text: str) -> str:
    """Letters beyond ASCII as TeX writes them."""
    return "".join(character if character.isascii() else _letter(character) for character in text)


def _letter(character: str) -> str:
    if character in LETTERS:
        return LETTERS[character]
    base, *marks = list(unicodedata.normalize("NFKD", character))
    if base.isascii() and marks and all(mark in ACCENTS for mark in marks):
        for mark in marks:
            base = f"{{\\{ACCENTS[mark]}{{{base}}}}}"
        return base
    if base.isascii() and all(mark.isascii() for mark in marks):
        return base + "".join(marks)
    return "?"


WORD = re.compile(r"[^\s\-–—/:;,]+")


def title(text: str, *, ascii_only: bool = False) -> str:
    """A title in which words with capitals inside, with digits among letters, or like O(n) keep them, by braces."""
    found, end = [], 0
    for match in WORD.finditer(text):
        found += [_between(text[end : match.start()], ascii_only), _word(match[0], ascii_only)]
        end = match.end()
    return "".join([*found, _between(text[end:], ascii_only)]).strip()


def _between(text: str, ascii_only: bool) -> str:
    """What stands between words."""
    escaped = re.sub(r"\s+", " ", text)
    return to_ascii(escaped) if ascii_only else escaped


def _word(word: str, ascii_only: bool) -> str:
    escaped = escape(word, ascii_only=ascii_only)
    keeps = re.search(r"\w[A-Z]|\d[A-Za-z]|[A-Za-z]\d|[A-Z]\(", word.replace(".", ""))
    return f"{{{escaped}}}" if keeps else escaped
