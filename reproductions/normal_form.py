"""Writes a definition in its normal form: what runs, and nothing that only people read.

The form is a list of texts and of references to other definitions. Left out are comments, docstrings, `pass` and
annotations; names of this project stand as references, so that files, modules and definitions may be renamed. It is our
own walk of the syntax tree, since what `ast.dump` prints differs between versions of Python.
"""

import ast
import functools
from dataclasses import dataclass
from typing import Any

from reproductions.syntax import PACKAGES, Reference, Scope, bound, follow, imported, is_text, path_of, read

LAB = Reference("reproductions.lab", "Lab")
DATA = {Reference("reproductions.data_files", name) for name in ("shipped", "packaged", "standard_library")}
COMPILED = {"jit", "custom_op"}  # decorators whose annotations mean something: @triton.jit, @gluon.jit
FIELD_MARKS = {"ClassVar", "InitVar", "KW_ONLY"}  # annotations that a dataclass reads


@dataclass(frozen=True)
class Content:
    """A call of a function of data_files.py with these constants: what the file holds counts."""

    function: str
    arguments: tuple[str, ...]


Form = tuple[str | Reference | Content, ...]


@functools.cache
def forms(reference: Reference) -> list[Form]:
    """The normal form of each statement that binds the name, in their order. Of a module that is passed around, and so
    may be asked for anything: its names and what they refer to.
    """
    module = read(reference.module)
    if not reference.name:
        return [(name, Reference(reference.module, name)) for name in sorted(module.definitions)]
    name, _, method = reference.name.partition(".")
    writer = Writer(module.scope, of_lab=Reference(reference.module, name) == LAB)
    return [tuple(writer.top(node, method)) for node in module.definitions[name]]


@functools.cache
def statement_forms(module: str) -> list[Form]:
    """The normal forms of what runs as the module is imported, beside definitions and plain assignments."""
    return [tuple(Writer(read(module).scope).top(node)) for node in read(module).statements]


@functools.cache
def methods_of_lab() -> frozenset[str]:
    """Names that are reached as `lab.NAME`."""
    return frozenset(name for node in read(LAB.module).definitions[LAB.name] for name in _methods(node))


def _methods(node: ast.stmt) -> dict[str, ast.stmt]:
    body = node.body if isinstance(node, ast.ClassDef) else []
    return {n.name: n for n in body if isinstance(n, ast.FunctionDef) and n.name != "__init__"}


class Writer:
    """Writes one statement of a module's top level in its normal form."""

    def __init__(self, scope: Scope, *, of_lab: bool = False):
        self.scopes: tuple[Scope, ...] = (scope,)
        self.of_lab = of_lab
        self.out: list[str | Reference | Content] = []

    def top(self, node: ast.stmt, method: str = "") -> list[str | Reference | Content]:
        """The form of `node`, its own name left out; of the laboratory's class, one `method` or all the rest."""
        self.out = []
        if method:
            self.write(_methods(node)[method])
        elif isinstance(node, ast.ClassDef) and self.of_lab:
            rest = [n for n in node.body if n not in _methods(node).values()]
            self._class(ast.ClassDef("", node.bases, node.keywords, rest, node.decorator_list))
        elif isinstance(node, ast.ClassDef):
            self._class(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._function(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and all(isinstance(t, ast.Name) for t in _targets(node)):
            self.write(getattr(node, "value", None))
        else:
            self.write(node)
        return self.out

    def write(self, node: object) -> None:
        """Any node, list or plain value of a syntax tree."""
        if isinstance(node, list):
            for one in node:
                self.write(one)
        elif not isinstance(node, ast.AST):
            self.out.append(ascii(node))
        elif method := getattr(self, f"_{type(node).__name__}", None):
            method(node)
        else:
            self._any(node)

    def _any(self, node: ast.AST) -> None:
        self.out.append(f"({type(node).__name__}")
        for name, value in ast.iter_fields(node):
            if value or type(value) is int:  # an empty field is there in some versions of Python only
                self.out.append(f"{name}:")
                self.write(value)
        self.out.append(")")

    def _Load(self, node: ast.AST) -> None: ...

    _Store = _Del = _Pass = _Load

    def _Expr(self, node: ast.Expr) -> None:
        if not is_text(node):
            self._any(node)

    def _Import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Counts where its names are used; at the top of a module, inside an `if` or a `try`, at once."""
        if len(self.scopes) == 1:
            self.write(sorted(imported(node).items(), key=str))

    _ImportFrom = _Import

    def _AnnAssign(self, node: ast.AnnAssign) -> None:
        """As if it had no annotation; in a class, names, their order and defaults are its fields."""
        in_class = "a class" in self.scopes[-1]
        if in_class:
            marks = sorted({n.id for n in ast.walk(node.annotation) if isinstance(n, ast.Name)} & FIELD_MARKS)
            self.out.append(f"field {' '.join(marks)}")
            self.write(node.target)
        if node.value and in_class:
            self.write(node.value)
        elif node.value:
            self.write(ast.Assign([node.target], node.value))

    def _Constant(self, node: ast.Constant) -> None:
        self.out.append(f"{type(node.value).__name__} {node.value!a}")  # !r asks which letters this Python can print
        if isinstance(node.value, str) and node.value.partition(".")[0] in PACKAGES:
            self._named_by_text(node.value)

    def _named_by_text(self, text: str) -> None:
        """A string that names a module of this project, or a name in one: it may be imported by it."""
        module, _, name = text.replace(":", ".").rpartition(".")
        if text.replace(".", "").isidentifier() and path_of(text):
            self.out.append(Reference(text))
        elif name.isidentifier() and path_of(module) and name in read(module).definitions:
            self.out.append(Reference(module, name))

    def _JoinedStr(self, node: ast.JoinedStr) -> None:
        """Neighbouring texts as one: how an f-string is cut into them differs between versions."""
        parts: list[Any] = []
        for part in node.values:
            if isinstance(part, ast.Constant) and parts and isinstance(parts[-1], str):
                parts[-1] += str(part.value)
            else:
                parts.append(part.value if isinstance(part, ast.Constant) else part)
        self.out.append("(JoinedStr")
        self.write([part for part in parts if part != ""])
        self.out.append(")")

    def _FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.out.append(node.name)
        self._function(node)

    _AsyncFunctionDef = _FunctionDef

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.out.append(f"({type(node).__name__}")
        self.write(node.decorator_list)
        compiled = any(
            getattr(n, "id", getattr(n, "attr", "")) in COMPILED for d in node.decorator_list for n in ast.walk(d)
        )
        self._arguments(node.args, annotated=compiled)
        if compiled and node.returns:
            self.write(node.returns)
        self._body(node.args, node.body)
        self.out.append(")")

    def _Lambda(self, node: ast.Lambda) -> None:
        self.out.append("(Lambda")
        self._arguments(node.args, annotated=False)
        self._body(node.args, [node.body])
        self.out.append(")")

    def _arguments(self, given: ast.arguments, *, annotated: bool) -> None:
        """Names by their kind, and defaults; these are looked up outside the function."""
        for kind in ("posonlyargs", "args", "vararg", "kwonlyargs", "kwarg"):
            self.out.append(f"{kind}:")
            found = getattr(given, kind)
            for one in found if isinstance(found, list) else [found] if found else []:
                self.out.append(one.arg)
                if annotated and one.annotation:
                    self.write(one.annotation)
        self.out.append("defaults:")
        self.write(given.defaults)
        self.out.append("kw_defaults:")
        self.write(given.kw_defaults)

    def _body(self, given: ast.arguments, body: list) -> None:
        everyone = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        shared = {
            name for n in body for g in ast.walk(n) if isinstance(g, ast.Global | ast.Nonlocal) for name in g.names
        }
        names = dict.fromkeys(one.arg for one in everyone if one) | bound(body)
        outer = self.scopes
        self.scopes = (*(s for s in outer if "a class" not in s), {n: t for n, t in names.items() if n not in shared})
        self.write(body)
        self.scopes = outer

    def _ClassDef(self, node: ast.ClassDef) -> None:
        self.out.append(node.name)
        self._class(node)

    def _class(self, node: ast.ClassDef) -> None:
        self.out.append("(ClassDef")
        self.write([*node.decorator_list, *node.bases, *node.keywords])
        outer = self.scopes
        self.scopes = (*outer, {"a class": None} | bound(node.body))
        self.write(node.body)
        self.scopes = outer
        self.out.append(")")

    def _comprehension_of(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        """The first sequence is looked up outside, all else among the names that the comprehension binds."""
        self.out.append(f"({type(node).__name__}")
        self.write(node.generators[0].iter)
        outer = self.scopes
        self.scopes = (*outer, bound([g.target for g in node.generators]))
        for i, one in enumerate(node.generators):
            self.write([one.target, *([one.iter] if i else []), *one.ifs, one.is_async])
        self.write([node.key, node.value] if isinstance(node, ast.DictComp) else node.elt)
        self.scopes = outer
        self.out.append(")")

    _ListComp = _SetComp = _GeneratorExp = _DictComp = _comprehension_of

    def _Call(self, node: ast.Call) -> None:
        root, parts = _chain(node.func)
        target = self._find(root.id, parts)[0] if isinstance(root, ast.Name) else None
        if target in DATA:
            if not all(isinstance(a, ast.Constant) for a in node.args):
                raise ValueError(f"line {node.lineno}: expected constants as arguments of {target.name}")
            texts = (str(a.value) for a in node.args if isinstance(a, ast.Constant))
            self.out.append(Content(target.name, tuple(texts)))
        self._any(node)

    def _Name(self, node: ast.Name) -> None:
        self._used(node, [])

    def _Attribute(self, node: ast.Attribute) -> None:
        self._used(*_chain(node))

    def _used(self, root: ast.expr, parts: list[str]) -> None:
        """A name and what is taken of it: as what it refers to, so that a file or a module may be renamed."""
        if isinstance(root, ast.Name):
            target, left = self._find(root.id, parts)
            self.out.append(target)
            owners = [root.id if not (self.of_lab and root.id == "self") else "lab", *parts]
        else:
            self.write(root)
            left, owners = parts, ["", *parts]
        self.out += [f".{part}" for part in left]
        used = {part for owner, part in zip(owners, parts, strict=False) if owner == "lab"} & methods_of_lab()
        self.out += [Reference(LAB.module, f"{LAB.name}.{name}") for name in sorted(used)]

    def _find(self, name: str, parts: list[str]) -> tuple[Reference | str, list[str]]:
        """Find what a name refers to, taking from `parts` as far as modules go; return the parts that are left, too."""
        found: Reference | str | None = next((s[name] for s in reversed(self.scopes) if name in s), name)
        if found is None:
            return name, parts
        while isinstance(found, Reference) and isinstance(found := follow(found), Reference):
            if found.name or not parts or parts[0].startswith("__"):
                break
            found, parts = Reference(found.module, parts[0]), parts[1:]
        return found, parts


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _chain(node: ast.expr) -> tuple[ast.expr, list[str]]:
    """`a.b.c` as (a, ["b", "c"])."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return node, parts
