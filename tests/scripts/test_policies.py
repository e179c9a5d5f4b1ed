"""The roles that deploy.sh makes allow what the worker and the starter do, and no more.

The worker runs as it is, on the stand-in, and so does what copies in the function. The starter runs in this process on
the account on paper. Each call is judged as AWS does (authorized.py).
"""

import json
import re
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from account import APP, MIRROR, PROJECT
from authorized import grants
from call import Call
from documents import Scripts, scripts_of_module
from observers import clients_of
from paper_account import NUMBER, Client, Given, PaperAccount
from test_documents import KEYS, STARTER, STARTER_LOG
from test_policy_files import Held, Principal
from world import DEAD_LETTERS, QUICK, SOURCE, WORKER, World

import starter
from launch import calls
from launch.guard import Guard
from launch.settings import load_settings

OPTIONS = {"ANNOUNCE": "all", "STARTER_COPIES": "true", "STARTER_MAX_SIZE": "2000", "MIN_WORKERS": "1"}
OPTIONS |= {"SRC_KMS_KEY_ARN": ",".join(KEYS[:2]), "DST_KMS_KEY_ARN": KEYS[2]}
OPTIONS |= {"TAGS": "team=ml", "EVENT_SOURCE": "eventbridge", "ALARM_EMAIL": "you@example.com", "AUDIT_DAYS": "7"}
# Lambda writes the log with the function's role.
BY_LAMBDA = [Call("logs", name, {"logGroupName": STARTER_LOG}) for name in ("CreateLogStream", "PutLogEvents")]
COPIES = "import os\nfrom mirror import function\nprint(function.respond(os.environ, 50))"

scripts = scripts_of_module()


class Served(Principal):
    """The account, in which a family of task definitions means the first."""

    def ecs_describe_task_definition(self, given: Given) -> Any:
        return super().ecs_describe_task_definition({"taskDefinition": f"{given['taskDefinition']}:1"})


@pytest.fixture
def recorded(world: World) -> World:
    """The bucket of the stand-in sends its events to a queue of the deployment's name."""
    queue = {"visibility_timeout": 8, "max_receive_count": 3, "dead_letter_queue": DEAD_LETTERS}
    for bucket in (SOURCE, MIRROR):
        world.standin.create_bucket(bucket, owner=NUMBER)
    world.queue_url = world.standin.create_queue(f"{APP}-q", **queue)
    world.standin.notify(SOURCE, f"{APP}-q")
    return world


def asked(world: World) -> Iterator[Call]:
    """The calls that the stand-in has answered, with what the rights for them depend on."""
    for request in world.standin.requests():
        names = {"Bucket": request["bucket"], "Key": request["key"]}
        names["CopySource"] = request["headers"].get("x-amz-copy-source", "")
        service, given = "s3", {name: value for name, value in names.items() if value}
        if "x-amz-target" in request["headers"]:
            service = "events" if request["operation"] == "PutEvents" else "sqs"
            given = json.loads(request["body"])
        yield Call(service, request["operation"], given)


def run(world: World, code: str, *arguments: str, **variables: str) -> None:
    given = {name: value for name, value in variables.items() if name not in QUICK}
    given |= {"AWS_REGION": "us-east-1", "QUEUE_URL": world.queue_url, "PROCESSES": "1"}
    process = world.start(code, *arguments, **given)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


def run_workers(world: World, **given: str) -> None:
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


def run_copies(world: World, **given: str) -> None:
    """The function leaves what is large to a worker."""
    world.put("models/small")
    world.put("models/new", 3000)
    world.put("models/gone")
    world.standin.delete(SOURCE, "models/gone")
    world.standin.send(f"{APP}-q", "not an event")
    run(world, COPIES, **given)


def run_starter(account: Served, variables: dict[str, str]) -> None:
    """The second run looks at the task of the first. Later ones look at the rules, and stop a task."""
    context = SimpleNamespace(invoked_function_arn=STARTER, get_remaining_time_in_millis=lambda: 60_000)
    clients = clients_of(account)
    aws = calls.Aws(clients.sqs, Client(account, "ecs"))
    guard, account.waiting[""] = Guard(clients=clients, sleep=lambda _: None), 1
    for _ in range(2):
        starter.handler({}, context, starter.Process(aws, variables, guard=guard))
    settings = load_settings(variables)
    later = Guard(clients=clients, clock=lambda: time.time() + 3600, sleep=lambda _: None)
    assert later.run(settings, context, is_scheduled=False) == []
    assert calls.stop_tasks(aws, settings, {"t2": "by hand"}) == []


@pytest.mark.parametrize("settings", [{}, OPTIONS], ids=["plain", "every option"])
def test_a_role_may_do_what_is_done_with_it_and_no_more(
    scripts: Scripts, recorded: World, settings: dict[str, str]
) -> None:
    account = scripts.account = PaperAccount()
    quick = {"MULTIPART_THRESHOLD": "6000000", "PART_SIZE": "5242880", "PREFIX_FILTER": "models/"}
    scripts.deploy(SRC_BUCKET=SOURCE, **quick, **settings)
    account.kept |= {f"key {SOURCE}": KEYS[:2], f"key {MIRROR}": KEYS[2]} if settings else {}
    (container,) = account.kept[f"task {APP}-task:1"]["containerDefinitions"]
    of_worker = {one["name"]: one["value"] for one in container["environment"]}
    of_starter = account.kept[f"function {APP}-starter"]["Environment"]["Variables"]
    for role in ("task", "starter"):
        held = Held(json.loads(account.kept[f"role {APP}-{role}-role"]["policies"][APP]))
        recorded.standin.record()
        if role == "task":
            run_workers(recorded, **of_worker)
        else:
            run_starter(Served(held, account.kept), of_starter)
            if settings:
                run_copies(recorded, **of_starter)
        for call in [*asked(recorded), *(BY_LAMBDA if role == "starter" else [])]:
            held.ask(account, call)
        assert held.denied == []
        assert held.unused() == set()


def test_the_page_names_all_that_a_boundary_has_to_allow(scripts: Scripts) -> None:
    scripts.account = PaperAccount()
    scripts.deploy(**OPTIONS)
    roles = [f"role {APP}-{role}-role" for role in ("starter", "task", "exec")]
    policies = [json.loads(scripts.account.kept[role]["policies"][APP]) for role in roles]
    page = (PROJECT / "docs/recipes.md").read_text().partition("- A boundary must allow")[2].partition("\n- ")[0]
    assert set(re.findall(r"`(\w+:\w+)`", page)) == {one.action for policy in policies for one in grants(policy)}
