"""Figures and names as pages write them."""

from django import template

register = template.Library()


@register.filter
def figure(number: float | None) -> str:
    """Four significant digits, no needless zeros; a dash for none."""
    if number is None:
        return "–"
    text = f"{number:.4g}"
    return text if "e" not in text or abs(number) < 1e-3 else f"{number:,.0f}"


@register.filter
def seconds(value: float | None) -> str:
    """ "8.2 s", "2 min 5 s"; a dash for none."""
    if value is None:
        return "–"
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


@register.filter
def percent(done: int, total: int) -> int:
    """How much of `total` is done, 0 to 100."""
    return min(100, round(100 * done / total)) if total else 0


@register.filter
def words(name: str) -> str:
    """A field's name for people: "device_name" is "device name"."""
    return name.replace("_", " ")
