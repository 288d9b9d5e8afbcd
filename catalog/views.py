"""The list."""

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from catalog.listing import Listing
from catalog.selection import Selection
from config.http import HtmxRequest


@require_safe
def index(request: HtmxRequest) -> HttpResponse:
    """The list with search, facets and order; htmx asks the same address for the part below the search box."""
    listing = Listing(Selection.read(request.GET, request.user))
    context = {"listing": listing, "selection": listing.selection, "facets": listing.facets(), "sorts": listing.sorts()}
    partial = request.htmx and not request.htmx.history_restore_request
    response = render(request, "catalog/_list.html" if partial else "catalog/list.html", context)
    response["Vary"] = "HX-Request"
    return response
