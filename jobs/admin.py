from django.contrib import admin

from config.admin import Audited
from jobs.models import Job, Node


@admin.register(Job)
class JobAdmin(Audited):
    """Read-only: a status changes through jobs.states.change alone."""

    list_display = ["pk", "kind", "device", "status", "code", "user", "queued_at", "ended_at"]
    list_filter = ["status", "device", "code"]

    def has_add_permission(self, request) -> bool:
        """Jobs come from the pages."""
        return False

    def has_change_permission(self, request, obj=None) -> bool:
        """Nothing here may be edited."""
        return False


@admin.register(Node)
class NodeAdmin(Audited):
    """Nodes register themselves."""

    list_display = ["name", "host", "device", "device_name", "heartbeat_at"]

    def has_add_permission(self, request) -> bool:
        """Nodes register themselves."""
        return False
