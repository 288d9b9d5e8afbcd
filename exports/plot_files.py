"""Plots as PDFs, vectors, in DATA_DIR/bundles/plots: drawn once, by a child, since drawing takes 120 MB of memory.

`python -m exports.plot_files FOLDER` reads Vega-Lite specifications, one a line, and is that child.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

KEPT = 2000  # drawings


def name(line: str) -> str:
    """The file of a specification."""
    return f"{hashlib.sha256(line.encode()).hexdigest()[:32]}.pdf"


def draw(drawings: Iterable[dict[str, Any]], folder: Path) -> list[Path]:
    """The files of some specifications, in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(drawing, sort_keys=True) for drawing in drawings]
    paths = [folder / name(line) for line in lines]
    if missing := [line for line, path in zip(lines, paths, strict=True) if not path.exists()]:
        _make_room(folder, keep=set(paths))
        command = [sys.executable, "-m", "exports.plot_files", str(folder)]
        root = Path(__file__).resolve().parent.parent
        done = subprocess.run(command, input="\n".join(missing), text=True, capture_output=True, cwd=root)
        if done.returncode:
            raise RuntimeError(f"a plot could not be drawn: {(done.stderr.strip() or '?').splitlines()[-1]}")
    return paths


def _make_room(folder: Path, keep: set[Path]) -> None:
    old = sorted(set(folder.glob("*.pdf")) - keep, key=lambda path: path.stat().st_mtime)
    for path in old[: max(0, len(old) - KEPT)]:
        path.unlink(missing_ok=True)


def main() -> None:
    """Draw what comes; letters become shapes."""
    import vl_convert

    from exports import typeface

    vl_convert.register_font_directory(str(typeface.folder()))
    folder = Path(sys.argv[1])
    for line in sys.stdin.read().splitlines():
        drawn = vl_convert.svg_to_pdf(vl_convert.vegalite_to_svg(line, vl_version="6.4"))
        part = folder / f"{name(line)}.{os.getpid()}.tmp"
        part.write_bytes(drawn)
        os.replace(part, folder / name(line))


if __name__ == "__main__":
    main()
