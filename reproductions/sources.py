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
TOOLS = ("bench",)


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

    @property
    def paragraphs(self) -> list[str]:
        """What it says, as it was parted: the last often tells what was changed after a result was seen."""
        return [part for part in self.about.split("\n\n") if part]


@cache
def kernels() -> dict[str, Kernel]:
    """Every kernel by name. Files beside the families (testing), and the bench, are tools and are left out."""
    paths = (path for path in sorted(KERNELS.glob("*/*.py")) if path.name != "__init__.py")
    files = [path for path in paths if path.parent.name not in TOOLS]
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
    return Kernel(
        name, summary, about.strip(), tuple(public), "@triton.jit" in text or "@gluon.jit" in text, text.count("\n")
    )


@cache
def method(slug: str) -> Method | None:
    """The method of a work by its file; None for a file that is gone."""
    path = PAPERS / f"{slug.replace('-', '_')}.py"
    if not path.is_file():
        return None
    tree = ast.parse(path.read_text())
    about = (ast.get_docstring(tree) or "").partition("\n")[2].strip()
    found = []
    for name, called in _calls(tree).items():
        lines = dict(kernels()[name].functions)
        found.append((kernels()[name], tuple((function, lines[function]) for function in called if function in lines)))
    return Method(about, tuple(found))


def _calls(tree: ast.Module) -> dict[str, list[str]]:
    """kernel -> names that a file takes from it, by `from kernels.family.file import name` or `file.name`."""
    found: dict[str, list[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kernels"):
            place = (node.module or "").removeprefix("kernels").removeprefix(".").replace(".", "/")
            for alias in node.names:
                whole = f"{place}/{alias.name}"
                if place in kernels():
                    found.setdefault(place, []).append(alias.name)
                elif whole in kernels():
                    found.setdefault(whole, []).extend(_attributes(tree, alias.asname or alias.name))
    return found


def _attributes(tree: ast.Module, module: str) -> list[str]:
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return list(dict.fromkeys(node.attr for node in nodes if getattr(node.value, "id", "") == module))


@cache
def shared() -> set[str]:
    """The kernels that other kernels are built from."""
    trees = (ast.parse((KERNELS / f"{name}.py").read_text()) for name in kernels())
    return {name for tree in trees for name in _calls(tree)}


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
