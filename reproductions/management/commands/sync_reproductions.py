"""python manage.py sync_reproductions: the files of reproductions/papers/ become rows."""

from django.core.management.base import BaseCommand, CommandError

from catalog.models import Work
from reproductions import services


class Command(BaseCommand):
    """Idempotent; only changed files are loaded."""

    help = "Bring the reproductions in the database in line with reproductions/papers/."

    def handle(self, *args, **options) -> None:
        """Print what changed."""
        try:
            counts = services.sync()
        except Work.DoesNotExist:
            raise CommandError("a reproduction's work is not in the catalogue: run load_catalog first") from None
        except services.Refused as error:
            raise CommandError(str(error)) from None
        if options["verbosity"]:
            self.stdout.write(", ".join(f"{count} {name}" for name, count in counts.items()))
