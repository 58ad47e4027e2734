"""Adapters that run in the peers' own environments: the application, ``send`` and, where there is a bulk API, ``send_many``."""
