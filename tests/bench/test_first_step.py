"""The transcript of a training job's first step, small: its order is what COPY_LAST, ANNOUNCE and wait promise."""

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parent


@pytest.fixture
def first_step(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("first_step")


def test_a_job_that_waits_begins_when_all_is_there_and_the_marker_comes_last(
    first_step: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_TICK", "5")
    with first_step.running_cloud(tmp_path, 1, first_step.PAGE_SECONDS) as cloud:
        status, seen, detail = first_step.first_step(cloud, files=20)
    lines = capfd.readouterr().out
    assert status == 0, lines
    assert seen.with_marker and not seen.too_early, lines
    assert (detail["key"], detail["action"], detail["source-bucket"]) == (
        first_step.MARKER,
        "copied",
        "readers-source",
    ), lines
