"""python manage.py bench_search --works N: how long a query with its facet counts takes, in a database of its own."""

import statistics
import tempfile
import time
from pathlib import Path

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from catalog import synthetic
from catalog.listing import Listing
from catalog.models import Work
from catalog.selection import Selection


class Command(BaseCommand):
    """Milliseconds a query, the counts of all facets included and the rows of the page not."""

    help = "Time searches over synthetic works, in a temporary database on the configured server."

    def add_arguments(self, parser) -> None:
        """How many works and queries."""
        parser.add_argument("--works", type=int, default=76, help="works in all, at least those of the catalogue")
        parser.add_argument("--queries", type=int, default=200)

    def handle(self, *args, **options) -> None:
        """Make the database, fill it, measure, drop it."""
        if options["works"] < 76 or options["queries"] < 20:
            raise CommandError("expected --works of at least 76 and --queries of at least 20", returncode=2)
        before = str(connection.settings_dict["NAME"])
        with tempfile.TemporaryDirectory() as folder:
            if connection.vendor == "sqlite":
                connection.settings_dict["TEST"]["NAME"] = str(Path(folder) / "bench.sqlite3")
            connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
            try:
                self._measure(options["works"], options["queries"])
            finally:
                connection.creation.destroy_test_db(before, verbosity=0)

    def _measure(self, works: int, queries: int) -> None:
        call_command("load_catalog", verbosity=0)
        began = time.perf_counter()
        synthetic.add(works - Work.objects.count())
        built = time.perf_counter() - began
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        lines = synthetic.lines(queries)
        _once("")  # the snapshot is read
        found = [_once(line) for line in lines]
        times = sorted(ms for ms, _ in found)
        cut = statistics.quantiles(times, n=20)
        matches = statistics.mean(matched for _, matched in found)
        self.stdout.write(
            f"{connection.vendor}, {works} works, {queries} queries: p50 {cut[9]:.1f} ms, p95 {cut[18]:.1f} ms,"
            f" most {times[-1]:.1f} ms, {matches:.0f} matches on average, filled and indexed in {built:.0f} s"
        )


def _once(line: str) -> tuple[float, int]:
    began = time.perf_counter()
    listing = Listing(Selection(q=line))
    listing.facets()
    return (time.perf_counter() - began) * 1e3, listing.work_count
