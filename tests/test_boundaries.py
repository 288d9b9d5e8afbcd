"""Who may import what (docs/architecture.md): a fresh interpreter a group of modules, and a look into sys.modules.

What a module must not load, none of its group may: so one interpreter shows it for all of them.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APPS = ("catalog", "jobs", "reproductions", "exports", "readers")
DJANGO, TORCH = {"django", "celery"}, {"torch", "triton"}
PURE = ["reproductions.spec", "reproductions.metrics", "reproductions.parameters", "reproductions.plots"]
# What opens somebody else's PDF, in a process with little memory
PDF = [f"exports.{name}" for name in ("examine", "paper_pages", "actions", "layers", "places", "structures")]


def modules(folder: str) -> list[str]:
    """Every module below a folder of the project, migrations aside."""
    paths = sorted(p for p in (ROOT / folder).rglob("*.py") if "migrations" not in p.parts)
    return [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in paths]


def bare(module: str) -> bool:
    """Whether a module belongs to the side without Django."""
    names = ("kernels", "reproductions.papers", "reproductions.lab", "reproductions.terminal", "reproductions.__main__")
    return module.startswith(names) or module in PURE + PDF or module in ("reproductions", "jobs", "jobs.leash")


ALL = [m for folder in ("kernels", *APPS, "config") for m in modules(folder)]
BARE = [m for m in ALL if bare(m)]
WEB = [m for m in ALL if not bare(m) and not m.startswith("config.wsgi")]


SCRIPT = """
import importlib, sys
seen = set()
for module in sys.argv[1:]:
    importlib.import_module(module)
    print(module, *sorted(set(sys.modules) - seen))
    seen = set(sys.modules)
"""
DJANGO_FIRST = "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'config.settings'; django.setup()\n"


def loaded_by(*modules: str, django: bool = False) -> dict[str, set[str]]:
    """module -> what a fresh interpreter has loaded for it, when it imports them in this order."""
    code = (DJANGO_FIRST if django else "") + SCRIPT
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return {module: set(loaded) for module, *loaded in lines if module in modules}


def offenders(loaded: dict[str, set[str]], *names: str) -> dict[str, set[str]]:
    """The modules that load what is named, with what they load: the first of those that share it."""
    wrong = {module: {name for name in found if _is_one_of(name, names)} for module, found in loaded.items()}
    return {module: found for module, found in wrong.items() if found}


def _is_one_of(name: str, tops: tuple[str, ...]) -> bool:
    return any(name == top or name.startswith(f"{top}.") for top in tops)


def test_the_side_without_django():
    assert not offenders(loaded_by(*BARE), *DJANGO)


def test_kernels_stand_alone():
    kernels = loaded_by(*(module for module in BARE if module.startswith("kernels")))
    assert kernels and not offenders(kernels, *APPS, "config", *DJANGO)


@pytest.mark.parametrize("module", PURE)
def test_the_judge_needs_only_the_standard_library(module):
    loaded = {name.partition(".")[0] for name in loaded_by(module)[module]}
    foreign = loaded - set(sys.stdlib_module_names) - {"reproductions"}
    assert {name for name in foreign if not name.startswith("_")} == set()


def test_the_command_line_starts_without_torch():
    assert not offenders(loaded_by("reproductions.__main__"), *TORCH, "kernels")


def test_web_and_workers_never_load_torch():
    assert not offenders(loaded_by(*WEB, django=True), *TORCH, "kernels", "transformers", "reproductions.papers")


def test_an_offence_is_told(tmp_path, monkeypatch):
    """Of a module beside the project's own, so that this test can fail."""
    (tmp_path / "offends.py").write_text("import torch\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "torch" in offenders(loaded_by("reproductions.spec", "offends"), *TORCH)["offends"]


def imported_by_source(folder: str) -> set[str]:
    """Top-level names in the import lines of a folder: Django itself loads every app, so sys.modules cannot tell."""
    import ast

    names = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names.add(node.module.partition(".")[0])
    return names


def test_the_apps_form_a_line():
    assert not imported_by_source("catalog") & {"jobs", "reproductions", "exports", "readers"}
    assert not imported_by_source("jobs") & {"catalog", "reproductions", "exports", "readers"}
    assert not imported_by_source("reproductions") & {"exports", "readers"}


def test_the_package_that_the_child_imports_is_empty():
    assert (ROOT / "reproductions" / "__init__.py").read_text() == ""
