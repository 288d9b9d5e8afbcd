"""Putting a backup back: everything is checked first, what was there is kept aside, the database goes in whole."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from config import private
from config.backup import BackupError, DamagedDatabase, archive, database, files, sqlite
from config.backup.making import make, stamp

SCRATCH = ".claimcheck-restore-"


@dataclass
class Restored:
    """Says what a restore did."""

    manifest: Mapping[str, Any]
    aside: Path | None  # where the earlier data lies


def restore(path: Path, *, replace: bool, say: Callable[[str], object]) -> Restored:
    """Put a backup in place of what is here. BackupError, in one line, if it cannot be done; nothing is changed then.

    The database stays at the version that the backup has: migrating is the next step.
    """
    manifest = archive.check(path)
    database.suits(manifest)
    _take_folder()
    if count := database.others():
        raise BackupError(f"{count} other connections to the database: stop the web server, control and workers first")
    held = database.holds_data() or (manifest["whole"] and bool(files.kept().keys() - {files.SECRET}))
    if held and not replace:
        raise BackupError("this installation holds data: say --replace to put the backup in its place")
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=settings.DATA_DIR) as scratch:
        archive.unpack(path, manifest, Path(scratch))
        database.check(Path(scratch), manifest)
        aside = _keep_aside(manifest["whole"]) if held else None
        if aside:
            say(f"what was here is kept in {aside}")
        database.load(Path(scratch), manifest)
        try:
            if manifest["whole"]:
                files.put(Path(scratch), manifest["members"])
        except OSError as error:
            raise BackupError(f"the database is restored, but not all files: {error}; run it again") from None
    return Restored(manifest, aside)


def _take_folder() -> None:
    try:
        private.make_private(settings.DATA_DIR)
        private.take(settings.DATA_DIR, "a restore")
    except private.Taken as taken:
        raise BackupError(f"{settings.DATA_DIR} is in use: {taken}; stop it first") from None
    except OSError as error:
        raise BackupError(f"cannot write in {settings.DATA_DIR}: {error.strerror}") from None


def _keep_aside(whole: bool) -> Path:
    """Keep what is here as a backup; a database that cannot be read is moved aside as it is, with the files."""
    folder = settings.DATA_DIR / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    kept = folder / f"replaced-{stamp()}.backup"
    try:
        if database.holds_data():
            make(kept, whole=whole)
            return kept
    except DamagedDatabase:
        sqlite.move_aside(_new(kept.with_suffix("")))
    if whole:
        files.move_aside(_new(kept.with_suffix("")))
    return kept.with_suffix("")


def _new(folder: Path) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
