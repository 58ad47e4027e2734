from django.db import models


class Vote(models.Model):
    choice = models.CharField(max_length=50)
    counted_by = models.IntegerField(null=True)
    connection = models.IntegerField(null=True)
