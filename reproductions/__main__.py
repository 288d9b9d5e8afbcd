"""python -m reproductions list | show SLUG | run SLUG | node: the command line, and the child that a worker starts.

Needs neither Django nor Redis nor a database. Exit code 0: the run finished, whatever its verdicts; 1: it failed;
2: bad parameters, in one line.
"""

import argparse
import contextlib
import errno
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from reproductions import parameters, spec

FAILED, BAD_PARAMETERS = 1, 2
TRIES, TRY_AGAIN_S = 3, 1.5  # of measuring how slow the machine is


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        return {"list": _list, "show": _show, "node": _node, "run": _run}[options.command](options)
    except (LookupError, parameters.ParameterError) as error:
        print(f"error: {error.args[0]}", file=sys.stderr)
        return BAD_PARAMETERS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reproductions", description="Run what a paper claims.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="every work that can be run")
    listing.add_argument("--json", action="store_true", help="every spec in full")
    show = commands.add_parser("show", help="one work: its question, checks and sizes")
    show.add_argument("slug")
    show.add_argument("--json", action="store_true")
    node = commands.add_parser("node", help="what this machine offers: its devices and its reproductions, as JSON")
    node.add_argument("--time-factor", action="store_true", help="measure how slow it is, too")
    run = commands.add_parser("run", help="run one work and judge its claims")
    run.add_argument("slug")
    run.add_argument("--size", default="cpu", help="smoke, cpu or full (default: cpu)")
    run.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    run.add_argument("--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", dest="changes")
    run.add_argument("--out", type=Path, help="write parameters, environment, rows and verdicts to this JSON file")
    run.add_argument("--folder", type=Path, help="where rows, progress and result go (default: a temporary folder)")
    return parser


def _list(options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps([spec.describe(spec.load(slug)) for slug in spec.slugs()], indent=1))
    else:
        width = max(map(len, spec.slugs()))
        for slug in spec.slugs():
            print(f"{slug:{width}} {spec.question_of(slug)}")
    return 0


def _show(options: argparse.Namespace) -> int:
    found = spec.describe(spec.load(options.slug))
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"{found['slug']}: {found['question']}\n\nChecks")
    for check in spec.load(options.slug).checks:
        if isinstance(check, spec.Untested):
            print(f"  {check.claim:22} not tested: {check.reason}")
        else:
            needs = f" [{spec.NEEDS[check.needs]}]" if check.needs != "any" else ""
            print(f"  {check.claim:22} {type(check.metric).__name__} {check.bound}{needs}  {check.because}")
    print("\nSizes")
    for name, size in found["sizes"].items():
        settings = " ".join(f"{k}={parameters.text(v)}" for k, v in size["parameters"].items())
        print(f"  {name:6} {size['scale']} scale, at most {size['limit_s']} s: {settings}")
    return 0


def _node(options: argparse.Namespace) -> int:
    from jobs.leash import leave_network
    from reproductions.lab import hardware, pace

    specs = [f"{slug}@{spec.measurement_of(slug)}" for slug in spec.slugs()]
    devices, versions = hardware.devices(), hardware.versions()
    versions["network of runs"] = "none" if leave_network() else "the machine's: the kernel gives them no other"
    found = {"devices": devices, "versions": versions, "specs": specs}
    print(json.dumps(found | ({"time_factor": _least(pace.time_factor)} if options.time_factor else {})))
    return 0


def _least(measure: Callable[[], float]) -> float:
    """The least of a few tries: a machine that is busy as a worker starts, most often with other workers, is not slow
    for good.
    """
    found = [measure()]
    for _ in range(TRIES - 1):
        if found[-1] == 1:
            break
        time.sleep(TRY_AGAIN_S)
        found.append(measure())
    return min(found)


def set_threads(threads: int) -> None:
    """Before torch is imported: waiting threads sleep, and there are no more than asked for."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def _run(options: argparse.Namespace) -> int:
    set_threads(options.threads)
    work = spec.load(options.slug)
    if options.size not in work.sizes:
        raise LookupError(f"size: expected one of {', '.join(work.sizes)}, got {options.size!r}")
    size = work.sizes[options.size]
    settings = parameters.resolve(size.parameters, work.limits, _changes(options.changes))
    if options.out and not options.out.resolve().parent.is_dir():
        raise parameters.ParameterError(f"--out: expected a file in an existing folder, got {options.out}")
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="claimcheck-")))
        return _measure(work, size, settings, folder, options)


def _changes(words: list[str]) -> dict[str, str]:
    for word in words:
        if "=" not in word:
            raise parameters.ParameterError(f"--set: expected NAME=VALUE, got {word!r}")
    return dict(word.split("=", 1) for word in words)


def _measure(work: spec.Spec, size: spec.Size, settings: dict, folder: Path, options: argparse.Namespace) -> int:
    """Run, judge, print the verdicts; result.json appears whole, by rename, as the last thing."""
    import torch

    from reproductions import terminal
    from reproductions.lab import hardware, measure, memory

    if options.device == "cuda" and not torch.cuda.is_available():
        return _fail(folder, "device-error", "this machine's torch sees no CUDA GPU")
    folder.mkdir(parents=True, exist_ok=True)
    described = spec.describe(work)  # before the run: an update may change the files while it lasts
    started, began = time.time(), time.monotonic()
    print(f"{work.slug} {options.size} on {hardware.device_name(options.device)}, host {platform.node()}", flush=True)
    with terminal.progress() as report:
        asked = {"device": options.device, "seed": options.seed, "threads": options.threads, "on_progress": report}
        try:
            rows = measure(work.run, settings, folder, **asked)
        except parameters.ParameterError as error:
            return _fail(folder, "bad-parameters", str(error), BAD_PARAMETERS)
        except Exception as error:
            terminal.print_traceback(error)
            return _fail(folder, _code(error), f"{type(error).__name__}: {error}")
    verdicts = spec.judge(work.checks, rows, device=options.device, scale=size.scale)
    result = {
        "slug": work.slug,
        "measurement": described["measurement"],
        "declaration": described["declaration"],
        "size": options.size,
        "scale": size.scale,
        "device": options.device,
        "seed": options.seed,
        "threads": options.threads,
        "parameters": settings,
        "started": started,
        "seconds": round(time.monotonic() - began, 2),
        "peak_memory_mib": memory.high_water() // 2**20,
        "environment": hardware.environment(options.device),
    }
    _write_whole(folder / "result.json", result)
    if options.out:
        _write_whole(options.out, result | {"rows": rows, "verdicts": [vars(verdict) for verdict in verdicts]})
    terminal.print_verdicts(verdicts, result)
    return 0


def _code(error: Exception) -> str:
    """The failure's code in the catalogue of jobs/failures.py, by what was raised."""
    name, text = type(error).__name__, str(error).lower()
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or "can't allocate memory" in text:
        return "out-of-memory"
    if name == "MissingModel":
        return "missing-model"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk-full"
    return "device-error" if name == "AcceleratorError" or "cuda error" in text else "crashed"


def _fail(folder: Path, code: str, message: str, exit_code: int = FAILED) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):  # a full disk has already said so
        _write_whole(folder / "failure.json", {"code": code, "message": message})
    return exit_code


def _write_whole(path: Path, data: dict) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(data, indent=1, default=str))
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
