"""What the tests of deploy.sh and cleanup.sh share: the choice of stand-in and CLI, and reading what was printed."""

import re

import pytest
from account import Account, running_ministack
from recorder import violations_of

CLOUDS = {"ministack": running_ministack}
CLIS = {"v1": "AWS_CLI_V1", "v2": "AWS_CLI_V2"}
STATES = (
    r"exists|created|none, .+|left to (?:you|its owner), .+|would create|(?:would )?removed?, .+"
    r"|(?:would change|changed) \(.+\)"
)
STATE = re.compile(rf"^\[(\d+)/(\d+)\] (.+): ({STATES})$")
CHANGED = re.compile(r"^\[\d+/\d+\] (.+): changed \((.+)\)$", re.MULTILINE)
one_cloud = pytest.mark.parametrize("recorder", ["ministack"], indirect=True)
one_cli = pytest.mark.parametrize("tools", ["v1"], indirect=True)


def states(output: str) -> list[str]:
    """The state of each resource as the script prints it, without what changed; the numbers have to be n of m.

    A resource that there should not be has none.
    """
    found = [match for line in output.splitlines() if (match := STATE.match(line))]
    assert [(int(match[1]), int(match[2])) for match in found] == [(n, len(found)) for n in range(1, len(found) + 1)]
    return [match[4].split(" (")[0] for match in found if not match[4].startswith("none")]


def assert_conforming(account: Account) -> None:
    assert account.recorder.problems == []
    assert [violation for call in account.recorder.calls for violation in violations_of(call)] == []
