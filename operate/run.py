"""Runs a verb: once to check its options, before any call of AWS, and then with what the scripts hand over."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import Any

from operate import cloud, ending, text
from operate.deployment import read_handover
from operate.failure import Failure, SaidFailure

HANDOVER = 3  # the file descriptor on which the scripts hand over what they know
WITHOUT_AWS = 4  # exit status of "check": with these options the verb asks no AWS, and goes by the settings alone


def run(arguments: Sequence[str]) -> int:
    """`arguments`: "check" or "run", the name of the script, the verb, and its options. Returns the exit status."""
    what, script, verb, *words = arguments
    module: Any = import_module(f"operate.verbs.{verb}")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as in other programs: head may have seen enough

    try:
        options = module.parse(words)
        if what == "check":
            return 0 if getattr(options, "asks_aws", True) else WITHOUT_AWS
        for number in ending.SIGNALS:
            end_by(number)
        if sys.stdout is None:
            raise Failure("standard output is closed, so nothing could be shown: open it, for example with >/dev/null")
        with os.fdopen(HANDOVER, "rb") as file:
            deployment = read_handover(file.read())
        return int(module.run(options, deployment, cloud.Cloud(deployment)))

    except cloud.Interrupted:
        return 128 + signal.SIGINT
    except SaidFailure as failure:
        return failure.status
    except Failure as failure:
        text.say(f"{script}: {failure}")
        return failure.status
    finally:
        ending.do_all()


def end_by(number: signal.Signals) -> None:
    """Such a signal ends the process at once, and its calls of the AWS CLI, after what has to be done at the end. One
    that is ignored stays so, as nohup has it."""

    def end(_number: int, _frame: FrameType | None) -> None:
        cloud.end_calls()
        ending.do_all()
        text.end_progress()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, end)
