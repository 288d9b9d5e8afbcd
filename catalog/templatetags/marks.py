"""{{ "★"|times:2 }}"""

from django import template

register = template.Library()


@register.filter
def times(mark: str, count: int) -> str:
    """A mark, `count` times."""
    return mark * count
