"""The attributes of both queues: what deploy.sh gives them, and what it takes away if somebody else has set it.

The path of events (launch/path.py) goes by the same rules. deploy.sh runs this file with the operator's Python, 3.7 or
newer. All of it is pure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from launch.policies import whole_policy

# An expiring message is counted from its first queue on, so both queues keep messages for the 14 days that SQS allows.
SECONDS = 1_209_600
# Of both queues: the value of an attribute, and whether messages may be lost with another.
QUEUES = {
    "MessageRetentionPeriod": (str(SECONDS), True),
    "ReceiveMessageWaitTimeSeconds": ("20", False),
    "SqsManagedSseEnabled": ("true", False),
    "DelaySeconds": ("0", False),
}
LARGEST_EVENT = 262_144  # bytes (EventBridge quotas); S3's own are smaller


def takes_large(have: Mapping[str, str]) -> bool:
    """Whether it takes each event. The limit of 256 KiB was SQS's own when older queues were made."""
    return int(have.get("MaximumMessageSize", LARGEST_EVENT)) >= LARGEST_EVENT


def takes_from(have: Mapping[str, str], queue: str) -> bool:
    """Whether a dead-letter queue takes messages of the queue with this ARN, as one does by itself."""
    allowed = json.loads(have.get("RedriveAllowPolicy") or "{}")
    takes_all = allowed.get("redrivePermission", "allowAll") == "allowAll"
    return takes_all or queue in allowed.get("sourceQueueArns", [])


def repairs(have: Mapping[str, str], queue: str, is_dead_letters: bool) -> dict[str, str]:
    """For what somebody may have set, and a queue of ours may not have. A redrive policy of the dead-letter queue takes
    its messages away when somebody looks at them. An empty text ends it, as other tools do it, because the SQS API
    reference (SetQueueAttributes) does not say how."""
    found = {}
    if have.get("KmsMasterKeyId"):
        found["KmsMasterKeyId"] = ""
    if not takes_large(have):
        found["MaximumMessageSize"] = str(LARGEST_EVENT)
    if is_dead_letters and have.get("RedrivePolicy"):
        found["RedrivePolicy"] = ""
    if is_dead_letters and not takes_from(have, queue):
        found["RedriveAllowPolicy"] = '{"redrivePermission":"allowAll"}'
    return found


def main() -> None:
    """Reads JSON: `have`, what SQS answers of the queue, or null; `policy`, our statements, or null for the dead-letter
    queue; and the settings. Prints the attributes that the queue is to have, and which statements are of others."""
    given = json.load(sys.stdin)
    have, policy = (given["have"] or {}).get("Attributes", {}), given["policy"]
    want = {name: value for name, (value, _) in QUEUES.items()}
    want.update(repairs(have, given["queue"], is_dead_letters=not policy))
    theirs = []

    if policy:
        whole = whole_policy(json.loads(have.get("Policy") or "null"), policy, given["own"])
        theirs = whole["theirs"]
        redrive = {"deadLetterTargetArn": given["dead_letters"], "maxReceiveCount": int(given["receives"])}
        own = {"Policy": json.dumps(whole["policy"]), "RedrivePolicy": json.dumps(redrive)}
        want.update(own, VisibilityTimeout=given["visibility"])
    print(json.dumps({"attributes": want, "theirs": theirs}))


if __name__ == "__main__":
    main()
