"""The group of curators and what it may; docs/architecture.md has the table of roles."""

from django.contrib.auth.models import Group, Permission

EDITED = ("work", "entry", "link", "claim", "category", "author", "authorship", "topic")


def curators() -> Group:
    """The group, with its permissions, made where it is missing."""
    group, _ = Group.objects.get_or_create(name="curators")
    may = Permission.objects.filter(content_type__app_label="catalog", content_type__model__in=EDITED)
    group.permissions.add(*may)
    return group
