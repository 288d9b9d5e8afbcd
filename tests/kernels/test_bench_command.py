"""python -m kernels.bench: a line a kernel, a file of samples, refusals and wishes that cannot be met."""

import functools
import json

import pytest
import torch

from kernels.bench import __main__ as command
from kernels.bench import cases
from kernels.bench.cases import Case
from kernels.testing import error


def test_every_kernel_has_a_line_and_its_samples(tmp_path, capsys):
    assert command.main(["--device", "cpu", "--repeats", "5", "--json", str(tmp_path / "bench.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    written = json.loads((tmp_path / "bench.json").read_text())
    assert lines[0].startswith("CPU, one thread, torch ") and lines[1].startswith("kernel | shape")
    assert len(lines) == 2 + len(written["results"]) == 2 + len(list(cases.cases("cpu")))
    for found in written["results"]:
        assert found["share_of_roof"] > 0 and len(found["samples"]["ours"]) == 5
        assert found["interval"][0] <= found["ms"] <= found["interval"][1]


def test_what_is_wrong_is_refused_and_said(monkeypatch, capsys):
    def draw():
        return (torch.randn(8, 8),)

    wrong = Case("doubling", "8 x 8", torch.float32, draw, lambda x: 2 * x, {"peer": lambda x: 2.1 * x})
    monkeypatch.setattr(cases, "cases", lambda device: iter([wrong]))
    assert command.main(["--device", "cpu", "--repeats", "5"]) == 1
    assert "doubling | 8 x 8 | float32 | refused: peer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "nothing"], "no kernel's name holds 'nothing'"),
        (["--only", "rope", "--repeats", "0"], "repeats"),
        (["--only", "rope", "--repeats", "5", "--json", "/nowhere/b.json"], "/nowhere/b.json"),
        *([] if torch.cuda.is_available() else [(["--device", "cuda"], "expected a CUDA device")]),
    ],
)
def test_a_wish_that_cannot_be_met(arguments, words, capsys):
    assert command.main(["--device", "cpu", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_peers_compute_the_same():
    """On a GPU too, where sizes differ: the same functions, here at the sizes of a CPU."""
    for case in cases.cases("cpu"):
        inputs = case.make()
        expected = case.ours(*inputs)
        for name, peer in case.peers.items():
            for found, wanted in zip(_tensors(peer(*inputs)), _tensors(expected), strict=True):
                assert error(found, wanted) < 2e-3, (case.kernel, name)


def _tensors(output):
    return output if isinstance(output, tuple) else (output,)


def test_a_backend_is_asked_for_by_name():
    q, k, v = (torch.randn(1, 2, 16, 8) for _ in range(3))
    for backend in cases.backends("cpu").values():
        found = functools.partial(cases.by_backend, backend, True)(q, k, v)
        assert found.shape == q.shape
