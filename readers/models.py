"""What readers keep: ratings, collections, and the tokens of their programs; and what all of them did."""

import hashlib
import secrets

from django.conf import settings
from django.db import models

from catalog.models import Work
from config import clock
from config.told import Told


class Rating(models.Model):
    """A reader's 1 to 5 for a work, one each; the curator's stars are another thing."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="ratings")
    work = models.ForeignKey(Work, on_delete=models.CASCADE, related_name="ratings")
    value = models.PositiveSmallIntegerField()
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "work"], name="rating_once"),
            models.CheckConstraint(condition=models.Q(value__gte=1, value__lte=5), name="rating_value"),
        ]

    def __str__(self) -> str:
        return f"{self.value} for {self.work}"


def new_key() -> str:
    """The unguessable part of the address of a collection that is shared by link."""
    return secrets.token_urlsafe(16)


class CollectionQuerySet(models.QuerySet):
    """Collections as somebody may see them."""

    def seen_by(self, user) -> "CollectionQuerySet":
        """Public ones and one's own; those by link are seen through their link only."""
        own = models.Q(owner=user) if user.is_authenticated else models.Q(pk__in=[])
        return self.filter(own | models.Q(visibility=Collection.Visibility.PUBLIC))


class Collection(Told):
    """Works that a reader put together, in an order, each with a note."""

    class Visibility(models.TextChoices):
        PRIVATE = "private", "only me"
        LINK = "link", "whoever has the link"
        PUBLIC = "public", "everybody"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="collections")
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    visibility = models.CharField(max_length=7, choices=Visibility, default=Visibility.PRIVATE)
    key = models.CharField(max_length=32, default=new_key, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)
    works = models.ManyToManyField(Work, through="CollectionItem", related_name="collections")

    objects = CollectionQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="collection_name_once")]

    def __str__(self) -> str:
        return self.name


class CollectionItem(Told):
    """A work's place in a collection, and why it is there."""

    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="items")
    work = models.ForeignKey(Work, on_delete=models.CASCADE, related_name="+")
    position = models.PositiveIntegerField()
    note = models.TextField(blank=True)

    class Meta:
        ordering = ["position", "pk"]
        constraints = [models.UniqueConstraint(fields=["collection", "work"], name="collection_item_once")]

    def __str__(self) -> str:
        return f"{self.work} in {self.collection}"


def digest(text: str) -> str:
    """What is kept of a token: tokens are long and random, so a plain hash cannot be guessed back."""
    return hashlib.sha256(text.encode()).hexdigest()


class TokenQuerySet(models.QuerySet):
    """Tokens that still open anything."""

    def live(self) -> "TokenQuerySet":
        """Not revoked, not expired, of a user who may sign in."""
        later = models.Q(expires_at=None) | models.Q(expires_at__gt=clock.now())
        return self.filter(later, revoked_at=None, user__is_active=True)


class Token(Told):
    """A key for a program, shown once; only its digest is kept. It may do what its user may, within its scope."""

    class Scope(models.TextChoices):
        READ = "read", "read what I may read"
        RUN = "run", "and start and cancel my runs"
        WRITE = "write", "and change what I may change"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=80)
    scope = models.CharField(max_length=5, choices=Scope, default=Scope.READ)
    start = models.CharField(max_length=8, help_text="its first letters, to tell tokens apart")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = TokenQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.start}… {self.name}"


class AuditRecord(models.Model):
    """One act, as `readers.audit` wrote it. Plain text, so that it outlives the account that it names."""

    at = models.DateTimeField(db_index=True)
    who = models.CharField(max_length=150, blank=True, db_index=True, help_text="empty: nobody who was signed in")
    address = models.GenericIPAddressField(null=True)
    act = models.CharField(max_length=60, db_index=True)
    about = models.CharField(max_length=200, blank=True)
    outcome = models.CharField(max_length=10)

    class Meta:
        ordering = ["-at", "-pk"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.who or 'somebody'}: {self.act} {self.about} ({self.outcome})"
