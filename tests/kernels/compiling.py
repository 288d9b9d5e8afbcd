"""Kernels compiled ahead of time for sm90, without a device: in a process where Triton is not interpreted."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED_LIMIT = 227 * 1024  # bytes a program may have on sm90

SCRIPT = """
import importlib, json, sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

for module, name, signature, constants, options in json.load(sys.stdin):
    kernel = getattr(importlib.import_module(module), name)
    given = signature | dict.fromkeys(constants, "constexpr")
    types = {argument: given[argument] for argument in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(types.values()) if kind[0] == "*"}
    source = ASTSource(kernel, types, constants, aligned)
    found = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    print(json.dumps([name, found.asm["ptx"], found.metadata.shared]))
"""


def compile_for_sm90(module: str, cases: list[tuple[str, dict, dict, dict]]) -> None:
    """Compile each (kernel, signature of what is no constant, constants, options); AssertionError if one fails."""
    for name, text, shared in _compiled(module, cases):
        assert ".target sm_90" in text and shared <= SHARED_LIMIT, (name, shared)


def ptx(module: str, cases: list[tuple[str, dict, dict, dict]]) -> list[str]:
    """The code of each."""
    return [text for _, text, _ in _compiled(module, cases)]


def _compiled(module: str, cases: list[tuple[str, dict, dict, dict]]) -> list[tuple[str, str, int]]:
    """(name, PTX, bytes of shared memory) of each.

    Pointers are aligned to 16 bytes, as PyTorch's are: else Triton loads no tile ahead, and needs no memory for it.
    """
    env = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps([(module, *case) for case in cases]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=env,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    compiled = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(compiled) == len(cases)
    return compiled
