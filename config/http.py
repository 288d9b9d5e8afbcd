"""What our middleware adds to a request, for the type checker."""

from django.contrib.auth.models import User
from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails


class HtmxRequest(HttpRequest):
    """Any request: django-htmx says whether htmx sent it."""

    htmx: HtmxDetails


class UserRequest(HttpRequest):
    """A request behind `login_required`."""

    user: User
