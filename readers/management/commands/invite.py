"""python manage.py invite NAME: an account, and the one-time link that sets its password."""

import os

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from config.audit import record
from readers.roles import curators


class Command(BaseCommand):
    """Makes the account, or finds it; roles are added, never taken away."""

    help = "Make an account, and print the one-time link that sets its password."

    def add_arguments(self, parser: CommandParser) -> None:
        """The name, the roles, and where the site is."""
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--curator", action="store_true", help="may edit and import the list")
        parser.add_argument("--operator", action="store_true", help="may do everything, accounts included")
        default = f"http://127.0.0.1:{os.environ.get('PORT', '8000')}"
        if settings.HTTPS:
            default = f"https://{settings.ALLOWED_HOSTS[0]}"
        parser.add_argument("--site", default=default, metavar="URL", help=f"where people reach it ({default})")

    def handle(self, *args, **options) -> None:
        """Make it and print the link."""
        with transaction.atomic():
            user = account(options["name"])
            if options["curator"]:
                user.groups.add(curators())
            if options["operator"]:
                user.is_staff = user.is_superuser = True
                user.save(update_fields=["is_staff", "is_superuser"])
            roles = [name for name in ("curator", "operator") if options[name]]
            record(None, "invite", f"{user.username}{' as ' if roles else ''}{' and '.join(roles)}")
        uid, token = urlsafe_base64_encode(force_bytes(user.pk)), default_token_generator.make_token(user)
        address = reverse("password_reset_confirm", args=[uid, token])
        self.stdout.write(f"{options['site'].rstrip('/')}{address}")
        days = settings.PASSWORD_RESET_TIMEOUT // 86400
        self.stderr.write(f"{user.username} sets a password there, once, within {days} days; then it opens nothing.")


def account(name: str) -> User:
    """The account of this name, without a password at first; CommandError with code 2 for what is no name."""
    user = User.objects.filter(username=name).first()
    if user is None:
        user = User(username=name)
        user.set_unusable_password()
        try:
            user.full_clean()
        except ValidationError as error:
            raise CommandError(f"NAME: {' '.join(error.messages)} Got {name!r}.", returncode=2) from None
        user.save()
    if not user.is_active:
        raise CommandError(f"{name} is not active: an operator can change that in the admin", returncode=2)
    return user
