"""Where the links of a paper lead: named destinations, as explicit places on its pages, written anew."""

from collections.abc import Iterator
from typing import Any

from pikepdf import Array, Dictionary, Name, Object, Pdf, String

FITS = {"/XYZ": 3, "/Fit": 0, "/FitH": 1, "/FitV": 1, "/FitR": 4, "/FitB": 0, "/FitBH": 1, "/FitBV": 1}
DEPTH, MANY = 12, 5000  # of a paper's outline: levels, entries


class Places:
    """The named destinations of a file, and every other place of it that is asked for."""

    def __init__(self, source: Pdf):
        self.pages = {page.obj.objgen for page in source.pages}
        places = {name: self._place(value) for name, value in _names(source).items()}
        # One object for each, which all its links share: a paper has many more links than places.
        self.named: dict[str, Object] = {}
        for name, place in places.items():
            if place is not None:
                self.named[name] = source.make_indirect(place)

    def of(self, value: Any) -> Object | None:
        """The place of a destination by whatever it is given: explicit, or by name."""
        if isinstance(value, Name):
            return self.named.get(str(value)[1:])
        if isinstance(value, String):
            return self.named.get(str(value))
        return self._place(value)

    def _place(self, value: Any) -> Array | None:
        """The array [page, how …]; None if it is none, or one of another file."""
        if isinstance(value, Dictionary):
            value = value.get("/D")
        if not isinstance(value, Array) or not len(value) or not isinstance(value[0], Dictionary):
            return None
        if value[0].objgen not in self.pages:
            return None
        how = value[1] if len(value) > 1 and isinstance(value[1], Name) else Name.Fit
        wanted = FITS.get(str(how))
        if wanted is None or len(value) < 2 + wanted:
            return Array([value[0], Name.Fit])
        numbers = [value[2 + i] for i in range(wanted)]
        return Array([value[0], how, *(n if _is_number(n) else None for n in numbers)])


def _is_number(value: Any) -> bool:
    return not isinstance(value, Object | bool) and value is not None


def _names(source: Pdf) -> dict[str, Any]:
    """name -> destination, of the old dictionary and of the name tree."""
    found: dict[str, Any] = {}
    if isinstance(old := source.Root.get("/Dests"), Dictionary):
        found |= {str(name)[1:]: value for name, value in old.items()}
    tree = source.Root.get("/Names")
    if isinstance(tree, Dictionary) and isinstance(tree.get("/Dests"), Dictionary):
        found |= {str(name): value for name, value in leaves(tree.Dests)}
    return found


def leaves(root: Any) -> Iterator[tuple[Object, Object]]:
    """The pairs of a name tree; one that leads back into itself ends."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Dictionary) or (node.is_indirect and node.objgen in seen):
            continue
        seen.add(node.objgen)
        pairs = node.get("/Names")
        if isinstance(pairs, Array):
            yield from zip(list(pairs)[::2], list(pairs)[1::2], strict=False)
        kids = node.get("/Kids")
        waiting += list(kids)[::-1] if isinstance(kids, Array) else []


def outline(source: Pdf, places: Places) -> tuple[list[tuple[int, str, Object | None]], str]:
    """(depth, title, place) of each entry, top to bottom, and a note if some were left out."""
    root = source.Root.get("/Outlines")
    first = root.get("/First") if isinstance(root, Dictionary) else None
    found: list[tuple[int, str, Object | None]] = []
    waiting, seen = [(0, first)], set()
    while waiting:
        depth, node = waiting.pop()
        if not isinstance(node, Dictionary):
            continue
        if node.objgen in seen or depth >= DEPTH or len(found) >= MANY:
            return found, f"its outline is cut after {len(found)} entries: it is too long, too deep, or circular"
        seen.add(node.objgen)
        action = node.get("/A")
        inside = isinstance(action, Dictionary) and action.get("/S") == Name.GoTo
        target = node.get("/Dest", action.get("/D") if isinstance(action, Dictionary) and inside else None)
        title = node.get("/Title")
        found.append((depth, str(title) if isinstance(title, String) else "…", places.of(target)))
        waiting += [(depth, node.get("/Next")), (depth + 1, node.get("/First"))]
    return found, ""
