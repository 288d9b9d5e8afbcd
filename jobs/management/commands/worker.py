"""python manage.py worker --device cpu|cuda: this machine joins as a node."""

import contextlib
import logging
import socket

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config import private
from jobs.node import CannotJoin, register, serve

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    """Registers a node, ends what an earlier one left behind, then waits for wake-ups."""

    help = "Join as a node: run queued jobs on this machine's CPU or one of its GPUs."

    def add_arguments(self, parser: CommandParser) -> None:
        """The device kind, which GPU, and the node's name."""
        parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
        parser.add_argument("--gpu", type=int, default=0, help="which GPU, counted from 0")
        parser.add_argument("--name", help="the node's name (default: HOST-DEVICE)")

    def handle(self, *args, device: str, gpu: int, name: str | None, **options) -> None:
        """Run until SIGTERM; a running job is then queued again at once."""
        index = str(gpu) if device == "cuda" else ""
        with contextlib.suppress(OSError):  # the node says so itself, and takes no job
            private.make_private(settings.DATA_DIR)
        try:
            node = register(name or f"{socket.gethostname()}-{device}{index}", device, gpu)
        except CannotJoin as error:
            raise CommandError(str(error)) from None
        logger.info(
            "%s: %s, %s reproductions", node.name, node.device_name, len(node.offers), extra={"node": node.name}
        )
        serve(node)
