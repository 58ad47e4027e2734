from celery import uuid

X = uuid
