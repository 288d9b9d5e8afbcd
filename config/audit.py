"""The door of the audit log for every app: catalog and jobs know none of readers, who keep it (see AUDIT_LOG)."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.module_loading import import_string

DONE, WRONG, REFUSED = "done", "wrong", "refused"


def record(request: HttpRequest | None, act: str, about: Any = "", *, outcome: str = DONE, who: str = "") -> None:
    """Note an act: by whoever asked, `who` where that is nobody yet; without a request, by the command line.

    What goes in is names and numbers, never what opens anything: no password, token, key or link.
    """
    import_string(settings.AUDIT_LOG)(request, act, str(about), outcome, who)
