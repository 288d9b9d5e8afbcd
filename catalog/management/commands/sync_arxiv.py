"""python manage.py sync_arxiv [ID …]: what arXiv says of the works, politely."""

import json
import os
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog import arxiv_client, arxiv_ids, arxiv_sync
from catalog.arxiv_gate import ArxivFailed
from catalog.models import Work


class Command(BaseCommand):
    """Metadata, then licences; what had come is kept when arXiv refuses. Done again, it asks what is not known."""

    help = "Bring works up to date with arXiv: all that have an arXiv id, or those named."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which works, and where to leave progress for whoever watches."""
        parser.add_argument("ids", metavar="ID", nargs="*", help="arXiv ids or addresses (default: all works)")
        parser.add_argument("--add", action="store_true", help="add those that are not in the list")
        parser.add_argument("--folder", type=Path, help="write progress.json and failure.json here")

    def handle(self, *args, **options) -> None:
        """Code 2 for what is no id, 1 if arXiv refused or did not answer."""
        ids = read(options["ids"])
        self.folder: Path | None = options["folder"]
        report = arxiv_sync.Report()
        try:
            if options["add"]:
                self.add(ids)
            arxiv_sync.sync(works(ids), report, self.progress)
        except ArxivFailed as failed:
            self.tell(report)
            self.leave("failure.json", {"code": "source-failed", "message": str(failed)})
            raise CommandError(str(failed), returncode=1) from None
        self.tell(report)

    def add(self, ids: list[str]) -> None:
        """Add those that are not in the list."""
        known = set(Work.objects.filter(arxiv_id__in=ids).values_list("arxiv_id", flat=True))
        for found in arxiv_client.metadata([number for number in ids if number not in known]):
            known.add(found.arxiv_id)
            try:
                work = arxiv_sync.add(found, None, None, None)
                self.stdout.write(f"{found.arxiv_id}: added as {work.slug}")
            except arxiv_sync.Exists as exists:  # somebody else was first
                self.stdout.write(f"{found.arxiv_id}: {exists}")
        if unknown := sorted(set(ids) - known):
            raise CommandError(f"arXiv does not know {', '.join(unknown)}", returncode=2)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Leave it for the worker that shows it."""
        self.leave("progress.json", {"stage": stage, "done": done, "total": total})

    def leave(self, name: str, told: dict) -> None:
        """Write a file as a whole or not at all."""
        if self.folder:
            path = self.folder / f"{name}.tmp"
            path.write_text(json.dumps(told))
            os.replace(path, self.folder / name)

    def tell(self, report: arxiv_sync.Report) -> None:
        """News and differences work by work, then the counts."""
        for number, news in report.updated.items():
            self.stdout.write(f"{number}: {'; '.join(news)}")
        for number, found in report.differences.items():
            for fact, ours, theirs in found:
                self.stdout.write(f"{number}: differs in {fact}, ours stays: {ours!r}; arXiv has {theirs!r}")
        for number in report.missing:
            self.stdout.write(f"{number}: arXiv does not know it")
        self.stdout.write(
            f"asked for {report.asked}; {len(report.updated)} updated, {len(report.unchanged)} unchanged, "
            f"{len(report.differences)} with differences, {len(report.missing)} not known to arXiv"
        )


def read(texts: list[str]) -> list[str]:
    """arXiv ids without versions; CommandError with code 2 for what is none."""
    found = {text: arxiv_ids.find(text) for text in texts}
    for text, number in found.items():
        if number is None:
            raise CommandError(f"expected an arXiv id or address, got {text!r}", returncode=2)
    return list(dict.fromkeys(str(number) for number in found.values()))


def works(ids: list[str]) -> list[Work]:
    """The works of these ids, or all that have one; CommandError with code 2 for an id that no work has."""
    if not ids:
        return list(Work.objects.exclude(arxiv_id=None).order_by("pk"))
    found = list(Work.objects.filter(arxiv_id__in=ids))
    unknown = set(ids) - {str(work.arxiv_id) for work in found}
    if unknown:
        raise CommandError(f"no work has the arXiv id {min(unknown)}: --add adds it", returncode=2)
    return found
