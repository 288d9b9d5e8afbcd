"""Ways in beside signing in: the local operator's address, and a reader's own tokens."""

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from config.audit import REFUSED, WRONG, record
from config.http import UserRequest
from config.quota import Full
from config.told import Visible
from readers import brake, local
from readers import tokens as service
from readers.models import Token

SCOPES = [(value, f"{value}: {label}") for value, label in Token.Scope.choices]


class TokenForm(Visible, forms.Form):
    """A token to be made."""

    name = forms.CharField(max_length=80, help_text="what it is for")
    scope = forms.ChoiceField(label="It may", choices=SCOPES)
    days = forms.IntegerField(
        min_value=1, max_value=3650, required=False, help_text="until it expires; empty for never"
    )


@require_safe
@never_cache
def enter(request: HttpRequest) -> HttpResponse:
    """The address that `manage.py up` printed: this browser becomes the local operator's.

    The key is no part of the path, which is logged when it is refused.
    """
    key = request.GET.get("key", "")
    if not local.opens(request, key):
        return _does_not_open(request, key)
    record(request, "open the operator's address", who=local.NAME)
    response = redirect("index")
    response.set_cookie(local.cookie_name(), local.cookie_value(), httponly=True, samesite="Strict")
    response["Referrer-Policy"] = "no-referrer"
    return response


def _does_not_open(request: HttpRequest, key: str) -> HttpResponse:
    """Count a wrong key, unless the page of another site made this browser send it."""
    if wait := brake.secret_wait_s(request, "key"):
        record(request, "open the operator's address", outcome=REFUSED)
        return brake.wait_page(request, wait)
    of_another_site = request.headers.get("Sec-Fetch-Site") == "cross-site"
    if key and not of_another_site and brake.wrong_secret(request, "key", key):
        record(request, "open the operator's address", outcome=WRONG)
    raise PermissionDenied("This address does not open: manage.py up prints another one at each start.")


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def tokens(request: UserRequest) -> HttpResponse:
    """One's tokens and the form for another, whose text is in this one answer and nowhere else."""
    text, made, status = "", None, 200
    form = TokenForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            made, text = service.create(request.user, **form.cleaned_data)
            record(request, "make token", f"{made.name}: {made.scope}")
            form = TokenForm()
        except Full as full:
            form.add_error(None, f"Not made: {full}.")
            status = 409
    elif form.errors:
        status = 400
    context = {
        "form": form,
        "made": made,
        "text": text,
        "live": Token.objects.live().filter(user=request.user),
    }
    return render(request, "readers/tokens.html", context, status=status)


@require_POST
@login_required
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """Nothing opens with it any more."""
    token = get_object_or_404(Token, pk=pk, user=request.user)
    first = service.revoke(token)
    record(request, "revoke token", token.name)
    messages.success(request, f"The token {token.name} {'is revoked' if first else 'was revoked already'}.")
    return redirect("tokens")
