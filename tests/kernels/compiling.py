"""Kernels compiled ahead of time, without a device: in a process of their own, where Triton is never interpreted.

The process of the tests interprets kernels, and once it has interpreted one, Triton cannot compile there any more.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHARED_LIMIT = 227 * 1024  # bytes a program may have on sm90

SERVER = """
import importlib, json, os, sys, traceback

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what a library prints is no answer
for line in sys.stdin:
    module, name, given, options = json.loads(line)
    try:
        answer = {"value": getattr(importlib.import_module(module), name)(*given, **options)}
    except Exception:
        answer = {"error": traceback.format_exc()}
    print(json.dumps(answer), file=answers, flush=True)
"""


def uninterpreted(module: str, name: str, *given: Any, **options: Any) -> Any:
    """Call a function of `module` in that process. Arguments and answer pass as JSON. AssertionError if it raises."""
    server = _server()
    print(json.dumps([module, name, given, options]), file=server.stdin, flush=True)
    line = server.stdout.readline()
    if not line:
        _server.cache_clear()
        raise AssertionError(f"{module}.{name}: the compiling process ended with code {server.wait()}")
    answer = json.loads(line)
    assert "value" in answer, answer["error"][-3000:]
    return answer["value"]


def refused(*given: Any, **options: Any) -> None:
    """Stands for `triton.compile` in the process of the tests, where it works only while a cache has the answer."""
    raise AssertionError("compile in a process of its own: tests.kernels.compiling.uninterpreted")


@functools.cache
def _server() -> subprocess.Popen:
    """Started once a test process; it ends with it, when its input does."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    env.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-c", SERVER]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT, env=env
    )


def compile_for_sm90(module: str, cases: list[tuple[str, dict, dict, dict]], most: int = SHARED_LIMIT) -> None:
    """Compile each (kernel, signature of what is no constant, constants, options); AssertionError if one fails, or
    wants more than `most` bytes of shared memory.
    """
    for case in cases:
        found = uninterpreted(__name__, "compiled", module, *case)
        assert ".target sm_90" in found["ptx"] and found["shared"] <= most, (case, found["shared"])


def ptx(module: str, cases: list[tuple[str, dict, dict, dict]]) -> list[str]:
    """The code of each."""
    return [uninterpreted(__name__, "compiled", module, *case)["ptx"] for case in cases]


def compiled(module: str, name: str, signature: dict, constants: dict, options: dict) -> dict:
    """PTX and bytes of shared memory of a kernel; only where Triton is not interpreted.

    Pointers are aligned to 16 bytes, as PyTorch's are: else Triton loads no tile ahead, and needs no memory for it.
    """
    import importlib

    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(importlib.import_module(module), name)
    given = signature | dict.fromkeys(constants, "constexpr")
    types = {argument: given[argument] for argument in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(types.values()) if kind[0] == "*"}
    source = ASTSource(kernel, types, constants, aligned)
    found = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    return {"ptx": found.asm["ptx"], "shared": found.metadata.shared}
