"""python manage.py results [-o FILE]: what came out, claim by claim, as Markdown."""

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser

from reproductions import results
from reproductions.models import Reproduction


class Command(BaseCommand):
    """Reads what is stored; measures nothing."""

    help = "Write every claim of every work that runs beside what was measured."

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to."""
        parser.add_argument("-o", dest="file", metavar="FILE", help="write there instead of to the terminal")

    def handle(self, *args, file: str | None, **options) -> None:
        """Write the document; CommandError with code 2 where nothing is stored that it could be of."""
        if not Reproduction.objects.filter(retired=False).exists():
            raise CommandError("expected works that run, got none: make results loads them first", returncode=2)
        text = results.document()
        if file is None:
            self.stdout.write(text)
            return
        try:
            Path(file).write_text(text)
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}", returncode=2) from None
