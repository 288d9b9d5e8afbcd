"""The laboratory a reproduction runs in: where its rows go and how it measures. The same few tools for every work."""

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kernels import bench
from reproductions.lab import memory, models, text


class Lab:
    """One run: its device ("cpu" or "cuda"), its seed, and its folder, which holds rows.jsonl and progress.json."""

    def __init__(self, folder: Path, device: str = "cpu", seed: int = 0, on_progress: Callable | None = None):
        self.folder, self.device, self.seed = Path(folder), device, seed
        self._rows = (self.folder / "rows.jsonl").open("a", buffering=1)
        self._on_progress = on_progress
        self._spoke = 0.0
        self._roofs: dict[torch.dtype, bench.Roofline] = {}
        torch.manual_seed(seed)

    def row(self, **fields: Any) -> None:
        """Stream one tidy row: one measurement, JSON scalars only. A killed run keeps the rows it wrote."""
        self._rows.write(json.dumps(fields) + "\n")

    def rows(self) -> list[dict]:
        """Every row written so far."""
        return [json.loads(line) for line in (self.folder / "rows.jsonl").read_text().splitlines()]

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say how far the run is; at most ten times a second reaches the page."""
        if done < total and time.monotonic() - self._spoke < 0.1:
            return
        self._spoke = time.monotonic()
        temporary = self.folder / "progress.json.new"
        temporary.write_text(json.dumps({"stage": stage, "done": done, "total": total}))
        os.replace(temporary, self.folder / "progress.json")
        if self._on_progress:
            self._on_progress(stage, done, total)

    def time(
        self,
        repeats: int,
        make: Callable[[], tuple] | None = None,
        *,
        flops: float = 0.0,
        read: float = 0.0,
        limit_s: float = math.inf,
        **methods: Callable,
    ) -> dict[str, list[float]]:
        """Milliseconds of each method, interleaved A B A B after a warm-up, all with as many samples.

        With `make`, each repeat draws new inputs and every method is called with its own copy of them; outputs must
        agree with the first method's, and `flops` and `read` bytes (the least a call must do) are held to the measured
        roof of this device (kernels/bench). A refused timing gives no samples, and a row that says why. Without
        `make`, methods take no argument and are only timed: for steps that keep a state.
        """
        if make is None:
            return bench.interleaved(repeats, self.device, **methods)
        roof = self._roof(make) if flops or read else None
        options: dict[str, Any] = {"flops": flops, "read": read, "roof": roof, "limit_s": limit_s}
        try:
            found = bench.compare(make, methods, device=self.device, repeats=repeats, **options)
        except bench.Refused as error:
            print(f"timing refused: {error}", flush=True)
            self.row(refused=str(error))
            return {name: [] for name in methods}
        return {name: timing.samples for name, timing in found.items()}

    def _roof(self, make: Callable[[], tuple]) -> bench.Roofline:
        """Measured once a run and dtype, and told as a row."""
        dtype = next(x.dtype for x in make() if isinstance(x, torch.Tensor) and x.is_floating_point())
        if dtype not in self._roofs:
            self._roofs[dtype] = roof = bench.roofline(self.device, dtype)
            name = str(dtype).removeprefix("torch.")
            self.row(roof_dtype=name, roof_tflops=roof.flops / 1e12, roof_gb_per_s=roof.bytes / 1e9)
        return self._roofs[dtype]

    def peak_memory(self, make: Callable[[], tuple], call: Callable) -> int:
        """Extra bytes at the peak of `call(*make())` over the state after `make()`; picklable callables on a CPU."""
        return memory.peak_on_gpu(make, call) if self.device == "cuda" else memory.peak_in_fresh_process(make, call)

    def model(self, name: str | None = None) -> tuple:
        """(language model, tokenizer) on this lab's device: the default one, a Hugging Face id, or a path."""
        return models.load(name, device=self.device)

    def text(self, name: str | None = None) -> str:
        """The English text that perplexities are measured on."""
        return text.load(name)


def measure(
    run: Callable, settings: dict, folder: Path, *, device: str, seed: int, threads: int, on_progress: Callable | None
) -> list[dict]:
    """Call a work's `run` in a laboratory of its own; returns its rows."""
    torch.set_num_threads(threads)
    lab = Lab(folder, device=device, seed=seed, on_progress=on_progress)
    run(lab, **settings)
    return lab.rows()
