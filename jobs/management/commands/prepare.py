"""python manage.py prepare: the database is brought to this version, which every start begins with."""

import contextlib

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from config import private
from config.backup import BackupError
from config.backup.upgrading import snapshot_before_migrating


class Command(BaseCommand):
    """A snapshot if there is anything to migrate, the migrations, the bundled files. Idempotent."""

    help = "Bring the database to this version: keep a snapshot if it will be migrated, migrate, load what is bundled."
    requires_migrations_checks = False

    def handle(self, *args, **options) -> None:
        """Say where the snapshot is; without one nothing is migrated."""
        with contextlib.suppress(OSError):
            private.make_private(settings.DATA_DIR)
        try:
            snapshot = snapshot_before_migrating()
        except BackupError as error:
            raise CommandError(f"not migrated, since the database could not be kept before: {error}") from None
        if snapshot:
            self.stdout.write(f"the database will be migrated; as it was, it is kept in {snapshot}")
            self.stdout.flush()
        try:
            call_command("migrate", verbosity=0)
        except DatabaseError as error:
            how = f"; manage.py restore {snapshot} --replace --no-migrate takes it back" if snapshot else ""
            raise CommandError(f"migrating failed: {str(error).partition(chr(10))[0]}{how}", returncode=2) from None
        for command in ("load_catalog", "sync_reproductions", "load_records"):
            call_command(command, verbosity=0)
