# -*- coding: latin-1 -*-
from celery import uuid  # été
X = 1
