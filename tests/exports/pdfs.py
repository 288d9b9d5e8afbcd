"""Reading a PDF as a viewer does: where links and outline entries land, what a page says and is called."""

import pikepdf
import pypdfium2
from pikepdf import Array, Dictionary, Name, Pdf, String

from exports.sheets import roman


class Book:
    """A PDF file, read by pikepdf for its structure and by pdfium for its text."""

    def __init__(self, path):
        self.pdf = Pdf.open(path)
        self.shown = pypdfium2.PdfDocument(path)
        self.places = {page.obj.objgen: i for i, page in enumerate(self.pdf.pages)}
        old = self.pdf.Root.get("/Dests", {})
        self.texts: dict[int, str] = {}
        self.named = {Name(name): value for name, value in old.items()}
        if "/Names" in self.pdf.Root and "/Dests" in self.pdf.Root.Names:
            self.named |= {str(k): v for k, v in pikepdf.NameTree(self.pdf.Root.Names.Dests).items()}

    def text(self, i: int) -> str:
        if i not in self.texts:
            self.texts[i] = " ".join(self.shown[i].get_textpage().get_text_range().split())
        return self.texts[i]

    def text_at(self, i: int, rectangle) -> str:
        left, bottom, right, top = (float(number) for number in rectangle)
        return " ".join(self.shown[i].get_textpage().get_text_bounded(left, bottom, right, top).split())

    def lands(self, target) -> int | None:
        """The page of a destination; None if it leads nowhere."""
        if isinstance(target, Name):
            target = self.named.get(target)
        elif isinstance(target, String):
            target = self.named.get(str(target))
        if isinstance(target, Dictionary):
            target = target.D
        return self.places.get(target[0].objgen) if isinstance(target, Array) else None

    def links(self, i: int):
        """(rectangle, page it lands on) of each internal link of a page."""
        for one in self.pdf.pages[i].get("/Annots", []):
            action = one.get("/A", {})
            target = one.get("/Dest", action.get("/D") if action.get("/S") == Name.GoTo else None)
            if target is not None:
                yield one.Rect, self.lands(target)

    def outline(self):
        """(depth, title, page) of each entry, top to bottom."""

        def walk(entries, depth):
            for entry in entries:
                yield depth, entry.title, self.lands(entry.destination)
                yield from walk(entry.children, depth + 1)

        with self.pdf.open_outline() as outline:
            return list(walk(outline.root, 0))

    def label(self, i: int) -> str:
        """What a viewer calls the page."""
        numbers = list(self.pdf.Root.PageLabels.Nums)
        begin, kind = next((int(n), d) for n, d in list(zip(numbers[::2], numbers[1::2], strict=True))[::-1] if n <= i)
        number = i - begin + int(kind.get("/St", 1))
        return roman(number) if Name.r == kind.S else str(number)
