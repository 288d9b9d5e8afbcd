"""The text index, and what search and facets keep beside it."""

import django.db.models.deletion
from django.db import migrations, models

from catalog import engines


class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial")]
    operations = [
        migrations.CreateModel(
            name="SearchVersion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveBigIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="SearchWord",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("word", models.CharField(max_length=80, unique=True)),
                ("length", models.PositiveIntegerField(db_index=True)),
                ("works", models.PositiveIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="Standing",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("runnable", models.BooleanField(default=False)),
                (
                    "verdicts",
                    models.JSONField(default=list, help_text="[device, outcome] of each claim that was measured"),
                ),
                (
                    "newest",
                    models.DateTimeField(
                        blank=True, help_text="when the newest of these results was measured", null=True
                    ),
                ),
                (
                    "rating",
                    models.FloatField(
                        default=0.0, help_text="the readers' mean, drawn towards the middle where few rated"
                    ),
                ),
                ("ratings", models.PositiveIntegerField(default=0, help_text="how many readers rated it")),
                (
                    "work",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, related_name="standing", to="catalog.work"
                    ),
                ),
            ],
        ),
        migrations.RunPython(
            lambda apps, schema_editor: engines.create(schema_editor),
            lambda apps, schema_editor: engines.drop(schema_editor),
        ),
    ]
