"""Accounts and groups in the admin, their changes noted; and the audit log, to be read."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest

from config.admin import Audited
from readers.models import AuditRecord

admin.site.unregister([User, Group])


@admin.register(User)
class Accounts(Audited, UserAdmin):
    """Accounts; the log tells what each may once it is changed."""

    def audited(self, obj: Any) -> str:
        """Whether it may sign in, and its roles."""
        flags = {"active": obj.is_active, "operator": obj.is_staff, "superuser": obj.is_superuser}
        names = [name if held else f"not {name}" for name, held in flags.items()]
        return ": " + ", ".join([*names, *obj.groups.values_list("name", flat=True)])


@admin.register(Group)
class Groups(Audited, GroupAdmin):
    """What the accounts of a group may."""


@admin.register(AuditRecord)
class AuditRecords(admin.ModelAdmin):
    """Read-only, for everybody: rows are only ever added, by the site itself."""

    list_display = ["at", "who", "address", "act", "about", "outcome"]
    list_filter = ["outcome", "act"]
    search_fields = ["who", "about", "address"]
    date_hierarchy = "at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody's."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody's."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody's: what is too old goes by itself."""
        return False
