"""What a run shows in a terminal: a progress bar while it goes, a table of verdicts at its end."""

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from reproductions.spec import Verdict

STYLES = {
    "replicated": "green",
    "computed": "green",
    "contradicted": "bold red",
    "inconclusive": "yellow",
    "no result": "bold magenta",
    "not testable here": "dim",
}


@contextlib.contextmanager
def progress() -> Iterator[Callable | None]:
    """A progress bar on a terminal, nothing elsewhere: a worker reads progress.json."""
    if not sys.stdout.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total)


def print_traceback(error: Exception) -> None:
    """The traceback goes to the log: whoever mends the reproduction needs it."""
    traceback.print_exception(error)
    sys.stderr.flush()


def figure(verdict: Verdict) -> str:
    """ "2.81 (2.64 to 2.97)", "0.75" for an exact figure, or a dash."""
    if verdict.value is None:
        return "–"
    if verdict.method == "exact":
        return f"{verdict.value:.4g}"
    return f"{verdict.value:.4g} ({verdict.low:.4g} to {verdict.high:.4g})"


def print_verdicts(verdicts: list[Verdict], result: dict) -> None:
    """One line a check: claim, what was measured with its interval, bound, outcome and scale."""
    title = f"{result['slug']}, size {result['size']}, on {result['environment']['device_name']}"
    if sys.stdout.isatty():
        _print_table(title, verdicts)
    else:
        print(title)
        for v in verdicts:
            scale = f" ({v.scale} scale)" if v.scale else ""
            measured = f": {v.measure} {v.bound}, measured {figure(v)}" if v.measure else ""
            print(f"  {_name(v)}: {v.outcome}{scale}{measured}{'; ' + v.reason if v.reason else ''}")
    print(f"{result['seconds']:.1f} s, peak {result['peak_memory_mib']} MiB, seed {result['seed']}")


def _name(verdict: Verdict) -> str:
    return f"{verdict.claim} [{verdict.label}]" if verdict.label else verdict.claim


def _print_table(title: str, verdicts: list[Verdict]) -> None:
    table = Table(title=title)
    for column in ("claim", "measure", "figure (95 % interval)", "bound", "outcome", "scale", "why"):
        table.add_column(column, overflow="fold")
    for v in verdicts:
        outcome = Text(v.outcome, STYLES[v.outcome])
        table.add_row(Text(_name(v)), v.measure, figure(v), v.bound, outcome, v.scale, v.reason or v.because)
    Console().print(table)
