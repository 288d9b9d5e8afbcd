"""Every work on a GPU, where there is one: it runs to its end, and some of its checks come to a verdict."""

import pytest
import torch

from reproductions import spec
from reproductions.lab import Lab

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")


@pytest.mark.parametrize("slug", spec.slugs())
def test_the_smallest_size_runs_and_is_judged(slug, tmp_path):
    work = spec.load(slug)
    lab = Lab(tmp_path, device="cuda")
    work.run(lab, **work.sizes["smoke"].parameters)
    found = spec.judge(work.checks, lab.rows(), device="cuda", scale=work.sizes["smoke"].scale)
    assert {"replicated", "contradicted", "inconclusive", "computed"} & {one.outcome for one in found}
