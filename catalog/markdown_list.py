"""An awesome-list in Markdown becomes rows. Whatever looks like an entry is read, or reported with the reason."""

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from catalog import markdown_facts as facts
from catalog.markdown_rows import Row, column_role, from_cells, from_item
from catalog.markdown_text import LINK_MARK, Text, read
from catalog.markdown_titles import is_generic
from config.text import HIDDEN, cleaned

HIDDEN_TAKEN = "characters that cannot be seen, which were taken out"

DETAILS = 7  # the level of a <summary>, below every heading
NO_CATEGORY = ("Uncategorised",)
BULLET = re.compile(r"\s*(?:>\s*)*(?:[-*+•]|\d{1,6}[.)])\s+(?=\S)")
PIPES = re.compile(r"(?<!\\)\|")
EMPTY = re.compile(r"^(?:[\s|:>-]|&nbsp;)*$")
OUTWARD = re.compile(r"https?://|\]\((?!#)[^)\s]|href\s*=\s*[\"']?(?!#)[^\"'\s>]|\]\(\s*\)", re.IGNORECASE)
IN_HTML = re.compile(r"<(?:tr|td|li)\b", re.IGNORECASE)
HTML_HEADING = re.compile(
    r"<h([1-6])\b[^>]*>(.*?)</h\1\s*>|<summary\b[^>]*>(.*?)</summary\s*>|(</details\s*>)", re.IGNORECASE | re.DOTALL
)
ASIDE = re.compile(
    r"^(?:table of )?contents?$|^toc$|^overview$|^introduction$|^about\b|^licen[cs]e|^contribut|^citations?$|^citing|"
    r"^cite\b|^acknowledg|^star history|^news$|^updates?$|^what'?s new|^change ?log|^contact|^sponsors?|"
    r"^(?:related|other) (?:awesome|lists|repos)|^目录|^贡献|^引用|^致谢|^更新",
    re.IGNORECASE,
)

_blocks = MarkdownIt("commonmark").enable(["table", "strikethrough"])
_blocks.core.ruler.disable(["inline", "text_join"])


@dataclass(frozen=True)
class Missed:
    """A line that looks like an entry and was not understood."""

    line: int
    text: str
    reason: str


@dataclass
class Parsed:
    """What was read, in the order of the file."""

    rows: list[Row] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)


def parse(text: str) -> Parsed:
    """Read a list. Lines are counted from 1 as an editor shows them."""
    return _Parser(text).parse()


def looks_like_entry(line: str) -> bool:
    """Whether a source line is a bullet or a row of pipes with a link that leads out of the page, or to nowhere yet."""
    shaped = BULLET.match(line) or len(PIPES.findall(line)) >= 2 or IN_HTML.search(line)
    return bool(shaped and OUTWARD.search(line))


def _with_hidden(rows: list[Row], lines: list[int]) -> list[Row]:
    """The rows, with a note where characters that cannot be seen were taken out of their lines, counted from 0."""
    begins = sorted(row.line for row in rows)
    noted = {begins[place - 1] for line in lines if (place := bisect.bisect_right(begins, line + 1))}
    return [replace(row, unkept=(*row.unkept, HIDDEN_TAKEN)) if row.line in noted else row for row in rows]


class _Parser:
    """One pass over the blocks; `covered` are the lines that were decided on."""

    def __init__(self, text: str) -> None:
        text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        written = text.split("\n")
        self.source = [cleaned(line) for line in written]
        self.hidden = [i for i, line in enumerate(written) if HIDDEN.search(line)]
        self.env: dict = {}
        self.root = SyntaxTreeNode(_blocks.parse("\n".join(self.source), self.env))
        self.path: dict[int, str] = {}
        self.headers: list[str] = []
        self.covered: set[int] = set()
        self.kinds: dict[int, str] = {}
        self.found = Parsed()

    def parse(self) -> Parsed:
        self.walk(self.root)
        for line, source in enumerate(self.source):
            if line not in self.covered and looks_like_entry(source):
                self.miss(line, self.kinds.get(line, "outside every table and list"))
        rows = _without_common_path(self.found.rows)
        flames = any(row.highlights for row in rows)
        rows = rows if flames else [replace(row, highlights=None) for row in rows]
        self.found.rows = _with_hidden(rows, self.hidden)
        self.found.missed.sort(key=lambda missed: missed.line)
        return self.found

    def walk(self, node: SyntaxTreeNode) -> None:
        for child in node.children:
            self.block(child)

    def block(self, node: SyntaxTreeNode) -> None:
        start, end = node.map or (0, 0)
        if node.type == "heading":
            self.set_heading(int(node.tag[1]), _content(node))
        elif node.type == "table":
            self.table(node)
        elif node.type in ("bullet_list", "ordered_list"):
            self.bullets(node, ())
        elif node.type == "paragraph":
            self.loose_lines(_content(node).split("\n"), start)
        elif node.type == "html_block":
            self.html(node.content)
            self.note(start, end, "inside HTML, which is not read")
        elif node.type in ("fence", "code_block"):
            self.note(start, end, "inside a code block")
        else:
            self.walk(node)

    def note(self, start: int, end: int, kind: str) -> None:
        self.kinds.update(dict.fromkeys(range(start, end), kind))

    def cover(self, start: int, count: int = 1) -> None:
        self.covered.update(range(start, start + count))

    def miss(self, line: int, reason: str) -> None:
        self.found.missed.append(Missed(line + 1, " ".join(self.source[line].split())[:300], reason))

    def set_heading(self, level: int, source: str) -> None:
        self.path = {k: v for k, v in self.path.items() if k < level}
        if name := heading_name(read(source, self.env)):
            self.path[level] = name
        self.headers = []

    def html(self, content: str) -> None:
        for found in HTML_HEADING.finditer(content):
            if found[4]:
                self.path.pop(DETAILS, None)
            else:
                self.set_heading(int(found[1] or DETAILS), found[2] or found[3] or "")

    def category(self, below: tuple[str, ...] = ()) -> tuple[str, ...]:
        return (*(self.path[level] for level in sorted(self.path)), *below)

    def add(self, row: Row | None, line: int) -> None:
        """Keep a row, or say why not."""
        if row is None:
            return
        aside = next((name for name in row.category if ASIDE.match(name)), None)
        if aside:
            self.miss(line, f"under the heading “{aside}”, which is not a category of works")
        elif not row.title and not row.links:
            self.miss(line, "neither a title nor a link")
        else:
            self.found.rows.append(row)

    # tables

    def table(self, table: SyntaxTreeNode) -> None:
        rows = [row for part in table.children for row in part.children]
        for i, row in enumerate(rows):
            line = row.map[0] if row.map else 0
            cells = [_content(cell) for cell in row.children]
            if i == 0:
                self.headers = [read(cell, self.env).plain() for cell in cells]
                self.note(line, line + 2, "the header of a table")
                if any(link.url for cell in cells for link in read(cell, self.env).links):
                    self.headers = [""] * len(cells)
                    self.table_row(cells, line)
                continue
            self.table_row(cells + split_cells(self.source[line])[len(cells) :], line)

    def table_row(self, cells: list[str], line: int) -> None:
        self.cover(line)
        texts = [read(cell, self.env) for cell in _realigned(cells, self.headers)]
        self.add(from_cells(texts, self.headers, line + 1, self.category()), line)

    def loose_lines(self, lines: list[str], start: int) -> None:
        """Rows and bullets that Markdown reads as a paragraph: after a blank line in a table, or below running text."""
        for i, source in enumerate(lines):
            if not looks_like_entry(self.source[start + i]) and not looks_like_entry(source):
                continue
            if bullet := BULLET.match(source):
                self.cover(start + i)
                self.add(from_item(read(source[bullet.end() :], self.env), start + i + 1, self.category()), start + i)
            elif self.headers:
                self.table_row(split_cells(source), start + i)
            else:
                self.note(start + i, start + i + 1, "a row of a table without the line |---| above it")

    # lists

    def bullets(self, node: SyntaxTreeNode, below: tuple[str, ...]) -> None:
        for item in node.children:
            self.item(item, below)

    def item(self, item: SyntaxTreeNode, below: tuple[str, ...]) -> None:
        parts = [(p.map[0], _content(p).split("\n")) for p in item.children if p.type == "paragraph" and p.map]
        lists = [child for child in item.children if child.type in ("bullet_list", "ordered_list")]
        groups = _split_swallowed([(start + i, line) for start, lines in parts for i, line in enumerate(lines)])
        text = read("\n".join(line for _, line in groups[0]), self.env) if groups else Text()
        details = [detail for child in lists for detail in self.details(child)]
        if details and len(details) == len(lists) and _is_headline(text):
            lines = [*groups[0], *(line for detail in details for line in detail)]
            groups[0], lists = lines, []
        elif lists and not text.links and groups:
            name = heading_name(text)
            below = (*below, name) if 0 < len(name) <= 80 else below
            groups = []
        for group in groups:
            self.entry(group, below)
        for child in item.children:
            if child in lists:
                self.bullets(child, below)
            elif child.type not in ("paragraph", "bullet_list", "ordered_list"):
                self.block(child)

    def entry(self, lines: list[tuple[int, str]], below: tuple[str, ...]) -> None:
        """The lines of one item: an entry if it has a link that leads out of the page, or an empty one."""
        text = read("\n".join(line for _, line in lines), self.env)
        for number, _ in lines:
            self.cover(number)
        if any(link.url or not link.written for link in text.links):
            self.add(from_item(text, lines[0][0] + 1, self.category(below)), lines[0][0])
        elif any(not link.anchor for link in text.links) or any(OUTWARD.search(line) for _, line in lines):
            self.miss(lines[0][0], "its links lead to no address on the web")

    def details(self, node: SyntaxTreeNode) -> Iterator[list[tuple[int, str]]]:
        """The lines of a nested list if they only add to the item above: authors, notes, links named Paper or Code."""
        lines: list[tuple[int, str]] = []
        for item in node.children:
            for part in item.children:
                if part.type != "paragraph" or not part.map:
                    return
                lines += [(part.map[0] + i, line) for i, line in enumerate(_content(part).split("\n"))]
        text = read("\n".join(line for _, line in lines), self.env)
        if all(is_generic(link) for link in text.links):
            yield lines


def _content(node: SyntaxTreeNode) -> str:
    return next((child.content for child in node.children if child.type == "inline"), "")


def _is_headline(text: Text) -> bool:
    return bool(facts.clean_title(text.plain()))


def _split_swallowed(lines: list[tuple[int, str]]) -> list[list[tuple[int, str]]]:
    """Bullets that Markdown reads as the item's own text (`2.` below `-`) are items again."""
    groups: list[list[tuple[int, str]]] = [lines[:1]] if lines else []
    for number, line in lines[1:]:
        bullet = BULLET.match(line)
        if bullet and OUTWARD.search(line):
            groups.append([(number, line[bullet.end() :])])
        else:
            groups[-1].append((number, line))
    return groups


def heading_name(text: Text) -> str:
    """A heading without decoration, links back to the top, and brackets around nothing."""
    kept = LINK_MARK.sub(lambda m: "" if text.link(m[0]).anchor else text.link(m[0]).label, text.marked)
    name = facts.clean_title(facts.without_empty_brackets(kept))
    return (name or facts.clean_title(text.plain()))[:200]


def split_cells(line: str) -> list[str]:
    """The cells of a table row as written, escaped pipes unescaped."""
    line = line.strip()
    cells = [cell.replace("\\|", "|").strip() for cell in PIPES.split(line)]
    return cells[1 if line.startswith("|") else 0 : -1 if line.endswith("|") and not line.endswith("\\|") else None]


def _realigned(cells: list[str], headers: list[str]) -> list[str]:
    """A bare pipe in a title makes a cell too many: the pieces are joined if that brings links under their columns."""
    roles = [column_role(header) for header in headers]
    extra = len(cells) - len(headers)
    if extra <= 0 or "title" not in roles or not {"paper", "code"} & set(roles):
        return cells
    at = roles.index("title")
    after = next((i for i in range(at + 1, len(roles)) if roles[i] in ("paper", "code")), None)
    if after is None or OUTWARD.search(cells[after]) or not OUTWARD.search(cells[after + extra]):
        return cells
    return [*cells[:at], " | ".join(cells[at : at + extra + 1]), *cells[at + extra + 1 :]]


def _without_common_path(rows: list[Row]) -> list[Row]:
    """The headings above all rows (the list's own title) are no part of the categories."""
    paths = {row.category for row in rows}
    common = 0
    while all(len(path) > common + 1 for path in paths) and len({path[common] for path in paths}) == 1:
        common += 1
    return [replace(row, category=row.category[common:] or NO_CATEGORY) for row in rows]
