"""Roles, chains and tokens against a fake STS and the embedded SQS, over the wire."""

from __future__ import annotations

import logging
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.config import broker_config
from pyqs_celery.broker.credentials import SERVICES, Identities
from pyqs_celery.broker.errors import NO_CREDENTIALS, NO_ROLE
from pyqs_celery.exceptions import AccessDenied, BrokerError, BrokerUnavailable, InvalidRequest
from tests.support.sts import FakeSts
from tests.support.waiting import until

ROLE = "arn:aws:iam::000000000000:role/"


@pytest.fixture
def sts():
    server = FakeSts()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch, sqs, sts, tmp_path):
    """Nothing of this machine's own, and both servers for boto3 to find."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    ours = {**sqs.environment, **sts.environment}
    ours |= {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}
    for name, value in ours.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def without_keys(monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")


def client(url="sqs://", **options):
    return SqsClient(broker_config(url, {"region": "us-east-1", **options}, os.environ))


def client_with_role(**options):
    return client(sts_role_arn=f"{ROLE}worker", **options)


def at_once(number, call):
    """What ``call`` gives or raises in each of so many threads that begin together."""
    gate, found = threading.Barrier(number), []

    def run():
        gate.wait(30)
        try:
            found.append(call())
        except BrokerError as exc:
            found.append(exc)

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


class TestARole:
    def test_each_queue_signs_with_the_keys_of_its_own(self, sqs, sts):
        queues = {"one": "a", "two": "b", "three": "b"}
        predefined = {
            name: {"url": sqs.create(f"at-aws-{name}"), "sts_role_arn": f"{ROLE}{role}"}
            for name, role in queues.items()
        }
        sqs.policies(
            **{
                "ASIA-a-0": [{"actions": ["*"], "queues": ["at-aws-one"]}],
                "ASIA-b-0": [{"actions": ["*"], "queues": ["at-aws-two", "at-aws-three"]}],
                "test": [],
            }
        )
        sqs_client = client(predefined_queues=predefined)

        for name, entry in predefined.items():
            assert sqs_client.queue_attributes(entry["url"], f"at-aws-{name}")["QueueArn"].endswith(name)

        assert (len(sts.of("a")), len(sts.of("b"))) == (1, 1)
        assert {each.by for each in sts.issued} == {"test"}

    def test_ten_threads_that_begin_together_assume_it_once(self, sqs, sts):
        sqs.create("q")
        made = client_with_role()

        assert at_once(10, lambda: made.queue_url("q")) == [sqs.url("q")] * 10

        assert len(sts.issued) == 1

    def test_keys_are_used_until_they_end_and_renewed_once_by_whoever_comes_first(self, sqs, sts):
        sts.life = 1.0
        sqs.create("q")
        made = client_with_role()
        give_up = time.time() + 30

        with sts.ending_keys_at(sqs.expire_keys):
            while len(sts.issued) < 4 and time.time() < give_up:
                assert at_once(10, lambda: made.queue_url("q")) == [sqs.url("q")] * 10

        gaps = [later.at - sooner.at for sooner, later in zip(sts.issued, sts.issued[1:], strict=False)]
        assert len(gaps) >= 3
        assert min(gaps) > 0.9

    def test_a_refusal_before_their_time_costs_one_renewal_and_one_repetition(self, sqs, sts):
        sqs.create("q")
        made = client_with_role()
        made.queue_url("q")
        before = sqs.requests()["GetQueueUrl"]

        sqs.expire_keys("ASIA-worker-0")
        answers = at_once(10, lambda: made.queue_url("q"))

        assert answers == [sqs.url("q")] * 10
        assert len(sts.issued) == 2
        assert sqs.requests()["GetQueueUrl"] - before <= 21 + 1

    def test_keys_that_are_always_refused_do_not_make_a_storm_at_sts(self, sqs, sts):
        sqs.create("q")
        made = client_with_role()
        sqs.faults({"kind": "expired"})

        answers = [at_once(4, lambda: made.queue_url("q")) for _ in range(5)]

        assert {type(each) for found in answers for each in found} == {BrokerUnavailable}
        assert len(sts.issued) <= 2

    def test_ahead_of_their_end_by_the_option(self, sqs, sts):
        sts.life = 60.0
        sqs.create("q")
        made = client_with_role(sts_token_timeout=900, sts_token_buffer_time=59)

        until(lambda: made.queue_url("q") and len(sts.issued) > 1, "the keys are renewed in their second second", 20)

        assert sts.issued[1].at < sts.issued[0].ends - 50

    def test_the_keys_of_the_url_are_who_assumes_it(self, sqs, sts):
        sqs.create("q")

        client("sqs://AKIAURL:s@", sts_role_arn=f"{ROLE}worker").queue_url("q")

        assert [each.by for each in sts.issued] == ["AKIAURL"]
        assert [each.session for each in sts.issued] == ["pyqs-celery"]

    def test_a_child_process_makes_its_own_client_and_asks_for_its_own_keys(self, sqs, sts):
        sqs.create("q")
        made = client_with_role()
        made.queue_url("q")

        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if made.queue_url("q") == made.queue_url("q") else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        made.queue_url("q")

        assert len(sts.issued) == 2

    def test_a_clock_that_is_an_hour_ahead_makes_no_storm_at_sts(self, sqs, sts):
        sts.life = -2700.0
        sqs.create("q")
        made = client_with_role()
        for _ in range(5):
            made.queue_url("q")

        assert len(sts.issued) == 1

    def test_new_clients_after_trouble_keep_the_keys(self, sqs, sts):
        sqs.create("q")
        made = client_with_role()
        for _ in range(3):
            made.queue_url("q")
            made.reset()

        assert len(sts.issued) == 1


class TestStsIsAway:
    def test_the_old_keys_are_used_while_they_last_and_one_line_says_why(self, sqs, sts, caplog):
        sqs.create("q")
        sts.life = 61.0
        made = client_with_role(sts_token_timeout=900, sts_token_buffer_time=60)
        made.queue_url("q")
        sts.refusal = (500, "InternalFailure")

        with caplog.at_level(logging.INFO):
            until(lambda: made.queue_url("q") and sts.asked["AssumeRole"] >= 4, "three renewals have failed", 30)
            sts.refusal = None
            until(lambda: made.queue_url("q") and len(sts.issued) > 1, "the fourth succeeds", 30)

        lines = [record.getMessage() for record in caplog.records if record.name.startswith("celery")]
        assert [line for line in lines if "could not be assumed" in line] == [lines[0]]
        assert f"{ROLE}worker" in lines[0]
        assert "renewed again" in lines[-1]

    @pytest.mark.parametrize("refusal", [(500, "InternalFailure"), (400, "Throttling"), (403, "AccessDenied")])
    def test_without_good_keys_calls_fail_as_in_any_outage_and_come_back(self, sqs, sts, refusal):
        sts.life = 0.5
        sqs.create("q")
        made = client_with_role()
        made.queue_url("q")
        sts.refusal = refusal
        failures = []

        def fails():
            try:
                made.queue_url("q")
            except BrokerUnavailable as exc:
                failures.append(exc)
            return failures

        until(fails, "the keys have ended", 20)
        before = sts.asked["AssumeRole"]
        for _ in range(50):
            with pytest.raises(BrokerUnavailable, match="could not be assumed"):
                made.queue_url("q")

        assert sts.asked["AssumeRole"] - before <= 5
        sts.refusal, sts.life = None, 60.0

        def works():
            try:
                return made.queue_url("q")
            except BrokerUnavailable:
                return None

        assert until(works, "it comes back", 30) == sqs.url("q")

    def test_a_role_that_may_not_be_assumed_from_the_start_is_no_outage(self, sqs, sts):
        sqs.create("q")
        sts.refusal = (403, "AccessDenied")

        with pytest.raises(AccessDenied, match="allow sts:AssumeRole") as caught:
            client_with_role().queue_url("q")

        assert caught.value.code == NO_ROLE

    def test_ten_threads_wait_for_a_silent_sts_once_and_not_in_turn(self, sqs, sts):
        sts.refusal = "hang"
        made = client_with_role()
        begin = time.monotonic()

        answers = at_once(10, lambda: made.queue_url("q"))

        assert {type(each) for each in answers} == {BrokerUnavailable}
        # one attempt takes 5 seconds; a second may follow where threads are slow to wake
        assert sts.asked["AssumeRole"] <= 2
        assert time.monotonic() - begin < 20


class TestTheChain:
    def test_a_web_identity_whose_file_is_rotated(self, sqs, sts, without_keys, monkeypatch, tmp_path):
        token = tmp_path / "token"
        token.write_text("first")
        sts.tokens = {"first"}
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
        monkeypatch.setenv("AWS_ROLE_ARN", f"{ROLE}pod")
        sqs.create("q")
        made = client()
        made.queue_url("q")

        token.write_text("second")
        sts.tokens = {"second"}
        sqs.expire_keys("ASIA-pod-0")

        assert made.queue_url("q") == sqs.url("q")
        assert sts.asked == {"AssumeRoleWithWebIdentity": 2}

    def test_a_web_identity_is_renewed_by_botocore_ahead_of_its_end(
        self, sqs, sts, without_keys, monkeypatch, tmp_path, caplog
    ):
        token = tmp_path / "token"
        token.write_text("first")
        sts.tokens, sts.life = {"first"}, 902.0
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
        monkeypatch.setenv("AWS_ROLE_ARN", f"{ROLE}pod")
        sqs.create("q")
        made = client()
        made.queue_url("q")
        token.write_text("second")  # which STS does not believe yet

        until(lambda: made.queue_url("q") and sts.asked["AssumeRoleWithWebIdentity"] >= 3, "two renewals fail", 30)
        sts.tokens = {"second"}
        until(lambda: made.queue_url("q") and len(sts.issued) > 1, "the keys are renewed", 30)

        assert [record.name for record in caplog.records if "Refreshing temporary" in record.getMessage()] == []
        lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert len([line for line in lines if "InvalidIdentityToken" in line]) == 1

    def test_a_containers_endpoint_is_asked_once_in_the_life_of_its_keys(self, sqs, sts, without_keys, monkeypatch):
        sts.life = 2.5
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{sts.endpoint}/credentials")
        sqs.create("q")
        made = client()
        begin = time.time()

        with sts.ending_keys_at(sqs.expire_keys):
            while time.time() < begin + 6:
                assert at_once(4, lambda: made.queue_url("q")) == [sqs.url("q")] * 4

        # the end is told in whole seconds, so a life may be seen as one of 1.5 seconds
        assert 2 <= sts.asked["container"] <= 5

    def test_a_profile_that_chains_two_roles(self, sqs, sts, without_keys, monkeypatch, tmp_path):
        (tmp_path / "credentials").write_text("[base]\naws_access_key_id = AKIABASE\naws_secret_access_key = s\n")
        (tmp_path / "config").write_text(
            f"[profile middle]\nrole_arn = {ROLE}middle\nsource_profile = base\n"
            f"[profile top]\nrole_arn = {ROLE}top\nsource_profile = middle\n"
        )
        monkeypatch.setenv("AWS_PROFILE", "top")
        sqs.create("q")
        sqs.policies(**{"ASIA-top-0": [{"actions": ["GetQueueUrl"]}], "ASIA-middle-0": []})
        made = client()

        assert made.queue_url("q") == sqs.url("q")
        assert [(each.key, each.by) for each in sts.issued] == [
            ("ASIA-middle-0", "AKIABASE"),
            ("ASIA-top-0", "ASIA-middle-0"),
        ]
        sqs.policies()
        sqs.expire_keys("ASIA-top-0")
        assert made.queue_url("q") == sqs.url("q")

    def test_a_role_on_top_of_the_chain_survives_the_end_of_the_keys_below(
        self, sqs, sts, without_keys, monkeypatch, tmp_path
    ):
        token = tmp_path / "token"
        token.write_text("first")
        sts.tokens = {"first"}
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
        monkeypatch.setenv("AWS_ROLE_ARN", f"{ROLE}pod")
        sqs.create("q")
        made = client_with_role()
        made.queue_url("q")

        sts.revoked = {"ASIA-pod-0"}
        sqs.expire_keys("ASIA-worker-0")

        assert made.queue_url("q") == sqs.url("q")
        assert [each.by for each in sts.of("worker")] == ["ASIA-pod-0", "ASIA-pod-1"]

    def test_keys_that_are_replaced_in_the_credentials_file(self, sqs, without_keys, tmp_path):
        def write(key):
            (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\n")

        sqs.create("q")
        write("AKIAOLD")
        made = client()
        made.queue_url("q")

        write("AKIANEW")
        sqs.expire_keys("AKIAOLD")

        assert made.queue_url("q") == sqs.url("q")

    def test_nobody_at_all(self, without_keys):
        with pytest.raises(AccessDenied, match="no AWS credentials were found") as caught:
            client().queue_url("q")

        assert caught.value.code == NO_CREDENTIALS


class TestGivenKeys:
    def test_a_session_token_that_has_expired_cannot_be_renewed_and_says_so(self, sqs):
        sqs.create("q")
        made = client("sqs://ASIAGIVEN:s@", session_token="t")
        assert made.queue_url("q") == sqs.url("q")
        sqs.expire_keys("ASIAGIVEN")

        with pytest.raises(AccessDenied, match=r"session token in broker_url.*cannot be renewed"):
            made.queue_url("q")

    def test_session_tokens_are_sent_with_the_queues_they_belong_to(self, signatures):
        endpoint, seen = signatures
        made = client(
            "sqs://AKIAURL:s@",
            endpoint_url=endpoint,
            predefined_queues={
                "own": {
                    "url": f"{endpoint}/1/own",
                    "access_key_id": "ASIAOWN",
                    "secret_access_key": "s",
                    "session_token": "token-own",
                },
                "half": {"url": f"{endpoint}/1/half", "session_token": "token-half"},
                "none": {"url": f"{endpoint}/1/none"},
            },
        )
        for name in ("own", "half", "none"):
            made.queue_attributes(f"{endpoint}/1/{name}", name)

        assert seen == [("ASIAOWN", "token-own"), ("AKIAURL", "token-half"), ("AKIAURL", None)]

    def test_a_client_setting_that_botocore_does_not_know(self):
        with pytest.raises(InvalidRequest, match="client-config"):
            client(**{"client-config": {"no_such_setting": 1}}).queue_url("q")


@pytest.fixture
def signatures():
    """A server that answers anything, and whose keys it was asked with: access key and session token."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            key = self.headers["Authorization"].partition("Credential=")[2].partition("/")[0]
            seen.append((key, self.headers.get("X-Amz-Security-Token")))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.mark.parametrize("region", ["eu-west-1", "cn-north-1", "us-gov-west-1", "us-iso-east-1", "xx-new-1"])
def test_endpoints_are_those_that_boto3_finds_though_those_of_other_services_are_not_kept(monkeypatch, region):
    """Given a region of any partition, or one botocore has not heard of; then a queue is called where boto3 calls it."""
    import boto3

    for name in ("AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    keys = Identities(broker_config("sqs://", {}, os.environ)).of(None, None, region)
    for service in SERVICES:
        found = keys.client(service, region).meta.endpoint_url
        assert found == boto3.session.Session().client(service, region_name=region).meta.endpoint_url
    partitions = keys._session.get_component("data_loader").load_data("endpoints")["partitions"]
    assert {name for partition in partitions for name in partition["services"]} <= set(SERVICES)
