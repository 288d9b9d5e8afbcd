"""A bound, a check or a title changes, and nothing that runs: results stay and are judged by the present checks."""

from copy import deepcopy

import pytest

from reproductions import headlines, runs, services
from reproductions.models import Reproduction, Run
from tests.site import measured

pytestmark = pytest.mark.django_db


def declared(made: Reproduction, declaration: str, **changes) -> Reproduction:
    """The same measurement with another declaration, as `sync_reproductions` leaves it."""
    made.spec, made.declaration = deepcopy(made.spec) | changes, declaration
    made.save()
    runs.judge_anew(made)
    headlines.refresh(made)
    return made


def outcomes(run: Run) -> list[tuple[str, str]]:
    return [(v.outcome, v.reason) for v in run.verdicts.all()]


def test_a_changed_bound_judges_results_that_are_there(made):
    run = measured.run(made, 1.5)
    first = made.spec["checks"][0]
    assert outcomes(run)[0][0] == "replicated"
    declared(made, "e" * 16, checks=[first | {"at_most": 0.5}, *made.spec["checks"][1:]])
    run = Run.objects.get(pk=run.pk)
    assert outcomes(run)[0][0] == "contradicted" and run.declaration == "e" * 16 and not run.is_stale
    assert made.headlines[0]["outcome"] == "contradicted"
    assert runs.judge_anew(made) == 0, "once is enough"


def test_an_outdated_result_keeps_the_checks_it_had(made):
    run = measured.run(made, 1.5)
    made.measurement = "f" * 16
    declared(made, "e" * 16, checks=[made.spec["checks"][0] | {"at_most": 0.5}, *made.spec["checks"][1:]])
    run = Run.objects.get(pk=run.pk)
    assert outcomes(run)[0][0] == "replicated" and run.is_stale and made.headlines == []


def test_a_new_check_waits_and_a_fault_of_ours_stays_one(made):
    """Of two checks without a result, only the one that is newer than the run is not measured yet."""
    ours = made.spec["checks"][0]
    broken = ours | {"metric": ours["metric"] | {"column": "never_written"}}
    made.spec["checks"] = [*made.spec["checks"], broken]
    made.save()
    run = measured.run(made, 1.5)
    assert outcomes(run)[-1][0] == "no result"
    newer = ours | {"metric": ours["metric"] | {"column": "written_from_now_on"}}
    for declaration, plots in (("e" * 16, made.spec["plots"]), ("f" * 16, [])):  # and once more, for a plot
        declared(
            made, declaration, checks=[newer, *made.spec["checks"][-4:]] if plots else made.spec["checks"], plots=plots
        )
        found = outcomes(Run.objects.get(pk=run.pk))
        assert found[0][0] == "not testable here" and found[0][1].startswith("not measured yet")
        assert found[-1][0] == "no result", "a title does not turn a fault of ours into something else"


def test_a_size_that_changed_is_no_longer_what_was_run(made):
    run = measured.run(made, 1.5)
    sizes = deepcopy(made.spec["sizes"])
    sizes["cpu"]["parameters"]["lengths"] = [7, 8]
    declared(made, "e" * 16, sizes=sizes)
    assert Run.objects.get(pk=run.pk).customised and made.headlines == []


def test_a_waiting_run_follows_a_declaration(made):
    run = services.start_run(made, size="smoke", device="cpu", changes={}, user=None)
    sizes = deepcopy(made.spec["sizes"])
    sizes["smoke"]["parameters"]["lengths"] = [7]
    declared(made, "e" * 16, sizes=sizes)
    assert runs.follow(Run.objects.get(pk=run.pk).job) == ""
    run = Run.objects.get(pk=run.pk)
    assert (run.parameters, run.customised, run.declaration) == ({"lengths": [7]}, False, "e" * 16)
