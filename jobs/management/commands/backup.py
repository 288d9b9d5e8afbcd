"""python manage.py backup FILE: the whole installation in one file, while everything runs."""

import signal
import sys
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.backup import BackupError, files
from config.backup.making import make


class Command(BaseCommand):
    """The database as it is at one moment, the secret key, papers and bundles; a new file for its owner alone."""

    help = "Write the whole installation to one new file, while everything runs."

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to."""
        parser.add_argument("file", metavar="FILE", type=Path)

    def handle(self, *args, **options) -> None:
        """Say what is in it and what is not."""
        signal.signal(signal.SIGTERM, lambda *caught: sys.exit(143))  # so that nothing half-done is left
        path = options["file"].absolute()
        try:
            manifest = make(path)
        except BackupError as error:
            raise CommandError(str(error), returncode=2) from None
        rows, names = sum(manifest["rows"].values()), [n for n in manifest["members"] if n.startswith("files/")]
        self.stdout.write(
            f"{path}: {path.stat().st_size / 2**20:,.1f} MiB, {rows:,} rows in {len(manifest['rows'])} tables and"
            f" {len(names)} files; it holds the secret key and the accounts, so keep it as safe as DATA_DIR"
        )
        self.stdout.write(f"left out: {files.LEFT_OUT}")
