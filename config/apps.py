"""Django's admin app with our site."""

from django.contrib.admin.apps import AdminConfig as Standard


class AdminConfig(Standard):
    """Named in INSTALLED_APPS in place of django.contrib.admin."""

    default_site = "config.admin.Site"
