"""What deploy.sh makes of the path of events (launch/path.py), in short: the function knows it as its variable GUARD.

All of it is pure, and the operator's Python runs it as well.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from launch.policies import DIGITS, digest, digest_without_sid


def values_of_filters(notifications: Iterable[Mapping[str, Any]]) -> list[str]:
    """The prefixes, and what else they have a filter of: a suffix is none of ours."""
    values = []
    for notification in notifications:
        key = notification.get("Filter", {}).get("Key", {})
        for rule in filter(itemgetter("Value"), key.get("FilterRules", [])):
            kind = rule["Name"].lower()
            values.append(rule["Value"] if kind == "prefix" else f"{kind}={rule['Value']}")
    return sorted(values)


def condense(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What deploy.sh makes, in short. A function of 1.1.0 does not know the prefixes, so they are not compared, and
    none of an older release than 1.3.0 knows the attributes of the queue."""
    is_known = wanted.get("is_known", True)
    return {
        "notifications": len(wanted["notifications"]),
        "filters": digest(values_of_filters(wanted["notifications"])) if is_known else None,
        "pattern": digest(wanted["pattern"]) if is_known else None,
        "policies": {one["Sid"]: digest_without_sid(one) for one in wanted["policy"]["Statement"]},
        "queue": wanted.get("queue"),  # None: not known
    }


def in_words(want: Mapping[str, Any]) -> str:
    """The same for the function's variable, as quotes in JSON would count twice."""
    queue = want["queue"]
    words = (
        want["notifications"],
        want["filters"],
        want["pattern"],
        want["policies"]["s3-events"],
        want["policies"]["eventbridge"],
        f"{queue['VisibilityTimeout']},{queue['maxReceiveCount']}",
    )
    return " ".join(map(str, words))


def from_words(text: str) -> dict[str, Any]:
    """`text`: GUARD. That of 1.2.0 has longer digests, and nothing on the queue."""
    notifications, *words = text.split(" ")
    filters, pattern, s3_events, eventbridge = (word[:DIGITS] for word in words[:4])
    return {
        "notifications": int(notifications),
        "filters": filters,
        "pattern": pattern,
        "policies": {"s3-events": s3_events, "eventbridge": eventbridge},
        "queue": queue_of_words(text),
    }


def queue_of_words(text: str) -> dict[str, str] | None:
    found = re.search(r" (\d+),(\d+)$", text)
    return {"VisibilityTimeout": found[1], "maxReceiveCount": found[2]} if found else None


def main() -> None:
    """Reads JSON, prints the variables by which the function knows what deploy.sh makes."""
    given = json.load(sys.stdin)
    mail = digest(given["mail"]) if given.get("mail") else None
    print(json.dumps({"GUARD": in_words(condense(given)), "ALARMS_TO": mail}))


if __name__ == "__main__":
    main()
