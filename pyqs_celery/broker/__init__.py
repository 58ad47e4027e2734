"""The only room that talks to SQS: configuration, queues, one client, and the publisher."""
