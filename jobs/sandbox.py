"""The child process of one attempt: its own group, a scrubbed environment, a log file, a leash.

Hygiene for reviewed code, not a security boundary.
"""

import os
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from jobs import groups
from jobs.leash import leashed

KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_HOME", "TRITON_CACHE_DIR", "HF_HOME")


def environment(device: str, device_uuid: str) -> dict[str, str]:
    """What a child may know: no database address, no broker, no secret; one GPU, or none."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return kept | {
        "PYTHONUNBUFFERED": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": device_uuid if device == "cuda" else "",
        "DATA_DIR": str(settings.DATA_DIR),  # where the language model is kept
    }


def own_environment() -> dict[str, str]:
    """What Claimcheck's own commands need: all that this process knows."""
    return dict(os.environ) | {"PYTHONUNBUFFERED": "1", "DATA_DIR": str(settings.DATA_DIR)}


class Child:
    """A running child. Its log is read back in pieces; its whole group can be ended."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str]):
        self.folder = folder
        self._offset = 0
        with (folder / "log.txt").open("wb") as log:
            self._process = subprocess.Popen(
                leashed([sys.executable, *command]),
                cwd=settings.BASE_DIR,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.group = self._process.pid
        self.group_started = groups.started_at(self.group)

    def wait(self, seconds: float) -> int | None:
        """The exit code, once it has ended within `seconds`; negative for a signal."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """End the whole group, descendants included."""
        groups.end(self.group)
        self._process.wait()

    def new_log(self) -> str:
        """What it printed since the last call."""
        with (self.folder / "log.txt").open("rb") as log:
            log.seek(self._offset)
            piece = log.read(64 * 1024)
        self._offset += len(piece)
        return piece.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
