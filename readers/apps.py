"""The app of what readers keep."""

from django.apps import AppConfig


class ReadersConfig(AppConfig):
    """Ratings, collections, tokens."""

    name = "readers"
    default_auto_field = "django.db.models.BigAutoField"
