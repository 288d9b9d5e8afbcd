"""What is compared later begins as the database's time; no column changes."""

from django.db import migrations, models

import config.clock


class Migration(migrations.Migration):
    dependencies = [("jobs", "0005_time_factor")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField("job", "queued_at", models.DateTimeField(default=config.clock.now)),
                migrations.AlterField("attempt", "started_at", models.DateTimeField(default=config.clock.now)),
            ]
        )
    ]
