"""What a run ran on: recorded beside every result, since a figure without its hardware and versions is a rumour."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import torch

from reproductions import data_files


def environment(device: str) -> dict:
    """Device, CPU, memory, versions, package list and commit, as JSON values; None for what cannot be known."""
    packages = sorted(f"{d.metadata['Name']}=={d.version}" for d in importlib.metadata.distributions())
    return {
        "device": device,
        "device_name": device_name(device),
        **(_gpu() if device == "cuda" else {}),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": memory_gib(),
        "system": platform.platform(),
        "host": platform.node(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": importlib.metadata.version("triton"),
        "packages_hash": hashlib.sha256("\n".join(packages).encode()).hexdigest()[:16],
        **commit(),
    }


def device_name(device: str) -> str:
    """The GPU's or the CPU's own name."""
    return torch.cuda.get_device_name() if device == "cuda" else cpu_name()


def devices() -> list[dict]:
    """The devices this torch can use, the CPU and every GPU: name, UUID, memory in GiB, compute capability."""
    found = [{"kind": "cpu", "name": cpu_name(), "uuid": "", "memory_gib": memory_gib(), "capability": 0.0}]
    for i in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(i)
        known = {"kind": "cuda", "name": gpu.name, "uuid": str(gpu.uuid)}
        known |= {"memory_gib": round(gpu.total_memory / 2**30, 1), "capability": float(f"{gpu.major}.{gpu.minor}")}
        found.append(known)
    return found


def versions() -> dict:
    """What a node runs with, as a page shows it."""
    found = {"Python": platform.python_version(), "torch": torch.__version__}
    found |= {"Triton": importlib.metadata.version("triton"), "CUDA": torch.version.cuda, "driver": _driver()}
    return {name: value for name, value in found.items() if value} | {"commit": (commit()["commit"] or "")[:10]}


def memory_gib() -> float:
    """The machine's memory."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def cpu_name() -> str:
    """The processor's model name, as Linux reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpu() -> dict:
    gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "gpu_uuid": str(gpu.uuid),
        "gpu_memory_gib": round(gpu.total_memory / 2**30, 1),
        "compute_capability": f"{gpu.major}.{gpu.minor}",
        "cuda": torch.version.cuda,
        "driver": _driver(),
    }


def _driver() -> str | None:
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:
        return None


def commit() -> dict:
    """The project's commit and whether its files differ from it; both None outside a git checkout."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(data_files.ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
