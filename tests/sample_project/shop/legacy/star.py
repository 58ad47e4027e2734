from celery import *
