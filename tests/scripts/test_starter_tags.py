"""Tasks with tags (TAGS): what the starter asks for, and that it starts workers without the right to tag them."""

import pytest
from starter_cloud import ON_DEMAND, SPOT_SHORTAGE, Cloud

import starter

NO_TAGGING = (
    "User: arn:aws:sts::111122223333:assumed-role/sync-starter-role/sync-starter is not authorized to perform: "
    "ecs:TagResource on resource: arn:aws:ecs:eu-north-1:111122223333:task/sync-cluster/* because no permissions "
    "boundary allows the ecs:TagResource action"
)
NO_RUNNING = NO_TAGGING.replace("TagResource", "RunTask")


@pytest.fixture
def tagging(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setenv("TAG_TASKS", "true")
    cloud.has_messages(11, 0)
    cloud.has_tasks()
    return cloud


def test_tasks_are_started_with_the_tags_of_their_definition(tagging: Cloud) -> None:
    tagging.starts(2, ["FARGATE_SPOT"], SPOT_SHORTAGE, tagged=True)
    tagging.starts(1, ["FARGATE"], strategy=ON_DEMAND, tagged=True)
    assert starter.handler({}, None)["started"] == {"FARGATE_SPOT": 1, "FARGATE": 1}


def test_who_may_not_tag_starts_workers_without_tags_and_says_so_once(
    tagging: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    tagging.refuses(2, "AccessDeniedException", NO_TAGGING, tagged=True)
    tagging.starts(2, ["FARGATE_SPOT"], SPOT_SHORTAGE)
    tagging.refuses(1, "AccessDeniedException", NO_TAGGING, strategy=ON_DEMAND, tagged=True)
    tagging.starts(1, ["FARGATE"], strategy=ON_DEMAND)
    report = starter.handler({}, None)
    assert report["started"] == {"FARGATE_SPOT": 1, "FARGATE": 1}
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tasks are started without tags")]
    assert len(said) == 1
    assert "ecs:TagResource" in said[0]


@pytest.mark.parametrize(
    ("code", "why"), [("AccessDeniedException", NO_RUNNING), ("InvalidParameterException", "ecs:TagResource")]
)
def test_another_refusal_is_not_tried_without_tags(tagging: Cloud, code: str, why: str) -> None:
    tagging.refuses(2, code, why, tagged=True)
    tagging.refuses(2, code, why, strategy=ON_DEMAND, tagged=True)
    with pytest.raises(RuntimeError, match="were not started"):
        starter.handler({}, None)
