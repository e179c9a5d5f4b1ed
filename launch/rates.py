"""What LAMBDA_POLL_RATE decides beside the schedule: how long a message waits for a worker while all is well, from when
on that is too long, and whether ECS forgets a task before the next run.

./deploy.sh (lib/resources/alarms.sh), ./sync.sh status and the starter go by it. All of it is pure. The operator's
Python runs this file, 3.9 or newer.
"""

from __future__ import annotations

import json
import sys

# From the run of the starter until a worker receives: Spot has five minutes to find room, then a task on demand may be
# pending for some minutes.
START_SECONDS = 600
# An alarm on three periods of five minutes needs more than this: the end of one, all of the next, the beginning of the
# third.
UNNOTICED_SECONDS = 300
BEHIND_SECONDS = 900  # of status, which goes by it as long as the starter runs often
FORGOTTEN_SECONDS = 3600  # ECS shows a task for about an hour after its end


def longest_wait(minutes: int) -> int:
    """Of a message, while all is well. `minutes`: LAMBDA_POLL_RATE."""
    return 60 * minutes + START_SECONDS


def behind_seconds(minutes: int) -> int:
    """Of the oldest message: if it is older, status says that the sync is behind."""
    return max(BEHIND_SECONDS, longest_wait(minutes))


def lowest_age(minutes: int) -> int:
    """The lowest threshold with which the alarm on the oldest message does not fire while all is well."""
    return longest_wait(minutes) - UNNOTICED_SECONDS


def alarm_age(minutes: int, age: int, shipped: int) -> int:
    """The threshold of that alarm. `age`: ALARM_AGE_SECONDS, which is the user's unless it is what is shipped."""
    return max(age, lowest_age(minutes)) if age == shipped else age


def forgets(minutes: int) -> bool:
    """Whether ECS forgets a task that has ended before the starter runs again."""
    return 60 * minutes > FORGOTTEN_SECONDS


def main() -> None:
    """Prints as JSON what ./deploy.sh goes by. Arguments: LAMBDA_POLL_RATE, ALARM_AGE_SECONDS, and what it is shipped
    with."""
    minutes, age, shipped = map(int, sys.argv[1:])
    found = {
        "age": alarm_age(minutes, age, shipped),
        "lowest": lowest_age(minutes),
        "forgets": forgets(minutes),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
