"""The roles that deploy.sh makes allow what the worker and the starter do, and no more."""

import os
import subprocess
import sys
from typing import Any

from account import APP, CREDENTIALS, MIRROR, PREFIX, SOURCE, Account, wait_for
from authorized import Authorizing, allowing, grants
from deployment import assert_conforming, one_cli, one_cloud
from recorder import Call

# Lambda itself writes the log with the function's role. The guard reads the rest if there is an event rule.
UNUSED = {"logs:CreateLogStream", "logs:PutLogEvents", "events:ListTargetsByRule", "lambda:GetPolicy"}


def unused_grants(account: Account, policy: dict[str, Any]) -> set[str]:
    """The granted actions that no recorded call needed; every recorded call has to be allowed."""
    used, authorizing = set(), Authorizing(account.number, {})
    for call in account.recorder.calls:
        for need in authorizing.needs(call):
            found = allowing(policy, need)
            assert found, f"{call.service} {call.operation} is not allowed: {need}"
            used |= found
    return {action for _, action, _ in grants(policy) - used}


def process_environment(account: Account, settings: dict[str, str]) -> dict[str, str]:
    own = {"AWS_ENDPOINT_URL": account.recorder.url, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    return {"PATH": os.environ["PATH"]} | settings | CREDENTIALS | own


# The steps that give the worker and the starter their settings and their rights.
PARTS = ("ensure_starter_role", "ensure_task_role", "ensure_task_definition", "ensure_function", "ensure_rights_ended")


def run_as_function(account: Account, program: str, settings: dict[str, str]) -> None:
    environment = process_environment(account, settings) | {"ACCOUNT": account.number}
    subprocess.run([sys.executable, "-c", program], cwd=account.project, env=environment, check=True)


# What Lambda gives the function beside the event.
CONTEXT = """
import os, types
arn = "arn:aws:lambda:us-east-1:%s:function:%s" % (os.environ["ACCOUNT"], os.environ["STARTED_BY"])
context = types.SimpleNamespace(invoked_function_arn=arn, get_remaining_time_in_millis=lambda: 60_000)
"""

# The second run looks at the task of the first; it waits for Spot in no stand-in, so it is stopped by hand.
RUN_STARTER = f"""{CONTEXT}
import starter, time
from launch import calls
from launch.settings import load_settings
print(starter.handler({{}}, context), starter.handler({{}}, context))
settings = load_settings(os.environ)
print(calls.stop_tasks(settings, dict.fromkeys(calls.list_running(settings, time.time()), "by hand")))
"""


@one_cloud
@one_cli
def test_the_starter_may_do_what_it_does_and_no_more(account: Account) -> None:
    account.deployed()
    starter = account.starter_environment()
    account.client("sqs").send_message(QueueUrl=starter["QUEUE_URL"], MessageBody="work")
    account.recorder.forget()
    run_as_function(account, RUN_STARTER, starter)
    assert {"RunTask", "StopTask"} == {call.operation for call in account.recorder.writes}
    assert_conforming(account)
    unused = unused_grants(account, account.role_policy("starter-role"))
    assert unused == UNUSED


def starter_rights(account: Account, *parts: str, **settings: str) -> tuple[set[tuple[int, str, str]], Any]:
    """(grants of the starter's role as deployed, its policy after these parts of a deployment with more settings)."""
    account.deployed()
    plain = grants(account.role_policy("starter-role"))
    account.steps(*parts, **settings)
    return plain, account.role_policy("starter-role")


@one_cloud
@one_cli
def test_with_min_workers_the_starter_may_read_the_task_definition_too(account: Account) -> None:
    plain, policy = starter_rights(account, *PARTS, MIN_WORKERS="1")
    added = {grant[1:] for grant in grants(policy)} - {grant[1:] for grant in plain}
    assert added == {("ecs:DescribeTaskDefinition", "*")}

    starter = account.starter_environment()
    assert starter["MIN_WORKERS"] == "1"
    account.recorder.forget()
    run_as_function(account, RUN_STARTER, starter)
    (run,) = [call for call in account.recorder.calls if call.operation == "RunTask"]
    (container,) = run.parameters["overrides"]["containerOverrides"]
    assert container["environment"] == [{"name": "EMPTY_POLLS_BEFORE_EXIT", "value": "0"}]
    assert_conforming(account)
    assert unused_grants(account, policy) == UNUSED

    account.steps(*PARTS)
    assert grants(account.role_policy("starter-role")) == plain
    assert "MIN_WORKERS" not in account.starter_environment()


@one_cloud
@one_cli
def test_with_tags_the_starter_may_tag_the_tasks_that_it_starts(account: Account) -> None:
    plain, policy = starter_rights(account, *PARTS, TAGS="team=ml")
    added = {grant[1:] for grant in grants(policy)} - {grant[1:] for grant in plain}
    assert added == {("ecs:TagResource", f"arn:aws:ecs:us-east-1:{account.number}:task/{APP}-cluster/*")}

    starter = account.starter_environment()
    account.client("sqs").send_message(QueueUrl=starter["QUEUE_URL"], MessageBody="work")
    account.recorder.forget()
    run_as_function(account, RUN_STARTER, starter)
    (run,) = [call for call in account.recorder.calls if call.operation == "RunTask"]
    assert run.parameters["propagateTags"] == "TASK_DEFINITION"
    assert_conforming(account)
    assert unused_grants(account, policy) == UNUSED


def run_worker(account: Account, settings: dict[str, str], terminate_at: str = "") -> None:
    """Run the worker to its end; SIGTERM reaches it before it has the answer of that operation."""
    log = account.project / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, account.project / "worker.py"],
            env=process_environment(account, settings),
            stdout=output,
            stderr=output,
        )

    def terminate(call: Call) -> bool:
        if call.operation == terminate_at:
            process.terminate()
            wait_for(lambda: "SIGTERM received" in log.read_text(), process, log)
        return True

    account.recorder.after_call = terminate
    assert process.wait(timeout=600) == 0, log.read_text()


@one_cloud
@one_cli
def test_the_worker_may_do_what_it_does_and_no_more(account: Account) -> None:
    quick = {"MULTIPART_THRESHOLD": "6000000", "PART_SIZE": "5242880", "MAX_CONCURRENT_PARTS": "1"}
    account.deployed()
    account.steps(*PARTS, WAIT_TIME_SECONDS="1", EMPTY_POLLS_BEFORE_EXIT="1", **quick)
    settings, s3 = account.worker_environment(), account.client("s3")
    account.recorder.forget()
    s3.put_object(Bucket=SOURCE, Key=f"{PREFIX}small", Body=b"small")
    s3.put_object(Bucket=SOURCE, Key=f"{PREFIX}large", Body=bytes(12_000_000))
    run_worker(account, settings, terminate_at="CreateMultipartUpload")  # hands the large one back
    run_worker(account, settings)
    assert s3.head_object(Bucket=MIRROR, Key=f"{PREFIX}large")["ContentLength"] == 12_000_000

    s3.delete_object(Bucket=SOURCE, Key=f"{PREFIX}small")
    account.client("sqs").send_message(QueueUrl=settings["QUEUE_URL"], MessageBody="not an event")  # put off
    run_worker(account, settings)
    assert_conforming(account)
    assert unused_grants(account, account.role_policy("task-role")) == set()


@one_cloud
@one_cli
def test_the_function_that_copies_may_do_what_it_does_and_no_more(account: Account) -> None:
    """The first run copies and starts a worker for what is too large; the second one looks at its task."""
    account.deployed()
    account.steps(*PARTS, STARTER_COPIES="true", STARTER_MAX_SIZE="100")
    starter, s3 = account.starter_environment(), account.client("s3")
    s3.put_object(Bucket=SOURCE, Key=f"{PREFIX}small", Body=b"small")
    s3.put_object(Bucket=SOURCE, Key=f"{PREFIX}large", Body=bytes(101))  # handed back
    s3.put_object(Bucket=SOURCE, Key=f"{PREFIX}gone", Body=b"gone")
    s3.delete_object(Bucket=SOURCE, Key=f"{PREFIX}gone")
    account.client("sqs").send_message(QueueUrl=starter["QUEUE_URL"], MessageBody="not an event")  # put off
    account.recorder.forget()
    run_as_function(account, RUN_STARTER, starter)
    assert s3.head_object(Bucket=MIRROR, Key=f"{PREFIX}small")["ContentLength"] == 5
    assert_conforming(account)
    unused = unused_grants(account, account.role_policy("starter-role"))
    assert unused == UNUSED


@one_cloud
@one_cli
def test_the_worker_and_the_function_that_announce_may_do_so_on_the_default_bus_and_no_more(account: Account) -> None:
    account.deployed()
    plain = grants(account.role_policy("task-role"))
    quick = {"WAIT_TIME_SECONDS": "1", "EMPTY_POLLS_BEFORE_EXIT": "1"}
    account.steps(*PARTS, ANNOUNCE="all", STARTER_COPIES="true", **quick)
    added = {grant[1:] for grant in grants(account.role_policy("task-role"))} - {grant[1:] for grant in plain}
    assert added == {("events:PutEvents", f"arn:aws:events:us-east-1:{account.number}:event-bus/default")}

    s3, roles = account.client("s3"), ("task-role", "starter-role")
    run_one = (
        lambda: run_worker(account, account.worker_environment()),
        lambda: run_as_function(account, RUN_STARTER, account.starter_environment()),
    )
    for role, run in zip(roles, run_one, strict=True):
        account.recorder.forget()
        s3.put_object(Bucket=SOURCE, Key=f"{PREFIX}{role}", Body=b"small")
        run()
        assert s3.head_object(Bucket=MIRROR, Key=f"{PREFIX}{role}")["ContentLength"] == 5
        assert [call.operation for call in account.recorder.calls].count("PutEvents") == 1
        assert_conforming(account)
        assert "events:PutEvents" not in unused_grants(account, account.role_policy(role))

    account.steps(*PARTS)
    assert grants(account.role_policy("task-role")) == plain
    assert "events:PutEvents" not in {action for _, action, _ in grants(account.role_policy("starter-role"))}
