"""{{ work|bibtex }}, {% citation_head work %}, {{ work|coins }}, {% export_links query %}."""

from typing import Any

from django import template
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import mark_safe

from catalog.models import Work
from exports import citations, machine, reference, run_citations

register = template.Library()
register.filter("bibtex", citations.bibtex)
register.filter("run_bibtex", run_citations.bibtex)


@register.filter
def coins(work: Work) -> str:
    """What a COinS span carries, to be escaped as an attribute."""
    return machine.coins(reference.of_work(work))


@register.inclusion_tag("exports/_head.html", takes_context=True)
def citation_head(context: dict[str, Any], work: Work) -> dict[str, Any]:
    """Meta tags, alternates and JSON-LD of a work's page."""
    request: HttpRequest = context["request"]
    page = request.build_absolute_uri(reverse("paper", args=[work.slug]))
    return {
        "work": work,
        "page": page,
        "tags": machine.highwire(work),
        "json_ld": mark_safe(machine.json_ld(work, page)),
        "formats": [(name, citations.FORMATS[name]) for name in citations.NEGOTIATED],
    }


@register.inclusion_tag("exports/_cite.html")
def cite_box(work: Work) -> dict[str, Any]:
    """The citation of a work, with a switch between formats."""
    text = citations.FORMATS["bibtex"].write([work], False)
    return {"work": work, "text": text, "chosen": "bibtex", "formats": citations.FORMATS}


@register.inclusion_tag("exports/_links.html")
def export_links(query: str = "") -> dict[str, Any]:
    """Every format of a selection, given as the words after `?` of the list's address."""
    return {"query": query.lstrip("?"), "formats": citations.FORMATS}
