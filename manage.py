#!/usr/bin/env python
"""Django's command line; `python manage.py up` starts everything."""

import os
import sys

from django.core.management import execute_from_command_line
from django.db import OperationalError, ProgrammingError


def main() -> None:
    """Run the command; exit code 2 and one line where the database cannot be read, most often before `migrate`."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        execute_from_command_line(sys.argv)
    except (OperationalError, ProgrammingError) as error:
        if "--traceback" in sys.argv:
            raise
        said = str(error).partition("\n")[0]
        print(f"the database cannot be read: {said} (before manage.py migrate there are no tables)", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
