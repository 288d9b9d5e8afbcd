"""How people write dates, venues, tags, titles and names in a list."""

import re
import unicodedata

from catalog.markdown_text import BOLD, LINK_MARK, MARKS, PLAIN, Text

MONTHS = {
    name: i + 1
    for i, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
}
NAMED = (
    r"(?P<name>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
YEAR = r"(?P<year>(?:19|20)\d\d)"
DATES = [
    re.compile(rf"(?<!\d){YEAR}\s*[./年-]\s*(?P<month>1[0-2]|0?[1-9])(?!\d)", re.IGNORECASE),
    re.compile(rf"(?<![a-z]){NAMED}(?:\s+\d{{1,2}}(?:st|nd|rd|th)?)?[,\s]*['’]?{YEAR}(?!\d)", re.IGNORECASE),
    re.compile(rf"(?<!\d){YEAR}[,\s]*{NAMED}(?![a-z])", re.IGNORECASE),
    re.compile(rf"(?<![\d./-])(?P<month>1[0-2]|0?[1-9])[/.-]{YEAR}(?!\d)"),
]
LONE_YEAR = re.compile(rf"(?<![\d.]){YEAR}(?![\d.]\d|\d)")
SHORT_YEAR = re.compile(r"[A-Za-z]\s?['’`](\d\d)(?!\d)")
PRIZE = r"(?:[\s,]*\(?(?:oral|spotlight|workshop|findings|best paper)\)?)?"
VENUE = re.compile(r"(?=(?:[^A-Z]*[A-Z]){2})[A-Za-z][A-Za-z&/@ +-]*[\s,]*(?:['’`]?\s?(?:20)?\d\d)" + PRIZE)
KNOWN_VENUE = re.compile(
    r"(?:arxiv|iclr|icml|neurips|nips|acl|emnlp|naacl|eacl|coling|aaai|ijcai|cvpr|iccv|eccv|osdi|sosp|asplos|isca|micro|"
    r"hpca|mlsys|nsdi|atc|eurosys|sigcomm|kdd|www|vldb|sigmod|ppopp|sc|tmlr|jmlr|tacl|usenix|fast|dac|iccad|"
    r"interspeech|icassp|colm|preprint)(?P<year>[\s,]*['’`]?\s?(?:20)?\d\d)?" + PRIZE,
    re.IGNORECASE,
)
OPEN, CLOSE = "[【(（", "]】)）"
EDGES = " \t\n\r|·•–—-:：,，;；。、*_~`/\\\"'"


def tidy(text: str) -> str:
    """One line, without marks."""
    return " ".join(LINK_MARK.sub(" ", MARKS.sub("", text)).split())


def clean_title(text: str) -> str:
    """A title as it is compared and kept: one line, without decoration and stray punctuation at its ends."""
    text = tidy(text)
    while text and (text[0] in " \t|·•–—:：,，;；。、*/\\>#" or _is_symbol(text[0])):
        text = text[1:]
    while text and (text[-1] in " \t|·•–—:：,，;；。、*/\\([{" or _is_symbol(text[-1])):
        text = text[:-1]
    if text.endswith(".") and not text.endswith("..") and " " in text:
        text = text[:-1]
    return " ".join(text.split())


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character) in ("So", "Sk", "Cn", "Co", "Cs", "Cf") or character in "\ufe0f\u200d"


def find_month(text: str) -> str:
    """`2023-10` if a month and year are named, else an empty string."""
    for pattern in DATES:
        if found := pattern.search(text):
            parts = found.groupdict()
            month = MONTHS[parts["name"].lower()[:3]] if parts.get("name") else int(parts["month"])
            return f"{parts['year']}-{month:02}"
    return ""


def find_date(text: str) -> str:
    """`2023-10`, or `2023` if only the year is named."""
    if month := find_month(text):
        return month
    if found := LONE_YEAR.search(text):
        return found["year"]
    short = SHORT_YEAR.search(text)
    return f"20{short[1]}" if short else ""


def is_date(text: str) -> bool:
    """Whether a text is a date and nothing else."""
    text = text.strip(EDGES + "()[]")
    return 4 <= len(text) <= 20 and bool(find_date(text)) and not re.search(r"[a-z]{10}", text) and _little_else(text)


def _little_else(text: str) -> bool:
    left = re.sub(r"\d+(?:st|nd|rd|th)?|[\s.,/年月日'’-]|xx", "", text, flags=re.IGNORECASE).lower()
    return not left or left[:3] in MONTHS and len(left) <= 9


def is_venue(text: str) -> bool:
    """Whether a text is a venue: ICLR 2024, OSDI'22, NeurIPS."""
    text = text.strip(EDGES)
    if known := KNOWN_VENUE.fullmatch(text):
        return bool(known["year"]) or text == "arXiv" or sum(letter.isupper() for letter in text) > 2
    return len(text) <= 30 and bool(VENUE.fullmatch(text)) and bool(LONE_YEAR.search(text))


def leading_groups(marked: str) -> tuple[list[tuple[str, bool]], str]:
    """The bracketed groups a text begins with, each with whether it is bold, and what follows them."""
    groups: list[tuple[str, bool]] = []
    while True:
        rest = marked.lstrip(EDGES)
        start = rest.lstrip(BOLD + PLAIN)
        if not start or start[0] not in OPEN:
            return groups, marked
        end = _closing(start)
        if end < 0 or (start[0] in "(（" and not (is_date(tidy(start[1:end])) or is_venue(tidy(start[1:end])))):
            return groups, marked
        inner = start[1:end]
        outside = rest[: len(rest) - len(start)].count(BOLD) > rest[: len(rest) - len(start)].count(PLAIN)
        groups.append((inner, outside or inner.startswith(BOLD)))
        marked = start[end + 1 :]
        if outside:
            marked = marked.removeprefix(PLAIN) if marked.startswith(PLAIN) else BOLD + marked


def _closing(text: str) -> int:
    depth = 0
    close = CLOSE[OPEN.index(text[0])]
    for i, character in enumerate(text[:400]):
        depth += (character == text[0]) - (character == close)
        if depth == 0:
            return i
    return -1


def names(text: str) -> list[str]:
    """The people a text names, or nothing if it is something else."""
    text = tidy(text).strip(EDGES + ".()")
    text, told = re.subn(r"^(?:authors?|by|作者)\s*[:：]\s*", "", text, flags=re.IGNORECASE)
    told = bool(told or re.search(r"\bet\.? al\b|等", text))
    text = re.sub(r"(?:,|，)?\s*(?:\bet\.? al\b\.?|等人?).*$|[*†‡§¹²³]|\band others\b", "", text)
    parts = [part.strip(EDGES + ".") for part in re.split(r"[,，;；、&]|\band\b", text)]
    parts = [part for part in parts if part]
    looks = [len(part) <= 50 and not re.search(r"[\d:!?()\[\]/@|]", part) and _is_name(part, told) for part in parts]
    return parts if parts and all(looks) and (told or len(parts) > 1) else []


def _is_name(part: str, told: bool) -> bool:
    if re.fullmatch(r"[\u4e00-\u9fff·]{2,6}", part):
        return True
    words = part.split()
    if not (1 if told else 2) <= len(words) <= 5:
        return False
    return all(
        word[0].isupper() or word in ("de", "van", "von", "der", "den", "da", "di", "la", "le", "bin", "al")
        for word in words
    )


def without_empty_brackets(text: str) -> str:
    """Brackets that hold nothing any more, once links are taken out."""
    before = None
    while before != text:
        before = text
        text = re.sub(r"[\[(（【{]\s*[\s|/,·&+-]*[\])）】}]", " ", text)
    return text


def lines(text: Text) -> list[str]:
    """The lines of a text that say something, links included."""
    return [line for line in text.marked.split("\n") if MARKS.sub("", line).strip(EDGES)]
