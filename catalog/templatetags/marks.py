"""Filters of the list's rows."""

import re

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from catalog.models import Work
from catalog.selection import Selection
from catalog.words import fold, stem
from config.text import clean_link

register = template.Library()
WORD = re.compile(r"[^\W_]+")
CAMEL = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|\w")


@register.filter
def times(mark: str, count: int) -> str:
    """A mark, `count` times: {{ "★"|times:2 }}."""
    return mark * count


@register.filter
def web(url: str) -> str:
    """A stored link, or what begins with one, as it may be followed: without a name and password, its host in ASCII."""
    return clean_link((url.split() or [""])[0])


@register.filter
def highlight(text: str, searched: list[str]) -> str | SafeString:
    """The text with what was searched for in <mark>: words that begin with it, or share its stem."""
    if not searched:
        return text
    alike = set(map(stem, searched))

    def marked(found: re.Match) -> str:
        word = fold(found[0])
        if stem(word) in alike or any(word.startswith(one) for one in searched):
            return f"<mark>{escape(found[0])}</mark>"
        parts = CAMEL.findall(found[0])
        if len(parts) > 1 and any(fold(part) in searched for part in parts):
            return "".join(f"<mark>{escape(p)}</mark>" if fold(p) in searched else escape(p) for p in parts)
        return escape(found[0])

    pieces, end = [], 0
    for found in WORD.finditer(text):
        pieces += [escape(text[end : found.start()]), marked(found)]
        end = found.end()
    return mark_safe("".join([*pieces, escape(text[end:])]))


@register.filter
def authors_in_short(work: Work) -> str:
    """The first author, and that there are more."""
    names = [authorship.author.name for authorship in work.authorships.all()]
    if not names:
        return ""
    return names[0] if len(names) == 1 else f"{names[0]} et al."


@register.simple_tag
def page_address(selection: Selection, page: int, step: int) -> str:
    """The query string of another page of the same selection."""
    return selection.address(page=str(page + step))
