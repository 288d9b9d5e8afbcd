"""Pages of PDF bundles: what there is, the form for another, the files."""

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from catalog.selection import Selection
from config.quota import Full
from exports import bundle_store, bundles, ranges
from exports.bundle_plan import PRIVATE, PUBLIC, REPORT, NotUnderstood
from jobs.models import Job

WHAT = {
    REPORT: "report: our own sheet for each work",
    PUBLIC: "public: with the papers whose licence permits passing them on",
    PRIVATE: "private: with every paper that this installation has",
}


@require_http_methods(["GET", "HEAD", "POST"])
def bundles_page(request: HttpRequest) -> HttpResponse:
    """The bundles that there are; the form, filled from the filters of the address, asks for one."""
    if request.method == "POST":
        return _ask(request)
    return _page(request, query=Selection.read(request.GET, request.user).address().removeprefix("?"))


def _ask(request: HttpRequest) -> HttpResponse:
    if not request.user.is_authenticated:
        return redirect_to_login(reverse("bundles"))
    kind, query = request.POST.get("kind", REPORT), request.POST.get("query", "").strip()
    try:
        found = bundles.ask(kind, query, request.user, fetch=request.POST.get("fetch") == "yes")
    except NotUnderstood as error:
        return _page(request, query=query, kind=kind, error=str(error), status=400)
    except Full as full:
        return _page(request, query=query, kind=kind, error=f"Not asked for: {full}.", status=429)
    bundles.note_asked(request, kind, query, fetch=request.POST.get("fetch") == "yes")
    if isinstance(found, Job):
        return redirect("job", pk=found.pk)
    return redirect(f"{reverse('bundles')}#{found.name}")


def _page(request: HttpRequest, *, query: str, kind: str = REPORT, error: str = "", status: int = 200) -> HttpResponse:
    may = [k for k in WHAT if k != PRIVATE or request.user.is_staff]
    context = {
        "made": [(one, bundle_store.query_of(one, request.user)) for one in bundle_store.seen_by(request.user)],
        "kinds": [(name, WHAT[name], name == kind) for name in may],
        "query": query,
        "error": error,
    }
    return render(request, "exports/bundles.html", context, status=status)


@require_safe
def bundle_file(request: HttpRequest, name: str, ending: str) -> HttpResponseBase:
    """A bundle, or its manifest."""
    found = bundle_store.made(name)
    if found is None:
        raise Http404(f"no bundle is called {name}")
    if not bundle_store.may_have(request.user, found):
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        raise PermissionDenied("this bundle is not yours to have")
    if ending == "json":
        text = found.file.with_suffix(".json").read_bytes()
        return HttpResponse(text, content_type="application/json", headers={"Cache-Control": "private, no-cache"})
    return ranges.serve(request, found.file, found.sha256, "application/pdf")
