"""What crawlers are told: every page worth reading, and which addresses are not for them."""

from django.contrib.sitemaps import Sitemap
from django.contrib.sitemaps import views as sitemap_views
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from catalog.models import Work

CLOSED = ("/admin/", "/accounts/", "/api/", "/export/", "/import/", "/jobs/")


class Works(Sitemap):
    """The page of each work, with when its newest result was measured."""

    def items(self):
        """Works by slug."""
        return Work.objects.select_related("standing").order_by("slug")

    def location(self, item: Work) -> str:
        """Its page."""
        return reverse("paper", args=[item.slug])

    def lastmod(self, item: Work):
        """When a result was last measured, if any was."""
        standing = getattr(item, "standing", None)
        return standing.newest if standing else None


class Pages(Sitemap):
    """The pages that list works, claims and runs."""

    def items(self) -> list[str]:
        """Names of addresses."""
        return ["index", "claims", "runs", "collections", "nodes", "failures"]

    def location(self, item: str) -> str:
        """The page."""
        return reverse(item)


@require_safe
def sitemap(request: HttpRequest) -> HttpResponse:
    """sitemap.xml, on whatever host it was asked of."""
    return sitemap_views.sitemap(request, {"works": Works, "pages": Pages})


@require_safe
def robots(request: HttpRequest) -> HttpResponse:
    """robots.txt."""
    lines = ["User-agent: *", *(f"Disallow: {path}" for path in CLOSED)]
    lines.append(f"Sitemap: {request.build_absolute_uri(reverse('sitemap'))}")
    return HttpResponse("\n".join(lines) + "\n", content_type="text/plain; charset=utf-8")
