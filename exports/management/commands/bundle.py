"""python manage.py bundle: a selection as one PDF."""

import json
import os
import shutil
from pathlib import Path

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from exports import bundle_plan, bundle_store, papers


class Command(BaseCommand):
    """Draws and binds; one that is there already, of the same selection and sources, is taken as it is."""

    help = "Bind works into one PDF: our sheets (report), with the papers that may be passed on (public), or with all."

    requires_system_checks: list[str] = []  # they load every page of the site, and so twice the memory

    def add_arguments(self, parser: CommandParser) -> None:
        """Selection, kind, file."""
        parser.add_argument("--query", default="", metavar="Q", help="words of the search box, or ?q=flash&year=2023")
        parser.add_argument("--kind", default="report", choices=bundle_plan.KINDS)
        parser.add_argument("-o", dest="file", type=Path, metavar="FILE.pdf", help="write it here, and FILE.json")
        parser.add_argument("--fetch", action="store_true", help="get papers that are not here, politely")
        parser.add_argument("--user", type=int, help="number of the account that asks: its collections may be named")
        parser.add_argument("--folder", type=Path, help="write progress.json and bundle.json here")

    def handle(self, *args, **options) -> None:
        """Code 2 for a query that means nothing and for a file that cannot be written."""
        self.folder: Path | None = options["folder"]
        user = User.objects.filter(pk=options["user"]).first() if options["user"] else None
        try:
            plan = bundle_plan.plan(options["kind"], options["query"], user)
            papers.put_in(plan, papers.fetch if options["fetch"] else None, self.progress)
            made = bundle_store.make(plan, self.progress)
            if user:
                bundle_store.note_asked(made, user, options["query"])
            if options["file"]:
                self.copy(made, options["file"])
        except bundle_plan.NotUnderstood as error:
            raise CommandError(f"--query: {error}", returncode=2) from None
        except OSError as error:
            raise CommandError(f"{error.filename}: cannot be written: {error.strerror}", returncode=2) from None
        self.leave("bundle.json", {"name": made.name})
        counts = made.told["counts"]
        self.stdout.write(
            f"{options['file'] or made.file}: {made.told['pages']} pages, {counts['works']} works, "
            f"{counts['papers']} papers, {counts['stubs']} without their paper; SHA-256 {made.sha256}"
        )
        for work in made.told["works"]:
            if work["stub"]:
                self.stdout.write(f"{work['work']}: {work['stub']}")
            if work["paper"] and work["paper"]["notes"]:
                self.stdout.write(f"{work['work']}: bound; {'; '.join(work['paper']['notes'])}")

    def copy(self, made: bundle_store.Made, file: Path) -> None:
        """Both files, each as a whole or not at all."""
        for source, target in ((made.file, file), (made.file.with_suffix(".json"), file.with_suffix(".json"))):
            part = target.with_name(f"{target.name}.{os.getpid()}.tmp")
            try:
                shutil.copyfile(source, part)
                os.replace(part, target)
            finally:
                part.unlink(missing_ok=True)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Leave it for the worker that shows it."""
        self.leave("progress.json", {"stage": stage, "done": done, "total": total})

    def leave(self, name: str, told: dict) -> None:
        """Write a file as a whole or not at all."""
        if self.folder:
            path = self.folder / f"{name}.tmp"
            path.write_text(json.dumps(told))
            os.replace(path, self.folder / name)
