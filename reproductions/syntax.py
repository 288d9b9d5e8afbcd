"""Reads a module of this project: its top-level names, what each refers to, and what runs when it is imported.

Needs the standard library only, and imports nothing that it reads.
"""

import ast
import functools
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("kernels", "reproductions")
IDENTITY = "reproductions.identity"  # names what is measured and measures nothing: known as `identity` alone
NOT_RUN = {"TYPE_CHECKING", "__name__"}  # an `if` on these does nothing when the module is imported


@dataclass(frozen=True)
class Reference:
    """The use of a name of this project: `name` at the top of `module`, or the module itself where `name` is empty.

    A method of the laboratory is one of its own, `Lab.time`: a work hangs on those that it uses.
    """

    module: str
    name: str = ""


Scope = dict[str, Reference | str | None]  # a name: what it refers to, an outside module's path, or a local


@dataclass
class Module:
    """One file: the forms of each top-level name, what runs as it is imported, and what it imports of this project."""

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    statements: list[ast.stmt] = field(default_factory=list)
    scope: Scope = field(default_factory=dict)


def path_of(module: str) -> Path | None:
    """The file of a module of this project; None for one that there is not."""
    stem = ROOT / module.replace(".", "/")
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def is_ours(module: str) -> bool:
    """Whether it is a module of this project."""
    return module.partition(".")[0] in PACKAGES and (
        path_of(module) is not None or (ROOT / module.replace(".", "/")).is_dir()
    )


@functools.cache
def read(module: str) -> Module:
    """Parse it, once a process. LookupError if there is no such module."""
    path = path_of(module)
    if path is None:
        if is_ours(module):
            return Module()  # a folder without __init__.py
        raise LookupError(f"no module {module!r}")
    found = Module()
    for node in ast.parse(path.read_text("utf-8")).body:
        _sort(found, node, module)
    return found


def _sort(found: Module, node: ast.stmt, module: str) -> None:
    if isinstance(node, ast.Import | ast.ImportFrom):
        found.scope.update(imported(node))
        return
    for name in sorted(bound([node])):
        found.definitions.setdefault(name, []).append(node)
        found.scope[name] = Reference(module, name)
    plain = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or _only_names(node)
    if not plain and not is_text(node) and not _is_not_run(node):
        found.statements.append(node)


def _only_names(node: ast.stmt) -> bool:
    """An assignment to plain names: it counts where one of them is used."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and all(
        isinstance(t, ast.Name) or (isinstance(t, ast.Tuple) and all(isinstance(e, ast.Name) for e in t.elts))
        for t in targets
    )


def _is_not_run(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and any(
        getattr(n, "id", getattr(n, "attr", "")) in NOT_RUN for n in ast.walk(node.test)
    )


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _target(path: str) -> Reference | str:
    """A module as what a name refers to."""
    if path == IDENTITY:
        return IDENTITY.rpartition(".")[2]
    return Reference(path) if is_ours(path) else path


def imported(node: ast.Import | ast.ImportFrom) -> Scope:
    """What an import binds: names of this project as references, others as their dotted path."""
    if isinstance(node, ast.Import):
        pairs = [
            (a.asname or a.name.partition(".")[0], a.name if a.asname else a.name.partition(".")[0]) for a in node.names
        ]
        return {name: _target(path) for name, path in pairs}
    if node.level:
        raise ValueError(
            f"line {node.lineno}: expected absolute imports in {' and '.join(PACKAGES)}, got a relative one"
        )
    found: Scope = {}
    for a in node.names:
        whole = f"{node.module}.{a.name}"
        if not is_ours(node.module or ""):
            found[a.asname or a.name] = whole
        else:
            found[a.asname or a.name] = _target(whole) if is_ours(whole) else Reference(node.module or "", a.name)
    return found


def bound(body: list) -> Scope:
    """Names that statements bind in their own scope: what an import refers to, None for locals."""
    names: Scope = {}
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[node.name] = None
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(imported(node))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            names[node.id] = None
        elif isinstance(node, ast.Lambda):
            pass
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            waiting += [n for n in ast.walk(node) if isinstance(n, ast.NamedExpr)]
        else:
            names.update(dict.fromkeys(n for n in (getattr(node, "rest", None), _capture(node)) if n))
            waiting += ast.iter_child_nodes(node)
    return names


def _capture(node: ast.AST) -> str | None:
    """The name that an `except … as` or a pattern binds."""
    return node.name if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) else None


def follow(reference: Reference) -> Reference | str:
    """Where a name is defined: through modules that only import it; the dotted path of what is not of this project."""
    while reference.name and reference.name.partition(".")[0] not in read(reference.module).definitions:
        target = read(reference.module).scope.get(reference.name)
        if target is None and is_ours(f"{reference.module}.{reference.name}"):
            target = Reference(f"{reference.module}.{reference.name}")
        if target is None:
            raise LookupError(f"{reference.module} has no {reference.name!r}")
        if isinstance(target, str):
            return target
        reference = target
    return reference
