"""What leaves as a file. Included before the pages of works, whose own view is wrapped here."""

from django.urls import path, re_path

from exports import bundle_views, citation_views, sitemaps, views

BUNDLE = r"^bundles/(?P<name>claimcheck-[a-z]+-[0-9a-f]+)\.(?P<ending>pdf|json)$"

urlpatterns = [
    path("export/<slug:name>/", citation_views.export, name="export"),
    path("papers/<slug:slug>/cite/", citation_views.cite, name="cite"),
    path("papers/<slug:slug>/", citation_views.paper),
    path("runs/<int:pk>/crate.zip", views.crate, name="crate"),
    path("bundles/", bundle_views.bundles_page, name="bundles"),
    re_path(BUNDLE, bundle_views.bundle_file, name="bundle-file"),
    path("sitemap.xml", sitemaps.sitemap, name="sitemap"),
    path("robots.txt", sitemaps.robots, name="robots"),
]
