"""SQS: redrive of a dead-letter queue, old receipt handles, and what is out of range."""

from __future__ import annotations

import json
import re
import time
import uuid

from ministack.services import sqs

from gaps import replaces

LONGEST_DELAY, LONGEST_VISIBILITY = 900, 43_200  # seconds
GROUP_ID = re.compile("[!-~]{0,128}")
RECEIPT_HANDLE = re.compile("[0-9a-f-]{36}")  # ministack's

moves = []  # the latest first


def queue_of(arn):
    """Return ministack's record of the queue or raise the error SQS answers with."""
    queue = sqs._queue_by_arn(arn)
    if queue is None:
        raise sqs._Err("ResourceNotFoundException", f"The resource that you specified doesn't exist: {arn}", 404)
    return queue


def start_message_move_task(data, _url):
    """Move every visible message to the given queue, or back to where it came from, as a new message."""
    source = queue_of(data["SourceArn"])
    moved = sqs._collect_msgs(source, len(source["messages"]), 0)
    for message in moved:
        origin = message["sys"].get("DeadLetterQueueSourceArn", "")
        queue_of(data.get("DestinationArn") or origin)["messages"].append(message)
        source["messages"].remove(message)
        message["sys"].pop("DeadLetterQueueSourceArn", None)
        message.update(receive_count=0, receipt_handle=None, first_receive_at=None, visible_at=time.time())
    moves.insert(0, {**data, "TaskHandle": str(uuid.uuid4()), "Status": "COMPLETED"})
    counts = {"ApproximateNumberOfMessagesMoved": len(moved), "ApproximateNumberOfMessagesToMove": len(moved)}
    moves[0] |= {**counts, "StartedTimestamp": int(time.time() * 1000)}
    return {"TaskHandle": moves[0]["TaskHandle"]}


def list_message_move_tasks(data, _url):
    """Return the latest moves out of a queue, one unless more are asked for."""
    return {"Results": [m for m in moves if m["SourceArn"] == data["SourceArn"]][: data.get("MaxResults", 1)]}


def list_dead_letter_source_queues(_data, url):
    """Return the queues whose dead-letter queue this is."""
    arn = sqs._get_q(url)["attributes"]["QueueArn"]
    policies = {u: json.loads(q["attributes"].get("RedrivePolicy", "{}")) for u, q in sqs._queues.items()}
    return {
        "queueUrls": [
            sqs._externalize_url(u) for u, policy in policies.items() if policy.get("deadLetterTargetArn") == arn
        ]
    }


def check_range(data, name, most):
    """Raise the error SQS answers with when a number is out of its range."""
    if not 0 <= int(data.get(name) or 0) <= most:
        reason = f"Reason: Must be between 0 and {most}, if provided."
        raise sqs._Err("InvalidParameterValue", f"Value {data[name]} for parameter {name} is invalid. {reason}")


@replaces(sqs, "_act_send_message")
def send_message(original, data, url):
    """Refuse what is out of range (SQS API Reference, SendMessage)."""
    check_range(data, "DelaySeconds", LONGEST_DELAY)
    if not GROUP_ID.fullmatch(data.get("MessageGroupId") or ""):
        raise sqs._Err("InvalidParameterValue", "The parameter MessageGroupId is invalid.")
    return original(data, url)


def received(data, url, action):
    """Return the queue and the message of a receipt handle: None if it is deleted or was received again since."""
    queue = sqs._get_q(data.get("QueueUrl", url), action)
    handle = data.get("ReceiptHandle", "")
    if not RECEIPT_HANDLE.fullmatch(handle):
        raise sqs._Err("ReceiptHandleIsInvalid", f'The input receipt handle "{handle}" is not valid.')

    found = (message for message in queue["messages"] if message["receipt_handle"] == handle)
    return queue, next(found, None)


def delete_message(data, url):
    """With an old receipt handle this deletes nothing and is no error (SQS API Reference, DeleteMessage)."""
    queue, message = received(data, url, "sqs:DeleteMessage")
    if message:
        queue["messages"].remove(message)
    return {}


def change_message_visibility(data, url):
    """Hide only what is in flight (SQS API Reference, ChangeMessageVisibility)."""
    _, message = received(data, url, "sqs:ChangeMessageVisibility")
    check_range(data, "VisibilityTimeout", LONGEST_VISIBILITY)
    if message is None:
        reason = "Reason: Message does not exist or is not available for visibility timeout change."
        raise sqs._Err("InvalidParameterValue", f"The parameter ReceiptHandle is invalid. {reason}")
    if message["visible_at"] <= time.time():
        raise sqs._Err("MessageNotInflight", "The specified message isn't in flight.")
    message["visible_at"] = time.time() + int(data["VisibilityTimeout"])
    sqs.esm_wake.set()
    return {}


def in_batch(action):
    """Return the action for up to ten entries, each of which may fail by itself."""

    def run(data, url):
        entries, answer = data.get("Entries", []), {"Successful": [], "Failed": []}
        sqs._validate_batch_entries(entries, "BatchRequestEntry")
        for entry in entries:
            try:
                action({"QueueUrl": data.get("QueueUrl", url), **entry}, url)
                answer["Successful"].append({"Id": entry["Id"]})
            except sqs._Err as error:
                failed = {"Id": entry["Id"], "Code": error.code, "Message": error.message, "SenderFault": True}
                answer["Failed"].append(failed)
        return answer

    return run


sqs._HANDLERS |= {
    "SendMessage": send_message,
    "DeleteMessage": delete_message,
    "DeleteMessageBatch": in_batch(delete_message),
    "ChangeMessageVisibility": change_message_visibility,
    "ChangeMessageVisibilityBatch": in_batch(change_message_visibility),
    "StartMessageMoveTask": start_message_move_task,
    "ListMessageMoveTasks": list_message_move_tasks,
    "ListDeadLetterSourceQueues": list_dead_letter_source_queues,
}
