"""How many workers the starter starts, on what, and what it reports: every call is checked against botocore's model."""

import json
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from botocore.model import ListShape, Shape, StructureShape
from botocore.stub import Stubber

import starter

SETTINGS = {
    "QUEUE_URL": "https://sqs.eu-north-1.amazonaws.com/111122223333/sync-q",
    "CLUSTER": "sync-cluster",
    "TASK_DEFINITION": "sync-task",
    "SUBNETS": "subnet-0a1,subnet-0b2",
    "SECURITY_GROUPS": "sg-0c3",
}
SPOT_SHORTAGE = {"reason": "Capacity is unavailable at this time. Please try again later or in a different zone"}
SPOT_FIRST = [{"capacityProvider": "FARGATE_SPOT", "weight": 4}, {"capacityProvider": "FARGATE", "weight": 1}]
ON_DEMAND = [{"capacityProvider": "FARGATE", "weight": 1}]


class Cloud:
    """The answers that AWS will give, in the order of the calls, each with the request that must come for it."""

    def __init__(self) -> None:
        sqs, ecs = starter.clients()
        self.sqs, self.ecs = Stubber(sqs), Stubber(ecs)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        for client in (sqs, ecs):
            client.meta.events.register("provide-client-params.*.*", self.record)

    def record(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.requests.append((model.name, dict(params)))

    def has_messages(self, visible: int, in_flight: int) -> None:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        self.sqs.add_response(
            "get_queue_attributes",
            {"Attributes": {names[0]: str(visible), names[1]: str(in_flight)}},
            {"QueueUrl": SETTINGS["QUEUE_URL"], "AttributeNames": names},
        )

    def has_running(self, *page_sizes: int) -> None:
        for number, size in enumerate(page_sizes, 1):
            request = {"cluster": "sync-cluster", "startedBy": "s3-to-s3express-sync-starter"}
            answer: dict[str, Any] = {"taskArns": [f"arn:{number}:{task}" for task in range(size)]}
            if number > 1:
                request["nextToken"] = f"page {number}"
            if number < len(page_sizes):
                answer["nextToken"] = f"page {number + 1}"
            self.ecs.add_response("list_tasks", answer, request)

    def starts(self, count: int, providers: list[str], *failures: dict[str, str], strategy: Any = None) -> None:
        self.ecs.add_response(
            "run_task",
            {"tasks": [{"capacityProviderName": provider} for provider in providers], "failures": list(failures)},
            run_task_request(count, strategy or SPOT_FIRST),
        )

    def refuses(self, count: int, code: str) -> None:
        self.ecs.add_client_error("run_task", code, "no", 400, expected_params=run_task_request(count, SPOT_FIRST))


def run_task_request(count: int, strategy: list[dict[str, Any]]) -> dict[str, Any]:
    network = {"subnets": ["subnet-0a1", "subnet-0b2"], "securityGroups": ["sg-0c3"], "assignPublicIp": "ENABLED"}
    return {
        "cluster": "sync-cluster",
        "taskDefinition": "sync-task",
        "count": count,
        "capacityProviderStrategy": strategy,
        "networkConfiguration": {"awsvpcConfiguration": network},
        "startedBy": "s3-to-s3express-sync-starter",
    }


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    for name in [*starter.TEXT_SETTINGS, *starter.NUMBER_SETTINGS]:
        monkeypatch.delenv(name, raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    starter.clients.cache_clear()
    built = Cloud()
    with built.sqs, built.ecs:
        yield built
        built.sqs.assert_no_pending_responses()
        built.ecs.assert_no_pending_responses()
    starter.clients.cache_clear()


@pytest.mark.parametrize(
    ("visible", "in_flight", "running", "started"),
    [
        (1, 0, 0, 1),
        (10, 0, 0, 1),
        (11, 0, 0, 2),
        (5, 6, 0, 2),
        (0, 1, 0, 1),
        (10_000, 0, 0, 2),
        (10_000, 0, 1, 1),
    ],
)
def test_one_worker_is_started_for_each_ten_messages_up_to_the_most(
    cloud: Cloud, visible: int, in_flight: int, running: int, started: int
) -> None:
    cloud.has_messages(visible, in_flight)
    cloud.has_running(running)
    cloud.starts(started, ["FARGATE_SPOT"] * started)
    assert starter.handler({}, None)["started"] == {"FARGATE_SPOT": started}


@pytest.mark.parametrize(("visible", "running"), [(0, 0), (0, 2), (10, 1), (10, 2), (10_000, 2), (10_000, 3)])
def test_nothing_is_started_where_enough_workers_run(cloud: Cloud, visible: int, running: int) -> None:
    cloud.has_messages(visible, 0)
    cloud.has_running(running)
    assert starter.handler({}, None)["started"] == {}


def test_workers_on_every_page_of_the_list_count(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_WORKERS", "200")
    cloud.has_messages(10_000, 0)
    cloud.has_running(100, 99)
    cloud.starts(1, ["FARGATE_SPOT"])
    assert starter.handler({}, None)["running"] == 199


def test_more_than_ten_workers_are_asked_for_in_calls_of_at_most_ten(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_WORKERS", "23")
    cloud.has_messages(10_000, 0)
    cloud.has_running(0)
    for count in (10, 10, 3):
        cloud.starts(count, ["FARGATE_SPOT"] * count)
    assert starter.handler({}, None)["started"] == {"FARGATE_SPOT": 23}


def test_what_spot_has_no_room_for_is_started_on_demand(cloud: Cloud) -> None:
    cloud.has_messages(20, 0)
    cloud.has_running(0)
    cloud.starts(2, ["FARGATE_SPOT"], SPOT_SHORTAGE)
    cloud.starts(1, ["FARGATE"], strategy=ON_DEMAND)
    report = starter.handler({}, None)
    assert report["started"] == {"FARGATE_SPOT": 1, "FARGATE": 1}
    assert report["failures"] == [SPOT_SHORTAGE["reason"]]


def test_a_shortage_of_both_is_reported_and_left_to_the_next_run(cloud: Cloud) -> None:
    cloud.has_messages(1, 0)
    cloud.has_running(0)
    cloud.starts(1, [], SPOT_SHORTAGE)
    cloud.starts(1, [], SPOT_SHORTAGE, strategy=ON_DEMAND)
    report = starter.handler({}, None)
    assert report["started"] == {}
    assert len(report["failures"]) == 2


def test_a_second_attempt_has_a_client_token_of_its_own(cloud: Cloud) -> None:
    tokens: list[str] = []

    def note_token(params: dict[str, Any], model: Any, **_: Any) -> None:
        if model.name == "RunTask":
            tokens.append(params["clientToken"])

    _, ecs = starter.clients()
    ecs.meta.events.register_last("before-parameter-build", note_token)
    cloud.has_messages(1, 0)
    cloud.has_running(0)
    cloud.starts(1, [], SPOT_SHORTAGE)
    cloud.starts(1, ["FARGATE"], strategy=ON_DEMAND)
    starter.handler({}, None)
    assert len(tokens) == len(set(tokens)) == 2


def test_a_failure_that_is_no_shortage_fails_the_invocation_after_the_report(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.has_messages(1, 0)
    cloud.has_running(0)
    cloud.starts(1, [], {"arn": "arn:task", "reason": "MISSING", "detail": "the revision is gone"})
    cloud.starts(1, ["FARGATE"], strategy=ON_DEMAND)
    with pytest.raises(RuntimeError, match="sync-task were not started: arn:task MISSING the revision is gone"):
        starter.handler({}, None)
    assert json.loads(capsys.readouterr().out)["started"] == {"FARGATE": 1}


def test_a_refused_call_fails_the_invocation_after_reporting_what_was_started_before(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAX_WORKERS", "12")
    cloud.has_messages(1000, 0)
    cloud.has_running(0)
    cloud.starts(10, ["FARGATE_SPOT"] * 8 + ["FARGATE"] * 2)
    cloud.refuses(2, "AccessDeniedException")
    with pytest.raises(RuntimeError, match="AccessDeniedException"):
        starter.handler({}, None)
    report = json.loads(capsys.readouterr().out)
    assert report["started"] == {"FARGATE_SPOT": 8, "FARGATE": 2}
    assert "AccessDeniedException" in report["failures"][0]


def test_a_queue_that_cannot_be_read_fails_the_invocation(cloud: Cloud) -> None:
    cloud.sqs.add_client_error("get_queue_attributes", "AWS.SimpleQueueService.NonExistentQueue", "gone", 400)
    with pytest.raises(ClientError, match="NonExistentQueue"):
        starter.handler({}, None)


def test_the_report_is_returned_and_logged_in_one_line(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.has_messages(7, 4)
    cloud.has_running(1)
    cloud.starts(1, ["FARGATE_SPOT"])
    report = starter.handler({}, None)
    assert report == {
        "visible": 7,
        "in_flight": 4,
        "running": 1,
        "wanted": 2,
        "started": {"FARGATE_SPOT": 1},
        "failures": [],
    }
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [report]


def test_every_wrong_setting_is_named_in_one_error() -> None:
    wrong = {
        "QUEUE_URL": "sync-q",
        "CLUSTER": "a cluster",
        "SUBNETS": "subnet-0a1, subnet-0b2",
        "SECURITY_GROUPS": "default",
        "ASSIGN_PUBLIC_IP": "true",
        "STARTED_BY": "a" * 129,
        "MAX_WORKERS": "0",
        "MESSAGES_PER_WORKER": "ten",
    }
    with pytest.raises(ValueError, match="wrong settings") as raised:
        starter.load_settings(wrong)
    message = str(raised.value)
    assert [name for name in [*wrong, "TASK_DEFINITION is not set"] if name not in message] == []
    assert "\n" not in message


def test_a_subnet_list_longer_than_ecs_takes_is_refused() -> None:
    starter.load_settings(SETTINGS | {"SUBNETS": ",".join(["subnet-0a1"] * 16)})
    with pytest.raises(ValueError, match="1 to 16 subnet ids"):
        starter.load_settings(SETTINGS | {"SUBNETS": ",".join(["subnet-0a1"] * 17)})


def test_a_wrong_setting_fails_the_invocation_before_any_call(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_WORKERS", "many")
    with pytest.raises(ValueError, match="MAX_WORKERS='many' has to be a whole number from 1 to 1000"):
        starter.handler({}, None)
    assert cloud.requests == []


@pytest.mark.parametrize("public_ip", ["ENABLED", "DISABLED"])
def test_every_request_agrees_with_the_service_model_enumerations_included(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, public_ip: str
) -> None:
    monkeypatch.setenv("ASSIGN_PUBLIC_IP", public_ip)
    settings = starter.load_settings(SETTINGS | {"ASSIGN_PUBLIC_IP": public_ip})
    cloud.has_messages(1, 0)
    cloud.has_running(0)
    for strategy in (starter.SPOT_FIRST, starter.ON_DEMAND):
        cloud.ecs.add_response("run_task", {"tasks": [], "failures": [SPOT_SHORTAGE]})
        assert sum(item["weight"] for item in strategy) > 0  # all zero is refused
    starter.count_messages(settings["QUEUE_URL"])
    starter.count_running(settings["CLUSTER"], settings["STARTED_BY"])
    starter.start_workers(settings, 1)
    models = {name: botocore.session.get_session().get_service_model(name) for name in ("sqs", "ecs")}
    services = {"GetQueueAttributes": "sqs", "ListTasks": "ecs", "RunTask": "ecs"}
    assert {name for name, _ in cloud.requests} == set(services)
    for name, request in cloud.requests:
        assert problems(models[services[name]].operation_model(name).input_shape, request) == []


def problems(shape: Shape, value: Any) -> list[str]:
    """What botocore's model has against a value: unknown or missing members, and values outside an enumeration."""
    if isinstance(shape, StructureShape):
        found = [f"{shape.name} has no {name}" for name in value if name not in shape.members]
        found += [f"{shape.name} needs {name}" for name in shape.required_members if name not in value]
        return found + [text for name in value for text in problems(shape.members.get(name, shape), value[name])]
    if isinstance(shape, ListShape):
        return [text for item in value for text in problems(shape.member, item)]
    allowed = shape.metadata.get("enum")
    return [] if not allowed or value in allowed else [f"{value!r} is no {shape.name}"]
