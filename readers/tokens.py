"""Tokens: made, shown once, found again by their digest."""

import secrets
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q

from config import clock, quota
from readers import local
from readers.models import Token, digest

START = 8  # letters that stay readable
DEAD_KEPT = 100  # of those of a user that open nothing any more, the newest
USE_NOTED_EVERY = timedelta(minutes=1)


def create(user: User, *, name: str, scope: str, days: int | None = None) -> tuple[Token, str]:
    """A new token, and its text, which nobody can read again. quota.Full if its user has as many as one may have."""
    text = f"cc_{secrets.token_urlsafe(32)}"
    expires_at = clock.now() + timedelta(days=days) if days else None
    with quota.held(user):
        have = Token.objects.live().filter(user=user).count()
        quota.check(have, settings.TOKENS_PER_USER, "tokens", "revoke some first")
        dead = Token.objects.filter(user=user).exclude(pk__in=Token.objects.live().filter(user=user).values("pk"))
        Token.objects.filter(pk__in=list(dead.values_list("pk", flat=True)[DEAD_KEPT:])).delete()
        token = Token.objects.create(
            user=user, name=name, scope=scope, start=text[:START], digest=digest(text), expires_at=expires_at
        )
    return token, text


def find(text: str) -> Token | None:
    """The token with this text, if it still opens anything; that it was used is noted, once a minute at most.

    One that the local operator made opens only where there is a local operator: see readers/local.py.
    """
    token = Token.objects.live().select_related("user").filter(digest=digest(text)).first()
    if token and token.user.username == local.NAME and not settings.LOCAL_SECRET:
        return None
    if token:
        now = clock.now()
        stale = Q(used_at=None) | Q(used_at__lte=now - USE_NOTED_EVERY)
        if token.used_at is None or token.used_at <= now - USE_NOTED_EVERY:
            Token.objects.filter(stale, pk=token.pk).update(used_at=now)
    return token


def revoke(token: Token) -> bool:
    """From here on it opens nothing; the first time counts, and is told."""
    return Token.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=clock.now()) > 0
