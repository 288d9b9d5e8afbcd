"""What a piece of Markdown says: its words, bold or not, its links, its stars and flames."""

import re
from dataclasses import dataclass, field

from markdown_it import MarkdownIt
from markdown_it.token import Token

from catalog import addresses

BOLD, PLAIN = "\ue000", "\ue001"  # mark where bold begins and ends in `Text.marked`
FIRST_LINK = 0xE100  # chr(FIRST_LINK + i) stands for link i
PRIVATE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\ufeff\ue000-\uf8ff]")
MARKS = re.compile(f"[{BOLD}{PLAIN}]")
LINK_MARK = re.compile("[\ue100-\uf8ff]")
TAG = re.compile(r"<\s*(?P<end>/?)\s*(?P<name>[a-z][a-z0-9]*)(?P<rest>[^>]*)>", re.IGNORECASE)
ATTRIBUTE = r"""\b{}\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))"""
BARE = re.compile(r"https?://[^\s<>()\[\]{}|\"'`，。；、（）【】《》]+", re.IGNORECASE)
STAR = re.compile(r"[⭐🌟★✨]\ufe0f?|:star2?:")
FLAME = re.compile(r"🔥\ufe0f?|:fire:")
GENERIC = re.compile(
    r"(?:the )?(?:official |project |full |long |arxiv |conference )?"
    r"(?:paper|pdf|abs|abstract|html|arxiv|openreview|acl|doi|code|codes|source code|github|git|repo|repository|"
    r"implementation|pytorch|tensorflow|jax|cuda|project|homepage|home page|page|website|web|site|blog|post|blogpost|"
    r"blog post|docs?|documentation|demo|video|talk|slides?|poster|dataset|datasets|data|models?|weights|checkpoints?|"
    r"hugging ?face|hf|colab|notebook|link|url|here|bibtex|cite|supp|supplementary|appendix|twitter|tweet|youtube|"
    r"论文|代码|链接|项目|主页|博客|地址|官网|知乎)(?: (?:link|page|paper|code)|(?: ?v?\d+)+)?",
    re.IGNORECASE,
)
CODE_LABEL = re.compile(
    r"\b(?:code|codes|github|git|repo|repository|implementation|pytorch|tensorflow|jax)\b|代码|源码", re.IGNORECASE
)
NOT_RATING = re.compile(r"shields\.io|badgen|badge|star-history", re.IGNORECASE)

_inline = MarkdownIt("commonmark").enable(["table", "strikethrough"])
_inline.normalizeLink = lambda url: url  # type: ignore[method-assign]  # addresses stay as they are written


@dataclass
class Found:
    """A link as written: its label without brackets, and where it leads (empty if nowhere on the web)."""

    label: str
    url: str
    written: str = ""

    @property
    def anchor(self) -> bool:
        """Whether it leads to a place of the same page."""
        return self.written.startswith("#")

    @property
    def generic(self) -> bool:
        """Whether the label says what is behind the link (pdf, code) rather than what the work is called."""
        label = re.sub(r"[\W_]+", " ", self.label).strip()
        return not label or bool(GENERIC.fullmatch(label)) or self.label.startswith(("http://", "https://"))


@dataclass
class Text:
    """A piece of Markdown: `marked` holds its words, with marks for bold and for each of the `links`."""

    marked: str = ""
    links: list[Found] = field(default_factory=list)
    stars: int = 0
    flames: int = 0

    @property
    def web_links(self) -> list[Found]:
        """The links that lead somewhere."""
        return [link for link in self.links if link.url]

    def plain(self, *, labels: bool = True) -> str:
        """The words alone, with or without the links' labels."""

        def label(found: re.Match) -> str:
            return self.link(found[0]).label if labels else ""

        return MARKS.sub("", LINK_MARK.sub(label, self.marked))

    def link(self, mark: str) -> Found:
        """The link that a mark stands for."""
        return self.links[ord(mark) - FIRST_LINK]


def read(source: str, env: dict | None = None) -> Text:
    """Take inline Markdown (and the HTML in it) apart; stars and flames are counted and taken out."""
    tokens: list[Token] = []
    _inline.inline.parse(PRIVATE.sub("", source), _inline, env if env is not None else {}, tokens)
    reader = _Reader()
    for token in tokens:
        reader.take(token)
    reader.end_link()
    text = reader.text
    text.stars += len(STAR.findall(text.marked))
    text.flames += len(FLAME.findall(text.marked))
    text.marked = FLAME.sub(" ", STAR.sub(" ", text.marked))
    return text


class _Reader:
    """Tokens in, one Text out."""

    def __init__(self) -> None:
        self.text = Text()
        self.href: str | None = None
        self.label: list[str] = []

    def take(self, token: Token) -> None:
        kind = token.type
        if kind in ("text", "text_special", "code_inline"):
            self.words(token.content)
        elif kind in ("softbreak", "hardbreak"):
            self.words("\n")
        elif kind in ("strong_open", "strong_close"):
            self.set_bold(kind == "strong_open")
        elif kind == "link_open":
            self.begin_link(str(token.attrs.get("href", "")))
        elif kind == "link_close":
            self.end_link()
        elif kind == "image":
            self.see_image(token.content, str(token.attrs.get("src", "")))
        elif kind == "html_inline":
            self.html(token.content)

    def words(self, content: str) -> None:
        if self.href is not None:
            self.label.append(content)
            return
        at = 0
        for found in BARE.finditer(content):
            self.text.marked += content[at : found.start()]
            self.add_link("", found[0].rstrip(".,;:!?*_"))
            at = found.start() + len(found[0].rstrip(".,;:!?*_"))
        self.text.marked += content[at:]

    def set_bold(self, on: bool) -> None:
        self.text.marked += BOLD if on else PLAIN

    def begin_link(self, href: str) -> None:
        self.end_link()
        self.href, self.label = href, []

    def end_link(self) -> None:
        if self.href is not None:
            href, self.href = self.href, None
            self.add_link("".join(self.label), href)

    def add_link(self, label: str, href: str) -> None:
        if len(self.text.links) > 5000:  # no row has so many: the marks would run out
            return
        self.text.stars += len(STAR.findall(label))
        self.text.flames += len(FLAME.findall(label))
        label = " ".join(FLAME.sub(" ", STAR.sub(" ", label)).split())
        while len(label) > 1 and label[0] + label[-1] in ("[]", "【】", "()"):
            label = label[1:-1].strip()
        self.text.marked += chr(FIRST_LINK + len(self.text.links))
        self.text.links.append(Found(label, addresses.web(href) or "", href.strip()))

    def see_image(self, alt: str, src: str) -> None:
        if self.href is None and not NOT_RATING.search(src):
            name = f"{alt} {src.rpartition('/')[2]}".lower()
            self.text.stars += "star" in name or "⭐" in name
            self.text.flames += "fire" in name or "flame" in name or "🔥" in name

    def html(self, content: str) -> None:
        found = TAG.match(content)
        if not found:
            return
        name, ends = found["name"].lower(), bool(found["end"])
        if name in ("br", "p", "li", "div", "tr", "td", "ul", "ol", "hr"):
            self.words("\n")
        elif name in ("b", "strong"):
            self.set_bold(not ends)
        elif name == "img":
            self.see_image(attribute(found["rest"], "alt"), attribute(found["rest"], "src"))
        elif name == "a" and ends:
            self.end_link()
        elif name == "a" and re.search(r"\bhref\b", found["rest"], re.IGNORECASE):
            self.begin_link(attribute(found["rest"], "href"))


def attribute(rest: str, name: str) -> str:
    """The value of an HTML attribute, or an empty string."""
    found = re.search(ATTRIBUTE.format(name), rest, re.IGNORECASE)
    return next((value for value in found.groups() if value), "") if found else ""
