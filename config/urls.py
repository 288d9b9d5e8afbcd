"""Every address of the site; the pages of an app are in its own urls.py."""

from django.contrib import admin
from django.urls import include, path

from config.api import api, nothing_here

urlpatterns = [
    path("", include("catalog.urls")),
    path("", include("reproductions.urls")),
    path("", include("jobs.urls")),
    path("api/v1/", api.urls),
    path("api/<path:rest>", nothing_here),
    path("", include("readers.urls")),
    path("accounts/", include("django.contrib.auth.urls")),
    path("admin/", admin.site.urls),
]
