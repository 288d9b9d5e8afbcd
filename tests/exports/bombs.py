"""Small PDF files that unfold to a gigabyte, or that are deeper or longer than any paper; each is written by hand."""

import functools
import io
import zlib
from collections.abc import Callable

from pikepdf import Array, Dictionary, Name
from PIL import Image

from tests.exports import made_papers as made

GIB = 2**30


@functools.cache
def deflated(size: int = GIB, begin: bytes = b"", fill: bytes = b" ") -> bytes:
    """`begin`, and as much of `fill` as makes `size`, deflated piece by piece."""
    squeezer, piece = zlib.compressobj(9, wbits=-15), fill * 2**20
    head = squeezer.compress(begin) + squeezer.flush(zlib.Z_FULL_FLUSH)
    block = squeezer.compress(piece) + squeezer.flush(zlib.Z_FULL_FLUSH)  # stands alone, so it may be repeated
    check = zlib.adler32(begin)
    for _ in range(size // len(piece)):
        check = zlib.adler32(piece, check)
    return b"\x78\xda" + head + block * (size // len(piece)) + squeezer.flush() + check.to_bytes(4, "big")


def _with_content(data: bytes, filters: list, parameters: object = None) -> bytes:
    pdf = made.paper("bomb", pages=1, links=0)
    pdf.pages[0].Contents = stream = pdf.make_stream(b"")
    stream.write(data, filter=Array(filters), decode_parms=parameters)
    return made.data(pdf, recompress_flate=False, compress_streams=False)


def content(size: int = GIB) -> bytes:
    return _with_content(deflated(size), [Name.FlateDecode])


def chained(size: int = GIB) -> bytes:
    return _with_content(zlib.compress(deflated(size), 9), [Name.FlateDecode, Name.FlateDecode])


def run_lengths(size: int = GIB) -> bytes:
    return _with_content(zlib.compress(b"\x81 " * (size // 128), 9), [Name.FlateDecode, Name.RunLengthDecode])


def predictor() -> bytes:
    """A row of it alone has two gigabytes."""
    parameters = Dictionary(Predictor=15, Columns=2**31 - 9, Colors=1, BitsPerComponent=8)
    return _with_content(zlib.compress(b"\x00" + b" " * 99), [Name.FlateDecode], Array([parameters]))


def picture() -> bytes:
    """A progressive JPEG of a few hundred bytes that says it has 65,000 x 65,000 points."""
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "JPEG", progressive=True)
    data, side = bytearray(out.getvalue()), (65000).to_bytes(2, "big")
    at = data.index(b"\xff\xc2") + 5
    data[at : at + 4] = side + side
    pdf = made.paper("bomb", pages=1, links=0)
    image = pdf.make_stream(b"", Type=Name.XObject, Subtype=Name.Image, Width=65000, Height=65000,
                            ColorSpace=Name.DeviceRGB, BitsPerComponent=8)  # fmt: skip
    image.write(bytes(data), filter=Name.DCTDecode)
    pdf.pages[0].Resources.XObject = Dictionary(I=image)
    return made.data(pdf)


def _by_hand(objects: dict[int, bytes], packed: bytes = b"", numbers: tuple = (), entries: bytes = b"") -> bytes:
    """A file of these objects; `numbers` are in the object stream 3, whose data `packed` is; xref stream 4."""
    data, places = b"%PDF-1.5\n", {}
    for number, body in objects.items():
        places[number] = len(data)
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    if numbers:
        places[3] = len(data)
        head = b"<< /Type /ObjStm /N %d /First 16 /Filter /FlateDecode /Length %d >>" % (len(numbers), len(packed))
        data += b"3 0 obj\n%s\nstream\n%s\nendstream\nendobj\n" % (head, packed)
    places[4] = start = len(data)
    rows = [b"\0\0\0\0\0\xff\xff"]
    for number in range(1, max(places) + 1):
        if number in numbers:
            rows.append(b"\2" + (3).to_bytes(4, "big") + numbers.index(number).to_bytes(2, "big"))
        else:
            rows.append(b"\1" + places[number].to_bytes(4, "big") + b"\0\0" if number in places else bytes(7))
    table = entries or zlib.compress(b"".join(rows))
    size = GIB // 7 if entries else len(rows)
    head = b"<< /Type /XRef /W [1 4 2] /Size %d /Root 1 0 R /Filter /FlateDecode /Length %d >>" % (size, len(table))
    return data + b"4 0 obj\n%s\nstream\n%s\nendstream\nendobj\nstartxref\n%d\n%%%%EOF\n" % (head, table, start)


CATALOGUE, PAGE = b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] >>"
TREE = b"<< /Type /Pages /Kids [5 0 R] /Count 1 >>"


def object_stream(size: int = GIB) -> bytes:
    packed = (b"1 0 2 %d" % (len(CATALOGUE) + 1)).ljust(16) + CATALOGUE + b" " + TREE
    return _by_hand({5: PAGE}, deflated(size, packed), (1, 2))


def reference_stream() -> bytes:
    return _by_hand({1: CATALOGUE, 2: TREE, 5: PAGE}, entries=deflated(fill=b"\0"))


def page_tree(pages: int = 3 * 10**6) -> bytes:
    """Millions of pages, all the same one."""
    tree = b"<< /Type /Pages /Count %d /Kids [" % pages + b"5 0 R " * pages + b"] >>"
    packed = (b"1 0 2 %d" % (len(CATALOGUE) + 1)).ljust(16) + CATALOGUE + b" " + tree
    return _by_hand({5: PAGE}, zlib.compress(packed, 9), (1, 2))


def nested(depth: int = 10**6) -> bytes:
    deep = b"[" * depth + b"]" * depth
    return _by_hand({1: CATALOGUE, 2: TREE, 5: PAGE[:-2] + b"/Resources << /X " + deep + b">> >>"})


def chain(length: int = 100_000) -> bytes:
    """A hundred thousand objects, each inside the one before."""
    objects = {1: CATALOGUE, 2: TREE, 5: PAGE[:-2] + b"/Resources << /X 6 0 R >> >>"}
    body = {n: b"<< /Next %d 0 R >>" % (n + 1) for n in range(6, length)}
    return _many(objects | body)


def _many(objects: dict[int, bytes]) -> bytes:
    parts = [b"%d 0 obj\n%s\nendobj\n" % (number, body) for number, body in objects.items()]
    return b"%PDF-1.4\n" + b"".join(parts) + b"trailer << /Root 1 0 R /Size 100001 >>\nstartxref\n0\n%%EOF\n"


def tree_of_trees() -> bytes:
    """Thirty levels of ten branches each, which are all the same: ten to the thirtieth pages."""
    objects = {1: CATALOGUE, 2: b"<< /Type /Pages /Count 9 /Kids [%s] >>" % (b"6 0 R " * 10), 5: PAGE}
    for n in range(6, 36):
        objects[n] = b"<< /Type /Pages /Count 9 /Kids [%s] >>" % (b"%d 0 R " % (n + 1) * 10)
    objects[36] = TREE
    return _many(objects)


BOMBS: dict[str, Callable[[], bytes]] = {
    bomb.__name__: bomb for bomb in (content, chained, run_lengths, predictor, picture, object_stream, reference_stream,
                                     page_tree, nested, chain, tree_of_trees)
}  # fmt: skip
