"""The one clock of an installation: the database's. No decision compares the clocks of two machines.

What is written into a row to be compared later, and what it is compared with, is this time. How long something takes
within one process is measured with `time.monotonic`, which no change of a clock touches.
"""

from datetime import UTC, datetime

from django.db import connection

ASK = {
    "postgresql": "SELECT statement_timestamp()",
    "sqlite": "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')",
}


def now() -> datetime:
    """The database's time."""
    with connection.cursor() as cursor:
        cursor.execute(ASK[connection.vendor])
        (found,) = cursor.fetchone()
    return found if isinstance(found, datetime) else datetime.fromisoformat(found).replace(tzinfo=UTC)
