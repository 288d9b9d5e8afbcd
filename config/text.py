"""Text and links that somebody else wrote: nothing in them is hidden, and nothing in them reorders what stands beside.

Hidden are control characters, marks that turn the direction of writing (a title may pretend to be another), separators
of lines, tags, and what has no width. Joiners stay: several scripts and emoji need them. So do marks of direction
(U+200E, U+200F, U+061C), which turn nothing but themselves. Forms, the API and the data files refuse what is hidden
(`visible`, `plain_link`); importers, which cannot ask, take it away and say so (`cleaned`, `clean_link`). What was
stored before is shown inert: config.middleware replaces what turns text, `clean_link` is asked again.
"""

import re
import unicodedata
from urllib.parse import urlsplit, urlunsplit

import idna

# U+0009, U+000A and U+000D aside, which only prose may hold.
HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u180e\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
LONGEST_LINK = 400


class NotPlain(ValueError):
    """A text or a link that is not taken; the message says what was expected and what came."""


def visible(text: str, *, lines: bool = False) -> str:
    """The text, if all of it can be seen; `lines` allows several and tabs."""
    found = HIDDEN.search(text) or (None if lines else re.search(r"[\t\n\r]", text))
    if found:
        kind = "text that can be seen" if lines else "one line that can be seen"
        raise NotPlain(f"expected {kind}, got {_name(found[0])}")
    return text


def _name(character: str) -> str:
    name = unicodedata.name(character, "") or "a control character"
    return f"U+{ord(character):04X} ({name.lower()})"


def cleaned(text: str) -> str:
    """The text without what is hidden; a separator of lines becomes a space."""
    return HIDDEN.sub("", re.sub("[\x0b\x0c\x85\u2028\u2029]", " ", text))


def plain_link(url: str) -> str:
    """A link to the web that leads where it seems to, its host in ASCII (an IDN as xn--…); else NotPlain."""
    if (length := len(url)) > LONGEST_LINK:
        raise NotPlain(f"expected an address of at most {LONGEST_LINK} characters, got {length}")
    return _plain(url)


def clean_link(url: str) -> str:
    """The same of whatever length, a name and password taken away; empty if it leads nowhere on the web."""
    url = "".join(HIDDEN.sub("", url).split())
    if "\\" in url:  # a browser takes it for a slash, so what stands before an "@" behind it is the host
        return ""
    try:
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
        return _plain(url if place == parts.netloc else urlunsplit(parts._replace(netloc=place)))
    except ValueError:
        return ""


def _plain(url: str) -> str:
    if found := HIDDEN.search(url) or re.search(r"[\s\\]", url):
        raise NotPlain(f"expected an address without spaces and backslashes, got {_name(found[0])}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise NotPlain("expected an address that can be read") from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise NotPlain("expected an address that begins with http:// or https://")
    if "@" in parts.netloc:
        raise NotPlain("expected an address without a name and password before its host")
    if ":" in host:
        return url  # an address of IPv6, which urlsplit has read
    if host.isascii() and re.fullmatch(r"[a-z0-9._-]+", host):
        return url
    try:
        place = idna.encode(host, uts46=True).decode() + (f":{port}" if port is not None else "")
    except idna.IDNAError:
        raise NotPlain(f"expected the name of a site, got {host[:60]!r}") from None
    return urlunsplit(parts._replace(netloc=place))
