"""What leaves as a file, and the page of a work, which leaves as a citation too."""

from django.urls import path, re_path

from exports import bundle_views, citation_views, sitemaps, views

BUNDLE = r"^bundles/(?P<name>claimcheck-[a-z]+-[0-9a-f]+)\.(?P<ending>pdf|json)$"

urlpatterns = [
    path("export/<slug:name>/", citation_views.export, name="export"),
    path("papers/<slug:slug>/cite/", citation_views.cite, name="cite"),
    path("papers/<slug:slug>/", citation_views.paper, name="paper"),  # the page of reproductions, or its citation
    path("runs/<int:pk>/crate.zip", views.crate, name="crate"),
    path("bundles/", bundle_views.bundles_page, name="bundles"),
    re_path(BUNDLE, bundle_views.bundle_file, name="bundle-file"),
    path("sitemap.xml", sitemaps.sitemap, name="sitemap"),
    path("robots.txt", sitemaps.robots, name="robots"),
]
