from tasks import x

x.delay({"value": 1})
