"""python -m exports.examine FILE: bind one paper alone, and say as JSON what is wrong with it and what is left out.

Run by `exports.papers` with little memory and time, since a small file may unfold to any size. Knows no Django.
"""

import io
import json
import resource
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pikepdf
from pikepdf import Array, Name, Pdf, Stream

from exports import paper_pages, structures

PAGES = 3000
CPU_S = 120
UNFOLDED, TIMES = 256 * 2**20, 50  # bytes that a file's streams may unfold to; a larger file, so many times its size
PIECE = 256 * 1024
INFLATED = {"/FlateDecode", "/Fl"}
OTHERS = {
    "/LZWDecode",
    "/LZW",
    "/RunLengthDecode",
    "/RL",
    "/ASCII85Decode",
    "/A85",
    "/ASCIIHexDecode",
    "/AHx",
    "/Crypt",
}
MEMORY = "its file unfolds to more than there is room for."


class _Refused(Exception):
    """It cannot be bound; the message is a sentence's end."""


def look(path: Path) -> dict[str, Any]:
    """pages, reason (empty, or why it cannot be bound), notes (what is left out or was mended)."""
    try:
        pages, notes = _bound(path)
        return {"pages": pages, "reason": "", "notes": notes}
    except _Refused as error:
        reason = str(error)
    except pikepdf.PasswordError:
        reason = "its file is encrypted."
    except MemoryError:
        reason = MEMORY
    except Exception as error:  # whatever a file can do to the code that reads it
        reason = MEMORY if _of_memory(error) or _short() else f"its file is broken: {structures.trouble(error)}."
    return {"pages": 0, "reason": reason, "notes": []}


def _bound(path: Path) -> tuple[int, list[str]]:
    with Pdf.open(path, suppress_warnings=True) as source:
        _weigh(source, max(UNFOLDED, TIMES * path.stat().st_size))
        if not (pages := len(source.pages)):
            raise _Refused("its file has no page.")
        if pages > PAGES:
            raise _Refused(f"its file has {pages} pages, more than the {PAGES} that are bound.")
    made, data = Pdf.new(), io.BytesIO()
    notes = paper_pages.add(made, path).notes
    made.save(data, object_stream_mode=pikepdf.ObjectStreamMode.generate)
    with Pdf.open(data, suppress_warnings=True) as result:
        if troubles := result.check_pdf_syntax():
            first = str(troubles[0])
            raise _Refused(MEMORY if _of_memory(first) else f"its file is damaged: {structures.trouble(first)}.")
    return pages, notes


def _of_memory(error: Any) -> bool:
    return "alloc" in str(error) or "memory" in str(error)


def _short() -> bool:
    """Whether memory ran short: qpdf passes over a part that there was no room for, and then misses what was in it."""
    most = resource.getrlimit(resource.RLIMIT_DATA)[0]
    return most != resource.RLIM_INFINITY and _high_water() > most / 2


def _high_water() -> int:
    """Bytes of memory that this process had at most. `ru_maxrss` begins with what the process had that started it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return 0


def _weigh(source: Pdf, most: int) -> None:
    """Refuse a file whose streams together unfold to more than `most` bytes, as soon as that is known."""
    total = 0
    for one in source.objects:
        if isinstance(one, Stream):
            for piece in _unfolded(one):
                total += piece
                if total > most:
                    raise _Refused(f"its file unfolds to more than {most // 2**20} MiB.")


def _unfolded(stream: Stream) -> Iterator[int]:
    """Sizes of the pieces of a stream as it is decoded; of an image's own coding only what is before it."""
    filters = stream.get("/Filter")
    chain = [str(one) for one in (filters if isinstance(filters, Array) else [filters]) if isinstance(one, Name)]
    inflated = next((i for i, name in enumerate(chain) if name not in INFLATED), len(chain))
    if inflated == len(chain) or chain[inflated] not in OTHERS:
        pieces = iter([stream.read_raw_bytes()])
        for _ in range(inflated):
            pieces = _inflate(pieces)
        yield from (len(piece) for piece in pieces)
    elif set(chain) <= INFLATED | OTHERS:
        yield len(stream.read_bytes(decode_level=pikepdf.StreamDecodeLevel.specialized))


def _inflate(pieces: Iterator[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj()
    for piece in pieces:
        while piece and not inflater.eof:
            try:
                yield inflater.decompress(piece, PIECE)
            except zlib.error:  # told when it is bound
                return
            piece = inflater.unconsumed_tail


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 5))
    print(json.dumps(look(Path(sys.argv[1]))))
