"""Everything a PDF can do besides being read, planted at every place where it can hide; each holds the word PLANTED."""

from collections.abc import Callable

from pikepdf import Array, Dictionary, Name, Object, OutlineItem, Pdf, Stream, String

from tests.exports import made_papers as made

RECT = [72, 400, 100, 420]
SCRIPT = String("app.alert('PLANTED')")
FILE = String("PLANTED.exe")
URIS = ["javascript:PLANTED()", "JavaScript:PLANTED", " javascript:PLANTED", "java\nscript:PLANTED", "file:///PLANTED",
        "data:text/html,PLANTED", "vbscript:PLANTED", "smb://PLANTED/x", "mailto:PLANTED@example.org", "PLANTED.html",
        "//PLANTED.example/x", "\\\\PLANTED\\share", "http:PLANTED", "http:///PLANTED", "https://user:pw@PLANTED.example/",
        "http://a b.example/PLANTED", "http://example.org\r\n/PLANTED", "\x00http://example.org/PLANTED",
        "http://[PLANTED/", "http://example.org:PLANTED/", "ftp://example.org/PLANTED", "view-source:http://PLANTED",
        "http:\\\\PLANTED.example\\", "https://%00PLANTED.example/"]  # fmt: skip


def actions(pdf: Pdf) -> list[Dictionary]:
    """Actions of every kind, some hanging on others."""
    spec = Dictionary(Type=Name.Filespec, F=FILE, UF=FILE)
    script = Dictionary(S=Name.JavaScript, JS=SCRIPT)
    named = ["Hide", "ResetForm", "SetOCGState", "Trans", "GoTo3DView", "RichMediaExecute", "GoToDp", "Sound", "Movie",
             "SetState", "Strange"]  # fmt: skip
    hidden = pdf.make_indirect(Dictionary(Type=Name.Page, Note=String("PLANTED page that is in no tree")))
    web = String("https://example.org/kept")
    return [
        script,
        Dictionary(S=Name.JavaScript, JS=pdf.make_stream(b"PLANTED()")),
        Dictionary(Type=Name.Action, JS=SCRIPT),
        Dictionary(S=Name.Launch, F=FILE),
        Dictionary(S=Name.Launch, Win=Dictionary(F=FILE, P=String("/c PLANTED")), NewWindow=True),
        Dictionary(S=Name.Launch, Unix=FILE, Mac=spec),
        Dictionary(S=Name.GoToR, F=String("PLANTED.pdf"), D=Array([0, Name.Fit])),
        Dictionary(S=Name.GoToR, F=spec, D=String("PLANTED")),
        Dictionary(S=Name.GoToE, T=Dictionary(R=Name.C, N=String("PLANTED")), D=Array([0, Name.Fit])),
        Dictionary(S=Name.Thread, F=FILE, D=0),
        Dictionary(S=Name.SubmitForm, F=Dictionary(FS=Name.URL, F=String("http://example.org/PLANTED"))),
        Dictionary(S=Name.ImportData, F=FILE),
        Dictionary(S=Name.Rendition, OP=0, JS=SCRIPT, R=Dictionary(S=Name.MR, C=Dictionary(S=Name.MCD, D=spec))),
        Dictionary(S=Name.Named, N=Name("/PLANTED")),
        *(Dictionary(S=Name(f"/{kind}"), N=String("PLANTED"), Annotation=spec) for kind in named),
        *(Dictionary(S=Name.URI, URI=String(text)) for text in URIS),
        Dictionary(S=Name.URI, URI=web, IsMap=True, Next=script),
        Dictionary(S=Name.URI, URI=web, Next=Array([Dictionary(S=Name.Launch, F=FILE), script])),
        Dictionary(Type=Name.Action, S=Name.GoTo, D=Array([pdf.pages[0].obj, Name.Fit]), SD=SCRIPT, Next=script),
        Dictionary(S=Name.GoTo, D=Array([pdf.pages[0].obj, Name("/PLANTED"), SCRIPT])),
        Dictionary(S=Name.GoTo, D=Array([hidden, Name.Fit])),
        Dictionary(S=Name.GoTo, D=String("PLANTED")),
    ]


def _at(one: Object, key: str, value: Object) -> Object:
    """What is at a key, which is there after it."""
    if key not in one:
        one[key] = value
    return one[key]


def _annotation(pdf: Pdf, kind: str, **more: object) -> Object:
    one = pdf.make_indirect(
        Dictionary(Type=Name.Annot, Subtype=Name(f"/{kind}"), Rect=Array(RECT), P=pdf.pages[0].obj, **more)
    )
    pdf.pages[0].Annots.append(one)
    return one


def _under(action: Object, *keys: str) -> Dictionary:
    return Dictionary({f"/{key}": action for key in keys})


def _on(kind: str, *keys: str) -> Callable[[Pdf, Object, int], None]:
    def plant(pdf: Pdf, action: Object, n: int) -> None:
        _annotation(pdf, kind, **{key: _under(action, "E", "X", "D") if key == "AA" else action for key in keys})

    return plant


def _in_field(pdf: Pdf, action: Object, n: int) -> None:
    shown = pdf.make_stream(b"", Type=Name.XObject, Subtype=Name.Form, BBox=Array([0, 0, 1, 1]))
    above = pdf.make_indirect(Dictionary(T=String(f"above {n}"), AA=_under(action, "K", "F", "V", "C")))
    one = _annotation(pdf, "Widget", FT=Name.Tx, T=String(f"{n}"), Parent=above, A=action, AP=Dictionary(N=shown))
    above.Kids = Array([one])
    form = _at(pdf.Root, "/AcroForm", Dictionary(Fields=Array([]), CO=Array([])))
    form.Fields.append(above)
    form.CO.append(one)


def _in_outline(pdf: Pdf, action: Object, n: int) -> None:
    with pdf.open_outline() as outline:
        entry = OutlineItem(f"entry {n}")
        entry.action = action
        outline.root.append(entry)
        outline.root[0].children.append(OutlineItem(f"inner {n}", destination=0))


def _in_catalogue(pdf: Pdf, action: Object, n: int) -> None:
    pdf.Root.OpenAction = action
    _at(pdf.Root, "/AA", Dictionary())[f"/W{n}"] = action
    pdf.Root[f"/Strange{n}"] = action


def _in_names(pdf: Pdf, action: Object, n: int) -> None:
    names = _at(pdf.Root, "/Names", Dictionary())
    for key in ("/JavaScript", "/Renditions", "/AP", "/Templates", "/AlternatePresentations", "/Strange"):
        tree = _at(names, key, Dictionary(Names=Array([])))
        tree.Names.extend([String(f"PLANTED {n}"), action])
    _at(names.Dests, "/Names", Array([])).extend(
        [String(f"zz{n}"), Dictionary(D=Array([pdf.pages[0].obj, Name.Fit]), A=action, Note=SCRIPT)]
    )


def _on_page(pdf: Pdf, action: Object, n: int) -> None:
    page = pdf.pages[n % len(pdf.pages)].obj
    _at(page, "/AA", Dictionary())[f"/O{n}"] = action
    _at(page, "/PresSteps", Dictionary())[f"/NA{n}"] = action
    _at(page, "/VP", Array([])).append(Dictionary(Measure=action))
    page[f"/Strange{n}"] = action


def _in_drawings(pdf: Pdf, action: Object, n: int) -> None:
    drawn = pdf.make_stream(b"", Type=Name.XObject, Subtype=Name.Form, BBox=Array([0, 0, 1, 1]))
    drawn.PieceInfo = Dictionary(X=action)
    drawn.Anything = Array([Array([action])])
    page = pdf.pages[0]
    _at(page.Resources, "/XObject", Dictionary())[f"/X{n}"] = drawn
    _at(page.Resources, "/Properties", Dictionary())[f"/P{n}"] = Dictionary(MCID=0, Deep=Dictionary(A=action))
    _at(page.Resources, "/ExtGState", Dictionary())[f"/G{n}"] = pdf.make_indirect(Dictionary(CA=1, A=action))


def _in_layers(pdf: Pdf, action: Object, n: int) -> None:
    told = _at(pdf.Root, "/OCProperties", Dictionary(OCGs=Array([]), D=Dictionary(Order=Array([]))))
    group = pdf.make_indirect(
        Dictionary(Type=Name.OCG, Name=String(f"layer {n}"), A=action, Usage=Dictionary(X=action))
    )
    told.OCGs.append(group)
    told.D.Order.append(group)
    told.D.Order.append(action)
    _at(told.D, "/AS", Array([])).append(Dictionary(Event=Name.View, OCGs=Array([group, action]), A=action))
    _at(pdf.pages[0].Resources, "/Properties", Dictionary())[f"/L{n}"] = group


def _beside(pdf: Pdf, action: Object, n: int) -> None:
    """In what hangs on an annotation that may stay: another one, its look, its border."""
    look = pdf.make_stream(b"", Type=Name.XObject, Subtype=Name.Form, BBox=Array([0, 0, 1, 1]), A=action)
    away = pdf.make_indirect(Dictionary(Type=Name.Annot, Subtype=Name.Screen, Rect=Array(RECT), A=action))
    _annotation(pdf, "Text", IRT=away, Popup=away, Parent=away, AP=Dictionary(N=look, D=Dictionary(X=action)),
                BS=Dictionary(W=1, A=action), ExData=action, RC=SCRIPT, FS=action)  # fmt: skip


PLACES: dict[str, Callable[[Pdf, Object, int], None]] = {
    "link": _on("Link", "A"),
    "link's PA": _on("Link", "PA"),
    "link's AA": _on("Link", "A", "AA"),
    "note": _on("Text", "A", "AA"),
    "stamp": _on("Stamp", "A"),
    "screen": _on("Screen", "A", "AA"),
    "film": _on("Movie", "A"),
    "3D": _on("3D", "A", "3DA"),
    "unknown": _on("Strange", "A"),
    "field": _in_field,
    "outline": _in_outline,
    "catalogue": _in_catalogue,
    "names": _in_names,
    "page": _on_page,
    "drawings": _in_drawings,
    "layers": _in_layers,
    "beside": _beside,
}


def with_actions(place: str) -> Pdf:
    """A paper that has every action at one place."""
    pdf = made.paper(place)
    for n, action in enumerate(actions(pdf)):
        PLACES[place](pdf, pdf.make_indirect(action) if n % 2 else action, n)
    return pdf


def _stream(pdf: Pdf, **more: object) -> Stream:
    return pdf.make_stream(b"PLANTED", Type=Name.XObject, **more)


def with_files(title: str) -> Pdf:
    """A paper with files of every kind, inside and outside, and drawings that lie elsewhere or are programs."""
    pdf = made.paper(title)
    names = Array([])
    for n in range(7):
        names.extend([String(f"{n}"), _spec(pdf, f"data {n}.csv")])
    pdf.Root.Names.EmbeddedFiles = Dictionary(Names=names)
    page = pdf.pages[0]
    pdf.Root.AF, page.AF = Array([names[1]]), Array([_spec(pdf, "of a page.txt")])
    _annotation(pdf, "FileAttachment", FS=_spec(pdf, "pinned\u202egpj.exe"), Contents=String("PLANTED"))
    for kind in ("Sound", "Movie", "Screen", "RichMedia", "3D"):
        _annotation(pdf, kind, Contents=String("PLANTED"), RichMediaContent=Dictionary(Assets=names[1]))
    for key, more in {
        "/Afar": {"Subtype": Name.Image, "Width": 1, "Height": 1, "F": FILE, "FFilter": Name.FlateDecode},
        "/Spec": {"Subtype": Name.Form, "BBox": Array([0, 0, 1, 1]), "F": _spec(pdf, "x")},
        "/Other": {"Subtype": Name.Form, "Ref": Dictionary(F=FILE, Page=0)},
        "/Opi": {"Subtype": Name.Form, "OPI": Dictionary({"/2.0": Dictionary(F=FILE)})},
        "/Program": {"Subtype": Name.PS, "Level1": _stream(pdf)},
        "/Second": {"Subtype": Name.Form, "Subtype2": Name.PS, "PS": _stream(pdf)},
        "/Of": {"Subtype": Name.Form, "AF": Array([_spec(pdf, "of a drawing")]), "Metadata": _stream(pdf)},
    }.items():
        data = b"PLANTED" if key in ("/Program", "/Second") else b""
        _at(page.Resources, "/XObject", Dictionary())[key] = pdf.make_stream(data, Type=Name.XObject, **more)
    return pdf


def _spec(pdf: Pdf, name: str) -> Object:
    data = pdf.make_stream(b"PLANTED", Type=Name.EmbeddedFile)
    return pdf.make_indirect(Dictionary(Type=Name.Filespec, F=String(name), UF=String(name), EF=Dictionary(F=data),
                                        Desc=String("PLANTED")))  # fmt: skip
