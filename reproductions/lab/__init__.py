"""The laboratory a reproduction runs in: where its rows go and how it measures. The same few tools for every work."""

import json
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

    def time(self, repeats: int, **callables: Callable[[], Any]) -> dict[str, list[float]]:
        """Milliseconds of each callable, `repeats` samples each, interleaved A B A B after a warm-up."""
        return bench.interleaved(repeats, self.device, **callables)

    def peak_memory(self, make: Callable[[], tuple], call: Callable) -> int:
        """Extra bytes at the peak of `call(*make())` over the state after `make()`; picklable callables on a CPU."""
        return memory.peak_on_gpu(make, call) if self.device == "cuda" else memory.peak_in_fresh_process(make, call)

    def model(self, name: str | None = None) -> tuple:
        """(language model, tokenizer) on this lab's device: the default one, a Hugging Face id, or a path."""
        return models.load(name, device=self.device)

    def text(self, name: str | None = None) -> str:
        """The English text that perplexities are measured on."""
        return text.load(name)
