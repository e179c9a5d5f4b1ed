"""The local cloud: a function's archive, process, log, metrics and waiting events, as on Lambda."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import time
import uuid
import zipfile
from pathlib import Path

import pytest
from local_cloud import ACCOUNT, DIRECTORY, REGION, arn_of, client, error_of, let_in, make_role, metric, wait_for

HANDLER = """
import os, sys, threading, time

runs = 0

def say(text):
    for number in range(20):
        print(text, number)

def handler(event, context):
    global runs
    runs += 1
    what = event.get("what") or event.get("detail", {}).get("what")
    print("what", what, flush=True)
    gate = os.environ.get("GATE") or event.get("gate")
    while gate and not os.path.exists(gate):
        time.sleep(0.01)
    if what == "burst":
        time.sleep(0.05)
    if what == "exit":
        os._exit(event["code"])
    if what == "raise":
        raise ValueError("no such thing")
    if what == "threads":
        threads = [threading.Thread(target=say, args=(name,)) for name in "ab"]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        os.write(1, b"to the descriptor\\n")
        print("to stderr", file=sys.stderr)
        print("without an end", end="")
    if what == "late":
        threading.Timer(0.2, print, ["late"]).start()
    if what == "environment":
        return dict(os.environ)
    if what == "context":
        return {name: getattr(context, name) for name in event["names"]} | {
            "left": context.get_remaining_time_in_millis()
        }
    return {"runs": runs, "pid": os.getpid()}
"""


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


def make_function(cloud, files, *grants, **settings):
    """Make a function of those files whose role has those grants; return its name."""
    name = f"function-{uuid.uuid4().hex[:8]}"
    role = make_role(cloud, "lambda.amazonaws.com", *grants)
    given = {"Runtime": "python3.13", "Handler": "main.handler", "Timeout": 120, **settings}
    client(cloud, "lambda").create_function(FunctionName=name, Role=role, Code={"ZipFile": archive(files)}, **given)
    return name


@pytest.fixture
def name(cloud):
    return make_function(cloud, {"main.py": HANDLER})


@pytest.fixture
def gate(tmp_path):
    """The path of a file; a run that is given it lasts until the file is there."""
    return tmp_path / "gate"


def state_of(process):
    """Return the state of a process as proc(5) names it."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]


def invoke(functions, name, what, **event):
    """Run the function now; return what it answers, which has an errorType if it failed."""
    answer = functions.invoke(FunctionName=name, Payload=json.dumps({"what": what, **event}))
    body = json.loads(answer["Payload"].read())
    assert ("FunctionError" in answer) == (isinstance(body, dict) and "errorType" in body)
    return body


def lines_if_any(cloud, name):
    """Return the lines in the function's log group; nothing if there is none yet."""
    groups = client(cloud, "logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{name}")["logGroups"]
    return lines(cloud, name) if groups else []


def lines(cloud, name):
    """Return the lines in the function's log group."""
    logs = client(cloud, "logs")
    return [event["message"] for event in logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]]


def test_the_archives_own_boto3_comes_before_any_other(cloud, functions):
    files = {
        "main.py": "import boto3, sys, other.part\n"
        "def handler(event, context): return [boto3.__version__, other.part.X, sys.path[0]]",
        "boto3/__init__.py": "__version__ = 'of the archive'",
        "other/__init__.py": "",
        "other/part.py": "X = 7",
    }
    name = make_function(cloud, files)
    version, part, path = invoke(functions, name, "")
    assert (version, part) == ("of the archive", 7)
    assert path.endswith("/task")


def test_a_process_stays_until_code_or_configuration_changes(functions, name):
    first = invoke(functions, name, "")
    assert invoke(functions, name, "") == {"runs": 2, "pid": first["pid"]}
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": {"A": "b"}})
    second = invoke(functions, name, "")
    assert second["runs"] == 1
    assert second["pid"] != first["pid"]
    functions.update_function_code(
        FunctionName=name, ZipFile=archive({"main.py": HANDLER.replace("runs = 0", "runs = 5")})
    )
    assert invoke(functions, name, "")["runs"] == 6


def test_another_role_means_another_process(cloud, functions, name):
    first = invoke(functions, name, "environment")
    functions.update_function_configuration(FunctionName=name, Role=make_role(cloud, "lambda.amazonaws.com"))
    assert invoke(functions, name, "environment")["AWS_ACCESS_KEY_ID"] != first["AWS_ACCESS_KEY_ID"]


def test_a_process_that_ends_between_two_runs_is_replaced(functions, name):
    first = invoke(functions, name, "")["pid"]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: state_of(first) == "Z")
    assert invoke(functions, name, "")["pid"] != first


def test_an_update_leaves_a_run_alone_that_is_under_way(cloud, functions, name, gate):
    send(functions, name, "stay", gate=str(gate))
    wait_for(lambda: "what stay" in lines_if_any(cloud, name))
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": {"A": "b"}})
    assert invoke(functions, name, "")["runs"] == 1
    assert sum(line.startswith("END") for line in lines(cloud, name)) == 1  # of the second
    gate.touch()
    wait_for(lambda: sum(line.startswith("END") for line in lines(cloud, name)) == 2)
    assert metric(cloud, "AWS/Lambda", "Errors", FunctionName=name) == 0


def test_the_timeout_ends_the_process(cloud, functions, name, gate):
    functions.update_function_configuration(FunctionName=name, Timeout=2)
    pid = invoke(functions, name, "")["pid"]
    answer = invoke(functions, name, "stay", gate=str(gate))
    assert answer["errorMessage"].endswith("Task timed out after 2.00 seconds")
    log = lines(cloud, name)
    assert log[-3].endswith("Task timed out after 2.00 seconds")
    assert log[-2].startswith("END RequestId: ")
    assert log[-1].startswith("REPORT RequestId: ") and log[-1].endswith("Status: timeout")
    after = invoke(functions, name, "")
    assert after["runs"] == 1
    assert after["pid"] != pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert metric(cloud, "AWS/Lambda", "Errors", FunctionName=name) == 1


@pytest.mark.parametrize(("code", "reason"), [(3, "with error: exit status 3"), (0, "without providing a reason")])
def test_an_exit_is_an_error_and_the_next_run_gets_a_new_process(cloud, functions, name, code, reason):
    first = invoke(functions, name, "")["pid"]
    answer = invoke(functions, name, "exit", code=code)
    assert answer["errorType"] == "Runtime.ExitError"
    assert answer["errorMessage"].endswith(f"Error: Runtime exited {reason}")
    assert any(f"Runtime exited {reason}" in line for line in lines(cloud, name))
    after = invoke(functions, name, "")
    assert after["runs"] == 1
    assert after["pid"] != first
    assert metric(cloud, "AWS/Lambda", "Errors", FunctionName=name) == 1
    assert metric(cloud, "AWS/Lambda", "Invocations", FunctionName=name) == 3
    assert metric(cloud, "AWS/Lambda", "Duration", FunctionName=name) > 0


def test_an_exception_is_logged_and_leaves_the_process(cloud, functions, name):
    first = invoke(functions, name, "")["pid"]
    answer = invoke(functions, name, "raise")
    assert (answer["errorType"], answer["errorMessage"]) == ("ValueError", "no such thing")
    assert any(line.startswith("[ERROR] ValueError: no such thing\nTraceback") for line in lines(cloud, name))
    assert invoke(functions, name, "")["pid"] == first


def test_a_module_that_cannot_be_imported_is_an_error(cloud, functions):
    name = make_function(cloud, {"main.py": "import nothing_of_that_name"})
    for _ in range(2):
        assert invoke(functions, name, "")["errorType"] == "Runtime.ImportModuleError"
    assert sum(line.startswith("[ERROR] Runtime.ImportModuleError") for line in lines(cloud, name)) == 2


def test_all_that_is_printed_is_in_the_log_between_start_and_end(cloud, functions, name):
    invoke(functions, name, "threads")
    log = lines(cloud, name)
    assert log[0].startswith("START RequestId: ") and log[0].endswith(" Version: $LATEST")
    assert log[1] == "what threads"
    assert sorted(" ".join(log[2:-5]).split()) == sorted(" ".join(f"{n} {i}" for n in "ab" for i in range(20)).split())
    assert log[-5:-2] == ["to the descriptor", "to stderr", "without an end"]
    assert log[-2].startswith("END RequestId: ")
    assert "Init Duration: " in log[-1]
    memory = int(re.search(r"Max Memory Used: (\d+) MB", log[-1])[1])
    assert 5 < memory < 60  # of Python with almost nothing, not of the cloud


def test_between_two_runs_a_process_is_frozen(cloud, functions, name, gate):
    process = invoke(functions, name, "late")["pid"]
    wait_for(lambda: state_of(process) == "T")
    send(functions, name, "stay", gate=str(gate))
    wait_for(lambda: "late" in lines(cloud, name))
    gate.touch()


def test_a_line_is_in_the_log_while_the_run_goes_on(cloud, functions, name, gate):
    send(functions, name, "stay", gate=str(gate))
    wait_for(lambda: "what stay" in lines_if_any(cloud, name))
    assert not any(line.startswith("END") for line in lines(cloud, name))
    gate.touch()


def test_the_environment_is_the_functions_and_lambdas_only(functions, name):
    functions.update_function_configuration(
        FunctionName=name, MemorySize=512, Environment={"Variables": {"OURS": "1", "AWS_REGION": "theirs"}}
    )
    found = invoke(functions, name, "environment")
    assert found["OURS"] == "1"
    assert (found["AWS_REGION"], found["AWS_DEFAULT_REGION"]) == (REGION, REGION)
    assert (found["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], found["AWS_LAMBDA_FUNCTION_NAME"]) == ("512", name)
    assert found["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert "SRC_BUCKET" not in found


def test_the_context_knows_the_run_and_the_time_that_is_left(functions, name):
    found = invoke(functions, name, "context", names=["function_name", "invoked_function_arn", "memory_limit_in_mb"])
    assert found["invoked_function_arn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
    assert (found["function_name"], found["memory_limit_in_mb"]) == (name, "128")
    assert 1_000 < found["left"] <= 120_000  # milliseconds of two minutes


# --- events that wait ---------------------------------------------------------------------------------------------


def send(functions, name, what, **event):
    functions.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps({"what": what, **event}))


def runs(cloud, name):
    return metric(cloud, "AWS/Lambda", "Invocations", FunctionName=name)


def test_with_reserved_concurrency_1_one_runs_at_a_time_and_others_are_tried_again(cloud, functions, name, gate):
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    for _ in range(3):
        send(functions, name, "stay", gate=str(gate))
    wait_for(lambda: "what stay" in lines_if_any(cloud, name))
    assert error_of(functions.invoke, FunctionName=name) == (429, "TooManyRequestsException")
    wait_for(lambda: throttles(cloud, name) >= 4)  # two events after 0 s, one after 1 s, the caller
    gate.touch()
    wait_for(lambda: runs(cloud, name) == 3)
    order = [line.split()[0] for line in lines(cloud, name) if line.startswith(("START", "END"))]
    assert order == ["START", "END"] * 3


def test_what_failed_is_tried_again_twice_or_as_configured(cloud, functions, name):
    send(functions, name, "raise")
    wait_for(lambda: dropped(cloud, name) == 1)
    assert runs(cloud, name) == 3
    functions.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0, MaximumEventAgeInSeconds=60)
    send(functions, name, "raise")
    wait_for(lambda: dropped(cloud, name) == 2)
    assert runs(cloud, name) == 4


def throttles(cloud, name):
    return metric(cloud, "AWS/Lambda", "Throttles", FunctionName=name)


def dropped(cloud, name):
    return metric(cloud, "AWS/Lambda", "AsyncEventsDropped", FunctionName=name)


AGE = 14  # seconds; the least on AWS is a minute
MANY = 3000


def test_what_has_waited_too_long_is_dropped_one_event_or_most_of_thousands(cloud, functions, name):
    """One at a time, 50 ms each; a function that may not run at all shows the pauses between two tries."""
    blocked, events = make_function(cloud, {"main.py": HANDLER}), client(cloud, "events")
    for function, concurrency in ((blocked, 0), (name, 1)):
        functions.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=concurrency)
        limits = {"MaximumEventAgeInSeconds": AGE, "MaximumRetryAttempts": 0}
        functions.put_function_event_invoke_config(FunctionName=function, **limits)
    began = time.monotonic()
    send(functions, blocked, "")
    put_rule(cloud, functions, name, allowed=True)
    entry = {"Source": name, "DetailType": "t", "Detail": json.dumps({"what": "burst"})}
    for _ in range(MANY // 10):
        events.put_events(Entries=[entry] * 10)
    wait_for(lambda: dropped(cloud, blocked))
    assert time.monotonic() - began > AGE - 1
    assert throttles(cloud, blocked) == 4  # after 0, 1, 3 and 7 s
    assert runs(cloud, blocked) == 0
    wait_for(lambda: runs(cloud, name) + dropped(cloud, name) == MANY)
    assert 1 < runs(cloud, name) < MANY / 2
    assert metric(cloud, "AWS/Lambda", "Errors", FunctionName=name) == 0


# --- rules --------------------------------------------------------------------------------------------------------


def allow(functions, name, rule):
    """Let the rule invoke the function, as deploy.sh does."""
    functions.add_permission(
        FunctionName=name,
        StatementId=rule.rpartition("/")[2],
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=rule,
    )


def put_rule(cloud, functions, name, allowed):
    """Make a rule of the function's name that sends it the events of the source of that name; return its ARN."""
    events = client(cloud, "events")
    rule = events.put_rule(Name=name, EventPattern=json.dumps({"source": [name]}))["RuleArn"]
    arn = functions.get_function_configuration(FunctionName=name)["FunctionArn"]
    events.put_targets(Rule=name, Targets=[{"Id": "function", "Arn": arn}])
    if allowed:
        allow(functions, name, rule)
    return rule


def test_a_rule_invokes_only_a_function_whose_policy_names_it(cloud, functions, name):
    events, entry = client(cloud, "events"), {"Source": name, "DetailType": "t", "Detail": "{}"}
    rule = put_rule(cloud, functions, name, allowed=False)
    for number, permission in enumerate((None, f"{rule}-other"), 1):
        if permission:
            allow(functions, name, permission)
        events.put_events(Entries=[entry])
        assert metric(cloud, "AWS/Events", "FailedInvocations", RuleName=name) == number
    allow(functions, name, rule)
    events.put_events(Entries=[entry])
    wait_for(lambda: runs(cloud, name) == 1)
    functions.remove_permission(FunctionName=name, StatementId=name)
    events.put_events(Entries=[entry])
    assert metric(cloud, "AWS/Events", "FailedInvocations", RuleName=name) == 3
    assert runs(cloud, name) == 1


def test_a_slow_function_delays_neither_a_request_nor_the_queue_beside_it(cloud, functions, name, gate):
    s3, sqs = client(cloud, "s3"), client(cloud, "sqs")
    rule = put_rule(cloud, functions, name, allowed=True)
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    let_in(sqs, queue, rule)
    events = client(cloud, "events")
    events.put_rule(Name=name, EventPattern='{"source": ["aws.s3"]}')
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn_of(sqs, queue)}])
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": {"GATE": str(gate)}})
    s3.create_bucket(Bucket=name)
    s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration={"EventBridgeConfiguration": {}})
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    wait_for(lambda: sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages"))
    assert runs(cloud, name) == 0
    gate.touch()
    wait_for(lambda: runs(cloud, name) == 1)


# --- what its role allows -----------------------------------------------------------------------------------------

CALLER = """
import boto3
from botocore.exceptions import ClientError

def handler(event, context):
    try:
        getattr(boto3.client(event["service"]), event["call"])(**event["parameters"])
    except ClientError as error:
        return error.response["Error"]["Code"]
"""


def test_a_function_may_do_what_its_role_allows_and_nothing_else(cloud, functions):
    s3, sqs, tag = client(cloud, "s3"), client(cloud, "sqs"), uuid.uuid4().hex[:8]
    source, directory = f"source-{tag}", f"directory-{tag}--use1-az4--x-s3"
    s3.create_bucket(Bucket=source)
    s3.create_bucket(Bucket=directory, CreateBucketConfiguration=DIRECTORY)
    s3.put_object(Bucket=source, Key="k", Body=b"x")
    queue = sqs.create_queue(QueueName=tag)["QueueUrl"]
    grants = [
        ("s3express:CreateSession", f"arn:aws:s3express:{REGION}:{ACCOUNT}:bucket/{directory}"),
        ("s3:GetObject", f"arn:aws:s3:::{source}/*"),
        (["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"], arn_of(sqs, queue)),
        ("ecs:DescribeTaskDefinition", "*"),
    ]
    place, entry = {"Bucket": directory, "Key": "k"}, {"Id": "1", "ReceiptHandle": "r"}
    calls = [
        ("s3", "copy_object", {**place, "CopySource": {"Bucket": source, "Key": "k"}}),
        ("s3", "delete_object", place),
        ("sqs", "receive_message", {"QueueUrl": queue}),
        ("sqs", "delete_message_batch", {"QueueUrl": queue, "Entries": [entry]}),
        ("sqs", "change_message_visibility_batch", {"QueueUrl": queue, "Entries": [{**entry, "VisibilityTimeout": 1}]}),
    ]
    granted, without = (make_function(cloud, {"main.py": CALLER}, *some) for some in (grants, grants[1:2]))
    for service, call, parameters in calls:
        event = {"service": service, "call": call, "parameters": parameters}
        assert invoke(functions, granted, "", **event) is None
        assert invoke(functions, without, "", **event).startswith("AccessDenied")
    event = {"service": "s3", "call": "put_object", "parameters": {"Bucket": source, "Key": "k"}}
    assert invoke(functions, granted, "", **event) == "AccessDenied"
