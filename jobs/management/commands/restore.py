"""python manage.py restore FILE: a backup takes the place of what is here."""

import signal
import sys
from pathlib import Path

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection
from django.db.migrations.recorder import MigrationRecorder

from config.backup import BackupError
from config.backup.restoring import restore


class Command(BaseCommand):
    """The file is checked whole before anything is touched; what it replaces is kept aside."""

    help = "Put a backup in place of what is here, and bring it to this version."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        """Which file, and whether it may replace what is here."""
        parser.add_argument("file", metavar="FILE", type=Path)
        parser.add_argument("--replace", action="store_true", help="replace what is here, which is kept aside first")
        parser.add_argument("--no-migrate", action="store_true", help="leave the database to the version that made it")

    def handle(self, *args, **options) -> None:
        """Say what was restored, what was migrated, and where the earlier data is."""
        signal.signal(signal.SIGTERM, lambda *caught: sys.exit(143))
        path = options["file"].absolute()
        try:
            done = restore(path, replace=options["replace"], say=self.stdout.write)
        except BackupError as error:
            raise CommandError(str(error), returncode=2) from None
        manifest = done.manifest
        count = sum(name.startswith("files/") for name in manifest["members"])
        with_files = f"and {count} files" if manifest["whole"] else "(files are as they were)"
        rows = sum(manifest["rows"].values())
        self.stdout.write(f"restored {path} of {manifest['made_at']}: {rows:,} rows {with_files}")
        if not options["no_migrate"]:
            self.stdout.write(f"migrated to this version: {', '.join(self._migrate()) or 'it was already'}")
        self.stdout.write("everybody signs in anew; accounts, tokens and links to set passwords are as they were then")

    def _migrate(self) -> list[str]:
        before = set(MigrationRecorder(connection).applied_migrations())
        try:
            call_command("migrate", verbosity=0)
        except DatabaseError as error:
            said = str(error).partition("\n")[0]
            raise CommandError(f"restored, but not migrated to this version: {said}", returncode=2) from None
        return sorted(f"{app}.{name}" for app, name in set(MigrationRecorder(connection).applied_migrations()) - before)
