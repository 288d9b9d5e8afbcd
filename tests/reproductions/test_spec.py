"""The judge, and what every shipped spec must have."""

import math
from pathlib import Path

import pytest
import yaml

from reproductions import identity, parameters, spec
from reproductions.spec import Check, Max, Mean, Size, Untested, judge
from reproductions.syntax import Reference

ROOT = Path(__file__).resolve().parents[2]


def one(check, rows, device="cpu"):
    return judge([check], rows, device=device, scale="reduced")[0]


@pytest.mark.parametrize(
    ("value", "outcome"), [(1.9, "replicated"), (2.0, "replicated"), (2.1, "contradicted"), (math.nan, "no result")]
)
def test_an_exact_metric(value, outcome):
    assert one(Check("c", Max("x"), at_most=2.0), [{"x": value}]).outcome == outcome


@pytest.mark.parametrize(
    ("values", "outcome"),
    [([3.0, 3.1, 2.9], "replicated"), ([1.0, 1.1, 0.9], "contradicted"), ([1.0, 2.0, 3.0], "inconclusive")],
)
def test_the_whole_interval_decides(values, outcome):
    assert one(Check("c", Mean("x"), at_least=2.0), [{"x": v} for v in values]).outcome == outcome


def test_no_effect_is_no_replication():
    assert one(Check("c", Max("x"), above=1.0), [{"x": 1.0}]).outcome == "contradicted"
    assert one(Check("c", Max("x"), below=1.0), [{"x": 1.0}]).outcome == "contradicted"
    assert one(Check("c", Max("x"), above=1.0), [{"x": 1.01}]).outcome == "replicated"


def test_two_sided_bound():
    check = Check("c", Max("x"), at_least=0.75, at_most=1.25)
    assert [one(check, [{"x": x}]).outcome for x in (0.7, 1.0, 1.3)] == ["contradicted", "replicated", "contradicted"]
    assert check.bound == "between 0.75 and 1.25"


def test_an_identity_is_never_replicated():
    assert one(Check("c", Max("x"), at_most=1, computed=True), [{"x": 1}]).outcome == "computed"
    assert one(Check("c", Max("x"), at_most=1, computed=True), [{"x": 2}]).outcome == "contradicted"


def test_a_gpu_claim_has_no_verdict_on_a_cpu():
    check = Check("c", Max("x"), at_most=2, needs="cuda")
    assert one(check, [{"x": 1}]).outcome == "not testable here"
    assert one(check, [{"x": 1}]).reason == "needs a CUDA GPU"
    assert one(check, [{"x": 1}], device="cuda").outcome == "replicated"


def test_rows_without_the_metric_are_loud():
    verdict = one(Check("c", Max("x"), at_most=2), [{"y": 1}])
    assert (verdict.outcome, verdict.reason) == ("no result", "no row has x")


def test_untested_says_why():
    assert one(Untested("c", "needs hardware counters"), []).reason == "needs hardware counters"


def test_the_worst_outcome_stands():
    assert spec.worst(["replicated", "contradicted", "inconclusive"]) == "contradicted"
    assert spec.worst(["replicated", "no result"]) == "no result"
    assert spec.worst(["replicated", "not testable here"]) == "not testable here"


@pytest.mark.parametrize("name", ["size", "device", "seed"])
def test_a_parameter_may_not_be_called_what_every_run_is_asked(name):
    with pytest.raises(ValueError, match=f"{name}: expected another name"):
        Size(limit_s=1, **{name: 3})


def test_a_check_without_a_bound_is_refused():
    with pytest.raises(ValueError, match="expected a bound"):
        Check("c", Max("x"))


@pytest.mark.parametrize("slug", spec.slugs())
class TestShipped:
    """Every file of papers/."""

    def test_every_claim_is_checked_or_says_why_not(self, slug):
        work = spec.load(slug)
        facts = yaml.safe_load((ROOT / "catalog" / "data" / "papers" / f"{slug}.yaml").read_text())
        claims = [claim["id"] for claim in facts["claims"]]
        checked = {check.claim for check in work.checks}
        assert checked == set(claims)
        for claim in claims:
            kinds = {isinstance(check, Untested) for check in work.checks if check.claim == claim}
            assert len(kinds) == 1, f"{claim} has checks and is also untested"

    def test_it_has_the_three_sizes_within_its_limits(self, slug):
        work = spec.load(slug)
        assert list(work.sizes) == ["smoke", "cpu", "full"]
        assert work.question.endswith("?")
        for size in work.sizes.values():
            assert set(size.parameters) <= set(work.limits)
            assert parameters.resolve(size.parameters, work.limits, {}) == size.parameters

    def test_it_travels_as_json(self, slug):
        work = spec.load(slug)
        data = spec.describe(work)
        assert [spec.check_from_json(check) for check in data["checks"]] == work.checks
        assert data["plots"], "a page without a plot"

    def test_its_measurement_reaches_its_kernels(self, slug):
        roots = [Reference(spec.module_of(slug), "run"), *identity.STARTS]
        assert any(found.module.startswith("kernels.") for found in identity.reached(roots))
