"""/.well-known/security.txt (RFC 9116): whom to tell of a hole in this installation, if its operator says so."""

from datetime import timedelta

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

SCHEMES = ("mailto:", "https://", "tel:")
HOLDS = timedelta(days=180)  # RFC 9116 recommends less than a year


def contact(text: str) -> str:
    """SECURITY_CONTACT as the address that the file needs; a plain mail address becomes one. Empty for none."""
    text = text.strip()
    if "@" in text and ":" not in text:
        text = f"mailto:{text}"
    if text and (not text.startswith(SCHEMES) or len(text.split()) != 1 or not text.isprintable()):
        expected = f"a mail address, or one that begins with {', '.join(SCHEMES)}"
        raise ImproperlyConfigured(f"SECURITY_CONTACT: expected {expected}; got {text!r}")
    return text


@require_safe
def security_txt(request: HttpRequest) -> HttpResponse:
    """The file, as long as there is a contact; it holds for half a year from whenever it is read."""
    if not settings.SECURITY_CONTACT:
        raise Http404("the operator of this installation has set no SECURITY_CONTACT")
    expires = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) + HOLDS
    lines = [f"Contact: {settings.SECURITY_CONTACT}", f"Expires: {expires:%Y-%m-%dT%H:%M:%SZ}",
             "Preferred-Languages: en"]  # fmt: skip
    if request.is_secure():
        lines.append(f"Canonical: {request.build_absolute_uri(request.path)}")
    return HttpResponse("\n".join([*lines, ""]), content_type="text/plain; charset=utf-8")
