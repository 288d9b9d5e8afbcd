"""Which Claimcheck this is."""

import functools
import subprocess
import tomllib

from django.conf import settings


@functools.cache
def version() -> str:
    """As pyproject.toml has it."""
    return tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())["project"]["version"]


@functools.cache
def commit() -> str:
    """The commit that was checked out when this was first asked; empty outside a git checkout."""
    command = ["git", "-C", str(settings.BASE_DIR), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
