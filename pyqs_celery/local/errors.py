"""The errors SQS answers with, by the names of its API, and their older query codes."""

from __future__ import annotations

QUERY_CODES = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueNameExists": "QueueAlreadyExists",
    "MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
    "EmptyBatchRequest": "AWS.SimpleQueueService.EmptyBatchRequest",
    "TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
    "BatchRequestTooLong": "AWS.SimpleQueueService.BatchRequestTooLong",
    "BatchEntryIdsNotDistinct": "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    "InvalidBatchEntryId": "AWS.SimpleQueueService.InvalidBatchEntryId",
    "PurgeQueueInProgress": "AWS.SimpleQueueService.PurgeQueueInProgress",
    "UnsupportedOperation": "AWS.SimpleQueueService.UnsupportedOperation",
}


class ApiError(Exception):
    """A request is refused; ``code`` is SQS's name for the reason."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status

    @property
    def query_code(self) -> str:
        """The code as boto3 shows it (header ``x-amzn-query-error``)."""
        return QUERY_CODES.get(self.code, self.code)


def invalid(message: str) -> ApiError:
    """InvalidParameterValue with ``message``."""
    return ApiError("InvalidParameterValue", message)


def missing(name: str) -> ApiError:
    """MissingParameter for ``name``."""
    return ApiError("MissingParameter", f"The request must contain the parameter {name}.")
