from django.apps import AppConfig


class ExportsConfig(AppConfig):
    """Citations now; bundles, crates and dumps belong here too. It has no tables."""

    name = "exports"
