"""From idle: seconds from an upload to its copy, one upload at a time, in the local cloud with the delays of AWS.

    .venv/bin/python tests/bench/idle.py --uploads 50

Idle means that nothing is in the queue and only tasks that always run are running, followed by a random pause, so that
an upload comes at any moment between two runs of the rule. Several deployments of a mode are measured side by side,
because one would take an hour. Workers end early, so that the next upload finds none. For a cold function, the
configuration is changed before each upload, which ends the process that Lambda keeps.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from deployed import Cloud, Deployment, Runs, count_copies, describe_machine, read_runs, running_cloud, wait_until

TASK_SECONDS = 40  # the README's 30 to 60 s; start_seconds of lib/cost.jq
DEPLOYS_AT_ONCE = 2
SETTLE_SECONDS = 2.0  # for a run of the function that nobody sees
MINUTE = 60.0
LONGEST_POLL, SHORTEST_POLL = 0.2, 0.02
SOON_IDLE = {"WAIT_TIME_SECONDS": "2", "EMPTY_POLLS_BEFORE_EXIT": "1", "PROCESSES": "1"}
EVENTS = {"EVENT_SOURCE": "eventbridge"}
COPIES = EVENTS | {"STARTER_COPIES": "true"}


@dataclass(frozen=True)
class Mode:
    """`side_by_side`: this many deployments share the uploads."""

    name: str
    settings: dict[str, str]
    side_by_side: int
    pause: float = MINUTE
    is_cold: bool = False


MODES = {
    "default": Mode("the defaults", {}, 8),
    "events": Mode("`EVENT_SOURCE=eventbridge`", EVENTS, 5),
    "copies": Mode("and `STARTER_COPIES=true`", COPIES, 3),
    "cold": Mode("the same, function cold", COPIES, 1, is_cold=True),
    "always": Mode("`MIN_WORKERS=1`", {"MIN_WORKERS": "1"}, 1, pause=10),
}


@dataclass(frozen=True)
class Result:
    """Of one deployment."""

    times: list[float]
    runs: Runs
    copied_by_workers: int
    minutes: float


def poll_pause(elapsed: float) -> float:
    """A hundredth of what has passed, so that looking neither blurs a short wait nor loads the cloud in a long one."""
    return min(LONGEST_POLL, max(SHORTEST_POLL, elapsed / 100))


def seconds_to_copy(deployment: Deployment, key: str) -> float:
    begun = time.monotonic()
    deployment.s3.put_object(Bucket=deployment.source, Key=key, Body=b"small")
    while not deployment.has(key):
        elapsed = time.monotonic() - begun
        if elapsed > 10 * MINUTE:
            raise TimeoutError(f"{deployment.app}: {key} was not copied within ten minutes")
        time.sleep(poll_pause(elapsed))
    return time.monotonic() - begun


def become_idle(deployment: Deployment, mode: Mode, number: int, chance: random.Random) -> None:
    wait_until(deployment.is_idle, f"{deployment.app} is idle")
    if mode.is_cold:
        functions = deployment.cloud.client("lambda")
        functions.update_function_configuration(FunctionName=deployment.starter, Description=f"cold {number}")
    time.sleep(SETTLE_SECONDS + (0 if mode.is_cold else chance.uniform(0, mode.pause)))


def measure(deployment: Deployment, mode: Mode, uploads: int, logs: Path | None) -> Result:
    deployment.since = int(1000 * time.time())
    begun, times, chance = time.monotonic(), [], random.Random(deployment.app)
    for number in range(uploads):
        become_idle(deployment, mode, number, chance)
        times.append(seconds_to_copy(deployment, f"small/{number}"))
        print(f"{deployment.app}: {times[-1]:.2f} s", file=sys.stderr, flush=True)
    wait_until(deployment.is_idle, f"{deployment.app} is idle at the end")
    minutes = (time.monotonic() - begun) / 60
    time.sleep(SETTLE_SECONDS)
    if logs:
        deployment.keep_lines(logs)
    return Result(times, read_runs(deployment.function_lines()), count_copies(deployment.worker_lines()), minutes)


def shares(total: int, parts: int) -> list[int]:
    """The total in that many parts, as even as can be; none is empty."""
    parts = min(total, parts)
    return [total // parts + (part < total % parts) for part in range(parts)]


def summary(mode: Mode, results: list[Result]) -> list[str]:
    """A row of the table."""
    times = sorted(seconds for result in results for seconds in result.times)
    p90 = quantiles(times, n=10, method="inclusive")[8] if len(times) > 1 else times[0]
    runs = [result.runs for result in results]
    return [
        mode.name,
        str(len(times)),
        *(f"{seconds:.2f}" for seconds in (median(times), p90, times[-1])),
        str(sum(run.started for run in runs)),
        f"{sum(run.runs for run in runs)} in {sum(result.minutes for result in results):.0f} min",
        str(sum(run.that_copied for run in runs)),
        f"{sum(run.copied for run in runs)} + {sum(result.copied_by_workers for result in results)}",
    ]


COLUMNS = (
    *("mode", "uploads", "median s", "9 of 10 within s", "worst s", "tasks started", "runs of the function"),
    *("of them copied", "copies by the function + by workers"),
)


def table(rows: list[list[str]]) -> str:
    lines = [list(COLUMNS), ["---", *("---:" for _ in COLUMNS[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measure_all(
    cloud: Cloud, wanted: dict[str, int], most: int, logs: Path | None
) -> Iterator[tuple[Mode, list[Result]]]:
    """`wanted`: name of a mode -> uploads. `most`: deployments of a mode. All of them are measured at once."""
    jobs = {
        name: [
            (Deployment(cloud, f"{name}-{part}", SOON_IDLE | MODES[name].settings), share)
            for part, share in enumerate(shares(uploads, min(most, MODES[name].side_by_side)))
        ]
        for name, uploads in wanted.items()
    }
    deployments = [deployment for job in jobs.values() for deployment, _ in job]
    with ThreadPoolExecutor(DEPLOYS_AT_ONCE) as pool:
        for _ in pool.map(Deployment.deploy, deployments):
            pass  # all of them before the first upload: that is a busy time of this machine
    with ThreadPoolExecutor(len(deployments)) as pool:
        for _ in pool.map(Deployment.become_ready, deployments):
            pass
        print(f"deployed; {describe_machine()}", file=sys.stderr, flush=True)
        found = {name: [pool.submit(measure, d, MODES[name], n, logs) for d, n in job] for name, job in jobs.items()}
        for name, futures in found.items():
            yield MODES[name], [future.result() for future in futures]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--uploads", type=int, default=50, help="of each mode (%(default)s)")
    parser.add_argument("--cold", type=int, default=10, help="uploads to a cold function (%(default)s)")
    parser.add_argument("--modes", default=",".join(MODES), help="%(default)s")
    parser.add_argument("--task-seconds", type=int, default=TASK_SECONDS, help="that a task takes to start")
    parser.add_argument("--side-by-side", type=int, default=8, help="deployments of a mode at most (%(default)s)")
    parser.add_argument("--logs", type=Path, help="a folder for the lines of the functions and of the workers")
    options = parser.parse_args()
    wanted = {name: options.cold if name == "cold" else options.uploads for name in options.modes.split(",")}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, running_cloud(Path(folder), options.task_seconds) as cloud:
        rows = [
            summary(mode, results) for mode, results in measure_all(cloud, wanted, options.side_by_side, options.logs)
        ]
    print(table(rows))
    print(f"\nA task takes {options.task_seconds} s to start. {describe_machine()}; {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
