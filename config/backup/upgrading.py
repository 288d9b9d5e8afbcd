"""A snapshot of the database before it is migrated, so that a failed upgrade can be taken back."""

import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from config.backup import BackupError
from config.backup.making import SCRATCH, make, stamp

KEPT = 5
NAME = re.compile(r"before-upgrade-(\d{8}T\d{6}Z)-from-([\w-]+)\.backup")
LEFT_S = 86400


def snapshot_before_migrating() -> Path | None:
    """Back the database up if it is about to be migrated; None if there is nothing to migrate, or nothing to lose.

    BackupError if it cannot be made: then the database must not be migrated.
    """
    executor = MigrationExecutor(connection)
    applied = executor.loader.applied_migrations
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not applied or not plan:
        return None
    folder = settings.DATA_DIR / "backups"
    state = _state({migration.app_label for migration, _ in plan}, applied)
    path = folder / f"before-upgrade-{stamp()}-from-{state}.backup"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BackupError(f"{folder} cannot be made: {error.strerror}") from None
    make(path, whole=False)
    _make_room(folder)
    return path


def _state(apps: Iterable[str], applied: Iterable[tuple[str, str]]) -> str:
    """Say how far the apps that will be migrated were: catalog_0002-jobs_0001."""
    last = {app: max((name[:4] for other, name in applied if other == app), default="none") for app in apps}
    return "-".join(f"{app}_{number}" for app, number in sorted(last.items()))


def _make_room(folder: Path) -> None:
    """Keep the newest snapshot of each of the last few states: a start that fails again and again adds none."""
    newest: dict[str, Path] = {}
    for path in sorted(folder.glob("before-upgrade-*.backup"), reverse=True):
        found = NAME.fullmatch(path.name)
        if found and (found[2] in newest or len(newest) >= KEPT):
            path.unlink(missing_ok=True)
        elif found:
            newest[found[2]] = path
    for left in folder.glob(f"{SCRATCH}*"):  # of a process that was killed
        if time.time() - left.stat().st_mtime > LEFT_S:
            shutil.rmtree(left, ignore_errors=True)
