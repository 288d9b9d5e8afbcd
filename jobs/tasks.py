"""Celery's door: one small task."""

from celery import shared_task

from jobs import supervise
from jobs.models import Node


@shared_task
def work(node_name: str) -> None:
    """A wake-up: take jobs until none fits. A worker has one thread, and so one job at a time."""
    supervise.work(Node.objects.get(name=node_name))
