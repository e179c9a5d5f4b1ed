"""What went wrong with jq 1.6 beside the pass in test_policy_files.py, by what AWS is sent and users are shown."""

import copy
import json
import shlex
from typing import Any

import pytest
from account import APP, SOURCE
from documents import Scripts, scripts_of_module
from operated import Operated
from sourced import OLDEST_JQ

# In 1.6, "end" cannot be the name of a variable, and @uri leaves what is special in a prefix as it is.
DEPLOYED = {"TABLES": "delta", "COPY_LAST": "*.done", "PREFIX_FILTER": "it's (new)! ~/"}
FILTER = "it%27s+%28new%29%21+~/"
# Of London, without a file of its zone.
SUMMER_TIME = "GMT0BST,M3.5.0/1,M10.5.0"


verbs = scripts_of_module("sync.sh", tools=OLDEST_JQ)


@pytest.fixture(scope="module")
def deployed(verbs: Scripts) -> dict[str, Any]:
    verbs.account = Operated()
    verbs.deploy(**DEPLOYED)
    return copy.deepcopy(verbs.account.kept)


def test_a_table_is_deployed_and_its_prefix_is_encoded_as_s3_does(verbs: Scripts, deployed: dict[str, Any]) -> None:
    (ours,) = deployed[f"notifications {SOURCE}"]["QueueConfigurations"]
    assert ours["Filter"]["Key"]["FilterRules"] == [{"Name": "prefix", "Value": FILTER}]
    assert verbs.deploy(**DEPLOYED).writes == []
    refused = verbs.run("check_wanted; stop_on_problems", 2, **DEPLOYED | {"COPY_LAST": "_delta_log/*"})
    assert "remove _delta_log/*" in refused.errors


@pytest.mark.parametrize(
    ("verb", "command"),
    [
        ("reconcile", ["reconcile"]),
        ("reconcile --dry-run", ["reconcile", "--dry-run"]),
        ("wait --timeout 60s", ["wait", "--timeout", "60s"]),
        ("cost --days 1", ["measure"]),
    ],
)
def test_a_task_gets_every_word_of_its_command(
    verbs: Scripts, deployed: dict[str, Any], verb: str, command: list[str]
) -> None:
    verbs.account = Operated()
    verbs.account.kept = copy.deepcopy(deployed)
    ran = verbs.run(f"main {verb}", **DEPLOYED)
    (given,) = ran.sent("RunTask")
    assert given["overrides"] == {"containerOverrides": [{"name": "worker", "command": command}]}
    assert given["cluster"] == f"{APP}-cluster"


def test_without_a_command_no_task_is_started(verbs: Scripts, deployed: dict[str, Any]) -> None:
    verbs.account = Operated()
    verbs.account.kept = copy.deepcopy(deployed)
    ran = verbs.run("start_run; set_account 123456789012; start_one_task ./sync.sh", 5, **DEPLOYED)
    assert "the command of the task has 1 words instead of 0" in ran.errors
    assert ran.writes == []


def test_a_time_is_right_while_the_machine_has_summer_time(verbs: Scripts) -> None:
    script = """source "$PROJECT/sync.sh"; epoch_of 2026-07-01T00:00:00Z; iso 1782864000
        jq -c "$(jq_epoch) map(epoch)" <<<"$0" """
    times = json.dumps(["2026-07-01T00:00:00Z", "2026-07-01T01:00:00.000+01:00"])
    shown = verbs.run(f"TZ={SUMMER_TIME} bash -c {shlex.quote(script)} '{times}'").output.split()
    assert shown == ["1782864000", "2026-07-01T00:00:00Z", "[1782864000,1782864000]"]
