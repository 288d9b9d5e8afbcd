"""python manage.py control: the process that keeps the clock (beat) and sweeps; it never runs a reproduction."""

from celery.beat import EmbeddedService
from django.conf import settings
from django.core.management.base import BaseCommand

from config.celery import app


class Command(BaseCommand):
    """Celery's beat as a thread beside the worker of the queue `control`."""

    help = "Run the control process: the clock and the sweep."

    def handle(self, *args, **options) -> None:
        """Run until SIGTERM."""
        beat = EmbeddedService(app, thread=True, schedule_filename=str(settings.DATA_DIR / "beat-schedule"))
        beat.daemon = True
        beat.start()
        arguments = ["worker", "--pool=threads", "--concurrency=2", "--queues=control", "--hostname=control"]
        app.worker_main([*arguments, "--without-gossip", "--without-mingle", "--loglevel=WARNING"])
