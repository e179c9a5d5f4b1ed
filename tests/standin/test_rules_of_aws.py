"""What stands for AWS here follows the same rules: the model of the searches, the HTTP stand-in, the local cloud."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import s3_rules
import sqs_rules
from account import running_local_cloud
from faces import (
    CLOUD,
    COPY_MAX,
    MODEL,
    STANDIN,
    Buckets,
    CloudBuckets,
    HttpQueues,
    ModelBuckets,
    ModelQueues,
    Queues,
    Rule,
    StandinBuckets,
    client,
    outcome,
)

FACES = (MODEL, STANDIN, CLOUD)
TABLES = {"S3": s3_rules.RULES, "SQS": sqs_rules.RULES}
ROWS = [(service, rule) for service, rules in TABLES.items() for rule in rules]


@pytest.fixture(scope="module")
def cloud_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = {"LOCAL_TICK": "1000000", "DOCKER_HOST": "unix:///nonexistent.sock", "COPY_MAX": str(COPY_MAX)}
    with running_local_cloud(tmp_path_factory.mktemp("cloud"), **settings) as url:
        yield url


@pytest.fixture
def face(request: pytest.FixtureRequest) -> Buckets | Queues:
    """Of the service and name that a test is about, with nothing in it."""
    service, name = request.param
    if name == MODEL:
        return ModelBuckets() if service == "S3" else ModelQueues()
    standin = request.getfixturevalue("standin")
    url = standin.url if name == STANDIN else request.getfixturevalue("cloud_url")
    made = client(service.lower(), url)
    if service == "SQS":
        return HttpQueues(made)
    return StandinBuckets(standin, made) if name == STANDIN else CloudBuckets(url, made)


def follows(face: Any, rule: Rule) -> tuple[Any, str]:
    rule.before(face)
    return outcome(lambda: rule.call(face)), face.held()


def rows(is_left_out: bool) -> pytest.MarkDecorator:
    chosen = [
        pytest.param((service, name), rule, id=f"{name}: {service} {rule.page}: {rule.says}")
        for name in FACES
        for service, rule in ROWS
        if (name in rule.but) == is_left_out
    ]
    return pytest.mark.parametrize(("face", "rule"), chosen, indirect=["face"])


@rows(is_left_out=False)
def test_it_follows_the_rule(face: Any, rule: Rule) -> None:
    assert follows(face, rule) == (rule.answer, rule.held)


@rows(is_left_out=True)
def test_what_it_is_said_not_to_follow_it_does_not(face: Any, rule: Rule) -> None:
    found = None
    with contextlib.suppress(NotImplementedError, AttributeError, LookupError, TypeError, AssertionError):
        found = follows(face, rule)
    assert found != (rule.answer, rule.held)
