"""python manage.py control: the sweep, and the jobs that are no reproductions."""

import contextlib
import socket
import threading

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from config import private
from jobs.node import CannotJoin, register, serve
from jobs.sweep import keep_sweeping


class Command(BaseCommand):
    """A node of the device `control`, with the sweep as a thread beside it, which needs the database alone."""

    help = "Run the control process: the sweep, and jobs such as bundles and syncs."

    def handle(self, *args, **options) -> None:
        """Run until SIGTERM."""
        with contextlib.suppress(OSError):  # the node says so itself, and takes no job
            private.make_private(settings.DATA_DIR)
        try:
            node = register(f"{socket.gethostname()}-control", "control", 0)
        except CannotJoin as error:
            raise CommandError(str(error)) from None
        threading.Thread(target=keep_sweeping, daemon=True).start()
        serve(node)
