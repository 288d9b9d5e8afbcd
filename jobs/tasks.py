"""Celery's door: two tasks of one line."""

from celery import shared_task

from jobs import supervise
from jobs import sweep as sweeping
from jobs.models import Node


@shared_task
def work(node_name: str) -> None:
    """A wake-up: take jobs until none fits."""
    supervise.work(Node.objects.get(name=node_name))


@shared_task
def sweep() -> None:
    """Look after everything once."""
    sweeping.sweep()
