"""Every address of the site; the pages of an app are in its own urls.py."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import TemplateView

from config.api import api, nothing_here
from config.security_txt import security_txt
from readers import sign_in

# Passwords are set by a link that an operator hands out, so nothing here sends mail.
accounts = [
    path("login/", sign_in.Login.as_view(), name="login"),
    path("logout/", sign_in.Logout.as_view(), name="logout"),
    path("password_change/", sign_in.ChangePassword.as_view(), name="password_change"),
    path("reset/<uidb64>/<token>/", sign_in.SetPassword.as_view(), name="password_reset_confirm"),
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
    path(".well-known/security.txt", security_txt, name="security-txt"),
    path("help/", TemplateView.as_view(template_name="help.html"), name="help"),
]
