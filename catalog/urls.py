"""Pages of the catalogue."""

from django.urls import path

from catalog import arxiv_views, editing, feeds, import_views, views

urlpatterns = [
    path("", views.index, name="index"),
    path("import/", import_views.upload, name="import"),
    path("import/<int:pk>/", import_views.preview, name="import-preview"),
    path("import/<int:pk>/apply/", import_views.apply, name="import-apply"),
    path("import/<int:pk>/discard/", import_views.discard, name="import-discard"),
    path("papers/<slug:slug>/edit/facts/", editing.facts, name="edit-facts"),
    path("papers/<slug:slug>/edit/<slug:part>/new/", editing.new, name="edit-new"),
    path("papers/<slug:slug>/edit/<slug:part>/<int:pk>/", editing.edit, name="edit"),
    path("papers/<slug:slug>/edit/<slug:part>/<int:pk>/remove/", editing.remove, name="edit-remove"),
    path("papers/<slug:slug>/history/", editing.changes, name="work-history"),
    path("papers/<slug:slug>/history/<slug:kind>/<int:number>/undo/", editing.undo, name="undo"),
    path("arxiv/", arxiv_views.overview, name="arxiv"),
    path("arxiv/add/", arxiv_views.add, name="arxiv-add"),
    path("feeds/works.atom", feeds.works, name="works-feed"),
]
