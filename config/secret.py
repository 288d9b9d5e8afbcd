"""The secret key of an installation, made once and kept in its data folder."""

import os
import secrets
from pathlib import Path


def read_or_make_secret(folder: Path) -> str:
    """The key in `folder`/secret_key, made if there is none. A folder that cannot be written gives a key for this
    process alone, so that a command can still say what is wrong."""
    path = folder / "secret_key"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_text()
        with os.fdopen(handle, "w") as file:
            file.write(key := secrets.token_urlsafe(50))
        return key
    except OSError:
        return secrets.token_urlsafe(50)
