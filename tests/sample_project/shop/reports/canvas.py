from celery import chain, group


def all_of_them(tasks):
    return chain(group(tasks))
