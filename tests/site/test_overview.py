"""What sets works beside each other: claims by device, rooflines, kernels with their source, what is near a work."""

import re

import pytest

from catalog import related
from catalog.models import Work
from reproductions import overview, sources
from tests.site import measured

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def listed(catalogue):
    """Every page stands on the list."""


def test_the_picture_has_a_tile_a_tested_claim_and_device(client):
    measured.run(measured.reproduction(), 9.0)
    devices, lines = overview.claims_by_device()
    assert devices == ["cpu"]
    assert {tile.key: tile.outcome for tile in lines[0].devices[0][1]} == {
        "exactness": "contradicted", "memory": "replicated", "runtime": "",
    }  # fmt: skip
    page = client.get("/claims/").content.decode()
    assert "exactness on cpu: contradicted" in page and "runtime on cpu: not measured" in page
    assert "at a glance" not in client.get("/claims/?year=2023").content.decode()


def test_a_roofline_holds_what_the_rows_hold(client):
    assert "No run has measured a roof" in client.get("/kernels/").content.decode()
    made = measured.reproduction()
    rows = [{"roof_dtype": "float32", "roof_tflops": 2.0, "roof_gb_per_s": 100.0}]
    rows += [{"method": "flash", "n": 8, "ms": ms, "flops": 1e9, "bytes": 1e7} for ms in (1.0, 2.0, 4.0)]
    measured.run(made, 1.0, rows=measured.rows(1.0) + rows)
    (roof,) = overview.rooflines()
    (point,) = roof.points
    assert (roof.tflops, point["intensity"], point["tflops"]) == (2.0, 100.0, pytest.approx(0.5))
    page = client.get("/kernels/").content.decode()
    assert "Nothing was measured on a GPU yet" in page and "/kernels/roofline/0.svg" in page
    assert client.get("/kernels/roofline/0.svg").status_code == 200
    assert client.get("/kernels/roofline/1.svg").status_code == 404


def test_a_roof_without_points_is_drawn_all_the_same(client):
    roof = [{"roof_dtype": "float32", "roof_tflops": 2.0, "roof_gb_per_s": 100.0}]
    measured.run(measured.reproduction(), 1.0, rows=measured.rows(1.0) + roof)
    assert "tells the arithmetic of its kernels" in client.get("/kernels/").content.decode()
    drawn = client.get("/kernels/roofline/0.svg").content.decode()
    assert "e+" not in drawn.partition(">")[0], "a size that a page can hold"
    assert client.get("/kernels/roofline/0.png").status_code == 200


def test_attention_counts_its_least_work():
    """One head of 2 x 3: 6 products of 2 * 2 * 3 multiply-adds, 12 tensors of 6 elements of 4 bytes."""
    assert overview._attention({"batch": 1, "heads": 1, "head_dim": 3}, 2, 4) == (6 * 2 * 2 * 2 * 3, 12 * 6 * 4)


def test_every_kernel_has_a_page_and_its_functions_lead_to_their_lines(client):
    for kernel in sources.kernels().values():
        page = client.get(f"/kernels/{kernel.name}/").content.decode()
        for name, line in kernel.functions:
            assert f'href="#L-{line}"><code>{name}</code>' in page and f'name="L-{line}"' in page
    assert "<html" not in client.get("/kernels/attention/flash/", headers={"HX-Request": "true"}).content.decode()
    assert client.get("/kernels/../secret/").status_code == 404


def test_kernels_say_who_calls_them(client):
    assert sources.users()["gemm/fp8"] == ["fp8-formats"], "by `from kernels.gemm import fp8`"
    assert not any(name.startswith("bench") for name in sources.kernels()), "a tool is no kernel"
    assert "attention/flash_backward" in sources.shared() and "attention/block_sparse" not in sources.shared()
    page = client.get("/kernels/").content.decode()
    assert "other kernels" in page and "no work yet" in page


def test_the_method_names_what_it_calls():
    called = {kernel.name: dict(functions) for kernel, functions in sources.method("fp8-formats").calls}
    assert "quantise" in called["gemm/fp8"]
    method = sources.method("flashattention")
    assert "attention/flash" in {kernel.name for kernel, _ in method.calls}
    assert sources.method("no-such-work") is None
    assert sources.method("hyperattention").paragraphs[-1].startswith("Changed after results had been seen")


def test_related_works_share_topics_authors_or_words(client):
    work = Work.objects.for_page().get(slug="flashattention")
    near = related.related(work)
    assert near[0].work.slug == "flashattention-2" and "same authors" in near[0].reasons
    assert work.slug not in [one.work.slug for one in near] and all(one.reasons for one in near)


def test_neighbours_are_those_of_the_list(client):
    page = client.get("/").content.decode()
    listed = re.findall(r'class="title" href="/papers/([^/]*)/', page)
    found = related.beside(Work.objects.get(slug=listed[1]))
    assert (found["previous"].slug, found["next"].slug) == (listed[0], listed[2])
    assert "previous" not in related.beside(Work.objects.get(slug=listed[0]))
