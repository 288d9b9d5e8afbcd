"""Which files of DATA_DIR a backup holds: those that nobody can make again."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings

from config.backup.archive import NAME

SECRET = "files/secret_key"
PASSING = (".tmp", ".part", ".tag", ".lock")  # of a download or a bundle under way
LEFT_OUT = (
    "models/, prepared/ and bundles/plots/ (made again when they are needed), logs/, scratch/, backups/, and what is"
    " not Claimcheck's"
)


def kept() -> dict[str, Path]:
    """Return member name -> file: the secret key, papers and bundles that are there now."""
    found = {SECRET: settings.DATA_DIR / "secret_key"} if (settings.DATA_DIR / "secret_key").is_file() else {}
    for kind in ("papers", "bundles"):
        for path in _files(settings.DATA_DIR / kind):
            found[f"files/{kind}/{path.name}"] = path
    return {name: path for name, path in found.items() if NAME.fullmatch(name) and _encodes(name)}


def _files(folder: Path) -> Iterable[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix not in PASSING and path.is_file())
    except FileNotFoundError:
        return ()


def _encodes(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def put(folder: Path, names: Iterable[str]) -> None:
    """Move the unpacked members of these names into DATA_DIR, and remove papers and bundles that are not among them."""
    names = [name for name in names if name.startswith("files/")]
    for name, path in kept().items():
        if name not in names and name != SECRET:
            path.unlink(missing_ok=True)
    for name in names:
        target = settings.DATA_DIR / name.removeprefix("files/")
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = target.with_name(f".{os.getpid()}.tmp")  # papers/ may be a link to another disk
        shutil.move(folder / name, part)
        os.replace(part, target)


def move_aside(folder: Path) -> None:
    """Move all that `kept` names into a folder."""
    for name, path in kept().items():
        target = folder / name.removeprefix("files/")
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.move(path, target)
