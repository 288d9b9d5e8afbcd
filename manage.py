#!/usr/bin/env python
"""Django's command line; `python manage.py up` starts everything."""

import os
import sys

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import OperationalError, ProgrammingError

from config import logs


def main() -> None:
    """Run the command; exit code 2 and one line for a setting that cannot be, or where the database cannot be read."""
    os.umask(0o077)  # what any command writes is nobody else's
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        if sys.argv[1:2] in (["control"], ["worker"]):  # their output is their log
            logs.take_over(settings.LOG_FORMAT)
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        if "--traceback" in sys.argv:
            raise
        print(error, file=sys.stderr)
        sys.exit(2)
    except (OperationalError, ProgrammingError) as error:
        if "--traceback" in sys.argv:
            raise
        said = str(error).partition("\n")[0]
        print(f"the database cannot be read: {said} (before manage.py migrate there are no tables)", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
