"""python manage.py export FORMAT: the catalogue, or a selection of it, leaves as a file."""

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.models import Work
from exports import selecting
from exports.citations import FORMATS


class Command(BaseCommand):
    """To a file, or to where the output goes."""

    help = "Write the list as Markdown, or works as citations; all of it, or what a query selects."

    def add_arguments(self, parser: CommandParser) -> None:
        """The format, the selection and the file."""
        parser.add_argument("format", choices=sorted(FORMATS), metavar="FORMAT", help=", ".join(sorted(FORMATS)))
        parser.add_argument(
            "--query", default="", metavar="Q", help="words of the search box, ?q=flash&year=2023, or works=vllm,awq"
        )
        parser.add_argument("--ascii", action="store_true", help="accents as TeX writes them (bibtex, biblatex)")
        parser.add_argument("-o", dest="file", type=Path, metavar="FILE", help="write to this file")

    def handle(self, *args, **options) -> None:
        """Write it all."""
        text = FORMATS[options["format"]].write(selected(options["query"]), options["ascii"])
        if options["file"] is None:
            self.stdout.write(text, ending="")
            return
        try:
            options["file"].write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            raise CommandError(f"{options['file']}: cannot be written: {error.strerror}", returncode=2) from None


def selected(query: str) -> list[Work]:
    """The works of a query, in its order; all by slug without one. CommandError with code 2 for what it cannot mean."""
    if not query.strip():
        return list(Work.objects.for_list().order_by("slug"))
    try:
        return selecting.of_query(query)
    except selecting.NotSelected as error:
        raise CommandError(f"--query: {error}", returncode=2) from None
