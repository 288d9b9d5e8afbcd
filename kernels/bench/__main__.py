"""python -m kernels.bench: every kernel beside its peers, in one run, against what this device was measured to reach.

Prints a table and, with --json FILE, writes all samples. A method whose output is wrong, or that is faster than the
device can be, is refused and said so. On a CPU the kernels' PyTorch forms run, at small sizes: their times say nothing
of the kernels.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import triton

from kernels import bench
from kernels.bench import cases
from kernels.bench.cases import Case

HEAD = ("kernel", "shape", "dtype", "ms (95 %)", "reached", "of the roof", "peer's time / ours")


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 2 for a wish that cannot be met, 1 if something was refused, else 0."""
    parser = argparse.ArgumentParser(prog="python -m kernels.bench", description="Every kernel beside its peers.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--only", metavar="WORDS", default="", help="kernels whose name holds these words")
    parser.add_argument("--repeats", type=int, default=30, help="at most, of each method (default 30)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write what was measured")
    asked = parser.parse_args(arguments)
    try:
        if asked.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("--device: expected a CUDA device, found none that this torch can use")
        chosen = [case for case in cases.cases(asked.device) if asked.only in case.kernel]
        if not chosen:
            raise ValueError(f"--only: no kernel's name holds {asked.only!r}")
        measured = _run(chosen, asked.device, asked.repeats)
        if asked.json:
            asked.json.write_text(json.dumps(_about(asked.device) | {"results": measured}, indent=1))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if any("refused" in one for one in measured) else 0


def _run(chosen: list[Case], device: str, repeats: int) -> list[dict]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(f"{_about(device)['device']}, torch {torch.__version__}")
    print(" | ".join(HEAD))
    roofs: dict[torch.dtype, bench.Roofline] = {}
    measured = []
    for case in chosen:
        if case.dtype not in roofs:
            roofs[case.dtype] = bench.roofline(device, case.dtype)
        measured.append(one(case, device, roofs[case.dtype], repeats))
        print(_line(measured[-1]), flush=True)
    return measured


def one(case: Case, device: str, roof: bench.Roofline, repeats: int) -> dict:
    """One case measured: samples and medians of ours and of each peer, and the share of the roof that ours reached."""
    told = {"kernel": case.kernel, "shape": case.shape, "dtype": str(case.dtype).removeprefix("torch.")}
    try:
        methods, flops = {"ours": case.ours, **case.peers}, case.flops if case.held else 0.0
        found = bench.compare(case.make, methods, device=device, repeats=repeats, spread=0.01, limit_s=20, flops=flops,
                              read=case.moved, roof=roof)  # fmt: skip
    except bench.Refused as error:
        return told | {"refused": str(error)}
    ours = found["ours"]
    bound = max(case.flops / roof.flops, case.moved / roof.bytes) * 1e3
    rate = case.moved / ours.median / 1e6 if case.moved else case.flops / ours.median / 1e9
    return told | {
        "ms": ours.median,
        "interval": ours.interval,
        "rate": rate,
        "unit": "GB/s" if case.moved else "TFLOP/s",
        "share_of_roof": bound / ours.median,
        "peers": {name: timing.median / ours.median for name, timing in found.items() if name != "ours"},
        "samples": {name: timing.samples for name, timing in found.items()},
    }


def _line(found: dict) -> str:
    first = f"{found['kernel']} | {found['shape']} | {found['dtype']}"
    if "refused" in found:
        return f"{first} | refused: {found['refused']}"
    low, high = found["interval"]
    peers = ", ".join(f"{ratio:.2f}x {name}" for name, ratio in found["peers"].items()) or "no peer"
    share = f"{100 * found['share_of_roof']:.0f} %"
    time, rate = f"{found['ms']:.4g} ({low:.4g} to {high:.4g})", f"{found['rate']:.4g} {found['unit']}"
    return f"{first} | {time} | {rate} | {share} | {peers}"


def _about(device: str) -> dict:
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU, one thread"
    return {"device": name, "torch": torch.__version__, "triton": triton.__version__}


if __name__ == "__main__":
    sys.exit(main())
