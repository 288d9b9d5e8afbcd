"""Citations leave: of any selection as a file, of one work by what a program asks for."""

from collections.abc import Callable
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from catalog import versions
from catalog.models import Work
from exports import selecting
from exports.citations import FORMATS, NEGOTIATED, Format
from reproductions import views as reproductions


@require_safe
def export(request: HttpRequest, name: str) -> HttpResponse:
    """A selection as a file; 400 in words for filters that mean nothing, so that no file is silently another one."""
    if name not in FORMATS:
        raise Http404(f"expected one of {', '.join(FORMATS)}, got {name}")
    tag = versions.tag(request)
    if (unchanged := versions.unchanged(request, tag)) is not None:
        return unchanged
    try:
        works = selecting.of_request(request)
    except selecting.NotSelected as error:
        return HttpResponse(f"{error}\n", status=400, content_type="text/plain; charset=utf-8")
    stem = works[0].slug if len(works) == 1 else "claimcheck"
    response = answer(request, FORMATS[name], works)
    file = "CITATION.cff" if name == "cff" else f"{stem}.{FORMATS[name].extension}"
    response["Content-Disposition"] = f'attachment; filename="{file}"'
    response["ETag"] = tag
    return response


def answer(request: HttpRequest, chosen: Format, works: list[Work]) -> HttpResponse:
    """Works in a format; `ascii=1` for TeX accents."""
    text = chosen.write(works, request.GET.get("ascii") in ("1", "yes", "true"))
    return HttpResponse(text, content_type=f"{chosen.media_type}; charset=utf-8")


def negotiated(page: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """The page of a work, or its citation where `Accept` asks for one; Signposting's links go with both."""

    def view(request: HttpRequest, slug: str) -> HttpResponse:
        wanted = {FORMATS[name].media_type: name for name in NEGOTIATED}
        preferred = request.get_preferred_type(["text/html", *wanted])
        if request.method not in ("GET", "HEAD") or preferred not in wanted:
            response = page(request, slug)
        else:
            work = get_object_or_404(Work.objects.for_list(), slug=slug)
            response = answer(request, FORMATS[wanted[preferred]], [work])
            response["Content-Location"] = address(wanted[preferred], slug)
        if response.status_code == 200:
            response["Link"] = ", ".join(_signposts(request, slug))
        vary = [response["Vary"]] if response.has_header("Vary") else []
        response["Vary"] = ", ".join([*vary, "Accept"])
        return response

    return view


paper = negotiated(reproductions.paper)


def address(name: str, *slugs: str) -> str:
    """Where some works lie in a format."""
    return f"{reverse('export', args=[name])}?works={','.join(slugs)}"


def _signposts(request: HttpRequest, slug: str) -> list[str]:
    """FAIR Signposting, level 1: what this page is, how it is cited, where it is described by machine."""
    work = get_object_or_404(Work, slug=slug)
    build: Any = request.build_absolute_uri
    links = [f'<{build(reverse("paper", args=[slug]))}>; rel="cite-as"']
    links += [
        f'<{build(address(name, slug))}>; rel="describedby"; type="{FORMATS[name].media_type}"' for name in NEGOTIATED
    ]
    links += [f'<https://schema.org/{kind}>; rel="type"' for kind in ("AboutPage", "ScholarlyArticle")]
    if work.arxiv_id:
        links.append(f'<https://arxiv.org/pdf/{work.arxiv_id}>; rel="item"; type="application/pdf"')
    if work.doi:
        links.append(f'<https://doi.org/{work.doi}>; rel="related"')
    if work.licence:
        links.append(f'<{work.licence}>; rel="license"')
    return links


@require_safe
def cite(request: HttpRequest, slug: str) -> HttpResponse:
    """The citation box of a work in one format; the whole page without htmx."""
    work = get_object_or_404(Work.objects.for_list(), slug=slug)
    name = request.GET.get("as", "bibtex")
    if name not in FORMATS:
        raise Http404(f"expected one of {', '.join(FORMATS)}, got {name}")
    context = {"work": work, "text": FORMATS[name].write([work], False), "chosen": name, "formats": FORMATS}
    return render(request, "exports/_cite.html", context)
