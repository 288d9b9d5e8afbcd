"""One fingerprint becomes two: of the measurement, which was kept as spec_hash, and of the declaration."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("reproductions", "0002_records")]

    operations = [
        migrations.RenameField("reproduction", "spec_hash", "measurement"),
        migrations.RenameField("run", "spec_hash", "measurement"),
        migrations.AlterField(
            "reproduction",
            "measurement",
            models.CharField(max_length=16, help_text="fingerprint of all that runs"),
        ),
        migrations.AlterField(
            "run", "measurement", models.CharField(max_length=16, help_text="fingerprint of all that ran")
        ),
        migrations.AddField(
            "reproduction",
            "declaration",
            models.CharField(default="", max_length=16, help_text="fingerprint of what its page shows"),
        ),
        migrations.AddField(
            "run",
            "declaration",
            models.CharField(default="", max_length=16, help_text="fingerprint of the one that judges it"),
        ),
        migrations.AlterField(
            "run",
            "checks",
            models.JSONField(help_text="the checks it is judged by: the present ones unless it is outdated"),
        ),
    ]
