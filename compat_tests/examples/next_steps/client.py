from proj.tasks import add, mul, xsum

add.delay(2, 2)
add.apply_async((2, 3), queue="celery", countdown=1)
partial = mul.s(2)
partial.delay(4)
assert xsum([1, 2, 3]) == 6
add.apply_async((2, 2), link=add.s(16))
