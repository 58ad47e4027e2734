"""What AWS answers, as our errors: which class, and a sentence that says what to do."""

from __future__ import annotations

import pytest
from botocore.exceptions import (
    ClientError,
    ConfigParseError,
    ConnectTimeoutError,
    ParamValidationError,
    ProfileNotFound,
)

from pyqs_celery.broker.config import broker_config
from pyqs_celery.broker.errors import broker_error
from pyqs_celery.broker.queues import QueueDirectory
from pyqs_celery.exceptions import (
    AccessDenied,
    BrokerUnavailable,
    InvalidRequest,
    MessageTooLarge,
    QueueDoesNotExist,
    ReceiptExpired,
    Throttled,
)


def answer(code, message="because", status=400):
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, "SendMessage"
    )


@pytest.mark.parametrize(
    ("exc", "kind", "says"),
    [
        (answer("AccessDenied", status=403), AccessDenied, "need sqs:SendMessage on this queue"),
        (answer("KmsAccessDeniedException"), AccessDenied, "denied"),
        (answer("InvalidClientTokenId", status=403), AccessDenied, "AWS does not know these credentials"),
        (answer("SignatureDoesNotMatch", status=403), AccessDenied, "AWS does not know these credentials"),
        (answer("InvalidSignatureException", status=403), AccessDenied, "AWS does not know these credentials"),
        (answer("SignatureDoesNotMatch", "Signature expired: 2026", 403), BrokerUnavailable, "clock is wrong"),
        (
            answer("InvalidSignatureException", "Signature not yet current: 2026", 403),
            BrokerUnavailable,
            "clock is wrong",
        ),
        (answer("RequestTimeTooSkewed", status=403), BrokerUnavailable, "clock is wrong"),
        (answer("429", "Too Many Requests", 429), Throttled, "Too Many Requests"),
        (answer("408", "Request Timeout", 408), BrokerUnavailable, "Request Timeout"),
        (answer("ExpiredToken", status=403), BrokerUnavailable, "no newer credentials yet"),
        (answer("com.amazonaws.sqs#x.RequestExpired", status=403), BrokerUnavailable, "SendMessage on q"),
        (answer("AWS.SimpleQueueService.NonExistentQueue"), QueueDoesNotExist, "no such queue"),
        (answer("RequestThrottled"), Throttled, "because"),
        (answer("Unheard", status=503), BrokerUnavailable, "because"),
        (answer("Unheard", status=403), AccessDenied, "because"),
        (answer("Unheard"), InvalidRequest, "because"),
        (answer("InvalidParameterValue", "must be shorter than 262144 bytes"), MessageTooLarge, "262144"),
        (answer("InvalidParameterValue", "The receipt handle has expired"), ReceiptExpired, "expired"),
        (ConnectTimeoutError(endpoint_url="http://x"), BrokerUnavailable, "cannot be reached"),
        (OSError("no route"), BrokerUnavailable, "no route"),
        (ParamValidationError(report="bad"), InvalidRequest, "bad"),
        (ProfileNotFound(profile="nope"), InvalidRequest, "nope"),
        (ConfigParseError(path="/x"), InvalidRequest, "/x"),
        (ValueError("Invalid endpoint: x"), InvalidRequest, "Invalid endpoint"),
    ],
)
def test_what_became_of_a_call(exc, kind, says):
    error = broker_error(exc, "SendMessage", "q")

    assert type(error) is kind
    assert says in str(error)
    assert error.queue == "q"


def test_a_mistake_of_our_own_is_no_trouble_of_sqs():
    with pytest.raises(ZeroDivisionError):
        broker_error(ZeroDivisionError(), "SendMessage", "q")


class Refusing:
    """A client that is refused with one code."""

    def __init__(self, code):
        self.code = code

    def queue_url(self, name):
        raise AccessDenied("no", code=self.code)


def test_a_queue_that_is_denied_is_told_from_a_worker_that_is_nobody():
    config = broker_config("sqs://", {}, {})

    assert QueueDirectory(Refusing("AccessDenied"), config).find(["q"]).denied == {"q": "no"}
    for code in ("NoCredentials", "NoRole", "InvalidClientTokenId", "ExpiredToken"):
        with pytest.raises(AccessDenied):
            QueueDirectory(Refusing(code), config).find(["q"])
