from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            "Vote",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("choice", models.CharField(max_length=50)),
                ("counted_by", models.IntegerField(null=True)),
                ("connection", models.IntegerField(null=True)),
            ],
        ),
    ]
