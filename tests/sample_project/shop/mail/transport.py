from kombu.transport.SQS import Channel


class FairChannel(Channel):
    pass
