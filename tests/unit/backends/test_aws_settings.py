"""What URLs and settings of the stores at AWS mean."""

from __future__ import annotations

import pytest

from pyqs_celery import Celery
from pyqs_celery.backends.dynamodb import DynamoDBBackend, Place, place_of
from pyqs_celery.backends.s3 import S3Backend
from pyqs_celery.exceptions import ImproperlyConfigured


def app_with(backend: str, **settings):
    return Celery("proj", broker="memory://", result_backend=backend, set_as_current=False, **settings)


class TestDynamoDB:
    @pytest.mark.parametrize(
        ("url", "place"),
        [
            ("dynamodb://", Place()),
            ("dynamodb://eu-west-1", Place(region="eu-west-1")),
            ("dynamodb://eu-west-1/results", Place(region="eu-west-1", table="results")),
            ("dynamodb:///results", Place(table="results")),
            (
                "dynamodb://AKIA:a%2Fb@us-east-1/t?read=5&write=10&ttl_seconds=3600",
                Place("us-east-1", None, "AKIA", "a/b", "t", 5, 10, 3600),
            ),
            ("dynamodb://eu-west-1/t?ttl_seconds=-1", Place("eu-west-1", table="t", ttl_seconds=-1)),
            ("dynamodb://@localhost:8000", Place("us-east-1", "http://localhost:8000")),
            ("dynamodb://@localhost:8000/t", Place("us-east-1", "http://localhost:8000", table="t")),
            ("dynamodb://@10.0.0.7:4566/t", Place("us-east-1", "http://10.0.0.7:4566", table="t")),
            ("dynamodb://@[::1]:4566/t", Place("us-east-1", "http://[::1]:4566", table="t")),
            ("dynamodb://@localhost/t", Place("us-east-1", "http://localhost:8000", table="t")),
        ],
    )
    def test_a_url_says_where(self, url, place):
        assert place_of(url) == place

    def test_a_url_makes_a_back_end(self):
        backend = app_with("dynamodb://AKIA:secret@eu-west-1/t?read=5&write=10&ttl_seconds=3600").backend

        assert isinstance(backend, DynamoDBBackend)
        assert (backend.table_name, backend.aws_region, backend.endpoint_url) == ("t", "eu-west-1", None)
        assert (backend.read_capacity_units, backend.write_capacity_units) == (5, 10)
        assert backend.time_to_live_seconds == 3600
        assert (backend.aws_access_key_id, backend.aws_secret_access_key) == ("AKIA", "secret")

    def test_the_name_alone_means_the_table_celery_where_aws_says(self):
        backend = app_with("dynamodb").backend

        assert (backend.table_name, backend.aws_region, backend.time_to_live_seconds) == ("celery", None, None)

    def test_the_setting_for_the_endpoint_wins(self):
        backend = app_with("dynamodb://@localhost:8000/t", dynamodb_endpoint_url="http://dynamo:9000").backend

        assert (backend.endpoint_url, backend.aws_region) == ("http://dynamo:9000", "us-east-1")

    @pytest.mark.parametrize("query", ["read=many", "write=", "ttl_seconds=1d"])
    def test_what_is_no_number_is_told(self, query):
        if query == "write=":
            assert place_of(f"dynamodb://eu-west-1/t?{query}").write_units is None
            return
        with pytest.raises(ImproperlyConfigured, match="numbers"):
            place_of(f"dynamodb://eu-west-1/t?{query}")

    @pytest.mark.parametrize("half", ["AKIA", ":secret"])
    def test_half_of_the_credentials_is_told(self, half):
        with pytest.raises(ImproperlyConfigured, match="both or none"):
            _ = app_with(f"dynamodb://{half}@eu-west-1/t").backend

    def test_the_secret_is_not_shown(self):
        backend = app_with("dynamodb://AKIA:topsecret@eu-west-1/t").backend

        assert "topsecret" not in backend.as_uri()
        assert "topsecret" in backend.as_uri(include_password=True)

    def test_making_a_back_end_asks_nothing(self):
        backend = app_with("dynamodb://AKIA:secret@127.0.0.1:1/t?ttl_seconds=5").backend

        assert backend._client is None


class TestS3:
    def test_the_settings_say_where(self):
        backend = app_with(
            "s3://",
            s3_bucket="bucket",
            s3_base_path="base/",
            s3_access_key_id="AKIA",
            s3_secret_access_key="secret",
            s3_region="eu-west-1",
            s3_endpoint_url="http://minio:9000",
        ).backend

        assert isinstance(backend, S3Backend)
        assert (backend.bucket_name, backend.base_path) == ("bucket", "base/")
        assert (backend.aws_region, backend.endpoint_url) == ("eu-west-1", "http://minio:9000")
        assert (backend.aws_access_key_id, backend.aws_secret_access_key) == ("AKIA", "secret")

    @pytest.mark.parametrize(
        ("url", "bucket", "base"),
        [
            ("s3://bucket", "bucket", None),
            ("s3://bucket/", "bucket", None),
            ("s3://bucket/base/", "bucket", "base/"),
            ("s3://my.bucket/a/b%20c", "my.bucket", "a/b c"),
        ],
    )
    def test_so_does_the_url(self, url, bucket, base):
        backend = app_with(url).backend

        assert (backend.bucket_name, backend.base_path) == (bucket, base)

    def test_with_a_bucket_among_the_settings_the_url_is_not_read_as_in_celery(self):
        backend = app_with("s3://other/path/", s3_bucket="bucket").backend

        assert (backend.bucket_name, backend.base_path) == ("bucket", None)

    def test_no_bucket_is_told(self):
        with pytest.raises(ImproperlyConfigured, match="s3_bucket"):
            _ = app_with("s3://").backend

    def test_half_of_the_credentials_is_told(self):
        with pytest.raises(ImproperlyConfigured, match="s3_secret_access_key"):
            _ = app_with("s3://bucket", s3_access_key_id="AKIA").backend

    def test_compression_is_not_for_s3_as_in_celery(self):
        app = app_with("s3://bucket", result_compression="gzip")

        with pytest.warns(UserWarning, match="S3Backend cannot keep compressed results"):
            backend = app.backend

        assert backend.compression is None
