"""What takes a minute to prepare is kept, by its content: a second run, or another work, finds it.

Files lie in the folder prepared/ of DATA_DIR and may be deleted at any time.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reproductions import data_files, identity

LIMIT = 4 * 2**30  # bytes of all files; the ones that were not used for longest go first
STALE_S = 3600  # an unfinished file this old was left by a process that died


def prepared(make: Callable[..., dict[str, Tensor]], **given: Any) -> dict[str, Tensor]:
    """`make(**given)`, or what it returned when it was last given the same, on the CPU.

    The same: equal arguments (tensors and models by all their bytes, a Lab by its device and seed), and nothing changed
    in all that `make`, or a class it is given, reaches (identity.py). A file is written whole, then renamed; of two
    processes at it, both write the same.
    """
    from safetensors.torch import load_file, save_file

    words = {name: _word(value) for name, value in given.items()}
    key = hashlib.sha256(json.dumps([words, identity.of(make)], sort_keys=True).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("DATA_DIR", data_files.ROOT / "data")) / "prepared"
    path = folder / f"{make.__name__.strip('_')}-{key}.safetensors"
    if path.is_file():
        os.utime(path)
        return load_file(path)
    made = {name: x.detach().cpu().contiguous() for name, x in make(**given).items()}
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".new-", dir=folder)
    os.close(handle)
    try:
        save_file(made, temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    _make_room(folder, path)
    return made


def fingerprint(model: torch.nn.Module) -> str:
    """Of a model's weights: a digest of all their bytes."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {_content(weight)}".encode())
    return digest.hexdigest()


def _content(x: Tensor) -> str:
    """Shape, type and a digest of all bytes."""
    data = x.detach().cpu().contiguous().reshape(-1)
    return f"{tuple(x.shape)} {x.dtype} {hashlib.sha256(data.view(torch.uint8).numpy()).hexdigest()}"


def _word(value: Any) -> Any:
    """What stands for an argument in the key."""
    from reproductions.lab import Lab

    if isinstance(value, Lab):
        return [value.device, value.seed]
    if isinstance(value, type):
        return identity.of(value)
    if isinstance(value, torch.nn.Module):
        return fingerprint(value)
    if isinstance(value, Tensor):
        return _content(value)
    return value


def _make_room(folder: Path, but: Path) -> None:
    """Delete the files that were not used for longest, until `LIMIT` holds, and what a killed run left; never `but`."""
    for left in folder.glob(".new-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STALE_S:
                left.unlink()
    files = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in files)
    for path in files:
        if total > LIMIT and path != but:
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
