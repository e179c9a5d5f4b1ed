"""The rules of SQS that this project relies on, for a standard queue: see Rule in faces.py. Three receives are the most
before a message is a dead letter.
"""

from collections.abc import Callable
from operator import methodcaller as do
from typing import Any

from faces import CLOUD, STANDIN, Queues, Rule, left_out, steps

HIDDEN, DELETING = "Guide, sqs-visibility-timeout", "API, DeleteMessage"
CHANGING, DEAD = "API, ChangeMessageVisibility", "Guide, sqs-dead-letter-queues"
BATCHES, DELAYED, FAIR = "API, SendMessageBatch", "API, SendMessage, DelaySeconds", "Guide, sqs-fair-queues"
NOISY = 30  # in flight


nothing, one = steps(), do("send")
received = steps(one, do("receive"))
received_twice = steps(one, do("receive", VisibilityTimeout=0), do("receive"))
back, deleted = steps(received, do("hide", 0)), steps(received, do("delete"))


def of_groups(**counts: int) -> Callable[[Any], Any]:
    """So many messages of each group; those of `live` have none."""
    sends = []
    for name, count in counts.items():
        group = {} if name == "live" else {"MessageGroupId": name}
        sends += [do("send", name, **group)] * count
    return steps(*sends)


def after(count: int, then: int) -> Callable[[Queues], list[str]]:
    """The next messages, once that many are in flight."""

    return lambda q: [q.receive(1)[0] for _ in range(count + then)][count:]


def longer(q: Queues) -> list[str]:
    entries = [{"ReceiptHandle": handle, "VisibilityTimeout": 50} for handle in (*q.handles, "x")]
    return q.batch("change_message_visibility_batch", *entries)


def moved_back(q: Any) -> list[Any]:
    """Whose dead letter it is, how its move ended, and what it is received as then."""
    sources = q.call("list_dead_letter_source_queues", QueueUrl=q.dead_url)["queueUrls"]
    dead = q.attributes(q.dead_url)["QueueArn"]
    q.call("start_message_move_task", SourceArn=dead)
    (move,) = q.call("list_message_move_tasks", SourceArn=dead)["Results"]
    q.taken = []
    q.receive()
    received_as = q.told("ApproximateReceiveCount") + q.told("MessageGroupId")
    return [sources == [q.url], move["Status"], move["ApproximateNumberOfMessagesMoved"], *received_as]


RULES = (
    Rule("a message that was received is hidden", HIDDEN, received, Queues.receive, [], "1 hidden"),
    Rule("until its visibility timeout ends", HIDDEN, steps(one, do("receive", VisibilityTimeout=0)), Queues.receive,
         ["a"], "1 hidden"),
    Rule("or is made 0", HIDDEN, back, Queues.receive, ["a"], "1 hidden"),
    Rule("each receive counts", "API, ReceiveMessage", received_twice,
         lambda q: q.told("ApproximateReceiveCount"), ["1", "2"], "1 hidden"),
    Rule("each receive has a handle of its own", "Guide, sqs-queue-message-identifiers", received_twice,
         lambda q: len(set(q.handles)), 2, "1 hidden"),
    Rule("a receive takes ten at most", "API, ReceiveMessage", lambda q: [q.send() for _ in range(11)],
         lambda q: len(q.receive()), 10, "1 visible 10 hidden"),
    Rule("a handle deletes its message", DELETING, received, Queues.delete, [""]),
    Rule("a message may be deleted twice", DELETING, deleted, Queues.delete, [""]),
    Rule("an old handle deletes nothing, and is no error", DELETING, received_twice, lambda q: q.delete(0), [""],
         "1 hidden"),
    Rule("what is hidden may be hidden for longer", CHANGING, received, lambda q: q.hide(900), None, "1 hidden"),
    Rule("for 12 hours in all", CHANGING, received, lambda q: q.hide(43_201), "InvalidParameterValue", "1 hidden"),
    Rule("what is visible again is not hidden by its handle", CHANGING, back, lambda q: q.hide(5),
         "MessageNotInflight", "1 visible"),
    Rule("what is deleted is not hidden", CHANGING, deleted, lambda q: q.hide(5), "InvalidParameterValue"),
    Rule("an old handle hides nothing", CHANGING, received_twice, lambda q: q.hide(5, 0), "InvalidParameterValue",
         "1 hidden"),
    Rule("a message may come later", DELAYED, lambda q: q.send(DelaySeconds=900), Queues.receive, [], "1 hidden"),
    Rule("after three receives it is a dead letter", DEAD, one,
         lambda q: [q.receive(VisibilityTimeout=0) for _ in range(4)], [["a"], ["a"], ["a"], []], "1 dead"),
    *left_out(STANDIN, "moves nothing back, which only people ask for",
        Rule("a dead letter goes back as new to the queue that it is of", "API, StartMessageMoveTask",
             steps(do("send", MessageGroupId="g"), lambda q: [q.receive(VisibilityTimeout=0) for _ in range(4)]),
             moved_back, [True, "COMPLETED", 1, "1", "g"], "1 hidden")),
    Rule("a message has a group", "API, SendMessage, MessageGroupId", lambda q: q.send(MessageGroupId="g"),
         lambda q: (q.receive(), q.told("MessageGroupId"))[1], ["g"], "1 hidden"),
    Rule("a long poll waits for what is delayed", "Guide, sqs-short-and-long-polling",
         lambda q: q.send(DelaySeconds=1), lambda q: q.receive(WaitTimeSeconds=20), ["a"], "1 hidden"),
    Rule("a delay is 15 minutes at most", DELAYED, nothing, lambda q: q.send(DelaySeconds=901),
         "InvalidParameterValue"),
    Rule("entries that are sent fail one by one", BATCHES, nothing, lambda q: q.batch(
         "send_message_batch", {"MessageBody": "a"}, {"MessageBody": "b", "DelaySeconds": 901}),
         ["", "InvalidParameterValue"], "1 visible"),
    Rule("entries that are hidden fail one by one", "API, ChangeMessageVisibilityBatch", received_twice, longer,
         ["InvalidParameterValue", "", "ReceiptHandleIsInvalid"], "1 hidden"),
    Rule("entries that are deleted fail one by one", "API, DeleteMessageBatch", received, lambda q: q.batch(
         "delete_message_batch", {"ReceiptHandle": q.handles[0]}, {"ReceiptHandle": "x"}),
         ["", "ReceiptHandleIsInvalid"]),
    Rule("a batch is not empty", BATCHES, one, lambda q: q.batch("send_message_batch"), "EmptyBatchRequest",
         "1 visible"),
    Rule("a batch has ten entries at most", BATCHES, one,
         lambda q: q.batch("send_message_batch", *[{"MessageBody": "a"}] * 11), "TooManyEntriesInBatchRequest",
         "1 visible"),
    Rule("entries have names of their own", BATCHES, one,
         lambda q: q.batch("send_message_batch", *[{"MessageBody": "a", "Id": "1"}] * 2),
         "BatchEntryIdsNotDistinct", "1 visible"),
    Rule("no receive is of eleven", "API, ReceiveMessage", one, lambda q: q.receive(11), "InvalidParameterValue",
         "1 visible"),
    Rule("a queue that is not there is named as such", "API, ReceiveMessage", one,
         lambda q: q.call("receive_message", QueueUrl=q.other_url), "NonExistentQueue", "1 visible"),
    Rule("a group has no blanks", "API, SendMessage, MessageGroupId", nothing,
         lambda q: q.send(MessageGroupId="a b"), "InvalidParameterValue"),
    *left_out(CLOUD, "gives the oldest message first, whatever its group",
        Rule("a noisy group lets the others go first", FAIR, of_groups(b=40, live=1), after(NOISY, 2),
             ["live", "b"], f"9 visible {NOISY + 2} hidden"),
        Rule("of two noisy groups the one with fewer in flight goes first", FAIR, of_groups(a=33, b=40),
             after(2 * NOISY, 2), ["a", "b"], f"11 visible {2 * NOISY + 2} hidden")),
    Rule("a group is not noisy with fewer in flight", FAIR, of_groups(b=40, live=1), after(NOISY - 1, 1), ["b"],
         f"11 visible {NOISY} hidden"),
    Rule("what has no group is never noisy", FAIR, of_groups(live=40, b=1), after(NOISY, 1), ["live"],
         f"10 visible {NOISY + 1} hidden"),
)  # fmt: skip
