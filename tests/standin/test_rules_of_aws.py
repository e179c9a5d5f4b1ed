"""What stands for AWS here follows the same rules: the model of the searches, the HTTP stand-in, the local cloud."""

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
    Queues,
    Rule,
    StandinBuckets,
    client,
    outcome,
)

TABLES = {"S3": ((MODEL, STANDIN, CLOUD), s3_rules.RULES), "SQS": ((STANDIN, CLOUD), sqs_rules.RULES)}


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
        return ModelBuckets()
    standin = request.getfixturevalue("standin")
    url = standin.url if name == STANDIN else request.getfixturevalue("cloud_url")
    made = client(service.lower(), url)
    if service == "SQS":
        return HttpQueues(made)
    return StandinBuckets(standin, made) if name == STANDIN else CloudBuckets(url, made)


FOLLOWED = [
    pytest.param((service, name), rule, id=f"{name}: {service} {rule.page}: {rule.says}")
    for service, (faces, rules) in TABLES.items()
    for name in faces
    for rule in rules
    if name not in rule.but
]


@pytest.mark.parametrize(("face", "rule"), FOLLOWED, indirect=["face"])
def test_it_follows_the_rule(face: Any, rule: Rule) -> None:
    rule.before(face)
    assert (outcome(lambda: rule.call(face)), face.held()) == (rule.answer, rule.held)
