"""When the function copies by itself (STARTER_COPIES), for how long, and what it then starts workers for."""

import subprocess
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from account import PROJECT
from botocore.exceptions import ClientError
from starter_worlds import MINUTES_EVENT, Run, Span, Starter, ended, event, moment, not_pulled, running, starting
from test_starter import operations_of, requests_of

from launch.copying import FEW_MESSAGES, RESERVE_SECONDS, left_over


class Copier:
    """In the place of mirror/function.py. `seconds`: how long it was to copy; `before`: what had been asked by then."""

    def __init__(self, comes_to: dict[str, int] | Exception) -> None:
        self.comes_to, self.ends = comes_to, 0
        self.seconds: list[float] = []
        self.before: list[str] = []
        self.meanwhile: list[Run] = []

    def respond(self, environment: Mapping[str, str], seconds: float) -> dict[str, int]:
        assert environment is self.starter.environment
        self.before = operations_of(self.starter)
        self.seconds.append(seconds)
        self.starter.world.tasks += self.meanwhile
        if isinstance(self.comes_to, Exception):
            raise self.comes_to
        return self.comes_to

    def end_process_if_unanswered(self) -> None:
        self.ends += 1

    def begins(self, *given: Any, **plan: Any) -> Starter:
        settings = {name: plan.pop(name) for name in [*plan] if name.isupper()}
        self.starter = Starter(moment(*given, **plan), copier=self, STARTER_COPIES="true", **settings)
        return self.starter


def context(seconds: float = 60) -> Any:
    return SimpleNamespace(get_remaining_time_in_millis=lambda: int(seconds * 1000))


@pytest.mark.parametrize(("value", "has_it"), [("true", True), ("false", False), ("", False)])
def test_its_part_of_the_worker_is_imported_with_the_starter_and_only_if_it_copies(value: str, has_it: bool) -> None:
    command = [sys.executable, "-c", "import sys, starter; print('mirror.function' in sys.modules)"]
    done = subprocess.run(command, env={"STARTER_COPIES": value}, cwd=PROJECT, capture_output=True, text=True)
    assert done.stdout == f"{has_it}\n", done.stderr


EMPTIED, HANDED_BACK = {"copied": 3, "emptied": 1}, {"copied": 4, "handed_back": 1}
# What the copier comes to, the moment, the event; whether it copies, how many workers are started, whether before it.
CASES: dict[str, tuple[Any, tuple[Any, ...], Any, bool, list[str], bool]] = {
    "from idle": (EMPTIED, (0, 0), event(), True, [], False),
    "from idle, some wait": (EMPTIED, (FEW_MESSAGES, 0), event(), True, [], False),
    "a run of the minute": (EMPTIED, (1, 0), MINUTES_EVENT, True, [], False),
    "nothing waits": (EMPTIED, (0, 0), MINUTES_EVENT, False, [], False),
    "nothing waits, some are in flight": (EMPTIED, (0, 5), MINUTES_EVENT, False, [], False),
    "an event about nothing any more": (EMPTIED, (0, 0), event(40), False, [], False),
    "what it handed back is in no count": (HANDED_BACK, (5, 0), event(), True, ["1"], False),
    "much waits": (HANDED_BACK, (FEW_MESSAGES + 1, 0), event(), True, ["2"], True),
    "a worker runs": (EMPTIED, (600, 600, running()), MINUTES_EVENT, False, ["1"], False),
    "a worker is starting": (EMPTIED, (1, 0, starting()), event(), False, [], False),
}


@pytest.mark.parametrize("name", CASES)
def test_it_copies_while_no_worker_runs(name: str) -> None:
    comes_to, given, begun_by, copies, workers, is_before = CASES[name]
    copier = Copier(comes_to)
    starter = copier.begins(*given)
    report, error = starter.run(begun_by, context())
    assert (report.get("copied"), error) == (comes_to if copies else None, "")
    assert [request[0] for request in requests_of(starter)] == workers
    assert ("RunTask" in copier.before) == is_before
    assert (len(copier.seconds), copier.ends) == (copies, 1)


def test_what_is_to_stay_is_started_first() -> None:
    copier = Copier(EMPTIED)
    copier.begins(1, MIN_WORKERS="1").run(event(), context())
    assert "RunTask" in copier.before


def test_no_worker_is_started_beside_those_that_have_come_meanwhile() -> None:
    """By another run, if the account is too small to reserve concurrency."""
    copier = Copier(HANDED_BACK)
    copier.meanwhile = [starting()]
    assert copier.begins(1).run(event(), context())[0]["started"] == {}


@pytest.mark.parametrize("tasks", [[not_pulled(200), not_pulled(50)], [ended(700, 10, 3)], [not_pulled(1000)]])
def test_it_does_not_copy_while_workers_fail(tasks: list[Run]) -> None:
    copier = Copier(EMPTIED)
    assert "do not get to work" in copier.begins(1, 0, *tasks).run(event(), context())[1]
    assert copier.seconds == []


def test_it_does_not_copy_in_a_pause() -> None:
    copier = Copier(EMPTIED)
    assert "copied" not in copier.begins(1, PAUSED_SINCE="2026-11-25T11:00:00Z").run(event(), context())[0]
    assert copier.seconds == []


@pytest.mark.parametrize(
    ("waiting", "copied", "left"),
    [
        (400, {"copied": 400, "emptied": 1}, 0),
        (400, {"copied": 500, "emptied": 0}, 1),  # more have come
        (380, {"emptied": 0}, 380),  # a receive did not end
        (400, {"copied": 300, "deleted": 5, "skipped": 5, "handed_back": 3}, 90),  # its time was over
        (1, {"handed_back": 7}, 7),  # the count was late
        (9, {"failed": 9, "emptied": 1}, 0),  # they are tried again later
        (9, {"emptied": 1}, 0),  # somebody else had them
        (9, {"status": 1}, 9),
        (9, {"error": "a mistake"}, 9),
        (9, None, 9),
    ],
)
def test_what_is_left_for_a_worker(waiting: int, copied: dict[str, Any] | None, left: int) -> None:
    assert left_over(waiting, copied) == left


@pytest.mark.parametrize(("left", "given"), [(60, [45]), (70, [50]), (20, [5]), (RESERVE_SECONDS + 4, [])])
def test_so_much_time_is_kept_for_the_rest_of_the_run(left: float, given: list[float]) -> None:
    copier = Copier(EMPTIED)
    starter = copier.begins(1)
    starter.run(event(), context(left))
    assert copier.seconds == given
    assert len(requests_of(starter)) == (not given)


@pytest.mark.parametrize("how", [KeyError("a mistake"), {"status": 1}])
def test_if_it_cannot_copy_a_worker_is_started_and_the_run_fails(how: Any) -> None:
    copier = Copier(how)
    report, error = copier.begins(0).run(event(), context())
    assert report["started"] == {"FARGATE_SPOT": 1}
    assert "the function could not copy" in error
    assert copier.ends == 1


def test_a_worker_that_cannot_be_started_does_not_keep_it_from_copying() -> None:
    copier = Copier(EMPTIED)
    starter = copier.begins(FEW_MESSAGES + 1, refusals=[Span(0, how="RunTask")])
    assert "AccessDenied" in starter.run(event(), context())[1]
    assert len(copier.seconds) == 1


def test_a_failure_leaves_no_call_behind() -> None:
    copier = Copier(EMPTIED)
    with pytest.raises(ClientError):
        copier.begins(1, refusals=[Span(0, how="ListTasks")]).run(event(), context())
    assert copier.ends == 1
