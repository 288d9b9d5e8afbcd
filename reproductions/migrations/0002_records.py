"""Runs that are known by the same name everywhere, and those that came with the project."""

import uuid

from django.db import migrations, models


def name_runs(apps, schema_editor):
    """A name for each run there is: a default alone would give all the same."""
    run_model = apps.get_model("reproductions", "Run")
    for pk in run_model.objects.values_list("pk", flat=True):
        run_model.objects.filter(pk=pk).update(uid=uuid.uuid4())


class Migration(migrations.Migration):
    dependencies = [("reproductions", "0001_initial")]

    operations = [
        migrations.AddField("run", "uid", models.UUIDField(null=True, editable=False)),
        migrations.RunPython(name_runs, migrations.RunPython.noop),
        migrations.AlterField(
            "run",
            "uid",
            models.UUIDField(
                default=uuid.uuid4, editable=False, unique=True, help_text="the same wherever it is known"
            ),
        ),
        migrations.AddField(
            "run",
            "record",
            models.CharField(
                blank=True, default="", max_length=120, help_text="the file of records/ that it was loaded from"
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            "run",
            "record_digest",
            models.CharField(blank=True, default="", max_length=64, help_text="of that file and of the judge"),
            preserve_default=False,
        ),
    ]
