"""The local cloud: a function's archive, process, log, metrics and waiting events, as on Lambda."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from pathlib import Path

import pytest
from local_cloud import ACCOUNT, REGION, client, error_of, make_role, metric
from local_operator import wait_for

HANDLER = """
import os, time
import boto3, other.part

runs = 0

def handler(event, context):
    global runs
    runs += 1
    event = event.get("detail", event)
    what = event.get("what")
    print("what", what, flush=True)
    while event.get("gate") and not os.path.exists(event["gate"]):
        time.sleep(0.01)
    if what == "exit":
        os._exit(event["code"])
    if what == "raise":
        raise ValueError("no such thing")
    if what == "around":
        names = "function_name", "invoked_function_arn", "memory_limit_in_mb"
        modules = {"boto3": boto3.__version__, "part": other.part.X}
        return {name: getattr(context, name) for name in names} | dict(os.environ) | modules | {
            "left": context.get_remaining_time_in_millis()
        }
    return {"runs": runs, "pid": os.getpid()}
"""
FILES = {
    "main.py": HANDLER,
    "boto3/__init__.py": "__version__ = 'of the archive'",
    "other/__init__.py": "",
    "other/part.py": "X = 7",
}


@pytest.fixture
def functions(cloud):
    return client(cloud, "lambda")


def archive(files):
    """A zip archive with the given {name: text}."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as folder:
        for name, text in files.items():
            folder.writestr(name, text)
    return out.getvalue()


def make_function(cloud, files, *grants):
    """Make a function of those files whose role has those grants; return its name."""
    name = f"function-{uuid.uuid4().hex[:8]}"
    role = make_role(cloud, "lambda.amazonaws.com", *grants)
    given = {"Runtime": "python3.13", "Handler": "main.handler", "Timeout": 120}
    client(cloud, "lambda").create_function(FunctionName=name, Role=role, Code={"ZipFile": archive(files)}, **given)
    return name


@pytest.fixture
def name(cloud):
    return make_function(cloud, FILES)


@pytest.fixture
def gate(tmp_path):
    """The path of a file; a run that is given it lasts until the file is there."""
    return tmp_path / "gate"


def invoke(functions, name, what, **event):
    """Run the function now; return what it answers, which has an errorType if it failed."""
    answer = functions.invoke(FunctionName=name, Payload=json.dumps({"what": what, **event}))
    body = json.loads(answer["Payload"].read())
    assert ("FunctionError" in answer) == (isinstance(body, dict) and "errorType" in body)
    return body


def send(functions, name, what, **event):
    functions.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps({"what": what, **event}))


def lines(cloud, name):
    """Return the lines in the function's log group; nothing if there is none yet."""
    logs, group = client(cloud, "logs"), f"/aws/lambda/{name}"
    if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        return []
    return [event["message"] for event in logs.filter_log_events(logGroupName=group)["events"]]


def measured(cloud, name, what):
    return metric(cloud, "AWS/Lambda", what, FunctionName=name)


def test_a_function_has_its_archive_its_settings_and_nothing_of_the_cloud(functions, name):
    functions.update_function_configuration(
        FunctionName=name, MemorySize=512, Environment={"Variables": {"OURS": "1", "AWS_REGION": "theirs"}}
    )
    found = invoke(functions, name, "around")
    assert (found["boto3"], found["part"], found["OURS"]) == ("of the archive", 7, "1")
    assert (found["AWS_REGION"], found["AWS_DEFAULT_REGION"], found["function_name"]) == (REGION, REGION, name)
    assert found["invoked_function_arn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
    assert found["memory_limit_in_mb"] == found["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
    assert 1_000 < found["left"] <= 120_000  # milliseconds of two minutes
    assert found["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert "SRC_BUCKET" not in found


def test_a_process_stays_until_code_configuration_or_role_change(cloud, functions, name):
    folder = Path(invoke(functions, name, "around")["HOME"])
    first = invoke(functions, name, "")
    assert invoke(functions, name, "") == {"runs": 3, "pid": first["pid"]}
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": {"A": "b"}})
    second = invoke(functions, name, "")
    assert (second["runs"], second["pid"] != first["pid"], folder.exists()) == (1, True, False)
    code = archive(FILES | {"main.py": HANDLER.replace("runs = 0", "runs = 5")})
    functions.update_function_code(FunctionName=name, ZipFile=code)
    assert invoke(functions, name, "")["runs"] == 6
    functions.update_function_configuration(FunctionName=name, Role=make_role(cloud, "lambda.amazonaws.com"))
    assert invoke(functions, name, "")["runs"] == 6


@pytest.mark.parametrize(
    ("event", "kind", "message", "lives"),
    [
        ({"what": "exit", "code": 3}, "Runtime.ExitError", "Error: Runtime exited with error: exit status 3", False),
        ({"what": "stay", "gate": "/never"}, "Sandbox.Timedout", "Task timed out after 2.00 seconds", False),
        ({"what": "raise"}, "ValueError", "no such thing", True),
    ],
)
def test_a_run_that_fails_is_told_logged_and_counted(cloud, functions, name, event, kind, message, lives):
    functions.update_function_configuration(FunctionName=name, Timeout=2)
    first = invoke(functions, name, "")["pid"]
    answer = invoke(functions, name, **event)
    assert (answer["errorType"], answer["errorMessage"].endswith(message)) == (kind, True)
    assert any(message in line for line in lines(cloud, name)[-3:-2])
    after = invoke(functions, name, "")
    assert (after["pid"] == first, after["runs"]) == (lives, 3 if lives else 1)
    assert [measured(cloud, name, what) for what in ("Errors", "Invocations")] == [1, 3]
    assert measured(cloud, name, "Duration") > 0


# --- events that wait ---------------------------------------------------------------------------------------------


def test_with_reserved_concurrency_1_one_runs_at_a_time_and_others_are_tried_again(cloud, functions, name, gate):
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    for _ in range(3):
        send(functions, name, "stay", gate=str(gate))
    wait_for(lambda: "what stay" in lines(cloud, name))
    assert error_of(functions.invoke, FunctionName=name) == (429, "TooManyRequestsException")
    wait_for(lambda: measured(cloud, name, "Throttles") >= 4)  # two events after 0 s, one after 1 s, the caller
    gate.touch()
    wait_for(lambda: measured(cloud, name, "Invocations") == 3)
    order = [line.split()[0] for line in lines(cloud, name) if line.startswith(("START", "END"))]
    assert order == ["START", "END"] * 3


def test_what_failed_is_tried_again_twice_or_as_configured(cloud, functions, name):
    for retries, runs in ({}, 3), ({"MaximumRetryAttempts": 0}, 4):
        if retries:
            functions.put_function_event_invoke_config(FunctionName=name, **retries)
        dropped = measured(cloud, name, "AsyncEventsDropped")
        send(functions, name, "raise")
        wait_for(lambda before=dropped: measured(cloud, name, "AsyncEventsDropped") == before + 1)
        assert measured(cloud, name, "Invocations") == runs


def test_what_may_not_run_is_tried_less_and_less_often_until_it_is_too_old(cloud, functions, name):
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    functions.put_function_event_invoke_config(FunctionName=name, MaximumEventAgeInSeconds=4)  # on AWS at least 60
    send(functions, name, "")
    wait_for(lambda: measured(cloud, name, "AsyncEventsDropped"))
    assert measured(cloud, name, "Throttles") == 3  # after 0, 1 and 3 s
    assert measured(cloud, name, "Invocations") == 0


# --- rules and roles ----------------------------------------------------------------------------------------------


def test_a_rule_invokes_only_a_function_whose_policy_names_it(cloud, functions, name):
    events, entry = client(cloud, "events"), {"Source": name, "DetailType": "t", "Detail": "{}"}
    rule = events.put_rule(Name=name, EventPattern=json.dumps({"source": [name]}))["RuleArn"]
    arn = functions.get_function_configuration(FunctionName=name)["FunctionArn"]
    events.put_targets(Rule=name, Targets=[{"Id": "function", "Arn": arn}])
    grant = {"FunctionName": name, "Action": "lambda:InvokeFunction", "Principal": "events.amazonaws.com"}
    for refused, allowed in ((1, f"{rule}-other"), (2, rule)):
        events.put_events(Entries=[entry])
        assert metric(cloud, "AWS/Events", "FailedInvocations", RuleName=name) == refused
        functions.add_permission(StatementId=allowed.rpartition("/")[2], SourceArn=allowed, **grant)
    events.put_events(Entries=[entry] * 2)
    wait_for(lambda: measured(cloud, name, "Invocations") == 2)
    assert metric(cloud, "AWS/Events", "FailedInvocations", RuleName=name) == 2
