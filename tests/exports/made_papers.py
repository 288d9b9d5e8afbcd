"""PDFs as papers are: LaTeX's named destinations, the same in every one; and such as nobody can bind."""

import io

import pikepdf
from pikepdf import Array, Dictionary, Name, Pdf, String
from reportlab.pdfgen.canvas import Canvas


def text_pages(title: str, pages: int) -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=1, pageCompression=1)
    for i in range(pages):
        canvas.drawString(72, 720, f"{title}, page {i + 1}")
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def paper(title: str, pages: int = 4, *, tree: bool = True, links: int = 3, rotate: int = 0) -> Pdf:
    """`section.N` is page N, by a name tree or the old dictionary; each page links to all of them, by name."""
    pdf = Pdf.open(io.BytesIO(text_pages(title, pages)))
    places = {f"section.{i + 1}": Array([page.obj, Name.XYZ, 72, 720, None]) for i, page in enumerate(pdf.pages)}
    if tree:
        names = sorted(places)
        flat = [v for name in names for v in (String(name), Dictionary(D=places[name]))]
        pdf.Root.Names = Dictionary(Dests=Dictionary(Names=Array(flat), Limits=Array([names[0], names[-1]])))
    else:
        pdf.Root.Dests = Dictionary({f"/{name}": place for name, place in places.items()})
    for page in pdf.pages:
        page.Annots = Array([_link(f"section.{i % pages + 1}", i, tree) for i in range(links)])
        if rotate:
            page.Rotate = rotate
    with pdf.open_outline() as outline:
        for i in range(pages):
            entry = pikepdf.OutlineItem(f"{i + 1} of {title}", destination=i)
            inner = pikepdf.OutlineItem(f"{i + 1}.1 of {title}")
            inner.action = Dictionary(S=Name.GoTo, D=String(f"section.{i + 1}") if tree else Name(f"/section.{i + 1}"))
            entry.children.append(inner)
            outline.root.append(entry)
    return pdf


def _link(name: str, i: int, tree: bool) -> Dictionary:
    target = String(name) if tree else Name(f"/{name}")
    where = {"Dest": target} if i % 2 else {"A": Dictionary(S=Name.GoTo, D=target)}
    return Dictionary(Type=Name.Annot, Subtype=Name.Link, Rect=Array([72, 600 - 20 * i, 200, 612 - 20 * i]), **where)


def with_form_and_scripts(title: str) -> Pdf:
    pdf = paper(title)
    field = pdf.make_indirect(
        Dictionary(Type=Name.Annot, Subtype=Name.Widget, FT=Name.Tx, T=String("name"), V=String("filled in"),
                   Rect=Array([72, 300, 300, 320]), DA=String("/Helv 12 Tf 0 g"), P=pdf.pages[0].obj)
    )  # fmt: skip
    pdf.pages[0].Annots.append(field)
    font = Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica)
    pdf.Root.AcroForm = Dictionary(Fields=Array([field]), DR=Dictionary(Font=Dictionary(Helv=font)))
    script = Dictionary(S=Name.JavaScript, JS=String("app.alert('hello')"))
    pdf.Root.OpenAction = script
    pdf.pages[0].AA = Dictionary(O=script)
    launch = Dictionary(S=Name.Launch, F=String("/bin/sh"))
    pdf.pages[1].Annots.append(
        Dictionary(Type=Name.Annot, Subtype=Name.Link, Rect=Array([72, 400, 100, 420]), A=launch)
    )  # fmt: skip
    pdf.pages[1].Annots.append(
        Dictionary(Type=Name.Annot, Subtype=Name.Link, Rect=Array([72, 200, 100, 220]),
                   A=Dictionary(S=Name.URI, URI=String("https://example.org/")))
    )  # fmt: skip
    return pdf


def with_circular_outline(title: str) -> Pdf:
    pdf = paper(title)
    first = pdf.Root.Outlines.First
    first.Next.Next = first
    return pdf


def with_deep_outline(title: str) -> Pdf:
    pdf = paper(title)
    with pdf.open_outline() as outline:
        level = outline.root[0].children
        for n in range(20):
            level.append(pikepdf.OutlineItem(f"1.1 level {n} of {title}", destination=0))
            level = level[-1].children
    return pdf


def data(pdf: Pdf, **how) -> bytes:
    buffer = io.BytesIO()
    pdf.save(buffer, **{"deterministic_id": "encryption" not in how} | how)
    return buffer.getvalue()


def no_page() -> bytes:
    return data(Pdf.new())


def encrypted() -> bytes:
    return data(paper("secret"), encryption=pikepdf.Encryption(owner="o", user="u"))


def owner_locked() -> bytes:
    return data(paper("locked"), encryption=pikepdf.Encryption(owner="o", user=""))


def damaged() -> bytes:
    """Sound in structure, but a page's stream is not what it says."""
    pdf = paper("damaged")
    pdf.pages[1].Contents = pdf.make_stream(b"")
    pdf.pages[1].Contents.write(b"this is not deflated" * 20, filter=Name.FlateDecode)
    return data(pdf, recompress_flate=False, stream_decode_level=pikepdf.StreamDecodeLevel.none)


HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>%PDF is not here</body></html>"
