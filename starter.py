"""The Lambda function that decides how many workers to start now: messages, tasks -> decide() -> started.

It keeps nothing between two runs. What it has to know of earlier ones it reads from ECS, which shows a stopped task for
about an hour. Its parts are in launch/.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from time import time
from typing import Any

from launch.calls import count_messages, describe_tasks, list_running, list_stopped, start_workers, stop_tasks
from launch.decision import Decision, decide
from launch.settings import load_settings
from launch.tasks import SHORTAGE


def look(settings: Mapping[str, Any], visible: int, in_flight: int) -> Decision:
    """Reads from ECS what the decision needs: if nothing waits, only how many workers run."""
    arns = list_running(settings)
    if not visible:  # an empty queue wants nobody; work under way wants those that do it
        return Decision(len(arns), min(len(arns), settings["MAX_WORKERS"]) if in_flight else 0)
    now = time()
    arns += [arn for arn in list_stopped(settings) if arn not in arns]
    return decide(visible, in_flight, describe_tasks(settings, arns, now), now, settings)


def handler(_event: object, _context: object) -> dict[str, Any]:
    """Starts the workers that are missing; returns and logs the numbers it decided on.

    Raises ValueError for wrong settings, botocore's error if the queue or the cluster cannot be read, and RuntimeError
    if ECS failed for another reason than a shortage of capacity, which the next run tries again, or if workers stop
    before they work: in every run until one works, so that the metric Errors tells.
    """
    settings = load_settings(os.environ)
    visible, in_flight = count_messages(settings["QUEUE_URL"])
    decision = look(settings, visible, in_flight)
    failures = stop_tasks(settings, decision.stop)
    started: list[str] = []
    if not failures:  # what could not be stopped is to have no successor beside it
        started, failures = start_workers(settings, decision.start, decision.on_demand)
    report = {
        "visible": visible,
        "in_flight": in_flight,
        "running": decision.running,
        "wanted": decision.wanted,
        "started": dict(Counter(started)),
        "stopped": len(decision.stop),
        "failures": failures,
        "failing": decision.failing,
        "trial": decision.trial,
    }
    print(json.dumps(report))
    errors = [failure for failure in failures if SHORTAGE not in failure]
    problems = [f"workers of {settings['TASK_DEFINITION']} were not started: {'; '.join(errors)}"] if errors else []
    if decision.failing:
        problems.append(f"workers of {settings['TASK_DEFINITION']} do not get to work: {decision.failing}")
    if problems:
        raise RuntimeError("; ".join(problems))
    return report
