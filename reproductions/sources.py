"""The bundled kernels and the methods that use them, read as text: the web never imports them."""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from reproductions.spec import PAPERS, ROOT

KERNELS = ROOT / "kernels"


@dataclass(frozen=True)
class Kernel:
    """One file of a kernel: `name` such as "attention/flash", what it says of itself, its functions and their lines."""

    name: str
    summary: str
    about: str
    functions: tuple[tuple[str, int], ...]
    triton: bool
    lines: int

    @property
    def family(self) -> str:
        """The folder it lies in."""
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Method:
    """What one file of papers/ says of its method, and (kernel, [(function, line)]) of what it calls."""

    about: str
    calls: tuple[tuple[Kernel, tuple[tuple[str, int], ...]], ...]


@cache
def kernels() -> dict[str, Kernel]:
    """Every kernel by name. Files beside the families (timing, testing) are tools and are left out."""
    files = [path for path in sorted(KERNELS.glob("*/*.py")) if path.name != "__init__.py"]
    return {kernel.name: kernel for kernel in map(_kernel, files)}


def _kernel(path: Path) -> Kernel:
    text = path.read_text()
    tree = ast.parse(text)
    summary, _, about = (ast.get_docstring(tree) or "").partition("\n")
    public = [
        (node.name, node.lineno)
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    name = str(path.relative_to(KERNELS).with_suffix(""))
    return Kernel(name, summary, about.strip(), tuple(public), "@triton.jit" in text, text.count("\n"))


@cache
def method(slug: str) -> Method | None:
    """The method of a work by its file; None for a file that is gone."""
    path = PAPERS / f"{slug.replace('-', '_')}.py"
    if not path.is_file():
        return None
    tree = ast.parse(path.read_text())
    about = (ast.get_docstring(tree) or "").partition("\n")[2].strip()
    found = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kernels."):
            kernel = kernels().get((node.module or "").removeprefix("kernels.").replace(".", "/"))
            if kernel:
                lines = dict(kernel.functions)
                names = [alias.name for alias in node.names]
                found.append((kernel, tuple((name, lines[name]) for name in names if name in lines)))
    return Method(about, tuple(found))


@cache
def source(name: str) -> str:
    """The file of a kernel as HTML, coloured by classes, its lines with anchors L-1, L-2 …; KeyError for no kernel."""
    text = (KERNELS / f"{kernels()[name].name}.py").read_text()
    formatter = HtmlFormatter(nowrap=False, cssclass="code", linenos="inline", lineanchors="L", anchorlinenos=True)
    return highlight(text, PythonLexer(), formatter)


def users() -> dict[str, list[str]]:
    """The slugs of the works whose files call each kernel."""
    found: dict[str, list[str]] = {}
    for path in sorted(PAPERS.glob("*.py")):
        slug = path.stem.replace("_", "-")
        known = method(slug) if path.stem != "__init__" else None
        for kernel, _ in known.calls if known else ():
            found.setdefault(kernel.name, []).append(slug)
    return found
