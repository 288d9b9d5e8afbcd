"""Results that an earlier version of a reproduction measured, and that nothing of the present one stands in for."""

from reproductions.models import Reproduction, Run


def of(reproduction: Reproduction) -> list[Run]:
    """The best of them on each device, unless the present version was run there at as large a scale and size."""
    evidence = reproduction.runs.evidence().select_related("job", "reproduction__work").prefetch_related("verdicts")
    best: dict[tuple[str, bool], Run] = {}
    for run in evidence.defer("rows").order_by("job__ended_at", "pk"):
        key = run.device_name, run.measurement in reproduction.present
        if key not in best or run.rank >= best[key].rank:
            best[key] = run
    found = []
    for (device_name, current), run in sorted(best.items()):
        present = best.get((device_name, True))
        if not current and (present is None or run.rank > present.rank):
            found.append(run)
    return found


def of_all() -> list[Run]:
    """Those of every work that can be run, work by work."""
    works = Reproduction.objects.filter(retired=False).select_related("work")
    return [run for reproduction in works for run in of(reproduction)]
