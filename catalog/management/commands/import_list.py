"""python manage.py import_list FILE: an awesome-list in Markdown comes into the catalogue."""

import json
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog import imports
from catalog.markdown_list import HIDDEN_TAKEN
from config.audit import record


class Command(BaseCommand):
    """In one transaction; --dry-run only tells."""

    help = "Read an awesome-list in Markdown: works are created or updated, never removed."

    def add_arguments(self, parser: CommandParser) -> None:
        """The file, and how to tell."""
        parser.add_argument("file", metavar="FILE", type=Path)
        parser.add_argument("--dry-run", action="store_true", help="tell what would be done, write nothing")
        parser.add_argument("--json", action="store_true", help="tell it as JSON")

    def handle(self, *args, **options) -> None:
        """Plan, apply unless it is a dry run, and tell."""
        plan = imports.plan(read(options["file"]))
        if not options["dry_run"]:
            imports.apply(plan, reason=f"import of {options['file'].name}")
            record(None, "apply import", options["file"].name)
        if options["json"]:
            self.stdout.write(json.dumps(as_json(plan), ensure_ascii=False, indent=2))
        elif options["verbosity"]:
            self.tell(plan, options["dry_run"])

    def tell(self, plan: imports.Plan, dry_run: bool) -> None:
        """The counts in one line; then what needs a person."""
        counts = plan.counts
        self.stdout.write(
            f"{counts['rows_read']} rows read; works: {counts['created']} created, {counts['updated']} updated, "
            f"{counts['unchanged']} unchanged; {counts['questions']} rows in question, "
            f"{counts['not_understood']} not understood{' (nothing written)' if dry_run else ''}"
        )
        for item in plan.questions:
            names = ", ".join(slug for slug, _ in item.candidates)
            self.stdout.write(f"line {item.row.line}: left out, {item.note} ({names}): {item.row.title}")
        for item in plan.items:
            for part in item.row.unkept:
                if part == HIDDEN_TAKEN or part.startswith("the name and password"):
                    self.stdout.write(f"line {item.row.line}: not kept, {part}: {item.row.title}")
        for missed in plan.missed:
            self.stdout.write(f"line {missed.line}: not understood, {missed.reason}: {missed.text}")


def read(path: Path) -> str:
    """The text of a list; CommandError with code 2 if there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(f"{path}: not UTF-8 (byte {error.start})", returncode=2) from None
    except OSError as error:
        raise CommandError(f"{path}: cannot be read: {error.strerror}", returncode=2) from None
    if not text.strip():
        raise CommandError(f"{path}: is empty", returncode=2)
    return text


def as_json(plan: imports.Plan) -> dict:
    """The plan for programs: works by slug, rows by line."""
    return {
        "rows_read": plan.counts["rows_read"],
        "created": plan.slugs("create"),
        "updated": plan.slugs("change"),
        "unchanged": plan.slugs("unchanged"),
        "questions": [
            {
                "line": item.row.line,
                "title": item.row.title,
                "why": item.note,
                "works": [slug for slug, _ in item.candidates],
            }
            for item in plan.questions
        ],
        "not_understood": [{"line": m.line, "reason": m.reason, "text": m.text} for m in plan.missed],
    }
