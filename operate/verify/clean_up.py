"""How ./sync.sh verify ends, whatever happens: what it has put is removed, and its pause ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType

from operate import text
from operate.cloud import Cloud, Interrupted
from operate.failure import Failure
from operate.verify.bench import end_pause
from operate.verify.remove import abort_uploads, remove_objects
from operate.verify.state import Plan, Seen

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


@dataclass
class Ending:
    status: int = 0
    by: int = 0  # the signal that ended the run
    is_complete: bool = True  # nothing is left


@contextmanager
def to_the_end(plan: Plan, seen: Seen) -> Iterator[Ending]:
    """What is being put when a signal comes is waited for, so that it is removed, too. Further signals have no effect,
    nor has it that nobody reads the output any more."""
    ending = Ending()

    def end(number: int, _frame: FrameType | None) -> None:
        ending.by = number
        ignore_signals()
        plan.cloud.close()

    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for one in SIGNALS:
        if signal.getsignal(one) != signal.SIG_IGN:
            signal.signal(one, end)
    try:
        yield ending
    except Interrupted:
        ending.status = 128 + signal.SIGINT
    except Failure:
        if not ending.by:
            raise
    finally:
        ignore_signals()
        clean_up(replace(plan, cloud=Cloud(plan.deployment)), seen, ending)


def ignore_signals() -> None:
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)


def leave(ending: Ending) -> int:
    """The exit status, unless a signal has ended the run: then it ends this process, too."""
    if not ending.is_complete:
        return 1
    if ending.by:
        signal.signal(ending.by, signal.SIG_DFL)
        os.kill(os.getpid(), ending.by)
    return ending.status


# --- cleaning up ------------------------------------------------------------------------------------------------------


def clean_up(plan: Plan, seen: Seen, ending: Ending) -> None:
    """The pause ends last: what was put is gone by then, so that it is not copied any more."""
    problems: list[str] = []
    try:
        if seen.has_put:
            text.say("verify: removing what was uploaded")
            problems += problem(lambda: remove_objects(plan, seen), left_objects(plan))
            problems += problem(lambda: abort_uploads(plan), left_uploads(plan))
    finally:
        resume = f"verify: the sync is still paused: ./sync.sh{plan.deployment.via} resume"
        problems += problem(lambda: end_pause(plan, seen), resume)
    for one in problems:
        text.say(one)
    ending.is_complete = not problems


def problem(job: Callable[[], None], said: str) -> list[str]:
    """What is said if the job fails."""
    try:
        job()
    except Failure as failure:
        text.say(f"verify: {failure}")
    except Interrupted:
        pass  # a call has ended as after Ctrl-C, and what is left is said
    else:
        return []
    return [said]


def left_objects(plan: Plan) -> str:
    source, destination = (f"'s3://{side.bucket}/{plan.folder}'" for side in (plan.source, plan.destination))
    return f"verify: objects may be left: aws s3 rm --recursive {source}, then the same for {destination}"


def left_uploads(plan: Plan) -> str:
    command = f"aws s3api list-multipart-uploads --bucket {plan.source.bucket} --prefix {plan.folder}"
    return f"verify: an upload may be left, which costs as an object does: {command}"
