#!/usr/bin/env python3
"""Plants the faults of the sample, one at a time, and runs the tests that can see them until one fails.

    .venv/bin/python tests/faults/run.py                     every folder, the first 24 rows of each; hours
    .venv/bin/python tests/faults/run.py --first 10 launch   ten rows of one
    .venv/bin/python tests/faults/run.py --survivors mirror  only those that no test noticed the last time
    .venv/bin/python tests/faults/run.py --table             what is known, without running anything
    .venv/bin/python tests/faults/run.py --anchor            rows whose code has moved get their new place

The results are written to tests/faults/results.json. It ends with 1 if a fault survives that was noticed before. Each
run is in a copy of the project, and in namespaces of its own (unshare), in which nothing but that copy can be written
to and no process outlives it: what a faulty script removes or ends is its own.
"""

import argparse
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from sample import HERE, PROJECT, SAMPLE, Row, has_place, planted, proposal, rows, write
from which_tests import candidates

RESULTS = HERE / "results.json"
SURVIVED, TIMEOUT, UNCLEAR = "survived", "timeout", "unclear"
LINKED = (".venv", ".venv-cli1", ".cache", ".git")
MADE = (".local*", ".hypothesis", "*_cache", "__pycache__")
MOST_SECONDS = 3600  # of all tests of a row; order_of_files.py has those of one test
# The copy is /tmp; everything else can only be read. The first process of a namespace must outlive others.
SANDBOX = """
mount --bind "$1" /tmp
mount -o remount,bind,ro /
cd /tmp/project
shift
"$@" &
wait "$!"
"""
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", re.MULTILINE)


def copy_with(row: Row | None, folder: str) -> None:
    project = Path(folder, "project")
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns(*LINKED, *MADE, "bench"))
    for name in LINKED:
        (project / name).symlink_to((PROJECT / name).resolve())
    if row:
        changed = planted(row, (project / row.file).read_text())
        assert changed is not None, f"{row.name} has lost its place in {row.file}: see --anchor"
        (project / row.file).write_text(changed)


def outcome(row: Row | None, tests: Iterable[str], *options: str) -> str:
    """What the tests make of this fault: the test that failed, "survived", "timeout" or "unclear: ..."."""
    pytest = [".venv/bin/python", "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider"]
    pytest += ["-p", "order_of_files", *options]
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    apart += [] if os.geteuid() == 0 else ["--map-root-user"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "NIGHTLY", "DOCKER"))}
    environment = kept | {"HOME": "/tmp", "TMPDIR": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = "tests/faults"  # for the plugin
    with tempfile.TemporaryDirectory(prefix="fault-") as folder:
        copy_with(row, folder)
        command = [*apart, "bash", "-c", SANDBOX, "sandbox", folder, *pytest, *(f"tests/{test}" for test in tests)]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=MOST_SECONDS)
        except subprocess.TimeoutExpired:
            return TIMEOUT
    if done.returncode == 0:
        return SURVIVED
    found = FAILED.search(done.stdout)
    return found[1].removeprefix("tests/") if found else f"{UNCLEAR}: {done.stdout[-1000:]}{done.stderr[-1000:]}"


def judge(row: Row, noticed_by: str) -> dict[str, Any]:
    """The test that noticed it the last time comes first. One that fails without the fault as well says nothing."""
    begin = time.monotonic()
    found = outcome(row, [noticed_by]) if is_test(noticed_by) else SURVIVED
    if not is_test(found):
        found = outcome(row, candidates(row.file))
    seconds = round(time.monotonic() - begin)
    if is_test(found) and not passes(found):
        found = f"{UNCLEAR}: {found} fails without the fault"
    print(f"{seconds:6} s {row.name}: {found}", file=sys.stderr, flush=True)
    return {"found": found, "seconds": seconds}


def is_test(found: str) -> bool:
    return found.partition(":")[0] not in (SURVIVED, TIMEOUT, UNCLEAR)


@functools.cache
def passes(test: str) -> bool:
    """Whether it passes without a fault; a file that could not be imported, whether it can be."""
    return outcome(None, [test], *([] if "::" in test else ["--collect-only"])) == SURVIVED


# The results


def results() -> dict[str, dict[str, Any]]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def found_in(known: dict[str, dict[str, Any]], row: Row) -> str:
    return known[row.name]["found"] if row.name in known else UNCLEAR


def add_result(row: Row, result: dict[str, Any]) -> None:
    known = results() | {row.name: result}
    lines = [f"{json.dumps(one.name)}: {json.dumps(known[one.name])}" for one in rows() if one.name in known]
    RESULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def table(chosen: Iterable[Row]) -> str:
    """Rates by folder, then what survived."""
    known = results()
    judged = [row for row in chosen if not found_in(known, row).startswith(UNCLEAR)]
    survivors = [row for row in judged if found_in(known, row) == SURVIVED]
    text = f"{'folder':16} {'faults':>6} {'killed':>6} {'survived':>8} {'rate':>5}\n"
    for folder in [*dict.fromkeys(row.folder for row in judged), ""]:
        faults, survived = (sum(folder in ("", row.folder) for row in some) for some in (judged, survivors))
        killed = faults - survived
        text += f"{folder or 'all':16} {faults:6} {killed:6} {survived:8} {100 * killed / max(faults, 1):4.0f}%\n"
    return text + "".join(f"\n{row.name}: {row.file}\n- {row.text}\n+ {row.fault}\n" for row in survivors)


def anchor() -> None:
    """Moves each row that has lost its place to where it seems to belong now, or strikes it if nothing is like it."""
    tracked = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    files = [file for file in tracked.split() if file.endswith((".py", ".sh", ".jq")) and not file.startswith("tests/")]
    sources = {file: (PROJECT / file).read_text() for file in files}
    without = [row for row in rows() if not has_place(row)]
    moved = {row.name: proposal(row, sources) or row._replace(struck="its code is gone") for row in without}
    for row in without:
        now = moved[row.name]
        print(f"{row.name}: {row.file}\n- {row.text}\n+ {now.struck or f'{now.file}: {now.text}'}\n")
    write(moved.get(row.name, row) for row in rows())
    print(f"{len(moved)} rows had lost their place: look at the diff of {SAMPLE.relative_to(PROJECT)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="*", help="of the sample; all if none is named")
    parser.add_argument("--first", type=int, default=24, help="rows of each folder (default: 24)")
    parser.add_argument("--survivors", action="store_true", help="run only those that no test noticed the last time")
    parser.add_argument("--table", action="store_true", help="print what is known, run nothing")
    parser.add_argument("--anchor", action="store_true", help="move the rows whose code has moved, run nothing")
    given = parser.parse_args()
    if given.anchor:
        anchor()
        return
    of_folders = [row for row in rows() if row.folder in (given.folders or [row.folder]) and not row.struck]
    chosen = [row for row in of_folders if number(row) <= given.first]
    known = results()
    if not given.table:
        run([row for row in chosen if not given.survivors or found_in(known, row) == SURVIVED])
    print(table(chosen), end="")
    now = results()
    worse = [name for name in known if is_test(known[name]["found"]) and now[name]["found"] == SURVIVED]
    for name in worse:
        print(f"{name} is not noticed any more; before: {known[name]['found']}", file=sys.stderr)
    sys.exit(1 if worse else 0)


def number(row: Row) -> int:
    """Its place in its folder: all folders get their first rows first."""
    return int(row.name.rpartition(" ")[2])


def run(chosen: list[Row]) -> None:
    known = results()
    with ThreadPoolExecutor(2) as pool:
        begun = {pool.submit(judge, row, found_in(known, row)): row for row in sorted(chosen, key=number)}
        for done in as_completed(begun):
            add_result(begun[done], done.result())


if __name__ == "__main__":
    main()
