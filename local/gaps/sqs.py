"""SQS: redrive of a dead-letter queue."""

from __future__ import annotations

import json
import time
import uuid

from ministack.services import sqs

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


sqs._HANDLERS |= {
    "StartMessageMoveTask": start_message_move_task,
    "ListMessageMoveTasks": list_message_move_tasks,
    "ListDeadLetterSourceQueues": list_dead_letter_source_queues,
}
