"""Papers with layers (optional content), as drawing programs and slide makers write them."""

from pikepdf import Array, Dictionary, Name, Pdf, String

from tests.exports import made_papers as made

RED, GREEN, BLUE, BLACK = "1 0 0", "0 1 0", "0 0 1", "0 0 0"
SQUARE = 80  # points; layer number i has its square at (20 + 100 i, 300)


def layered(
    title: str,
    states: list[dict],
    *,
    base: str = "ON",
    automatic: bool = False,
    intent: str = "View",
    more: bool = False,
) -> Pdf:
    """A page with a square a layer. A state: name, colour, listed (ON or OFF), and intent or usage if it has them."""
    pdf = made.paper(title, pages=2)
    page = pdf.pages[0]
    groups = []
    for one in states:
        group = Dictionary(Type=Name.OCG, Name=String(one["name"]), Intent=Name(f"/{one.get('intent', 'View')}"))
        if usage := one.get("usage"):
            group.Usage = Dictionary(View=Dictionary(ViewState=Name(f"/{usage}")))
        groups.append(pdf.make_indirect(group))
    drawn = "".join(square(i, one["colour"], f"/L{i}") for i, one in enumerate(states))
    page.contents_add(drawn.encode())
    page.Resources.Properties = Dictionary({f"/L{i}": group for i, group in enumerate(groups)})
    listed = {which: Array([g for g, s in zip(groups, states, strict=True) if s.get("listed") == which])
              for which in ("ON", "OFF")}  # fmt: skip
    config = Dictionary(Name=String("own"), BaseState=Name(f"/{base}"), Intent=Name(f"/{intent}"), **listed)
    config.Order = Array([groups[0], Array([String("the rest"), *groups[1:]])])
    if automatic:
        config.AS = Array([Dictionary(Event=Name.View, Category=Array([Name.View]), OCGs=Array(groups))])
    pdf.Root.OCProperties = Dictionary(OCGs=Array(groups), D=config)
    if more:
        pdf.Root.OCProperties.Configs = Array([Dictionary(Name=String("another"), BaseState=Name.OFF)])
    return pdf


def square(i: int, colour: str, layer: str) -> str:
    return f"\n/OC {layer} BDC q {colour} rg {20 + 100 * i} 300 {SQUARE} {SQUARE} re f Q EMC\n"


def with_membership(title: str) -> Pdf:
    """A square shown only while a hidden layer is hidden, another only while both layers are shown."""
    pdf = layered(title, [{"name": "a", "colour": RED, "listed": "OFF"}, {"name": "b", "colour": GREEN}])
    a, b = pdf.Root.OCProperties.OCGs
    page = pdf.pages[0]
    page.Resources.Properties["/M2"] = pdf.make_indirect(
        Dictionary(Type=Name.OCMD, OCGs=Array([a]), P=Name.AllOff, VE=Array([Name.Not, a]))
    )
    page.Resources.Properties["/M3"] = Dictionary(Type=Name.OCMD, OCGs=Array([a, b]), P=Name.AllOn)
    page.contents_add((square(2, BLUE, "/M2") + square(3, BLACK, "/M3")).encode())
    return pdf


def with_hidden_field(title: str) -> Pdf:
    """A form whose field, and a stamp, belong to a layer that is hidden; a field of no layer is shown."""
    pdf = layered(title, [{"name": "hidden", "colour": RED, "listed": "OFF"}])
    (layer,) = pdf.Root.OCProperties.OCGs
    fields = []
    for i, (kind, on) in enumerate([("Widget", layer), ("Widget", None), ("Stamp", layer)]):
        form = pdf.make_stream(f"0 0 1 rg 0 0 {SQUARE} {SQUARE} re f".encode(), Type=Name.XObject, Subtype=Name.Form,
                               BBox=Array([0, 0, SQUARE, SQUARE]))  # fmt: skip
        left = 120 + 100 * i
        one = pdf.make_indirect(
            Dictionary(Type=Name.Annot, Subtype=Name(f"/{kind}"), Rect=Array([left, 300, left + SQUARE, 300 + SQUARE]),
                       AP=Dictionary(N=form), F=4)
        )  # fmt: skip
        if on is not None:
            one.OC = on
        if kind == "Widget":
            one.FT, one.T, one.V = Name.Tx, String(f"field {i}"), String("x")
            fields.append(one)
        pdf.pages[0].Annots.append(one)
    pdf.Root.AcroForm = Dictionary(Fields=Array(fields))
    return pdf
