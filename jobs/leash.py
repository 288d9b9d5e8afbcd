"""python -m jobs.leash PARENT MEMORY NETWORK -- COMMAND…: run COMMAND so that it ends when the process PARENT ends.

A MEMORY of bytes above 0 makes it a job's child: its data may grow that far, and the kernel takes it first when the
machine runs short. NETWORK is "offline" for a network of its own without a way out, where the kernel gives one.
Standard library only: reproductions use `die_with_parent` for the processes they start themselves.
"""

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent does end; end at once if it already has (Linux only)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os._exit(1)


def leashed(command: list[str], memory: int = 0, offline: bool = False) -> list[str]:
    """The command line that runs `command` on a leash held by this process."""
    words = [str(os.getpid()), str(memory), "offline" if offline else "online"]
    return [sys.executable, "-m", "jobs.leash", *words, "--", *command]


def leave_network() -> bool:
    """Move this process into a network namespace that has nothing but loopback; False where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNET) != 0:
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
            return False
        with contextlib.suppress(OSError):  # only names: files are opened by who we were
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    return True


def _confine(memory: int) -> None:
    Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not os.environ.get("CUDA_VISIBLE_DEVICES"):  # CUDA reserves far more than it uses
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


if __name__ == "__main__":
    if int(sys.argv[2]):
        _confine(int(sys.argv[2]))
    if sys.argv[3] == "offline":
        leave_network()
    die_with_parent(int(sys.argv[1]))  # last: new credentials would make the kernel forget it
    os.execvp(sys.argv[5], sys.argv[5:])  # the kernel keeps the request across exec
