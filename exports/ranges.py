"""A file over HTTP: whole or a part of it (RFC 9110 ranges), known by its SHA-256."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.cache import get_conditional_response

PIECE = 256 * 1024


def serve(request: HttpRequest, file: Path, sha256: str, content_type: str) -> HttpResponseBase:
    """The file; 206 with the one range asked for, 304 if the client has it, 416 for a range that is not in it.

    Several ranges at once get the whole file, as the standard allows.
    """
    size, tag = file.stat().st_size, f'"{sha256}"'
    begin, end = 0, size
    asked = request.headers.get("Range", "") if request.headers.get("If-Range", tag) == tag else ""
    if found := re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", asked.strip()):
        part = _part(found[1], found[2], size)
        if part is None:
            return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}", "ETag": tag})
        begin, end = part
    partial = (begin, end) != (0, size) or bool(found)
    pieces = iter(()) if request.method == "HEAD" else _read(file, begin, end)
    response = StreamingHttpResponse(pieces, content_type=content_type, status=206 if partial else 200)
    response["Content-Length"] = str(end - begin)
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = tag
    response["Cache-Control"] = "private, no-cache"
    response["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
    response["Content-Disposition"] = f'attachment; filename="{file.name}"'
    if partial:
        response["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    known = HttpResponse(headers={"ETag": tag})
    unchanged = get_conditional_response(request, etag=tag, response=known)
    return response if unchanged is known or unchanged is None else unchanged


def _part(first: str, last: str, size: int) -> tuple[int, int] | None:
    """Begin and end of a range; None for one that is not in the file."""
    if first:
        begin, end = int(first), min(int(last) + 1, size) if last else size
        return (begin, end) if begin < end else None
    return (max(0, size - int(last)), size) if last and int(last) and size else None


def _read(file: Path, begin: int, end: int) -> Iterator[bytes]:
    with file.open("rb") as data:
        data.seek(begin)
        while begin < end and (piece := data.read(min(PIECE, end - begin))):
            begin += len(piece)
            yield piece
