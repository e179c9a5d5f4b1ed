"""The SQS half of the stand-in: standard queues over the AWS JSON protocol, with a dead-letter queue. The queues
themselves are in standin_fair.py.

An action is a function of (sqs, arguments) that returns the JSON answer or raises SQSError; ReceiveMessage is a
coroutine, because it waits.
"""

import asyncio
import hashlib
import itertools
import json
import re
import time
from collections.abc import Callable
from typing import Any

from standin_fair import Message, Queue
from standin_store import ACCOUNT, Answer, Request, S3Error

MAX_DELAY = 900
MAX_VISIBILITY = 43_200  # 12 hours
GROUP_ID = "[!-~]{0,128}"
MAX_WAIT = 20
MAX_BATCH = 10

Arguments = dict[str, Any]

# error of the API model: code of the older query protocol, which botocore reports (header x-amzn-query-error)
ERRORS = {
    "BatchEntryIdsNotDistinct": "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    "EmptyBatchRequest": "AWS.SimpleQueueService.EmptyBatchRequest",
    "InvalidParameterValue": "InvalidParameterValue",
    "MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "ReceiptHandleIsInvalid": "ReceiptHandleIsInvalid",
    "TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
    "UnsupportedOperation": "AWS.SimpleQueueService.UnsupportedOperation",
}


class SQSError(S3Error):
    def answer(self) -> Answer:
        error = {"__type": f"com.amazonaws.sqs#{self.code}", "message": self.message}
        return json_answer(error, self.status, {"x-amzn-query-error": f"{ERRORS.get(self.code, self.code)};Sender"})


def json_answer(result: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(
        status, json.dumps(result).encode(), {"content-type": "application/x-amz-json-1.0", **(headers or {})}
    )


class SQS:
    def __init__(self, now: Callable[[], float] = time.time, message: type[Message] = Message) -> None:
        self.now, self.message = now, message
        self.queues: dict[str, Queue] = {}
        self.numbers = itertools.count(1)  # of messages
        self.url = ""  # http://127.0.0.1:PORT
        self.empty_poll: float | None = None  # seconds, see poll_seconds

    def send(self, queue: Queue, body: str, delay: float = 0.0, group: str = "") -> Message:
        now = self.now()
        message = self.message(str(next(self.numbers)), body, now, now + delay, group=group)
        queue.add(message)
        return message

    def queue(self, arguments: Arguments) -> Queue:
        queue = self.queues.get(arguments["QueueUrl"].rsplit("/", 1)[-1])
        if queue is None:
            raise SQSError("QueueDoesNotExist")
        return queue

    def take(self, queue: Queue, limit: int, visibility_timeout: int) -> list[Message]:
        """Receive up to `limit` messages. One that was received max_receive_count times already goes to the
        dead-letter queue instead (SQS Developer Guide, sqs-dead-letter-queues)."""
        now = self.now()
        taken: list[Message] = []
        while len(taken) < limit:
            message = queue.take_next(now)
            if message is None:
                break
            if 0 < queue.max_receive_count <= message.receives:
                self.move_to_dead_letter_queue(queue, message)
                continue
            message.receives += 1
            message.received_at = now
            queue.count_in_flight(message, 1)
            taken.append(message)
        for message in taken:  # only now, or a visibility timeout of 0 would give a message twice
            queue.show_at(message, now + visibility_timeout)
        return taken

    def move_to_dead_letter_queue(self, queue: Queue, message: Message) -> None:
        queue.remove(message)
        message.visible_at = self.now()
        self.queues[queue.dead_letter_queue].add(message)


def check_range(arguments: Arguments, name: str, low: int, high: int, default: int) -> int:
    value = int(arguments.get(name, default))
    if not low <= value <= high:
        raise SQSError("InvalidParameterValue", f"{name}={value} is not {low} to {high}")
    return value


# ---------------------------------------------------------------- queues


def create_queue(sqs: SQS, arguments: Arguments) -> Arguments:
    name, attributes = arguments["QueueName"], arguments.get("Attributes", {})
    queue = sqs.queues.setdefault(name, Queue(name))
    queue.visibility_timeout = int(attributes.get("VisibilityTimeout", 30))
    if "RedrivePolicy" in attributes:
        policy = json.loads(attributes["RedrivePolicy"])
        queue.max_receive_count = int(policy["maxReceiveCount"])
        queue.dead_letter_queue = policy["deadLetterTargetArn"].rsplit(":", 1)[-1]
    return {"QueueUrl": queue_url(sqs, queue)}


def queue_url(sqs: SQS, queue: Queue) -> str:
    return f"{sqs.url}/{ACCOUNT}/{queue.name}"


def get_queue_attributes(sqs: SQS, arguments: Arguments) -> Arguments:
    queue, asked = sqs.queue(arguments), set(arguments.get("AttributeNames", []))
    attributes = {
        "QueueArn": queue.arn,
        "VisibilityTimeout": str(queue.visibility_timeout),
        **{name: str(count) for name, count in depth(queue, sqs.now()).items()},
    }
    return {"Attributes": {name: value for name, value in attributes.items() if "All" in asked or name in asked}}


def depth(queue: Queue, now: float) -> dict[str, int]:
    hidden = [message for message in queue.messages.values() if message.visible_at > now]
    in_flight = sum(1 for message in hidden if message.received_at)
    return {
        "ApproximateNumberOfMessages": len(queue.messages) - len(hidden),
        "ApproximateNumberOfMessagesNotVisible": in_flight,
        "ApproximateNumberOfMessagesDelayed": len(hidden) - in_flight,
    }


# ---------------------------------------------------------------- messages


def send_message(sqs: SQS, arguments: Arguments) -> Arguments:
    queue = sqs.queue(arguments)
    delay = check_range(arguments, "DelaySeconds", 0, MAX_DELAY, 0)
    group = arguments.get("MessageGroupId", "")
    if not re.fullmatch(GROUP_ID, group):
        raise SQSError("InvalidParameterValue")
    message = sqs.send(queue, arguments["MessageBody"], delay, group)
    return {"MessageId": message.id, "MD5OfMessageBody": md5(message.body.encode())}


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


async def receive_message(sqs: SQS, arguments: Arguments) -> Arguments:
    queue = sqs.queue(arguments)
    limit = check_range(arguments, "MaxNumberOfMessages", 1, MAX_BATCH, 1)
    wait = check_range(arguments, "WaitTimeSeconds", 0, MAX_WAIT, 0)
    visibility = check_range(arguments, "VisibilityTimeout", 0, MAX_VISIBILITY, queue.visibility_timeout)
    began = time.time()
    while not (taken := sqs.take(queue, limit, visibility)):
        deadline = began + poll_seconds(sqs, queue, wait)
        if time.time() >= deadline:
            break
        queue.changed.clear()
        coming = queue.next_change()
        wake = min(deadline, coming) if coming else deadline
        try:
            await asyncio.wait_for(queue.changed.wait(), max(wake - time.time(), 0.001))
        except TimeoutError:
            continue
    return all_received(queue, taken, arguments)


def all_received(queue: Queue, taken: list[Message], arguments: Arguments) -> Arguments:
    asked = {*arguments.get("MessageSystemAttributeNames", []), *arguments.get("AttributeNames", [])}
    return {"Messages": [received(queue, message, asked) for message in taken]} if taken else {}


def poll_seconds(sqs: SQS, queue: Queue, wait: int) -> float:
    """How long a poll without an answer may last: shorter, if that is set, while the queue holds no message at all.

    A message that is delayed or in flight may become visible, so it keeps the poll as long as it was asked for.
    """
    return wait if sqs.empty_poll is None or queue.messages else min(wait, sqs.empty_poll)


def received(queue: Queue, message: Message, asked: set[str]) -> Arguments:
    attributes = {
        "ApproximateReceiveCount": str(message.receives),
        "SentTimestamp": str(int(message.sent_at * 1000)),
    }
    if message.group:
        attributes["MessageGroupId"] = message.group
    answer: Arguments = {
        "MessageId": message.id,
        "ReceiptHandle": receipt_handle(queue, message),
        "Body": message.body,
        "MD5OfBody": md5(message.body.encode()),
    }
    if chosen := {name: value for name, value in attributes.items() if name in asked or "All" in asked}:
        answer["Attributes"] = chosen
    return answer


def receipt_handle(queue: Queue, message: Message) -> str:
    """A handle names one receive of a message: the next receive has another one."""
    return f"{queue.name} {message.id} {message.receives}"


def find_message(queue: Queue, handle: str) -> Message | None:
    """The message of a handle, or None when it is deleted or was received again since."""
    try:
        name, message_id, receives = handle.split(" ")
        if name != queue.name:
            raise ValueError(name)
    except ValueError:
        raise SQSError("ReceiptHandleIsInvalid") from None
    message = queue.messages.get(message_id)
    return message if message and message.receives == int(receives) else None


def delete_message(sqs: SQS, arguments: Arguments) -> Arguments:
    """An old handle is answered with success and deletes nothing (SQS API reference, DeleteMessage)."""
    queue = sqs.queue(arguments)
    if message := find_message(queue, arguments["ReceiptHandle"]):
        queue.remove(message)
    return {}


def change_message_visibility(sqs: SQS, arguments: Arguments) -> Arguments:
    """The total from the receive on is at most 12 hours (SQS API reference, ChangeMessageVisibility)."""
    queue, handle = sqs.queue(arguments), arguments["ReceiptHandle"]
    timeout = check_range(arguments, "VisibilityTimeout", 0, MAX_VISIBILITY, 0)
    message, now = find_message(queue, handle), sqs.now()
    if message is None:
        raise SQSError("InvalidParameterValue")
    if message.visible_at <= now:
        raise SQSError("MessageNotInflight")
    if now + timeout - message.received_at > MAX_VISIBILITY:
        raise SQSError("InvalidParameterValue")
    queue.show_at(message, now + timeout)
    return {}


def batch(action: Callable[[SQS, Arguments], Arguments]) -> Callable[[SQS, Arguments], Arguments]:
    """The batch form of an action: up to 10 entries, each of which may fail by itself."""

    def run(sqs: SQS, arguments: Arguments) -> Arguments:
        entries = arguments.get("Entries", [])
        if not entries:
            raise SQSError("EmptyBatchRequest")
        if len(entries) > MAX_BATCH:
            raise SQSError("TooManyEntriesInBatchRequest")
        if len({entry["Id"] for entry in entries}) < len(entries):
            raise SQSError("BatchEntryIdsNotDistinct")
        sqs.queue(arguments)
        answer: Arguments = {"Successful": [], "Failed": []}
        for entry in entries:
            try:
                result = action(sqs, {"QueueUrl": arguments["QueueUrl"], **entry})
                answer["Successful"].append({"Id": entry["Id"], **result})
            except SQSError as error:
                failure = {"Id": entry["Id"], "SenderFault": True, "Code": ERRORS[error.code], "Message": error.message}
                answer["Failed"].append(failure)
        return answer

    return run


ACTIONS: dict[str, Callable] = {
    "CreateQueue": create_queue,
    "GetQueueAttributes": get_queue_attributes,
    "SendMessage": send_message,
    "SendMessageBatch": batch(send_message),
    "ReceiveMessage": receive_message,
    "DeleteMessageBatch": batch(delete_message),
    "ChangeMessageVisibility": change_message_visibility,
    "ChangeMessageVisibilityBatch": batch(change_message_visibility),
}


def operation_of(request: Request) -> tuple[str, Callable]:
    name = request.headers["x-amz-target"].removeprefix("AmazonSQS.")
    return name, ACTIONS.get(name, unsupported)


def unsupported(_sqs: SQS, _arguments: Arguments) -> Arguments:
    raise SQSError("UnsupportedOperation", "The stand-in does not have this action.")
