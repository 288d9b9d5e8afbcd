"""The admin: curators come in for the catalogue, operators for everything."""

from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from catalog.curation import is_curator
from config.audit import record


class Site(AdminSite):
    """What somebody sees there is what their permissions allow. It has no way in, or to a password, of its own."""

    site_header = site_title = "Claimcheck"
    index_title = "Curation and accounts"

    def has_permission(self, request: HttpRequest) -> bool:
        """Curators are no staff: staff may cancel anybody's run."""
        return request.user.is_active and is_curator(request.user)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The site's own page, so that signing in is counted and noted the same everywhere."""
        if request.user.is_authenticated and not self.has_permission(request):
            raise PermissionDenied("this is for curators and operators only")
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"))

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The site's own page, for the same reason."""
        return redirect("password_change")

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The site's own."""
        from readers.sign_in import Logout  # it imports forms, which the apps must be loaded for

        return Logout.as_view()(request)


class Audited(ModelAdmin):
    """Rows whose changes in the admin are noted in the audit log too, where every other act is."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Noted with the fields that say what an account may."""
        record(request, f"add {obj._meta.verbose_name}", f"{obj}{self.audited(obj)}")
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Noted with the names of the fields that were changed; most values may be anything."""
        record(request, f"change {obj._meta.verbose_name}", f"{obj}{_fields(message)}{self.audited(obj)}")
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """One row for each."""
        for obj in queryset:
            record(request, f"delete {obj._meta.verbose_name}", obj)
        return super().log_deletions(request, queryset)

    def audited(self, obj: Any) -> str:
        """More about a row, begun with a colon."""
        return ""


def _fields(message: Any) -> str:
    """The names of the changed fields in what Django's admin says of a change."""
    parts = [part["changed"] for part in message if "changed" in part] if isinstance(message, list) else []
    names = [str(name) for part in parts for name in part.get("fields", [])]
    return f" ({', '.join(names)})" if names else ""
