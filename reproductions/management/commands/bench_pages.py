"""python manage.py bench_pages --works N: how long the server takes for a page, in a database of its own."""

import statistics
import tempfile
import time
from pathlib import Path

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.test import Client

from catalog import synthetic
from catalog.models import Work

PAGES = ("/", "/?q=attention", "/?sort=date", "/papers/flashattention/", "/papers/vllm/")


class Command(BaseCommand):
    """Milliseconds a page from request to answer, templates and compression included, the network not."""

    help = "Time the list and paper pages over synthetic works, in a temporary database on the configured server."

    def add_arguments(self, parser) -> None:
        """How many works, and how often each page is asked for."""
        parser.add_argument("--works", type=int, default=76, help="works in all, at least those of the catalogue")
        parser.add_argument("--times", type=int, default=40)

    def handle(self, *args, **options) -> None:
        """Make the database, fill it, measure, drop it."""
        if options["works"] < 76 or options["times"] < 20:
            raise CommandError("expected --works of at least 76 and --times of at least 20", returncode=2)
        before = str(connection.settings_dict["NAME"])
        with tempfile.TemporaryDirectory() as folder:
            if connection.vendor == "sqlite":
                connection.settings_dict["TEST"]["NAME"] = str(Path(folder) / "bench.sqlite3")
            connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
            try:
                for command in ("load_catalog", "sync_reproductions", "load_records"):
                    call_command(command, verbosity=0)
                synthetic.add(options["works"] - Work.objects.count())
                self._measure(options["times"])
            finally:
                connection.creation.destroy_test_db(before, verbosity=0)

    def _measure(self, times: int) -> None:
        client = Client(headers={"Accept-Encoding": "gzip", "Host": "localhost"})
        for page in PAGES:
            client.get(page)
            found = sorted(self._once(client, page) for _ in range(times))
            cut = statistics.quantiles(found, n=20)
            self.stdout.write(f"{page}: p50 {cut[9]:.0f} ms, p95 {cut[18]:.0f} ms, most {found[-1]:.0f} ms")

    def _once(self, client: Client, page: str) -> float:
        began = time.perf_counter()
        if (status := client.get(page).status_code) != 200:
            raise CommandError(f"{page}: expected 200, got {status}")
        return 1e3 * (time.perf_counter() - began)
