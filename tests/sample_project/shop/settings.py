from celery.schedules import crontab

broker_url = "sqs://"
task_default_queue = "shop"
task_acks_late = False
accept_content = ["json", "pickle"]
result_backend = "rpc://"
result_serializer = "pickle"
task_seralizer = "json"
broker_pool_limit = 5
worker_state_db = "/var/run/state"
beat_scheduler = "celery.beat.PersistentScheduler"
beat_schedule = {"nightly": {"task": "shop.reports.tasks.nightly", "schedule": crontab(hour=3, minute=0), "options": {"expires": 7200}}}
MY_OWN_THING = 1
