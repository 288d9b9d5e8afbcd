"""Labelled English text that every Python brings along: docstrings of its standard library, the label their module.

Read with ast from the source files of the running Python; nothing of them is imported. The texts differ a little from
one version of Python to the next.
"""

import ast
import functools
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from reproductions import data_files

# Modules that every installation has and that document much; some distributions leave tkinter, idlelib and test out.
MODULES = ("_pydecimal", "asyncio", "email", "http", "importlib", "logging", "mailbox", "turtle", "unittest", "xml")
SHORTEST, LONGEST = 20, 220  # characters of a text


@dataclass(frozen=True)
class Documented:
    """A docstring's text, its white space made single, its module's place in MODULES, and how many lines of code the
    function has beside it (0 for a class or a module)."""

    text: str
    label: int
    lines: int


def load(each: int, seed: int = 0, functions: bool = False) -> list[Documented]:
    """At most `each` different texts a module, drawn and shuffled by `seed`; `functions` leaves out what has no lines
    of code. A text that two modules have is left out. LookupError where the standard library has no source files."""
    draw, found = random.Random(seed), [_of_module(label) for label in range(len(MODULES))]
    modules = Counter(text for one in found for text in {d.text for d in one})
    kept: list[Documented] = []
    for one in found:
        once = list({d.text: d for d in one if modules[d.text] == 1 and (d.lines or not functions)}.values())
        kept += draw.sample(once, min(each, len(once)))
    draw.shuffle(kept)
    return kept


def log_lines(documented: list[Documented]) -> list[float]:
    """The decimal logarithm of the lines of code: a real number to be told from the text."""
    return [math.log10(d.lines) for d in documented]


@functools.cache
def _of_module(label: int) -> list[Documented]:
    place = data_files.standard_library() / MODULES[label]
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    try:
        return [d for file in files for d in _of_file(file.read_text("utf-8"), label)]
    except OSError as error:
        raise LookupError(f"{place}: expected the source files of Python's standard library ({error})") from None


def _of_file(source: str, label: int) -> Iterator[Documented]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            text = " ".join((ast.get_docstring(node) or "").split())[:LONGEST]
            if len(text) >= SHORTEST:
                yield Documented(text, label, _lines(node))


def _lines(node: ast.AST) -> int:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or len(node.body) < 2:
        return 0
    return (node.end_lineno or 0) - node.body[1].lineno + 1
