"""python -m config.serve --listen=HOST:PORT: the web server, as `manage.py up` and docker-compose.yml start it."""

import argparse
import os
import resource
import sys
from typing import Any

import waitress

# Limits against slow clients. docs/operations.md has the measurements.
CONNECTIONS = 4000  # open at a time; at the limit nobody new is heard
SILENCE_S = 30  # a connection that neither sends nor reads for so long is closed
FILES_ASIDE = 200  # open files that are no connections
FILES_A_CONNECTION = 2  # itself, and what is buffered for it on the disk
HEADER_BYTES, BODY_BYTES = 64 * 2**10, 64 * 2**20  # of one request
BUFFERED_BYTES = 128 * 2**20  # of an answer that is read slowly; a larger one, unless it is a file, holds its thread


def main(words: list[str]) -> None:
    """Serve until SIGTERM; exit code 2 and one line for settings that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m config.serve", description="Serve the site.")
    parser.add_argument("--listen", required=True, help="HOST:PORT, or [HOST]:PORT")
    listen = parser.parse_args(words).listen
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    try:
        from config.wsgi import application
    except ImproperlyConfigured as error:
        parser.error(str(error))
    try:
        waitress.serve(application, listen=listen, **limits(raise_file_limit()), **trust(settings.TRUSTED_PROXIES))
    except (OSError, ValueError) as error:
        parser.error(f"--listen: expected HOST:PORT of this machine that is free, got {listen!r} ({error})")


def raise_file_limit() -> int:
    """How many files this process may have open from here on: as many as the machine lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS * FILES_A_CONNECTION + FILES_ASIDE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft


def limits(files: int) -> dict[str, Any]:
    """Options of the server, for a process that may have so many files open."""
    return {
        "threads": 8,
        "connection_limit": max(10, min(CONNECTIONS, (files - FILES_ASIDE) // FILES_A_CONNECTION)),
        "backlog": 1024,
        "channel_timeout": SILENCE_S,
        "cleanup_interval": 5,
        "asyncore_use_poll": True,  # select() knows 1024 files
        "max_request_header_size": HEADER_BYTES,
        "max_request_body_size": BODY_BYTES,
        "outbuf_high_watermark": BUFFERED_BYTES,
    }


def trust(proxies: int) -> dict[str, Any]:
    """Options that take from so many proxies who asks and how; without them a client's `X-Forwarded-…` is removed."""
    if not proxies:
        return {"clear_untrusted_proxy_headers": True}
    return {
        "clear_untrusted_proxy_headers": True,
        "trusted_proxy": "*",
        "trusted_proxy_count": proxies,
        "trusted_proxy_headers": {"x-forwarded-for", "x-forwarded-proto"},
    }


if __name__ == "__main__":
    main(sys.argv[1:])
