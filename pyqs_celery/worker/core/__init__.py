"""The worker's decisions, free of input and output: what is held, who runs next, what becomes of a message.

Nothing in this folder may import threads, sockets, clocks or boto3; time comes in as ``now``.
"""
