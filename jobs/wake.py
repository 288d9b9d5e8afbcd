"""Wake-ups: a Celery message says "look at the queue", never what to run. Losing or doubling one changes nothing."""

import logging
from collections.abc import Iterable

from celery import current_app
from django.conf import settings
from kombu.exceptions import OperationalError
from redis import RedisError

from jobs.models import Node

logger = logging.getLogger(__name__)
PATIENCE_S = 1.0  # a visitor waits while this is sent, and the sweep sends it again anyway


def wake(device: str) -> None:
    """Tell every live node of this device kind that a job waits. Without Redis the sweep does it later."""
    wake_nodes(Node.objects.live().filter(device=device))


def wake_nodes(nodes: Iterable[Node]) -> None:
    """Tell nodes to look at the queue; gives up at the first that cannot be told.

    One that has not looked yet since it was told needs no second message. So none has to expire, which would compare
    the clocks of two machines.
    """
    untold = list(nodes)
    options = settings.CELERY_BROKER_TRANSPORT_OPTIONS | {
        "socket_timeout": PATIENCE_S,
        "socket_connect_timeout": PATIENCE_S,
        "retry_on_timeout": False,
    }
    try:
        with current_app.connection_for_write(connect_timeout=PATIENCE_S, transport_options=options) as connection:
            for node in list(untold):
                if not connection.default_channel.queue_declare(node.queue).message_count:
                    current_app.send_task(
                        "jobs.tasks.work", [node.name], queue=node.queue, retry=False, connection=connection
                    )
                untold.remove(node)
    except (OperationalError, RedisError) as error:
        logger.warning("no wake-up sent to %s: %s", ", ".join(node.name for node in untold), error)
