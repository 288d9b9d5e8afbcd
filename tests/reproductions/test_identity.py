"""What makes results outdated, and what does not: edits to a copy of the sources, and the works that each reaches."""

import shutil
import sys

import pytest

from reproductions import data_files, identity, normal_form, spec, syntax
from reproductions.lab import measure
from reproductions.syntax import Reference

SOME = ("flashattention", "h2o", "online-softmax", "online-softmax-to-flashattention", "rope", "streaming-llm", "vllm")
EVERY = set(SOME)
ROTATING = {"h2o", "online-softmax-to-flashattention", "streaming-llm", "vllm"}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A copy of the sources that identity reads in place of ours."""
    for package in syntax.PACKAGES:
        shutil.copytree(syntax.ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.pyc", "records"))
    monkeypatch.setattr(syntax, "ROOT", tmp_path)
    forget()
    yield tmp_path
    monkeypatch.undo()
    forget()


def forget() -> None:
    for kept in (
        syntax.read, normal_form.forms, normal_form.statement_forms, normal_form.methods_of_lab, identity._closure,
        identity.of_work,
    ):  # fmt: skip
        kept.cache_clear()


def measured() -> dict[str, str]:
    forget()
    return {slug: identity.of_work(spec.module_of(slug)) for slug in SOME}


def edit(tree, file: str, old: str, new: str) -> None:
    text = (tree / file).read_text()
    assert text.count(old) >= 1, f"{file} has no {old!r}"
    (tree / file).write_text(text.replace(old, new, 1))


NOTHING = {
    "a docstring": ("kernels/dispatch.py", "The one decision that every public function shares", "One decision"),
    "a comment": ("kernels/testing.py", "def error(", "# why it is so\ndef error("),
    "an annotation": ("kernels/testing.py", "(out: Tensor, exact: Tensor) -> float:", "(out, exact):"),
    "a because": ("reproductions/papers/h2o.py", "because=", 'because="" or '),
    "a plot's title": ("reproductions/papers/h2o.py", "PLOTS = [", "PLOTS = []\nOTHERS = ["),
    "a line's layout": ("kernels/testing.py", "return 0.0", "return (\n            0.0\n        )"),
    "another file's name": ("kernels/cache/streaming.py", "def rotate(", "UNUSED = 1\n\n\ndef rotate("),
}
REACHED = {
    "a sign in rotate": ("kernels/cache/streaming.py", "-", "+", ROTATING),
    "the laboratory's time": (
        "reproductions/lab/__init__.py", "return bench.interleaved(", "return 3 * bench.interleaved(", None,
    ),
    "the seed": ("reproductions/lab/__init__.py", "torch.manual_seed(seed)", "torch.manual_seed(seed + 1)", EVERY),
    "the threads": ("reproductions/__main__.py", '"PASSIVE"', '"ACTIVE"', EVERY),
    "the stopwatch": ("kernels/bench/__init__.py", "WARM_UP = 2", "WARM_UP = 1", None),
    "a module that is passed around": (
        "kernels/attention/passes.py", "torch.", "torch.special.", {"online-softmax-to-flashattention"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NOTHING)
def test_what_does_not_run_outdates_nothing(tree, case):
    before = measured()
    edit(tree, *NOTHING[case])
    assert measured() == before


def users_of(name: str) -> set[str]:
    """Works whose own walk meets it: of those that hang on the laboratory's tools."""
    return {
        slug
        for slug in SOME
        if any(r.name == name for r in identity.reached([Reference(spec.module_of(slug), "run"), *identity.STARTS]))
    }


@pytest.mark.parametrize("case", REACHED)
def test_what_runs_outdates_those_that_reach_it(tree, case):
    file, old, new, expected = REACHED[case]
    before = measured()
    if case == "a sign in rotate":
        text = (tree / file).read_text()
        start = text.index("def rotate(")
        (tree / file).write_text(text[:start] + text[start:].replace(" - ", " + ", 1))
    else:
        edit(tree, file, old, new)
    outdated = {slug for slug, found in measured().items() if found != before[slug]}
    assert outdated == (users_of("Lab.time") if expected is None else expected)
    assert outdated, "a table that shows nothing"


def test_a_file_that_moves_and_a_name_that_changes_outdate_nothing(tree):
    before = measured()
    (tree / "kernels/cache/streaming.py").rename(tree / "kernels/cache/rolling.py")
    for path in (*tree.rglob("*.py"),):
        text = path.read_text().replace("kernels.cache.streaming", "kernels.cache.rolling")
        path.write_text(text.replace("StreamingCache", "RollingCache"))
    assert measured() == before


def test_an_annotation_counts_where_it_is_compiled(tree):
    kernel = next(path for path in sorted((tree / "kernels/attention").glob("flash.py")))
    before = identity.of_work(spec.module_of("flashattention"))
    edit(tree, str(kernel.relative_to(tree)), ": tl.constexpr", "")
    forget()
    assert identity.of_work(spec.module_of("flashattention")) != before


def test_data_counts_by_its_content(tree, monkeypatch):
    before = measured()
    monkeypatch.setattr(data_files, "digest", lambda place: "another" if place.suffix == ".gz" else "the same")
    with_book = measured()
    monkeypatch.setattr(data_files, "digest", lambda place: "the same")
    assert {slug for slug, found in measured().items() if found != with_book[slug]} == users_of("Lab.text")
    assert with_book != before


def test_two_uses_are_not_mistaken_for_each_other(tree):
    """`a(x) - b(x)` and `b(x) - a(x)` reach the same two definitions, with the same shapes and other constants."""
    module = tree / "kernels" / "swapped.py"
    digests = set()
    for left, right in (("a", "b"), ("b", "a")):
        module.write_text(
            "def a(x):\n    return x + 1\n\n\ndef b(x):\n    return x + 2\n\n\n"
            f"def run(x):\n    return {left}(x) - {right}(x)\n"
        )
        forget()
        digests.add(identity.fingerprint([Reference("kernels.swapped", "run")]))
    assert len(digests) == 2


VERSIONS = '''
import dataclasses as d

@d.dataclass
class Kept:
    """A docstring."""
    names: "tuple[str, ...]" = ()
    count: int = 3

def run(x, *args: int, key: float = 1e-3, **more) -> str:
    """Another."""
    found: list[int] = [i for i in x if (j := i) > 2]
    match found:
        case [first, *rest] if rest:
            return f"a{first!r:>{key}}" "b" f"{rest}" + "c" \\
                "d"
        case {"a": 1, **others}:
            return lambda y, /, z=Kept(): (yield)
    try:
        return x[1:, ..., None]
    except* ValueError as error:
        pass
'''


def test_it_is_the_same_on_every_version_of_python(tree):
    """Syntax that versions of Python keep differently in their trees; the digest was made on 3.11."""
    (tree / "kernels" / "versions.py").write_text(VERSIONS)
    forget()
    assert identity.fingerprint([Reference("kernels.versions", "run")]) == "ad289b0cfb762900"


NAMING = {"reproductions.identity", "reproductions.normal_form", "reproductions.syntax", "reproductions.data_files"}


def ran(call) -> set[tuple[str, str]]:
    """(module, top-level name) of every function of this project that was called meanwhile in this thread; not what
    names a measurement, nor what a dataclass makes.
    """
    codes = set()

    def note(frame, event, argument):
        if event == "call":
            codes.add((frame.f_globals.get("__name__", ""), frame.f_code.co_qualname.partition(".")[0]))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    made = ("<", "__create_fn__")
    return {
        (module, name)
        for module, name in codes
        if module.partition(".")[0] in syntax.PACKAGES and module not in NAMING and not name.startswith(made)
    }


@pytest.mark.parametrize("slug", ["bytetransformer", "deebert", "flash-decoding", "streaming-attention-approximation"])
def test_all_that_ran_is_reached(slug, tmp_path):
    """Another way to the same: watch a run, and look for each function that was called among those that are reached."""
    work = spec.load(slug)
    roots = [Reference(spec.module_of(slug), "run"), *identity.STARTS]
    reached = {(found.module, found.name.partition(".")[0]) for found in identity.reached(roots)}
    options = {"device": "cpu", "seed": 0, "threads": 1, "on_progress": None}
    called = ran(lambda: measure(work.run, work.sizes["smoke"].parameters, tmp_path, **options))
    assert len(called) > 5 and called <= reached
