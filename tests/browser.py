"""The browser of the tests: Chromium from the PATH, else the system's packages (as root), else Playwright's own.

`python -m tests.browser` gets one if there is none; the tests themselves only look for it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--no-first-run", "--disable-quic"]  # fmt: skip


def find() -> str | None:
    """The path of a browser that is there now."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", Path.home() / ".cache" / "ms-playwright"))
    own = sorted(cache.glob("chromium*/chrome-linux*/chrome")) + sorted(
        cache.glob("chromium*/chrome-linux*/headless_shell")
    )
    return str(own[-1]) if own else None


def arguments() -> list[str]:
    """Switches that keep it quiet; root has no sandbox."""
    return [*ARGUMENTS, "--no-sandbox"] if os.geteuid() == 0 else ARGUMENTS


def get() -> str | None:
    """Find a browser, or install one."""
    if found := find():
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], stdout=subprocess.DEVNULL)
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], stdout=subprocess.DEVNULL, env=env)
        if found := find():
            return found
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"])
    return find()


if __name__ == "__main__":
    if not get():
        print("NO BROWSER COULD BE HAD: the browser tests will be skipped, which the summary repeats", file=sys.stderr)
