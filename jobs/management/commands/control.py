"""python manage.py control: the clock (beat), the sweep, and the jobs that are no reproductions."""

import contextlib
import socket

from celery.beat import EmbeddedService
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from config import private
from config.celery import app
from jobs.node import CannotJoin, register, serve
from jobs.sweep import sweep


class Command(BaseCommand):
    """Celery's beat as a thread beside the worker of the queue `control`, which is a node of the device `control`."""

    help = "Run the control process: the clock, the sweep, and jobs such as bundles and syncs."

    def handle(self, *args, **options) -> None:
        """Run until SIGTERM. One of the two threads may hold a job; the other one sweeps."""
        with contextlib.suppress(OSError):  # the node says so itself, and takes no job
            private.make_private(settings.DATA_DIR)
        try:
            node = register(f"{socket.gethostname()}-control", "control", 0)
        except CannotJoin as error:
            raise CommandError(str(error)) from None
        sweep()  # the clock strikes for the first time after a whole period
        beat = EmbeddedService(app, thread=True, schedule_filename=str(settings.DATA_DIR / "beat-schedule"))
        beat.daemon = True
        beat.start()
        serve(node, queues=f"control,{node.queue}", concurrency=2)
