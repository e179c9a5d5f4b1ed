"""worker.py wait on a million keys in the stand-in: seconds, CPU seconds, memory and requests.

    .venv/bin/python tests/bench/wait.py                 about 20 minutes, and 3 GB for the stand-in
    .venv/bin/python tests/bench/wait.py --keys 20000    shows that all of it runs
    .venv/bin/python tests/bench/wait.py --keys 24000 --only markers --worker ../other/worker.py    of another checkout

A page of a listing takes `--page-seconds`, as S3's does.

listed    all is here, an hour younger than the source: the listings decide
young     all is here, a second younger than the source: one look at each copy
arriving  a thousand of the keys are missing at first, and arrive at a hundred a second
nothing   none is here at first, and then all of them at once
markers   none is here at first: a worker copies them all, in twelve folders, whose markers wait from the beginning
beside    all is here, in four flat folders whose markers a worker compares. Meanwhile a file and its marker come to
          another folder, and a commit to a table (TABLES) with a file of which the copy takes three seconds: the
          seconds until each of the two is there come first
"""

import argparse
import base64
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "standin"))  # the stand-in

from measure import Running, Usage, finish, start, wait_for
from movers import CREDENTIALS, MIRROR, PROJECT, QUEUE, SOURCE, WORKER_SETTINGS
from processes import inherited
from rows import aligned, number
from standin import Standin, running_standin

AT_ONCE = 50_000
LATE = 1000  # keys
PER_SECOND = 100
HOUR = 3600
FOLDERS, FLAT = 12, 4
GIB = 1024**3
LOG = "table/_delta_log/"
QUEUE_URL = f"{{}}/000000000000/{QUEUE}"
TIMEOUT = 2 * HOUR
# What a copy of the worker says of its source; the end, which no listing shows, is not compared here.
PROVENANCE = {"sync-source": "{etag} {time} {size} null 000000000000"}


def fill(standin: Standin, keys: int, modified: int, younger: int) -> None:
    standin.reset()
    for bucket in (SOURCE, MIRROR):
        standin.create_bucket(bucket)
    for first in range(0, keys, AT_ONCE):
        names = [f"data/{i % 1000:04d}/object-{i:09d}" for i in range(first, min(first + AT_ONCE, keys))]
        standin.put_many(SOURCE, names, modified=modified)
        standin.mirror_many(SOURCE, MIRROR, younger, names, **PROVENANCE)


def listed(standin: Standin, keys: int) -> None:
    fill(standin, keys, int(time.time()) - 3 * HOUR, HOUR)


def young(standin: Standin, keys: int) -> None:
    fill(standin, keys, int(time.time()) - 3 * HOUR, 1)


def arriving(standin: Standin, keys: int) -> None:
    listed(standin, keys)
    standin.together([("delete", [MIRROR, key], {}) for key in late(keys)])


def nothing(standin: Standin, keys: int) -> None:
    listed(standin, keys)
    standin.create_bucket(MIRROR)


def markers(standin: Standin, keys: int) -> None:
    """A marker's event comes before those of its files, so that it waits for all of them."""
    standin.reset()
    for bucket in (SOURCE, MIRROR):
        standin.create_bucket(bucket)
    standin.create_queue(QUEUE)
    standin.notify(SOURCE, QUEUE)
    standin.put_many(SOURCE, [f"data/{folder:02d}/_SUCCESS" for folder in range(FOLDERS)])
    for first in range(0, keys, AT_ONCE):
        names = [f"data/{i % FOLDERS:02d}/object-{i:09d}" for i in range(first, min(first + AT_ONCE, keys))]
        standin.put_many(SOURCE, names)


def beside(standin: Standin, keys: int) -> None:
    standin.reset()
    for bucket in (SOURCE, MIRROR):
        standin.create_bucket(bucket)
    standin.create_queue(QUEUE)
    for flat in range(FLAT):
        names = [f"flat{flat}/object-{i:09d}" for i in range(keys // FLAT)]
        standin.put_many(SOURCE, names, modified=int(time.time()) - 3 * HOUR)
    commit(standin, 0)
    standin.mirror_many(SOURCE, MIRROR, HOUR, **PROVENANCE)
    standin.notify(SOURCE, QUEUE)
    standin.latency("CopyObject", ms_per_gib=3000)


def commit(standin: Standin, version: int) -> None:
    """A version of the table with one large file."""
    actions = base64.b64encode(json.dumps({"add": {"path": f"f{version}"}}).encode()).decode()
    standin.put(SOURCE, f"table/f{version}", GIB)
    standin.put(SOURCE, f"{LOG}{version:020}.json", data=actions)


def seconds_beside(standin: Standin, running: Running) -> str:
    """From the put until the destination has it: of the marker in the small folder, and of the table's next commit."""
    for flat in range(FLAT):
        standin.put(SOURCE, f"flat{flat}/_SUCCESS")
    wait_for(lambda: requests(standin).get("ListObjectsV2", 0) > 2 * FLAT, running, TIMEOUT, 0.1)
    standin.watch(SOURCE, MIRROR)
    standin.put_many(SOURCE, ["small/file", "small/_SUCCESS"])
    commit(standin, 1)
    wait_for(lambda: not any(standin.behind().values()), running, TIMEOUT, 0.1)
    return "".join(f"{max(lags['shown']):.1f} {group}_seconds, " for group, lags in sorted(standin.lags().items()))


def late(keys: int) -> list[str]:
    return [f"data/{i % 1000:04d}/object-{i:09d}" for i in range(0, keys, max(1, keys // LATE))][:LATE]


CASES: dict[str, Callable[[Standin, int], None]] = {
    case.__name__: case for case in (listed, young, arriving, nothing, markers, beside)
}


def run(
    standin: Standin, case: str, keys: int, page_seconds: float, worker: Path, directory: Path
) -> tuple[Usage, str, str]:
    """What the wait, or the worker, used, its requests, and its last line."""
    CASES[case](standin, keys)
    if page_seconds:
        standin.fault("ListObjectsV2", "delay", seconds=page_seconds, times=0)
    environment = inherited() | CREDENTIALS | WORKER_SETTINGS | {"AWS_ENDPOINT_URL": standin.url}
    command = [sys.executable, str(worker), "wait", "--timeout", f"{TIMEOUT}s"]
    if case in ("markers", "beside"):
        queue = {"QUEUE_URL": QUEUE_URL.format(standin.url), "EMPTY_POLLS_BEFORE_EXIT": "3"}
        environment |= queue | {"COPY_LAST": "_SUCCESS", "TABLES": "delta" if case == "beside" else ""}
        command = command[:2]
    before = requests(standin)
    running = start(command, environment, directory / f"wait-{case}.log")
    told = ""
    if case == "beside":
        told = seconds_beside(standin, running)
    elif case != "markers":
        wait_for(lambda: " waiting for " in running.log.read_text(), running, TIMEOUT, 0.1)
    if case == "arriving":
        calls = [("mirror_many", [SOURCE, MIRROR, HOUR, [key]], PROVENANCE) for key in late(keys)]
        standin.play(calls, PER_SECOND)
    if case == "nothing":
        standin.mirror_many(SOURCE, MIRROR, HOUR, **PROVENANCE)
    usage = finish(running, TIMEOUT)
    made = {name: count - before.get(name, 0) for name, count in requests(standin).items()}
    told += ", ".join(f"{count} {name}" for name, count in made.items() if count)
    return usage, told, running.last_words()


def requests(standin: Standin) -> dict[str, int]:
    return dict(standin.stats()["requests"])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--page-seconds", type=float, default=0.3, help="default: %(default)s")
    parser.add_argument("--worker", type=Path, default=PROJECT / "worker.py", help="default: that of this checkout")
    parser.add_argument("--only", choices=CASES, action="append", help="default: all")
    parser.add_argument("--output", type=Path, default=PROJECT / ".cache/bench/wait", help="for the logs")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = [["case", "keys", "status", "seconds", "CPU s", "peak MiB", "requests"]]
    with running_standin() as standin:
        for case in arguments.only or CASES:
            usage, told, last = run(
                standin, case, arguments.keys, arguments.page_seconds, arguments.worker, arguments.output
            )
            figures = [number(figure) for figure in (usage.seconds, usage.cpu_seconds, usage.peak_mib)]
            rows.append([case, str(arguments.keys), str(usage.status), *figures, told])
            print(*rows[-1], last, sep="  ", file=sys.stderr, flush=True)
    print(aligned(rows))


if __name__ == "__main__":
    main()
