"""Runs a verb: takes its options, before any call of AWS, then asks the scripts what they know of the deployment."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from types import FrameType
from typing import Any

from operate import cloud, ending, text
from operate.deployment import read_handover
from operate.failure import Failure, SaidFailure
from operate.scripts import output_of


def run(bash: str, path: str, program: str, via: str, verb: str, *words: str) -> int:
    """Returns the exit status. The arguments are those of __main__.py."""
    os.environ["PATH"] = path  # a python3 of pyenv has put its own programs first, such as another AWS CLI
    module: Any = import_module(f"operate.verbs.{verb}")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as in other programs: head may have seen enough

    try:
        options = module.parse(words)
        for number in ending.SIGNALS:
            end_by(number)
        if sys.stdout is None:
            raise Failure("standard output is closed, so nothing could be shown: open it, for example with >/dev/null")

        asks_aws = "true" if getattr(options, "asks_aws", True) else "false"
        refusal = f"{verb}: {module.NO_DRY_RUN}" if hasattr(module, "NO_DRY_RUN") else ""
        handed_over = output_of(bash, program, ["start_and_hand_over", asks_aws, via, refusal])
        deployment = read_handover(handed_over)
        if deployment.settings["DRY_RUN"] == "true" and hasattr(module, "DRY_RUN"):
            options = module.parse([*words, module.DRY_RUN])
        return int(module.run(options, deployment, cloud.Cloud(deployment)))

    except cloud.Interrupted:
        return 128 + signal.SIGINT
    except SaidFailure as failure:
        return failure.status
    except Failure as failure:
        script = program.rpartition("/")[2]
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
