"""Attention inside buckets and over kept tokens against dense float64 attention under their mask; the compiler."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.attention import runs
from kernels.attention.sparse_flash import (
    both_kept,
    hash_sparse_attention,
    lsh_buckets,
    qk_sparse_attention,
    same_bucket,
    sparse_reference,
)
from tests.environment import DEVICE
from tests.kernels.attending import assert_exact, gradients
from tests.kernels.compiling import compile_for_sm90
from tests.kernels.placing import on_device

IMPLS = ["torch", "triton"]
KINDS = {"hash": (hash_sparse_attention, same_bucket), "dropped": (qk_sparse_attention, both_kept)}


def inputs(n, d=16, dtype=torch.float32, b=1, h=8):
    make = torch.Generator().manual_seed(n + d)
    return [torch.randn(b, h, n, d, generator=make).to(DEVICE, dtype) for _ in range(4)]


def pattern(kind, amount, n, b=1, h=8):
    """Two (B, H, N): buckets 0 .. amount-1, or true with a share of 1 - amount."""
    make = torch.Generator().manual_seed(n)
    if kind == "hash":
        return [torch.randint(amount, (b, h, n), generator=make).to(DEVICE) for _ in range(2)]
    return [(torch.rand(b, h, n, generator=make) >= amount).to(DEVICE) for _ in range(2)]


def check(kind, given, marks, impl, strict=False, scale=None):
    method, mask = KINDS[kind]
    see = mask(*marks, strict)
    found = gradients(lambda *x: method(*x, *marks, strict, scale, impl), *given)
    assert_exact(found, lambda *x: sparse_reference(*x, see, scale), given, scale=scale)
    assert (found[0].mT == 0).all(-2)[~see.any(-1)].all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("kind", "amount"), [("hash", 1), ("hash", 3), ("hash", 12), ("dropped", 0), ("dropped", 0.6)])
@pytest.mark.parametrize("n", [3, 70])
def test_output_and_gradients_are_exact_but_for_rounding(n, kind, amount, strict, impl):
    check(kind, inputs(n), pattern(kind, amount, n), impl, strict)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("d", "dtype"), [(1, torch.float32), (24, torch.float16), (128, torch.float16)])
def test_head_sizes_half_precision_scale_and_batches(d, dtype, impl):
    for kind, amount in (("hash", 4), ("dropped", 0.3)):
        check(kind, inputs(40, d, dtype, b=2, h=4), pattern(kind, amount, 40, 2, 4), impl, scale=0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_walk_in_pytorch_crosses_its_own_tiles(kind):
    method, mask = KINDS[kind]
    given, marks = inputs(600, dtype=torch.float64, h=2), pattern(kind, 2 if kind == "hash" else 0.2, 600, h=2)
    found = gradients(lambda *x: method(*x, *marks, impl="torch"), *given)
    exact = gradients(lambda *x: sparse_reference(*x, mask(*marks)), *given)
    for ours, true in zip(found, exact, strict=True):
        torch.testing.assert_close(ours, true, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("case", ["no query", "no key", "keys of other buckets", "one head keeps all", "no token"])
def test_patterns_in_which_nearly_nothing_is_seen(case, impl):
    n = 0 if case == "no token" else 40
    given, kind = inputs(n, h=2), "hash" if case == "keys of other buckets" else "dropped"
    few, all_ = (torch.full((1, 2, n), x, dtype=torch.bool, device=DEVICE) for x in (False, True))
    one = few.clone()
    one[:, 1] = True
    marks = {"no query": (few, all_), "no key": (all_, few), "one head keeps all": (one, one), "no token": (few, few),
             "keys of other buckets": (few.long(), all_.long() - 7)}[case]  # fmt: skip
    check(kind, given, marks, impl) if n else None
    out, *grads = gradients(lambda *x: KINDS[kind][0](*x, *marks, impl=impl), *given)
    if case != "one head keeps all":
        assert all((x == 0).all() for x in (out, *grads))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(1, 50), st.booleans(), st.integers(-(10**6), 10**6))
def test_names_of_buckets_do_not_matter(n, buckets, strict, shift):
    q, k, v, _ = inputs(n, dtype=torch.float64, h=2)
    a, b = pattern("hash", buckets, n, h=2)
    names = torch.randperm(buckets, generator=torch.Generator().manual_seed(n)).to(DEVICE) + shift
    found = hash_sparse_attention(q, k, v, names[a], names[b], strict, impl="torch")
    torch.testing.assert_close(found, sparse_reference(q, k, v, same_bucket(a, b, strict)))


def test_buckets_are_the_nearest_direction():
    x = torch.tensor([[[[2.0, 1.0], [-1.0, 3.0], [-4.0, 1.0], [0.0, -1.0]]]])
    assert lsh_buckets(x, torch.eye(2)).tolist() == [[[0, 1, 2, 3]]]


def test_only_tiles_in_runs_are_walked_and_only_edges_are_masked():
    low = torch.tensor([[0, 0, 0, 0, 700, 700]], dtype=torch.int32).repeat_interleave(runs.TILE, 1)
    high = torch.tensor([[5, 5, 130, 300, 0, 1000]], dtype=torch.int32).repeat_interleave(runs.TILE, 1)
    visited = [(rows.start // runs.TILE, [(cols.start // runs.TILE, see is None) for cols, see in tiles])
               for _, rows, tiles in runs._walks(low, high)]  # fmt: skip
    assert visited == [
        (0, [(0, True)]),
        (1, [(0, True)]),
        (2, [(0, True), (1, True)]),
        (3, [(0, True), (1, True), (2, True)]),
        (5, [(5, False), (6, True), (7, True)]),
    ]


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("hash", {"q": torch.zeros(3, 4)}, "expected floating point"),
        ("hash", {"k": torch.zeros(1, 2, 5, 8)}, "k: expected torch.float32"),
        ("hash", {"q_hash": torch.zeros(1, 2, 5).long()}, "q_hash: expected .B, H, N."),
        ("hash", {"k_hash": torch.zeros(1, 2, 4)}, "expected whole numbers"),
        ("hash", {"scale": -1.0}, "scale: expected > 0"),
        ("hash", {x: torch.zeros(1, 2, 4, 8).double() for x in "qkv"} | {"impl": "triton"}, "expected at most 32"),
        ("dropped", {"q_keep": torch.zeros(1, 2, 4).long()}, "expected bool"),
        ("dropped", {"impl": "cuda"}, "expected one of"),
    ],
)
def test_bad_input_is_refused(kind, change, words):
    names, marks = ("hash", torch.zeros(1, 2, 4).long()) if kind == "hash" else ("keep", torch.ones(1, 2, 4).bool())
    given = dict.fromkeys("qkv", torch.zeros(1, 2, 4, 8)) | {f"q_{names}": marks, f"k_{names}": marks} | change
    with pytest.raises(ValueError, match=words):
        KINDS[kind][0](**on_device(given))


def test_every_kernel_compiles_for_sm90():
    cases = []
    for dtype, size in (("fp32", 4), ("bf16", 2)):
        for d in (64, 128) if dtype == "bf16" else (24,):
            for kernel, grads in (("_forward", []), ("_backward_keys", ["d_k", "d_v"]), ("_backward_queries", ["d_q"])):
                constants = runs._constants(d, runs.tile_sizes(d, size, kernel != "_forward"))
                options = {name: constants.pop(name) for name in ("num_warps", "num_stages")}
                signature = (
                    dict.fromkeys(["q", "k", "v", "out", "d_out", *grads], f"*{dtype}")
                    | dict.fromkeys(["lses", "deltas"], "*fp32")
                    | dict.fromkeys(["lows", "highs", "froms", "tos"], "*i32")
                    | {"N": "i32", "M": "i32", "scale": "fp32", "scale2": "fp32"}
                )
                cases.append((kernel, signature, constants, options))
    compile_for_sm90("kernels.attention.runs", cases)
