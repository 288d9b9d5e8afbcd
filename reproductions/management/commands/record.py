"""python manage.py record RUN: a result is written to reproductions/records/, to ship with the project."""

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.http import whole_number
from reproductions import records
from reproductions.models import Run


class Command(BaseCommand):
    """RUN is a run's number here, or the file that `python -m reproductions run … --out FILE` wrote elsewhere."""

    help = "Write a finished run to reproductions/records/."

    def add_arguments(self, parser: CommandParser) -> None:
        """The run."""
        parser.add_argument("run", metavar="RUN", help="a run's number, or the file of `run … --out`")

    def handle(self, *args, run: str, **options) -> None:
        """Print the file's name."""
        try:
            path = records.write(self._record(run))
        except records.BadRecord as error:
            raise CommandError(str(error), returncode=2) from None
        self.stdout.write(str(path))

    def _record(self, run: str) -> dict:
        if (number := whole_number(run)) is None:
            return records.of_file(Path(run))
        found = Run.objects.select_related("job", "reproduction__work").filter(pk=number).first()
        if found is None:
            raise records.BadRecord(f"there is no run {run}")
        return records.of_run(found)
