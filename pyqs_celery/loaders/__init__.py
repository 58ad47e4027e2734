"""``celery.loaders``: how an application's modules are imported."""
