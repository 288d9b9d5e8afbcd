"""python manage.py load_catalog: the files of catalog/data become rows."""

from django.core.management.base import BaseCommand, CommandError

from catalog import imports, load


class Command(BaseCommand):
    """Idempotent, in one transaction."""

    help = "Load the bundled catalogue: categories, entries, works and their claims."

    def handle(self, *args, **options) -> None:
        """Print what there is and what changed."""
        try:
            counts = load.load()
            imports.expire()
        except load.BadData as error:
            raise CommandError(str(error), returncode=2) from None
        if options["verbosity"]:
            changes = ", ".join(f"{count} {name}" for name, count in counts.items())
            self.stdout.write(f"{', '.join(load.totals())} ({changes})")
