"""The WSGI entry point."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from config import logs

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.umask(0o077)  # what it writes is nobody else's
application = get_wsgi_application()
logs.take_over(settings.LOG_FORMAT)
