"""Every address of the site; the pages of an app are in its own urls.py."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import include, path
from django.views.generic import TemplateView

from config.api import api, nothing_here
from readers.views import Login

# Passwords are set by a link that an operator hands out, so nothing here sends mail.
accounts = [
    path("login/", Login.as_view(), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("password_change/", auth.PasswordChangeView.as_view(success_url="/"), name="password_change"),
    path(
        "reset/<uidb64>/<token>/",
        auth.PasswordResetConfirmView.as_view(post_reset_login=True, success_url="/"),
        name="password_reset_confirm",
    ),
]
urlpatterns = [
    path("", include("catalog.urls")),
    path("", include("exports.urls")),
    path("", include("reproductions.urls")),
    path("", include("jobs.urls")),
    path("api/v1/", api.urls),
    path("api/<path:rest>", nothing_here),
    path("", include("readers.urls")),
    path("accounts/", include(accounts)),
    path("admin/", admin.site.urls),
    path("help/", TemplateView.as_view(template_name="help.html"), name="help"),
]
