"""The servers of a run of these tests, each started when it is first asked for."""

from __future__ import annotations

from functools import cached_property

import boto3

from tests.support.embedded import EmbeddedSqs
from tests.support.servers import MotoServer, RedisServer


class Servers:
    """``close`` ends what was started."""

    @cached_property
    def sqs(self) -> EmbeddedSqs:
        return EmbeddedSqs()

    @cached_property
    def redis(self) -> RedisServer:
        return RedisServer()

    @cached_property
    def moto(self) -> MotoServer:
        server = MotoServer()
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=server.endpoint, **keys).create_bucket(Bucket="results")
        # Celery's processes that make the table at the same time fail: DescribeTable, CreateTable, ResourceInUseException.
        boto3.client("dynamodb", endpoint_url=server.endpoint, **keys).create_table(
            TableName="results",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
        )
        return server

    def close(self) -> None:
        for name in ("moto", "redis", "sqs"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()
