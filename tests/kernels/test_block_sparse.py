"""Attention under a mask of tiles against dense float64 attention under the same mask, and the compiler."""

import pytest
import torch

from kernels.attention import block_sparse
from kernels.attention.block_sparse import block_sparse_attention, expanded
from kernels.attention.sparse_flash import sparse_reference
from kernels.attention.tiles import visible
from tests.environment import DEVICE
from tests.kernels.attending import assert_exact, gradients
from tests.kernels.compiling import compile_for_sm90
from tests.kernels.placing import on_device

IMPLS = ["torch", "triton"]


def inputs(n, m, d=16, dtype=torch.float32, b=1, h=8):
    make = torch.Generator().manual_seed(n + m)
    return [torch.randn(b, h, size, d, generator=make).to(DEVICE, dtype) for size in (n, m, m, n)]


def tiles(n, m, block, share, b=1, h=8):
    make = torch.Generator().manual_seed(n)
    return (torch.rand(b, h, -(-n // block), -(-m // block), generator=make) < share).to(DEVICE)


def check(given, mask, block, causal, impl):
    n, m = given[0].shape[2], given[1].shape[2]
    see = expanded(mask, n, m, block).expand(*given[0].shape[:2], n, m)
    if causal:
        see = see & visible(torch.arange(n, device=DEVICE), torch.arange(m, device=DEVICE), n, m)
    found = gradients(lambda *x: block_sparse_attention(*x, mask, block, causal, impl=impl), *given)
    assert_exact(found, lambda *x: sparse_reference(*x, see), given)
    assert (found[0].abs().amax(-1)[~see.any(-1)] == 0).all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("n", "m", "block", "share"), [(40, 70, 16, 0.5), (70, 40, 16, 0.3), (64, 64, 32, 1.0)])
def test_output_and_gradients_are_exact_but_for_rounding(n, m, block, share, causal, impl):
    check(inputs(n, m), tiles(n, m, block, share), block, causal, impl)


@pytest.mark.parametrize("impl", IMPLS)
def test_one_mask_for_all_heads_half_precision_and_batches(impl):
    check(inputs(50, 60, 24, torch.float16, b=2, h=4), tiles(50, 60, 16, 0.5, h=1), 16, True, impl)


@pytest.mark.parametrize("impl", IMPLS)
def test_a_mask_of_nothing_gives_zero(impl):
    given = inputs(20, 30)
    found = gradients(lambda *x: block_sparse_attention(*x, tiles(20, 30, 16, 0), 16, impl=impl), *given)
    assert all((x == 0).all() for x in found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"q": torch.zeros(3, 4)}, "expected floating point"),
        ({"k": torch.zeros(1, 2, 9, 4), "v": torch.zeros(1, 2, 9, 4)}, "expected k and v"),
        ({"block": 48}, "block: expected one of"),
        ({"mask": torch.ones(1, 2, 2, 1).bool()}, "mask: expected bool"),
        ({"mask": torch.ones(1, 2, 1, 1)}, "mask: expected bool"),
        ({"scale": 0.0}, "expected scale > 0"),
        ({"block": 128, "impl": "triton"}, "expected blocks of at most 64"),
    ],
)
def test_bad_input_is_refused(change, words):
    right = dict.fromkeys("qkv", torch.zeros(1, 2, 16, 8)) | {"mask": torch.ones(1, 2, 1, 1).bool(), "block": 16}
    given = right | change
    with pytest.raises(ValueError, match=words):
        block_sparse_attention(**on_device(given))


def test_every_kernel_compiles_for_sm90():
    cases = []
    for dtype, d, block in (("bf16", 64, 64), ("bf16", 128, 128), ("fp32", 128, 64)):
        for kernel, grads in (("_forward", []), ("_backward_keys", ["d_k", "d_v"]), ("_backward_queries", ["d_q"])):
            constants = block_sparse._constants(d, block, True)
            options = {name: constants.pop(name) for name in ("num_warps", "num_stages")}
            signature = (
                dict.fromkeys(["q", "k", "v", "out", "d_out", *grads], f"*{dtype}")
                | {"lses": "*fp32", "deltas": "*fp32", "tiles": "*i32", "counts": "*i32", "scale": "fp32"}
                | {"N": "i32", "M": "i32", "T": "i32", "U": "i32", "scale2": "fp32"}
            )
            cases.append((kernel, signature, constants, options))
    compile_for_sm90("kernels.attention.block_sparse", cases)
