"""What leaves as a file. Included before the pages of works, whose own view is wrapped here."""

from django.urls import path

from exports import citation_views, sitemaps, views

urlpatterns = [
    path("export/<slug:name>/", citation_views.export, name="export"),
    path("papers/<slug:slug>/cite/", citation_views.cite, name="cite"),
    path("papers/<slug:slug>/", citation_views.paper),
    path("runs/<int:pk>/crate.zip", views.crate, name="crate"),
    path("sitemap.xml", sitemaps.sitemap, name="sitemap"),
    path("robots.txt", sitemaps.robots, name="robots"),
]
