"""The stopwatch does not believe: methods that cheat are caught, honest ones are not."""

import math
import threading
import time

import pytest
import torch

from kernels import bench
from tests.environment import DEVICE

SIZE = 512
cuda = pytest.mark.skipif(DEVICE != "cuda", reason="needs a GPU (TRITON_INTERPRET=0)")


@pytest.fixture(autouse=True)
def small_cache(monkeypatch):
    """Emptying a small cache is as good here, and quicker."""
    monkeypatch.setattr(bench, "_cache_bytes", lambda: 2**20)


def make():
    return torch.randn(SIZE, SIZE, device=DEVICE), torch.randn(SIZE, SIZE, device=DEVICE)


def product(a, b):
    return a @ b


def timed(method, reference=product, **options):
    options = {"repeats": 5} | options
    return bench.compare(make, {"method": method}, device=DEVICE, reference=reference, **options)["method"]


class Cached:
    """Answers for ever with what it computed first."""

    known = None

    def __call__(self, a, b):
        if self.known is None:
            self.known = a @ b
        return self.known


class LazyAfterTheFirstCall:
    """Computes once; then gives memory that it never wrote to."""

    calls = 0

    def __call__(self, a, b):
        self.calls += 1
        return a @ b if self.calls <= bench.WARM_UP else torch.empty_like(a)


class Promise(torch.Tensor):
    """A tensor that could compute when somebody looks."""


def writes_to_its_input(a, b):
    found = a @ b
    a.zero_()
    return found


def in_a_thread(a, b):
    """Returns at once; the work goes on behind the caller's back."""
    out = torch.zeros_like(a)

    def work():
        time.sleep(0.05)
        torch.mm(a, b, out=out)

    threading.Thread(target=work, name="hidden").start()
    return out


_pool: list = []


def in_an_old_thread(a, b):
    """The same by a thread that was there before, so that no new one is seen."""
    import queue

    if not _pool:
        orders: queue.Queue = queue.Queue()

        def serve():
            while True:
                x, y, out = orders.get()
                time.sleep(0.05)
                torch.mm(x, y, out=out)

        threading.Thread(target=serve, daemon=True).start()
        _pool.append(orders)
        return a @ b
    out = torch.zeros_like(a)
    _pool[0].put((a, b, out))
    return out


CHEATS = {
    "a cached result": (Cached, "wrong when the call returned"),
    "nothing after the first call": (LazyAfterTheFirstCall, "repeat 1: output 0 was wrong"),
    "an input written to": (lambda: writes_to_its_input, "it wrote to its input 0"),
    "work in a thread": (lambda: in_a_thread, "a thread .hidden. goes on"),
    "a promise": (lambda: lambda a, b: (a @ b).as_subclass(Promise), "expected tensors, got Promise"),
    "half of the work": (lambda: lambda a, b: a[:, : SIZE // 2] @ b[: SIZE // 2], "wrong when the call returned"),
    "another shape": (lambda: lambda a, b: (a @ b)[:1], "expected shape"),
    "not a number": (lambda: lambda a, b: (a @ b) * math.nan, "error nan"),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_is_caught(cheat):
    method, words = CHEATS[cheat]
    with pytest.raises(bench.Refused, match=words):
        timed(method())


def test_work_in_a_thread_that_was_there_before_is_caught():
    with pytest.raises(bench.Refused, match="wrong when the call returned|goes on"):
        timed(in_an_old_thread)


@cuda
def test_work_on_a_side_stream_is_caught():
    side = torch.cuda.Stream()

    def method(a, b):
        out = torch.zeros_like(a)
        torch.cuda.current_stream().synchronize()
        with torch.cuda.stream(side):
            torch.cuda._sleep(10_000_000)  # some milliseconds of the device's clock
            torch.mm(a, b, out=out)
        return out

    with pytest.raises(bench.Refused, match="wrong when the call returned"):
        timed(method)


def test_an_honest_method_is_not_refused():
    timing = timed(product, repeats=7, roof=bench.roofline(DEVICE, times=3), flops=2 * SIZE**3, read=2 * SIZE**2 * 4)
    assert len(timing.samples) == 7 and timing.stopped == "repeats"
    low, high = timing.interval
    assert 0 < low <= timing.median <= high


def test_a_rate_above_the_roof_is_refused():
    roof = bench.roofline(DEVICE, times=3)
    assert roof.flops > 0 and roof.bytes > 0
    for claimed in ({"flops": 2e6 * SIZE**3}, {"read": 1e6 * SIZE**2}):
        with pytest.raises(bench.Refused, match="more than this device was measured to reach"):
            timed(product, roof=roof, **claimed)


def test_inputs_are_fresh_and_nobody_elses():
    seen = []

    def method(a, b):
        seen.append(a.clone())
        return a @ b

    bench.compare(make, {"one": method, "two": method}, device=DEVICE, repeats=2, reference=product)
    assert len(seen) == 2 * (bench.WARM_UP + 2)
    assert sum(torch.equal(x, y) for i, x in enumerate(seen) for y in seen[:i]) == bench.WARM_UP + 2


def test_gradients_pass_through():
    def step(a, b):
        out = a @ b
        return out, *torch.autograd.grad(out.sum(), (a, b))

    def leaves():
        return tuple(x.requires_grad_() for x in make())

    found = bench.compare(leaves, {"x": step, "y": step}, device=DEVICE, repeats=2)
    assert [len(timing.samples) for timing in found.values()] == [2, 2]


def test_it_stops_by_standard_error_or_time():
    assert timed(product, repeats=100, spread=1e9).stopped == "standard error"
    late = timed(product, repeats=100, limit_s=0)
    assert (late.stopped, len(late.samples)) == ("time limit", 5)


@pytest.mark.parametrize(
    ("n", "ranks"), [(2, (1, 2)), (5, (1, 5)), (6, (1, 6)), (9, (2, 8)), (20, (6, 15)), (100, (40, 61))]
)
def test_the_interval_of_a_median_is_the_books(n, ranks):
    """Against the table of ranks by which order statistics cover a median with at least 95 %."""
    assert bench.Timing([float(i + 1) for i in range(n)], "").interval == tuple(map(float, ranks))


@pytest.mark.parametrize(("repeats", "methods"), [(0, {"a": product}), (1001, {"a": product}), (5, {})])
def test_arguments_that_cannot_be(repeats, methods):
    with pytest.raises(ValueError, match="expected 1 to 1000 repeats and a method"):
        bench.compare(make, methods, device=DEVICE, repeats=repeats)
