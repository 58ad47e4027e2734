from celery import Celery

app = Celery("shop", include=["shop.orders.tasks", "shop.mail.tasks", "shop.reports.tasks"])
app.config_from_object("shop.settings")
