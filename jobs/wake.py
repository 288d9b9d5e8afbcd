"""Wake-ups: a Celery message says "look at the queue", never what to run. Losing or doubling one changes nothing."""

import logging

from celery import current_app
from django.conf import settings
from kombu.exceptions import OperationalError

from jobs.models import Node

logger = logging.getLogger(__name__)


def wake(device: str) -> None:
    """Tell every live node of this device kind that a job waits. Without Redis the sweep does it later."""
    for node in Node.objects.live().filter(device=device):
        wake_node(node)


def wake_node(node: Node) -> None:
    """Tell one node to look at the queue."""
    try:
        current_app.send_task("jobs.tasks.work", [node.name], queue=node.queue, expires=settings.SWEEP_S, retry=False)
    except OperationalError as error:
        logger.warning("no wake-up sent to %s: %s", node.name, error)
