"""Who may do what is asked of each of these, the same everywhere."""

from django.contrib.auth.models import User

from readers.roles import curators

ROLES = ("anonymous", "reader", "owner", "curator", "operator", "local")


def person(name: str) -> User:
    """An account of that role, made on the first call."""
    user, made = User.objects.get_or_create(username=name, defaults={"is_staff": name == "operator"})
    if made and name == "curator":
        user.groups.add(curators())
    return user


def sign_in(client, settings, role: str):
    """The client as a visitor of that role."""
    client.logout()
    client.defaults.pop("HTTP_HOST", None)
    settings.LOCAL_SECRET = "known to the one who started it"
    if role == "local":
        client.defaults["HTTP_HOST"] = "localhost"
        client.get("/enter/", {"key": settings.LOCAL_SECRET})
    elif role != "anonymous":
        client.force_login(person(role))
    return client


def asks_to_sign_in(response) -> bool:
    return response.status_code == 302 and response.url.startswith("/accounts/login/")
