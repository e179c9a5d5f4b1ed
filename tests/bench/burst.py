"""A burst with all of it on: many small objects at once, in the local cloud with the delays of AWS.

    .venv/bin/python tests/bench/burst.py --objects 20000

Printed is whether both buckets are equal, who copied how much, what the function did and was spared, which tasks were
started, and what it would cost by the formula of ./sync.sh cost. Objects are put as fast as the cloud takes
them, which shares this machine with the workers: the seconds are those of the machine, not of AWS.
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs"))  # the formula

import cost
from cost import money
from deployed import (
    Deployment,
    Runs,
    count_copies,
    count_errors,
    describe_machine,
    read_runs,
    running_cloud,
    wait_until,
)

ALL_ON = {"EVENT_SOURCE": "eventbridge", "STARTER_COPIES": "true"}
PUTS_AT_ONCE = 16
FILE_BYTES = 1000
MOST_SECONDS = 3600.0
QUIET_SECONDS = 65.0  # for throttled events: Lambda drops those that are older than a minute
METRICS = ("Invocations", "Errors", "Throttles", "AsyncEventsReceived", "AsyncEventsDropped")


@dataclass(frozen=True)
class Figures:
    """Of one burst."""

    objects: int
    has_events: bool
    put_seconds: float
    seconds: float  # from the first put to the last visible copy
    unequal: int
    dead_letters: int
    runs: Runs
    metrics: dict[str, float]
    copied_by_workers: int
    task_seconds: list[float]  # of each task, from when it was asked for to its end
    levels: dict[str, int]  # WARNING, ERROR -> lines


def put_all(deployment: Deployment, objects: int) -> float:
    begun = time.monotonic()
    with ThreadPoolExecutor(PUTS_AT_ONCE) as pool:
        for _ in pool.map(lambda number: put(deployment, number), range(objects)):
            pass
    return time.monotonic() - begun


def put(deployment: Deployment, number: int) -> None:
    body = f"{number}:".encode().ljust(FILE_BYTES, b".")
    deployment.s3.put_object(Bucket=deployment.source, Key=f"burst/{number % 100:02}/{number}", Body=body)


def unequal(deployment: Deployment) -> int:
    """Keys that one side has not, or has otherwise."""
    source, mirror = deployment.listing(deployment.source), deployment.listing(deployment.mirror)
    return sum(source.get(key) != mirror.get(key) for key in source.keys() | mirror.keys())


def measured(deployment: Deployment, begun: datetime) -> dict[str, float]:
    """What CloudWatch has of the function since then; without what the cloud does not measure."""
    cloudwatch, found = deployment.cloud.client("cloudwatch"), {}
    for metric in METRICS:
        points = cloudwatch.get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName=metric,
            Dimensions=[{"Name": "FunctionName", "Value": deployment.starter}],
            StartTime=begun,
            EndTime=datetime.now(UTC) + timedelta(minutes=1),
            Period=60,
            Statistics=["Sum"],
        )["Datapoints"]
        if points:
            found[metric] = sum(point["Sum"] for point in points)
    return found


def task_seconds(tasks: list[dict[str, Any]]) -> list[float]:
    """Of each, from createdAt to stoppedAt, or to now if it runs."""
    now = datetime.now(UTC)
    return [(task.get("stoppedAt", now) - task["createdAt"]).total_seconds() for task in tasks]


def burst(deployment: Deployment, objects: int, logs: Path | None) -> Figures:
    """Deploys, waits until all is idle, puts, waits until all is equal and idle again."""
    deployment.deploy()
    deployment.become_ready()
    begun, since = time.monotonic(), datetime.now(UTC) - timedelta(minutes=1)
    put_seconds = put_all(deployment, objects)
    print(f"{objects} objects put in {put_seconds:.0f} s", file=sys.stderr, flush=True)
    wait_until(lambda: is_done(deployment), "both sides are equal", MOST_SECONDS, pause=3)
    seconds = time.monotonic() - begun
    wait_until(deployment.is_idle, f"{deployment.app} is idle after the burst", MOST_SECONDS)
    time.sleep(QUIET_SECONDS)
    if logs:
        deployment.keep_lines(logs)
    worker_lines, function_lines = deployment.worker_lines(), deployment.function_lines()
    return Figures(
        objects=objects,
        has_events=deployment.settings.get("EVENT_SOURCE") == "eventbridge",
        put_seconds=put_seconds,
        seconds=seconds,
        unequal=unequal(deployment),
        dead_letters=deployment.messages("dlq"),
        runs=read_runs(function_lines),
        metrics=measured(deployment, since),
        copied_by_workers=count_copies(worker_lines),
        task_seconds=task_seconds(deployment.tasks() + deployment.tasks(stopped=True)),
        levels=dict(count_errors(worker_lines + function_lines)),
    )


def is_done(deployment: Deployment) -> bool:
    """Listings would keep the cloud from its work, so it is asked for them only if the queue is empty."""
    waiting = deployment.messages()
    print(f"{waiting} messages", file=sys.stderr, flush=True)
    return not waiting and not unequal(deployment)


def priced(figures: Figures) -> dict[str, float]:
    """USD by what it is for."""
    function_gb = figures.runs.gb_seconds / figures.runs.seconds if figures.runs.seconds else 0
    used = {
        "copies": figures.objects,
        "bytes": figures.objects * FILE_BYTES,
        "worker_seconds": sum(figures.task_seconds),  # with their start
        "runs": figures.runs.runs,
        "run_seconds": figures.runs.seconds,
        "log_bytes": 0,
    }
    bill = cost.bill(used=used, setup={"has_events": figures.has_events, "function_gb": function_gb})
    return {name: cost.usd(bill, *names) for name, names in cost.ITEMS.items()}


def report(figures: Figures) -> str:
    runs, prices = figures.runs, priced(figures)
    rows = {
        "objects": f"{figures.objects:,}, put in {figures.put_seconds:.0f} s",
        "all equal after": f"{figures.seconds:.0f} s from the first put",
        "unequal": str(figures.unequal),
        "dead letters": str(figures.dead_letters),
        "copied by the function": f"{runs.copied:,} in {runs.that_copied} runs",
        "copied by workers": f"{figures.copied_by_workers:,}",
        "function": f"{runs.runs} runs, {runs.seconds:.1f} s in all, {runs.gb_seconds:.1f} GB-seconds",
        "its metrics": ", ".join(f"{name} {value:.0f}" for name, value in figures.metrics.items()) or "none",
        "tasks": f"{len(figures.task_seconds)} for {sum(figures.task_seconds):.0f} s, {runs.started} by the log",
        "lines of trouble": ", ".join(f"{level} {count}" for level, count in figures.levels.items()) or "none",
        "USD": f"{money(sum(prices.values()))}: "
        + ", ".join(f"{name} {money(price)}" for name, price in prices.items() if price),
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--objects", type=int, default=20_000, help="%(default)s")
    parser.add_argument("--min-workers", type=int, default=0, help="MIN_WORKERS (%(default)s)")
    parser.add_argument("--task-seconds", type=int, default=40, help="that a task takes to start (%(default)s)")
    parser.add_argument("--event-source", default="eventbridge", help="sqs: the defaults, to compare (%(default)s)")
    parser.add_argument("--logs", type=Path, help="a folder for the lines of the function and of the workers")
    options = parser.parse_args()
    settings = ALL_ON if options.event_source == "eventbridge" else {}
    settings = settings | ({"MIN_WORKERS": str(options.min_workers)} if options.min_workers else {})
    with tempfile.TemporaryDirectory() as folder, running_cloud(Path(folder), options.task_seconds) as cloud:
        figures = burst(Deployment(cloud, "burst", settings), options.objects, options.logs)
    print(report(figures))
    print(f"\nSettings: {settings}. A task takes {options.task_seconds} s to start. {describe_machine()}")
    sys.exit(1 if figures.unequal or figures.dead_letters else 0)


if __name__ == "__main__":
    main()
