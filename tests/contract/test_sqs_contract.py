"""What AWS documents of SQS, asked of the embedded server and of moto's, so that ours is not believed on its word alone."""

from __future__ import annotations

import hashlib
import json
import threading
import time

import pytest

MOTO_DIFFERS = {
    "a_lost_lease_cannot_be_extended": "it extends leases that have ended",
    "start_message_move_task_moves_them_back": "it answers 500",
    "control_characters_are_refused": "it takes them",
    "a_group_is_named_by_letters_digits_and_punctuation": "it takes them",
    "a_fifo_receive_whose_answer_was_lost_is_made_again_by_its_attempt_id": "it takes no notice of attempt ids",
}


def test_send_receive_delete_with_checksums(ask):
    url = ask.queue()
    sent = ask.send(url, "héllo")
    [message] = ask.receive(url)
    ask.client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    digest = hashlib.md5("héllo".encode()).hexdigest()
    assert sent["MD5OfMessageBody"] == digest == message["MD5OfBody"]
    assert message["Body"] == "héllo"


def test_a_long_poll_waits(ask):
    url = ask.queue()
    began = time.monotonic()
    assert not ask.receive(url, wait=2)
    assert 1.8 < time.monotonic() - began < 10


def test_a_long_poll_wakes_for_a_new_message(ask):
    url, other = ask.queue(), ask.another_client()
    timer = threading.Timer(1.0, lambda: other.send_message(QueueUrl=url, MessageBody="x"))
    timer.start()
    began = time.monotonic()
    assert ask.receive(url, wait=20)
    assert time.monotonic() - began < 10
    timer.join()


def test_a_long_poll_wakes_when_a_message_becomes_visible(ask):
    url = ask.queue(VisibilityTimeout=1)
    ask.send(url)
    ask.receive(url)
    began = time.monotonic()
    assert ask.receive(url, wait=20)
    assert time.monotonic() - began < 10


def test_long_polls_hold_up_nobody_else(ask):
    url, other = ask.queue(), ask.queue()
    clients = [ask.another_client() for _ in range(10)]
    began = threading.Barrier(11)

    def poll(client):
        began.wait()
        client.receive_message(QueueUrl=url, WaitTimeSeconds=5)

    threads = [threading.Thread(target=poll, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    began.wait()
    start = time.monotonic()
    ask.send(other)
    assert time.monotonic() - start < 4
    for thread in threads:
        thread.join()


def test_a_received_message_is_hidden_and_then_counted(ask):
    url = ask.queue(VisibilityTimeout=1)
    ask.send(url)
    assert ask.receive(url)
    assert not ask.receive(url)
    [again] = ask.receive(url, wait=5, AttributeNames=["ApproximateReceiveCount"])
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"


def test_visibility_0_gives_a_message_back(ask):
    url = ask.queue()
    ask.send(url)
    [message] = ask.receive(url)
    ask.show(url, message)
    assert ask.receive(url)


def test_a_longer_visibility_hides_longer(ask):
    url = ask.queue(VisibilityTimeout=1)
    ask.send(url)
    [message] = ask.receive(url)
    ask.show(url, message, 3)
    began = time.monotonic()
    assert ask.receive(url, wait=10)
    assert time.monotonic() - began > 2


def test_visibility_in_batches_with_one_bad_handle(ask):
    url = ask.queue()
    for number in range(3):
        ask.send(url, str(number))
    messages = ask.receive(url)
    entries = [
        {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
        for number, message in enumerate(messages)
    ]
    bad = {"Id": "bad", "ReceiptHandle": "garbage", "VisibilityTimeout": 0}
    answer = ask.client.change_message_visibility_batch(QueueUrl=url, Entries=[*entries, bad])
    assert len(answer["Successful"]) == len(messages)
    assert [entry["Id"] for entry in answer["Failed"]] == ["bad"]
    assert len(ask.receive(url)) == len(messages)


def visible(ask, url):
    name = "ApproximateNumberOfMessages"
    return ask.client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name]


def test_a_lost_lease_cannot_be_extended(ask):
    url = ask.queue(VisibilityTimeout=1)
    ask.send(url)
    [message] = ask.receive(url)
    deadline = time.monotonic() + 10
    code = "no error"
    while code == "no error" and time.monotonic() < deadline:
        if visible(ask, url) == "1":
            code = ask.code(lambda: ask.show(url, message, 5))
    assert "MessageNotInflight" in code


def test_delay_seconds(ask):
    url = ask.queue()
    ask.send(url, DelaySeconds=1)
    assert not ask.receive(url)
    assert ask.receive(url, wait=5)


def test_a_delay_over_900_is_refused(ask):
    url = ask.queue()
    assert ask.code(lambda: ask.send(url, DelaySeconds=901)).startswith("InvalidParameterValue")


def test_more_than_ten_at_once_is_refused(ask):
    url = ask.queue()
    assert ask.code(lambda: ask.receive(url, 11)).startswith(("InvalidParameterValue", "ReadCountOutOfRange"))


def test_a_fifo_group_is_locked_while_one_of_it_is_in_flight(ask):
    url = ask.queue(FifoQueue="true", ContentBasedDeduplication="true")
    for number in range(6):
        ask.send(url, f"{number % 2}-{number}", MessageGroupId=str(number % 2))
    [first] = ask.receive(url, 1)
    others = [message["Body"] for message in ask.receive(url)]
    assert all(body[0] != first["Body"][0] for body in others)
    assert others == sorted(others)


def test_fifo_deduplication(ask):
    url = ask.queue(FifoQueue="true")
    for _ in range(3):
        ask.send(url, MessageGroupId="g", MessageDeduplicationId="d")
    assert len(ask.receive(url)) == 1


def test_fifo_takes_no_delay_for_one_message(ask):
    url = ask.queue(FifoQueue="true")
    code = ask.code(lambda: ask.send(url, MessageGroupId="g", MessageDeduplicationId="d", DelaySeconds=5))
    assert code.startswith("InvalidParameterValue")


def test_standard_queues_take_a_group(ask):
    url = ask.queue()
    ask.send(url, MessageGroupId="tenant1")
    [message] = ask.receive(url, AttributeNames=["All"])
    assert message["Attributes"].get("MessageGroupId") == "tenant1"


def test_a_group_is_named_by_letters_digits_and_punctuation(ask):
    url = ask.queue(FifoQueue="true", ContentBasedDeduplication="true")
    for group in ("a b", "é", "x" * 129):
        code = ask.code(lambda group=group: ask.send(url, MessageGroupId=group))
        assert code.startswith("InvalidParameterValue"), group


def poisoned(ask):
    letters = ask.queue("dlq")
    arn = ask.client.get_queue_attributes(QueueUrl=letters, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "2"})
    url = ask.queue(VisibilityTimeout=1, RedrivePolicy=policy)
    ask.send(url, "poison")
    for _ in range(3):
        for message in ask.receive(url):
            ask.show(url, message)
    return url, letters, arn


def test_redrive_to_a_dead_letter_queue(ask):
    url, letters, _ = poisoned(ask)
    assert ask.receive(letters, wait=2)
    assert not ask.receive(url)


def test_start_message_move_task_moves_them_back(ask):
    url, _, arn = poisoned(ask)
    ask.client.start_message_move_task(SourceArn=arn)
    assert ask.receive(url, wait=4)


def test_a_batch_may_fail_in_part(ask):
    url = ask.queue()
    entries = [{"Id": "a", "MessageBody": "ok"}, {"Id": "b", "MessageBody": "x", "DelaySeconds": 5000}]
    answer = ask.client.send_message_batch(QueueUrl=url, Entries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["a"]
    assert [entry["Id"] for entry in answer["Failed"]] == ["b"]


def test_eleven_entries_are_too_many(ask):
    url = ask.queue()
    entries = [{"Id": str(number), "MessageBody": "x"} for number in range(11)]
    code = ask.code(lambda: ask.client.send_message_batch(QueueUrl=url, Entries=entries))
    assert "TooManyEntriesInBatchRequest" in code


def test_entry_ids_must_differ(ask):
    url = ask.queue()
    entries = [{"Id": "a", "MessageBody": "x"}] * 2
    code = ask.code(lambda: ask.client.send_message_batch(QueueUrl=url, Entries=entries))
    assert "BatchEntryIdsNotDistinct" in code


BATCHES = {
    "send_message_batch": {"Id": "1", "MessageBody": "x"},
    "delete_message_batch": {"Id": "1", "ReceiptHandle": "x"},
    "change_message_visibility_batch": {"Id": "1", "ReceiptHandle": "x", "VisibilityTimeout": 1},
}


@pytest.mark.parametrize("action", BATCHES)
def test_a_batch_for_a_queue_that_is_not_there_fails_as_a_whole(ask, action):
    url = ask.queue().rsplit("/", 1)[0] + "/absent"

    code = ask.code(lambda: getattr(ask.client, action)(QueueUrl=url, Entries=[BATCHES[action]]))

    assert code == "AWS.SimpleQueueService.NonExistentQueue"


def test_deleting_in_batches_with_one_bad_handle(ask):
    url = ask.queue()
    ask.send(url)
    [message] = ask.receive(url)
    entries = [{"Id": "a", "ReceiptHandle": message["ReceiptHandle"]}, {"Id": "b", "ReceiptHandle": "junk"}]
    answer = ask.client.delete_message_batch(QueueUrl=url, Entries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["a"]
    assert [entry["Id"] for entry in answer["Failed"]] == ["b"]


def test_deleting_by_junk_is_an_error(ask):
    url = ask.queue()
    assert "ReceiptHandleIsInvalid" in ask.code(lambda: ask.client.delete_message(QueueUrl=url, ReceiptHandle="junk"))


def test_message_attributes_of_all_kinds(ask):
    url = ask.queue()
    attributes = {
        "s": {"DataType": "String", "StringValue": "v"},
        "b": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
        "n": {"DataType": "Number", "StringValue": "5"},
    }
    ask.send(url, MessageAttributes=attributes)
    [message] = ask.receive(url, MessageAttributeNames=["All"], AttributeNames=["All"])
    assert message["MessageAttributes"]["b"]["BinaryValue"] == b"\x00\x01"
    assert "SentTimestamp" in message["Attributes"]
    assert "MD5OfMessageAttributes" in message


def test_a_mebibyte_is_taken(ask):
    url = ask.queue()
    assert ask.code(lambda: ask.send(url, "x" * 1_048_576)) == "no error"


def test_more_than_a_mebibyte_is_refused(ask):
    url = ask.queue()
    assert ask.code(lambda: ask.send(url, "x" * 1_048_577)).startswith("InvalidParameterValue")


def test_a_batch_of_more_than_a_mebibyte_is_refused(ask):
    url = ask.queue()
    entries = [{"Id": str(number), "MessageBody": "x" * 400_000} for number in range(3)]
    code = ask.code(lambda: ask.client.send_message_batch(QueueUrl=url, Entries=entries))
    assert "BatchRequestTooLong" in code


def test_control_characters_are_refused(ask):
    url = ask.queue()
    assert "InvalidMessageContents" in ask.code(lambda: ask.send(url, "a\x00b"))


def test_illegal_queue_names_are_refused(ask):
    for name in ("a.b", "a b", "x" * 81, "a/b", "café"):
        assert ask.code(lambda name=name: ask.client.create_queue(QueueName=name)) != "no error", name


def test_a_queue_that_does_not_exist(ask):
    missing = f"nope-{ask.run}"
    by_name = ask.code(lambda: ask.client.get_queue_url(QueueName=missing))
    by_url = ask.code(lambda: ask.send(f"{ask.endpoint}/000000000000/{missing}"))
    assert by_name == by_url == "AWS.SimpleQueueService.NonExistentQueue"


def test_creating_a_queue_twice(ask):
    name = f"conf-{ask.run}"
    ask.client.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "30"})
    same = ask.code(lambda: ask.client.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "30"}))
    other = ask.code(lambda: ask.client.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "60"}))
    assert same == "no error"
    assert other in ("QueueAlreadyExists", "QueueNameExists")


def test_list_queues_has_pages(ask):
    prefix = f"page-{ask.run}"
    for number in range(5):
        ask.client.create_queue(QueueName=f"{prefix}-{number}")
    answer = ask.client.list_queues(QueueNamePrefix=prefix, MaxResults=2)
    pages = [answer["QueueUrls"]]
    while answer.get("NextToken"):
        answer = ask.client.list_queues(QueueNamePrefix=prefix, MaxResults=2, NextToken=answer["NextToken"])
        pages.append(answer["QueueUrls"])
    assert [len(page) for page in pages] == [2, 2, 1]


def test_approximate_counts(ask):
    url = ask.queue()
    for number in range(3):
        ask.send(url, str(number))
    ask.receive(url, 1)
    ask.send(url, DelaySeconds=60)
    attributes = ask.client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    counts = [attributes[f"ApproximateNumberOfMessages{kind}"] for kind in ("", "NotVisible", "Delayed")]
    assert counts == ["2", "1", "1"]


def test_purging(ask):
    url = ask.queue()
    for number in range(3):
        ask.send(url, str(number))
    ask.client.purge_queue(QueueUrl=url)
    assert not ask.receive(url, wait=1)


def test_tags(ask):
    url = ask.client.create_queue(QueueName=f"tags-{ask.run}", tags={"a": "1"})["QueueUrl"]
    assert ask.client.list_queue_tags(QueueUrl=url)["Tags"] == {"a": "1"}


def test_a_fifo_receive_whose_answer_was_lost_is_made_again_by_its_attempt_id(ask):
    url = ask.queue(FifoQueue="true", ContentBasedDeduplication="true", VisibilityTimeout=60)
    for number in range(3):
        ask.send(url, str(number), MessageGroupId="g")
    first = ask.receive(url, 2, ReceiveRequestAttemptId="one")
    again = ask.receive(url, 2, ReceiveRequestAttemptId="one")
    assert [message["MessageId"] for message in again] == [message["MessageId"] for message in first]
    assert [message["ReceiptHandle"] for message in again] == [message["ReceiptHandle"] for message in first]
