"""The file of a backup: a zip of the database, the files and a manifest; its last 64 bytes are the SHA-256 of the rest.

So a file that was cut off, changed or is something else is known before anything in it is read. Whoever can write such
a file can also seal it, so its names are held to a pattern, its sizes to the manifest, and nothing in it is a link.
"""

import hashlib
import json
import os
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import jsonschema

from config.backup import BackupError

FORMAT = 1
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 64 * 2**20
SEAL = 64
PIECE = 2**20
NAME = re.compile(
    r"database/[A-Za-z0-9_]{1,63}\.(sqlite3|copy)|files/secret_key|files/(papers|bundles)/(?!\.)[^/\\\x00-\x1f]{1,250}"
)
SHAPE = {
    "type": "object",
    "required": ["format", "version", "made_at", "engine", "migrations", "rows", "whole", "members", "columns"],
    "properties": {
        "version": {"type": "string"},
        "made_at": {"type": "string"},
        "engine": {"enum": ["sqlite", "postgresql"]},
        "whole": {"type": "boolean", "description": "with the files of DATA_DIR, or the database alone"},
        "migrations": {
            "type": "array",
            "items": {"type": "string", "pattern": r"^\w+\.\w+$"},
        },
        "rows": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
        "columns": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        },
        "sequences": {"type": "object", "additionalProperties": {"type": "integer"}},
        "members": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["size", "sha256", "changed"],
                "properties": {
                    "size": {"type": "integer", "minimum": 0},
                    "sha256": {"type": "string"},
                    "changed": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1, "description": "in ns"},
                },
            },
        },
    },
}
# What reading a zip or a manifest that somebody made up may raise.
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, ValueError, TypeError,
    KeyError, OverflowError,
)  # fmt: skip


def write(path: Path, head: Mapping[str, Any], members: Mapping[str, Path]) -> dict[str, Any]:
    """Write the file, for its owner alone, and return the manifest. A member that is gone by now is left out."""
    told = {}
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as out:
        with zipfile.ZipFile(out, "w") as packed:
            for name, source in members.items():
                try:
                    with source.open("rb") as data:
                        told[name] = _pack(packed, name, data)
                except FileNotFoundError:
                    continue
            manifest = {"format": FORMAT, **head, "members": told}
            packed.writestr(MANIFEST, json.dumps(manifest, indent=1), zipfile.ZIP_DEFLATED)
            packed.comment = b"0" * SEAL
        out.seek(0)
        seal = _digest(out, os.fstat(out.fileno()).st_size - SEAL)
        out.seek(-SEAL, os.SEEK_END)
        out.write(seal.encode())
        out.flush()
        os.fsync(out.fileno())
    return manifest


def _pack(packed: zipfile.ZipFile, name: str, data: IO[bytes]) -> dict[str, Any]:
    """Add what can be read now; the manifest says the size and sum of what was read."""
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_STORED if name.endswith(".pdf") else zipfile.ZIP_DEFLATED
    size, digest, changed = 0, hashlib.sha256(), max(0, os.fstat(data.fileno()).st_mtime_ns)
    with packed.open(info, "w", force_zip64=True) as out:
        while piece := data.read(PIECE):
            out.write(piece)
            digest.update(piece)
            size += len(piece)
    return {"size": size, "sha256": digest.hexdigest(), "changed": changed}


def check(path: Path) -> dict[str, Any]:
    """Check the whole file and return its manifest; BackupError if it is damaged, foreign, hostile or too new."""
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size - SEAL
            sealed = length > 0 and _digest(file, length).encode() == file.read(SEAL)
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}") from None
    if not sealed:
        raise BackupError(
            f"{path} is no whole backup: expected a file that ends with the SHA-256 of the rest, got one that is"
            " damaged, cut off, or of another kind"
        )
    try:
        with zipfile.ZipFile(path) as packed:
            return _manifest(packed)
    except jsonschema.ValidationError as error:
        raise BackupError(f"{path}: the manifest is not as expected: {error.message[:200]!r}") from None
    except (*UNREADABLE, OSError) as error:
        raise BackupError(f"{path} is no backup of Claimcheck: {_line(error)}") from None
    except BackupError as error:
        raise BackupError(f"{path}: {error}") from None


def _manifest(packed: zipfile.ZipFile) -> dict[str, Any]:
    """Return the manifest, if it fits what is there: each member once, under a name that a backup gives."""
    if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in packed.infolist()):
        raise BackupError("expected members that are stored or deflated, got others")
    with packed.open(MANIFEST) as file:
        text = file.read(MANIFEST_LIMIT + 1)
    if len(text) > MANIFEST_LIMIT:
        raise BackupError(f"expected a manifest of at most {MANIFEST_LIMIT} bytes, got more")
    manifest = json.loads(text)
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise BackupError(f"expected format {FORMAT}, got {str(found)[:20]!r}: another version of Claimcheck made it")
    jsonschema.validate(manifest, SHAPE)
    names = [info.filename for info in packed.infolist() if info.filename != MANIFEST]
    for name in (*names, *manifest["members"]):
        if not NAME.fullmatch(name):
            raise BackupError(f"expected names of a backup, got {name[:100]!r}")
    if sorted(names) != sorted(manifest["members"]):
        raise BackupError("expected each member of the manifest once, got others")
    return manifest


def unpack(path: Path, manifest: Mapping[str, Any], folder: Path) -> None:
    """Write every member below the folder; BackupError if one is not what the manifest says, or the disk is full."""
    needed, free = sum(told["size"] for told in manifest["members"].values()), shutil.disk_usage(folder).free
    if needed > free:
        raise BackupError(f"it needs {needed // 2**20 + 1:,} MiB in {folder.parent}, and {free // 2**20:,} are free")
    try:
        with zipfile.ZipFile(path) as packed:
            for name, told in manifest["members"].items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                _unpack(packed, name, told, folder / name)
    except UNREADABLE as error:
        raise BackupError(f"{path} is damaged: {_line(error)}") from None
    except OSError as error:
        raise BackupError(f"it cannot be unpacked in {folder.parent}: {error.strerror or _line(error)}") from None


def _unpack(packed: zipfile.ZipFile, name: str, told: Mapping[str, Any], target: Path) -> None:
    left, digest = told["size"], hashlib.sha256()
    with packed.open(name) as data, target.open("xb") as out:
        while piece := data.read(min(PIECE, left + 1)):
            if (left := left - len(piece)) < 0:
                break
            digest.update(piece)
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    if left or digest.hexdigest() != told["sha256"]:
        raise BackupError(f"{name} is damaged: expected {told['size']} bytes with another SHA-256 than they have")
    os.utime(target, ns=(told["changed"], told["changed"]))


def _digest(file: IO[bytes], length: int) -> str:
    """Return the SHA-256 of so many bytes from here."""
    digest = hashlib.sha256()
    while length > 0 and (piece := file.read(min(PIECE, length))):
        digest.update(piece)
        length -= len(piece)
    return digest.hexdigest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
