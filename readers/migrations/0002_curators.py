from django.contrib.auth.management import create_permissions
from django.db import migrations


def make_curators(apps, schema_editor):
    """The group; permissions are otherwise made after all migrations, so they are made here first."""
    from django.apps import apps as installed

    from readers.roles import EDITED

    create_permissions(
        installed.get_app_config("catalog"), apps=apps, verbosity=0, using=schema_editor.connection.alias
    )
    group, _ = apps.get_model("auth", "Group").objects.get_or_create(name="curators")
    may = apps.get_model("auth", "Permission").objects.filter(
        content_type__app_label="catalog", content_type__model__in=EDITED
    )
    group.permissions.add(*may)


class Migration(migrations.Migration):
    dependencies = [
        ("readers", "0001_initial"),
        ("catalog", "0003_listimport"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(make_curators, migrations.RunPython.noop)]
