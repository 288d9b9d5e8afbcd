"""Pages of the catalogue."""

from django.urls import path

from catalog import feeds, import_views, views

urlpatterns = [
    path("", views.index, name="index"),
    path("import/", import_views.upload, name="import"),
    path("import/<int:pk>/", import_views.preview, name="import-preview"),
    path("import/<int:pk>/apply/", import_views.apply, name="import-apply"),
    path("feeds/works.atom", feeds.works, name="works-feed"),
]
