"""What is compared later begins as the database's time; no column changes."""

from django.db import migrations, models

import config.clock


class Migration(migrations.Migration):
    dependencies = [("catalog", "0007_published_title")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    "arxivgate",
                    "free_at",
                    models.DateTimeField(default=config.clock.now, help_text="when the next request may begin"),
                ),
                migrations.AlterField(
                    "listimport", "created_at", models.DateTimeField(default=config.clock.now, editable=False)
                ),
            ]
        )
    ]
