"""The child process of one attempt: its own group, a scrubbed environment, a log file, a leash.

Hygiene for reviewed code, not a security boundary.
"""

import codecs
import os
import subprocess
import sys
from pathlib import Path

import psutil
from django.conf import settings

from jobs import groups
from jobs.leash import leashed

PIECE = 256 * 1024  # bytes of log read at once
LARGE_LOG = 8 * 2**20  # bytes
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_HOME", "TRITON_CACHE_DIR", "HF_HOME")


def environment(device: str, device_uuid: str, mark: str, download: bool = False) -> dict[str, str]:
    """What a child may know: no database address, no broker, no secret; one GPU, or none; no way to a model hub."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return kept | {
        "PYTHONUNBUFFERED": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        **({} if download else {"HF_HUB_OFFLINE": "1"}),
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": device_uuid if device == "cuda" else "",
        "DATA_DIR": str(settings.DATA_DIR),  # where the language model is kept
        groups.MARK: mark,
    }


def own_environment(mark: str) -> dict[str, str]:
    """What Claimcheck's own commands need: all that this process knows."""
    told = {name: value for name, value in os.environ.items() if name != "LOG_FORMAT"}  # what it logs, people read
    return told | {"PYTHONUNBUFFERED": "1", "DATA_DIR": str(settings.DATA_DIR), groups.MARK: mark}


def memory_limit() -> int:
    """Bytes that all processes of a job together may have resident."""
    return int(settings.JOB_MEMORY_SHARE * psutil.virtual_memory().total)


class Child:
    """A running child. Its log is read back in pieces; it and all its descendants can be ended."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str], *, offline: bool):
        self.folder, self.mark = folder, env[groups.MARK]
        self._offset, self._decoder = 0, codecs.getincrementaldecoder("utf-8")("replace")
        with (folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                leashed([sys.executable, *command], memory_limit(), offline),
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
        """End the whole group, and descendants that left it."""
        groups.end(self.group, self.mark)
        self._process.wait()

    def cpu_seconds(self) -> float:
        """Seconds of a core that it and its descendants have had so far."""
        return groups.cpu_seconds(self.group, self.mark)

    def new_log(self) -> str:
        """What it printed since the last call. A log that grows large is emptied, so that it never fills a disk."""
        path = self.folder / "log.txt"
        with path.open("rb") as log:
            log.seek(self._offset)
            text = self._decoder.decode(log.read(PIECE))
            self._offset, size = log.tell(), path.stat().st_size
            if size > LARGE_LOG:
                skipped = max(0, size - PIECE - self._offset)
                log.seek(skipped, os.SEEK_CUR)
                note = f"\n… {skipped:,} bytes of log are left out here\n" if skipped else ""
                text += note + self._decoder.decode(log.read())
                os.truncate(path, 0)  # the child appends, so it goes on at the new end
                self._offset = 0
        return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
