"""Who asks, where nobody has signed in: on the embedded default, whoever opened the address that it printed."""

from collections.abc import Callable

from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse

from readers import local


def local_operator(get_response: Callable) -> Callable:
    """Make a request with the local operator's cookie his; any other stays who it is."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if not request.user.is_authenticated and local.is_operator(request):
            request.user, _ = get_user_model().objects.get_or_create(
                username=local.NAME, defaults={"is_staff": True, "is_superuser": True, "password": "!"}
            )
        return get_response(request)

    return middleware
