"""{% plot "Title" "run_plot" run.pk 0 %}: a drawing with its downloads, which a browser makes one to hover over."""

from django import template
from django.urls import reverse

from reproductions.drawing import BUNDLE_VERSION

register = template.Library()


@register.inclusion_tag("reproductions/_plot.html")
def plot(title: str, name: str, *args, query: str = "", **kwargs) -> dict:
    """`name` and its arguments are an address that ends in .svg; `query` goes with every form of it."""
    base = reverse(name, args=args or None, kwargs=kwargs or None).removesuffix(".svg")
    return {"title": title, "base": base, "query": query, "bundle": reverse("plot_bundle", args=[BUNDLE_VERSION])}
