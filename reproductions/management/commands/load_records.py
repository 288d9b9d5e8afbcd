"""python manage.py load_records: the results of reproductions/records/ become runs, judged anew."""

from django.core.management.base import BaseCommand, CommandError

from reproductions import records


class Command(BaseCommand):
    """Idempotent; a file that is not what the schema says changes nothing."""

    help = "Bring the recorded runs in line with reproductions/records/."

    def handle(self, *args, **options) -> None:
        """Print what changed."""
        try:
            counts = records.load()
        except records.BadRecord as error:
            raise CommandError(str(error)) from None
        if options["verbosity"]:
            self.stdout.write(", ".join(f"{count} {name}" for name, count in counts.items()))
