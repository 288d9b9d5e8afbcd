"""python manage.py worker --device cpu|cuda: this machine joins as a node."""

import socket
import threading

from celery.signals import worker_ready, worker_shutting_down
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.celery import app
from jobs import supervise
from jobs.node import CannotJoin, heartbeats, register
from jobs.sweep import end_left_overs
from jobs.wake import wake_node


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
        try:
            node = register(name or f"{socket.gethostname()}-{device}{index}", device, gpu)
        except CannotJoin as error:
            raise CommandError(str(error)) from None
        end_left_overs(node.name)
        threading.Thread(target=heartbeats, args=[node.pk], daemon=True).start()

        def stop(**kwargs) -> None:
            supervise.STOP.set()

        def begin(**kwargs) -> None:
            wake_node(node)

        worker_shutting_down.connect(stop)
        worker_ready.connect(begin)
        self.stdout.write(f"{node.name}: {node.device_name}, {len(node.offers)} reproductions")
        arguments = ["worker", "--pool=threads", "--concurrency=1", f"--queues={node.queue}"]
        arguments += [f"--hostname={node.name}", "--without-gossip", "--without-mingle", "--loglevel=WARNING"]
        app.worker_main(arguments)
