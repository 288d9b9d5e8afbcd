"""The two fingerprints of a work: of its declaration, what its page shows, and of its measurement, all that runs.

Only a change of the measurement makes results outdated. It reaches from `run()` and from what starts it, by name,
through kernels, laboratory and data files: a comment, a docstring, a bound, a plot or a file's place is no part of it.
"""

import functools
import hashlib
import inspect
import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from reproductions import data_files
from reproductions.normal_form import forms, statement_forms
from reproductions.syntax import PACKAGES, Reference, path_of, read

LENGTH = 16  # hexadecimal digits
STARTS = (Reference("reproductions.lab", "measure"), Reference("reproductions.__main__", "set_threads"))


@functools.cache
def of_work(module: str) -> str:
    """The measurement of one work, by the module that holds its `run()`: every definition that can make a row."""
    return fingerprint([Reference(module, "run"), *STARTS])


def of(thing: Callable | type) -> str:
    """All that a function or a class of this project reaches; of any other, the bytes of its file."""
    if thing.__module__.partition(".")[0] in PACKAGES:
        return fingerprint([Reference(thing.__module__, thing.__qualname__.partition(".")[0])])
    return _digest([thing.__qualname__, Path(inspect.getfile(thing)).read_bytes().hex()])


def of_declaration(described: dict) -> str:
    """Digest the question, checks, sizes, limits and plots of a work, as its page shows them."""
    return _digest([json.dumps(described, sort_keys=True)])


def fingerprint(roots: list[Reference]) -> str:
    """A digest of all that is reached from `roots`. Definitions stand in the order in which they are met and refer to
    each other by their place in it, so that no name matters and no two are mistaken for each other.
    """
    return _digest(_walk(roots)[0])


def reached(roots: list[Reference]) -> list[Reference]:
    """The definitions themselves, in the order in which they are met."""
    return _walk(roots)[1]


def _walk(roots: list[Reference]) -> tuple[list[str], list[Reference]]:
    """What is reached, as texts, and the definitions in their order: those met by name, breadth first; then what runs
    as their modules are imported, and what that reaches.
    """
    texts: list[str] = []
    place: dict[Reference, int] = {root: i for i, root in enumerate(roots)}
    order, at, entered = list(roots), 0, set[str]()
    while at < len(order) or (fresh := _modules(order) - entered):
        if at < len(order):
            found, at = forms(order[at]), at + 1
        else:
            found = [form for module in sorted(fresh) for form in statement_forms(module)]
            entered |= fresh
        for token in itertools.chain(["--"], *found):
            if isinstance(token, Reference):
                if token not in place:
                    place[token] = len(order)
                    order.append(token)
                texts.append(f"#{place[token]}")
            else:
                texts.append(token if isinstance(token, str) else data_files.content(token.function, token.arguments))
    return texts, order


def files(module: str) -> list[Path]:
    """List the files of this project that are imported with a module, its own among them."""
    return [path for name in sorted(_closure(module)) if (path := path_of(name))]


def _modules(references: list[Reference]) -> set[str]:
    """Every module of this project that is imported when these are: their own, the folders above, what they import."""
    return {module for name in {reference.module for reference in references} for module in _closure(name)}


@functools.cache
def _closure(module: str) -> frozenset[str]:
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name and name not in found and path_of(name):
            found.add(name)
            waiting.append(name.rpartition(".")[0])
            waiting += [target.module for target in read(name).scope.values() if isinstance(target, Reference)]
    return frozenset(found)


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:LENGTH]
