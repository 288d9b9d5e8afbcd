"""What readers think of a work and where they keep it, for the page of the work."""

from django import template
from django.template import RequestContext

from catalog.models import Work
from readers.models import Collection, Rating
from readers.ratings import rating_of

register = template.Library()


@register.inclusion_tag("readers/_of_work.html", takes_context=True)
def readers_of(context: RequestContext, work: Work) -> dict:
    """Mean and count, one's own rating, and one's collections to put the work into."""
    request = context["request"]
    shown = {"request": request, "user": request.user, "work": work, "rating": rating_of(work),
             "values": range(1, 6), "csrf_token": context.get("csrf_token")}  # fmt: skip
    if not request.user.is_authenticated:
        return shown
    own = Collection.objects.filter(owner=request.user)
    return shown | {
        "own": Rating.objects.filter(user=request.user, work=work).values_list("value", flat=True).first(),
        "within": own.filter(works=work),
        "without": own.exclude(works=work),
    }
