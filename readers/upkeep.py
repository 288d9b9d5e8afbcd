"""What the sweep removes of readers' things, so that no table grows for ever; see UPKEEP in the settings."""

from django.contrib.sessions.models import Session

from config import clock
from readers import audit, brake


def remove_old() -> None:
    """Audit rows past AUDIT_DAYS, wrong guesses that count no more, sessions that have ended."""
    for old in (audit.too_old(), brake.too_old(), Session.objects.filter(expire_date__lt=clock.now())):
        if old.exists():  # asked first: most rounds remove nothing, and so write nothing
            old.delete()
