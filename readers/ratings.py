"""Readers' ratings of works, apart from the curator's stars."""

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Avg, Count
from django.http import HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from catalog import index
from catalog.models import Work
from config.http import UserRequest
from readers.models import Rating

VALUES = ("1", "2", "3", "4", "5")
PRIOR_MEAN, PRIOR_VOTES = 3, 5  # as if five readers had said 3 already


def drawn_mean(total: int, count: int) -> float:
    """The mean to sort by: drawn to the middle as long as few have rated; 0 without a rating."""
    return (total + PRIOR_MEAN * PRIOR_VOTES) / (count + PRIOR_VOTES) if count else 0.0


def rate(user: User, work: Work, value: int | None) -> None:
    """Set a reader's rating of a work, or take it back (None)."""
    with transaction.atomic():
        Work.objects.select_for_update().get(pk=work.pk)  # two votes at once must both count
        if value is None:
            Rating.objects.filter(user=user, work=work).delete()
        else:
            Rating.objects.update_or_create(user=user, work=work, defaults={"value": value})
        values = list(Rating.objects.filter(work=work).values_list("value", flat=True))
        index.note_rating(work, drawn_mean(sum(values), len(values)), len(values))


def rating_of(work: Work) -> dict:
    """The readers' plain mean and how many they are."""
    return Rating.objects.filter(work=work).aggregate(mean=Avg("value"), count=Count("pk"))


@require_POST
@login_required
def rate_view(request: UserRequest, slug: str) -> HttpResponse:
    """Set one's rating, or take it back with an empty value."""
    work = get_object_or_404(Work, slug=slug)
    value = request.POST.get("value", "")
    if value and value not in VALUES:
        said = f"value: expected 1 to 5 or nothing, got {value[:20]!r}"
        return HttpResponseBadRequest(said, content_type="text/plain; charset=utf-8")
    rate(request.user, work, int(value) if value else None)
    return redirect(reverse("paper", args=[slug]) + "#readers")
