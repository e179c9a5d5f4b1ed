"""The roles that deploy.sh makes allow what the worker and the starter do, and no more.

Both run as they are, on the stand-in; what the starter asks of ECS and of the path of events has one answer each. Each
call is judged as AWS does (authorized.py).
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from account import APP, MIRROR, PROJECT
from authorized import grants
from documents import Scripts, scripts_of_module
from paper_account import HERE, NUMBER, PaperAccount
from recorder import Call, Recorder, Refusal, encoded, violations_of
from test_documents import EVENT_RULE, KEYS, RULE, STARTER, STARTER_LOG
from test_policy_files import Held
from world import DEAD_LETTERS, QUICK, SOURCE, WORKER, World

OPTIONS = {"ANNOUNCE": "all", "STARTER_COPIES": "true", "STARTER_MAX_SIZE": "2000", "MIN_WORKERS": "1"}
OPTIONS |= {"SRC_KMS_KEY_ARN": ",".join(KEYS[:2]), "DST_KMS_KEY_ARN": KEYS[2]}
OPTIONS |= {"TAGS": "team=ml", "EVENT_SOURCE": "eventbridge"}
TASK = {
    "taskArn": f"arn:aws:ecs:{HERE}:task/{APP}-cluster/1",
    "startedBy": f"{APP}-starter",
    "desiredStatus": "RUNNING",
}
OF_ECS: dict[str, Any] = {
    "ListTasks": {"taskArns": []},
    "DescribeTasks": {"tasks": [TASK]},
    "DescribeTaskDefinition": {"taskDefinition": {"taskDefinitionArn": f"arn:aws:ecs:{HERE}:task-definition/t:1"}},
    "RunTask": {"tasks": [TASK], "failures": []},
    "StopTask": {},
}
# Lambda writes the log with the function's role.
BY_LAMBDA = [Call("logs", name, {"logGroupName": STARTER_LOG}, 200) for name in ("CreateLogStream", "PutLogEvents")]
# The second run looks at the task of the first. A look at the rules, and a task without Spot, are for later runs.
STARTER_RUNS = f"""
import os, time, types
import starter
from launch import calls
from launch.guard import Guard
from launch.settings import load_settings
context = types.SimpleNamespace(invoked_function_arn={STARTER!r}, get_remaining_time_in_millis=lambda: 60_000)
print(starter.handler({{}}, context), starter.handler({{}}, context))
settings, later = load_settings(os.environ), lambda: time.time() + 3600
Guard(clock=later, sleep=lambda _: None).run(settings, context, is_scheduled=False)
print(calls.stop_tasks(calls.connect(), settings, {{{TASK["taskArn"]!r}: "by hand"}}))
"""

scripts = scripts_of_module()


@pytest.fixture
def recorder(world: World) -> Iterator[Recorder]:
    """In front of the stand-in, whose bucket sends its events to a queue of the deployment's name."""
    queue = {"visibility_timeout": 8, "max_receive_count": 3, "dead_letter_queue": DEAD_LETTERS}
    for bucket in (SOURCE, MIRROR):
        world.standin.create_bucket(bucket, owner=NUMBER)
    found = Recorder(world.standin.url, {})
    world.queue_url = world.standin.create_queue(f"{APP}-q", **queue).replace(world.standin.url, found.url)
    world.standin.notify(SOURCE, f"{APP}-q")
    yield found
    found.close()


def answers(account: PaperAccount, rule: str) -> dict[tuple[str, str], bytes]:
    """Those of ECS, and those of the account's path of events."""
    asked = {
        ("sqs", "GetQueueAttributes"): {"QueueUrl": f"{APP}-q", "AttributeNames": ["All"]},
        ("events", "DescribeRule"): {"Name": rule},
        ("events", "ListTargetsByRule"): {"Rule": rule},
        ("lambda", "GetPolicy"): {"FunctionName": f"{APP}-starter"},
    }
    found = {call: encoded(account.answer(Call(*call, given, 200))) for call, given in asked.items()}
    return found | {("ecs", name): encoded(answer) for name, answer in OF_ECS.items()}


def run(world: World, code: str, *arguments: str, url: str, variables: dict[str, str]) -> None:
    given = {name: value for name, value in variables.items() if name not in QUICK}
    given |= {"AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1", "QUEUE_URL": world.queue_url, "PROCESSES": "1"}
    process = world.start(code, *arguments, **given)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


def run_workers(world: World, **given: Any) -> None:
    """They copy in one part and in several, delete, put a message off, and put one on the queue."""
    world.put("models/small")
    world.put("models/large", 12_000_000)
    world.standin.send(f"{APP}-q", "not an event")
    run(world, WORKER, "reconcile", **given)
    run(world, WORKER, **given)
    assert world.mirrored().keys() == {"models/small", "models/large"}
    world.standin.delete(SOURCE, "models/small")
    run(world, WORKER, **given)
    assert world.mirrored().keys() == {"models/large"}


def run_starter(world: World, **given: Any) -> None:
    """If it copies, it leaves what is large to a worker."""
    world.put("models/small")
    world.put("models/new", 3000)
    world.put("models/gone")
    world.standin.delete(SOURCE, "models/gone")
    world.standin.send(f"{APP}-q", "not an event")
    run(world, STARTER_RUNS, **given)


@pytest.mark.parametrize("settings", [{}, OPTIONS], ids=["plain", "every option"])
def test_a_role_may_do_what_is_done_with_it_and_no_more(
    scripts: Scripts, world: World, recorder: Recorder, settings: dict[str, str]
) -> None:
    account = scripts.account = PaperAccount()
    quick = {"MULTIPART_THRESHOLD": "6000000", "PART_SIZE": "5242880", "PREFIX_FILTER": "models/"}
    scripts.deploy(SRC_BUCKET=SOURCE, **quick, **settings)
    account.kept |= {f"key {SOURCE}": KEYS[:2], f"key {MIRROR}": KEYS[2]} if settings else {}
    recorder.answers = answers(account, EVENT_RULE if settings else RULE)
    (container,) = account.kept[f"task {APP}-task:1"]["containerDefinitions"]
    of_worker = {one["name"]: one["value"] for one in container["environment"]}
    of_starter = account.kept[f"function {APP}-starter"]["Environment"]["Variables"]
    for role, runs, variables in (("task", run_workers, of_worker), ("starter", run_starter, of_starter)):
        recorder.forget()
        recorder.refusals = [Refusal("GetBucketNotificationConfiguration", 9, "AccessDenied", "", 403)]
        recorder.refusals += [] if settings else [Refusal("DescribeRule", 1, "ResourceNotFoundException")]
        runs(world, url=recorder.url, variables=variables)
        held = Held(json.loads(account.kept[f"role {APP}-{role}-role"]["policies"][APP]))
        for call in recorder.calls + (BY_LAMBDA if role == "starter" else []):
            held.ask(account, call)
        assert held.unused() == set()
        assert recorder.problems == [one for call in recorder.calls for one in violations_of(call)] == []


def test_the_page_names_all_that_a_boundary_has_to_allow(scripts: Scripts) -> None:
    scripts.account = PaperAccount()
    scripts.deploy(**OPTIONS)
    roles = [f"role {APP}-{role}-role" for role in ("starter", "task", "exec")]
    policies = [json.loads(scripts.account.kept[role]["policies"][APP]) for role in roles]
    page = (PROJECT / "docs/recipes.md").read_text().partition("- A boundary must allow")[2].partition("\n- ")[0]
    assert set(re.findall(r"`(\w+:\w+)`", page)) == {one.action for policy in policies for one in grants(policy)}
