"""The operators' page: who is signed in, tokens, quotas, who has to wait, and the audit log."""

from collections.abc import Callable
from functools import wraps
from ipaddress import ip_address
from typing import Any

from axes.models import AccessAttempt
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import BadRequest, PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from config.audit import record
from readers import accounts, tokens
from readers.models import AuditRecord, Token

PAGE = 50
SHOWN = 200  # rows of each other table


def for_operators(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Only for staff and the local operator."""

    @wraps(view)
    @login_required
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_staff:
            raise PermissionDenied("this is for operators only")
        return view(request, *args, **kwargs)

    return guarded


@require_safe
@never_cache
@for_operators
def overview(request: HttpRequest) -> HttpResponse:
    """All of it on one page; the filters are those of the audit log."""
    found = _filtered(request)
    chosen = {name: request.GET.get(name, "")[:150] for name in ("who", "act", "outcome")}
    context = {
        "sessions": accounts.sessions()[:SHOWN],
        "tokens": Token.objects.live().select_related("user")[:SHOWN],
        "quotas": accounts.quotas(),
        "waiting": accounts.waiting()[:SHOWN],
        "page": Paginator(found, PAGE).get_page(request.GET.get("page")),
        "chosen": chosen,
        "acts": AuditRecord.objects.order_by("act").values_list("act", flat=True).distinct(),
        "outcomes": AuditRecord.objects.order_by("outcome").values_list("outcome", flat=True).distinct(),
    }
    return render(request, "readers/operator.html", context)


def _filtered(request: HttpRequest) -> QuerySet[AuditRecord]:
    found = AuditRecord.objects.all()
    for name, lookup in (("who", "who__icontains"), ("act", "act"), ("outcome", "outcome")):
        if value := request.GET.get(name, "").strip():
            found = found.filter(**{lookup: value})
    return found


@require_POST
@for_operators
def end_session(request: HttpRequest) -> HttpResponse:
    """Whoever has it must sign in again."""
    name = accounts.end_session(request.POST.get("session", ""))
    if name is None:
        raise Http404("this session has ended already")
    record(request, "end session", f"of {name}")
    messages.success(request, f"A session of {name} was ended.")
    return redirect("operator")


@require_POST
@for_operators
def revoke_token(request: HttpRequest, pk: int) -> HttpResponse:
    """Somebody's token opens nothing any more."""
    token = get_object_or_404(Token.objects.select_related("user"), pk=pk)
    tokens.revoke(token)
    record(request, "revoke token", f"{token.name} of {token.user}")
    messages.success(request, f"The token {token.name} of {token.user} is revoked.")
    return redirect("operator")


@require_POST
@for_operators
def unlock(request: HttpRequest) -> HttpResponse:
    """Whoever has to wait, by `name` or `address`, need not any more."""
    name, address = (request.POST.get(field, "")[:255] for field in ("name", "address"))
    try:
        wanted = {"username": name} if name else {"ip_address": str(ip_address(address))}
    except ValueError:
        raise BadRequest(f"address: expected one such as 192.0.2.1, got {address[:60]!r}") from None
    found = AccessAttempt.objects.filter(**wanted)
    if not found.exists():
        raise Http404("nothing is counted for this account or address any more")
    found.delete()
    record(request, "unlock", name or address)
    messages.success(request, f"What was counted for {name or address} is forgotten.")
    return redirect("operator")
