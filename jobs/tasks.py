"""Celery's door: two small tasks."""

import threading

from celery import shared_task

from jobs import supervise
from jobs import sweep as sweeping
from jobs.models import Node

BUSY = threading.Lock()


@shared_task
def work(node_name: str) -> None:
    """A wake-up: take jobs until none fits. A process works on one job at a time, so `control` stays free to sweep."""
    if BUSY.acquire(blocking=False):
        try:
            supervise.work(Node.objects.get(name=node_name))
        finally:
            BUSY.release()


@shared_task
def sweep() -> None:
    """Look after everything once."""
    sweeping.sweep()
