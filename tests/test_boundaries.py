"""Who may import what (docs/architecture.md): a fresh interpreter a module, then a look into sys.modules."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APPS = ("catalog", "jobs", "reproductions", "exports", "readers")
DJANGO, TORCH = {"django", "celery"}, {"torch", "triton"}
PURE = ["reproductions.spec", "reproductions.metrics", "reproductions.parameters", "reproductions.plots"]


def modules(folder: str) -> list[str]:
    """Every module below a folder of the project, migrations aside."""
    paths = sorted(p for p in (ROOT / folder).rglob("*.py") if "migrations" not in p.parts)
    return [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in paths]


def bare(module: str) -> bool:
    """Whether a module belongs to the side without Django."""
    names = ("kernels", "reproductions.papers", "reproductions.lab", "reproductions.terminal", "reproductions.__main__")
    return module.startswith(names) or module in PURE or module in ("reproductions", "jobs", "jobs.leash")


ALL = [m for folder in ("kernels", *APPS, "config") for m in modules(folder)]
BARE = [m for m in ALL if bare(m)]
WEB = [m for m in ALL if not bare(m) and not m.startswith("config.wsgi")]


def loaded_by(module: str) -> set[str]:
    """Every module in a fresh interpreter after importing one."""
    web = "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'config.settings'; django.setup();"
    code = f"{'' if bare(module) else web}import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def tops(loaded: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in loaded}


@pytest.mark.parametrize("module", BARE)
def test_the_side_without_django(module):
    assert not tops(loaded_by(module)) & DJANGO


@pytest.mark.parametrize("module", PURE)
def test_the_judge_needs_only_the_standard_library(module):
    foreign = tops(loaded_by(module)) - set(sys.stdlib_module_names) - {"reproductions"}
    assert {name for name in foreign if not name.startswith("_")} == set()


def test_the_command_line_starts_without_torch():
    assert not tops(loaded_by("reproductions.__main__")) & (TORCH | {"kernels"})


@pytest.mark.parametrize("module", [m for m in BARE if m.startswith("kernels")])
def test_kernels_stand_alone(module):
    assert not tops(loaded_by(module)) & {*APPS, "config"}


@pytest.mark.parametrize("module", WEB)
def test_web_and_workers_never_load_torch(module):
    loaded = loaded_by(module)
    assert not tops(loaded) & (TORCH | {"kernels", "transformers"})
    assert not any(name.startswith("reproductions.papers.") for name in loaded)


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
