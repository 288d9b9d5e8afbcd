"""python manage.py export FORMAT: the catalogue leaves as a file."""

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.models import Work
from exports import citations, markdown


def _bibtex() -> str:
    works = Work.objects.prefetch_related("authorships__author").order_by("slug")
    return "\n".join(citations.bibtex(work) for work in works)


FORMATS = {"markdown": markdown.whole, "bibtex": _bibtex}


class Command(BaseCommand):
    """To a file, or to where the output goes."""

    help = "Write the list as Markdown, or every work as a citation."

    def add_arguments(self, parser: CommandParser) -> None:
        """The format and the file."""
        parser.add_argument("format", choices=sorted(FORMATS), metavar="FORMAT", help=", ".join(sorted(FORMATS)))
        parser.add_argument("-o", dest="file", type=Path, metavar="FILE", help="write to this file")

    def handle(self, *args, **options) -> None:
        """Write it all."""
        text = FORMATS[options["format"]]()
        if options["file"] is None:
            self.stdout.write(text, ending="")
            return
        try:
            options["file"].write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{options['file']}: cannot be written: {error.strerror}", returncode=2) from None
