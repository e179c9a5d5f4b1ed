#!/usr/bin/env python3
"""Plants the faults that a word draws, one at a time, and runs the tests that can see them until one fails.

    .venv/bin/python tests/faults/run.py WORD                a hundred faults of all folders; hours
    .venv/bin/python tests/faults/run.py WORD launch lib     those of two folders
    .venv/bin/python tests/faults/run.py WORD --first 2      the first two of each folder
    .venv/bin/python tests/faults/run.py WORD --table        what is known, without running anything

What has been judged is kept in .cache/faults, so that a run goes on where the last one stopped; --again judges all of
it once more. The table is written to tests/faults/results.json, where you give the reason for a fault that changes
nothing. Each fault is planted in a copy of the project, and in namespaces of its own (unshare), in which nothing but
that copy can be written to and no process outlives it: what a faulty script removes or ends is its own.
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
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import order_of_files
from draw import PROJECT, Fault, draw
from which_tests import candidates

RESULTS = PROJECT / "tests" / "faults" / "results.json"
KNOWN = PROJECT / ".cache" / "faults"
VERSION = re.compile(r'^VERSION = "(.+)"', re.MULTILINE)
# What becomes of a fault that no test notices: all tests pass, one of them hangs, or there is no time left.
SURVIVED, HANGS, LATE, UNCLEAR = "survived", "hangs", "late", "unclear"
NOT_NOTICED = (SURVIVED, HANGS, LATE)
FIRST = 4  # files, without waiting until pytest has imported all
MOST_SECONDS = 3600  # of tests that wait; order_of_files.py says how much they may compute
LINKED = (".venv", ".venv-cli1", ".cache", ".git")
MADE = (".local*", ".hypothesis", "*_cache", "__pycache__")
# The copy is /tmp; everything else can only be read. The first process of a namespace must outlive others.
SANDBOX = """
mount --bind "$1" /tmp
mount -o remount,bind,ro /
cd /tmp/project
shift
"$@" &
wait "$!"
"""
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - (.*))?$", re.MULTILINE)
# Of a folder of tests of which nothing can be imported any more.
BROKEN = re.compile(r"^ImportError while loading conftest '/tmp/project/tests/(.+)/conftest\.py'", re.MULTILINE)

Results = dict[str, dict[str, Any]]  # by what a fault is


def copy_with(fault: Fault | None, folder: str) -> None:
    project = Path(folder, "project")
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns(*LINKED, *MADE, "bench"))
    for name in LINKED:
        (project / name).symlink_to((PROJECT / name).resolve())
    if fault:
        (project / fault.file).write_text(fault.planted((project / fault.file).read_text()))


def outcome(fault: Fault | None, tests: Sequence[str], *options: str) -> str:
    """What the tests make of this fault: the test or file that failed, one of NOT_NOTICED, or "unclear: ..."."""
    pytest = [".venv/bin/python", "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider"]
    pytest += ["-p", "order_of_files", *options]
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    apart += [] if os.geteuid() == 0 else ["--map-root-user"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "NIGHTLY", "DOCKER"))}
    environment = kept | {"HOME": "/tmp", "TMPDIR": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = "tests/faults"  # for the plugin
    with tempfile.TemporaryDirectory(prefix="fault-") as folder:
        copy_with(fault, folder)
        command = [*apart, "bash", "-c", SANDBOX, "sandbox", folder, *pytest, *(f"tests/{test}" for test in tests)]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=MOST_SECONDS)
        except subprocess.TimeoutExpired:
            return LATE
    if done.returncode in (0, order_of_files.NO_TIME_LEFT):
        return LATE if done.returncode else SURVIVED
    found = FAILED.search(done.stdout)
    if not found and (broken := BROKEN.search(done.stderr)):
        return next(test for test in tests if test.startswith(f"{broken[1]}/"))
    if not found:
        return f"{UNCLEAR}: {done.stdout[-1000:]}{done.stderr[-1000:]}"
    return HANGS if "Timeout" in (found[2] or "") else found[1].removeprefix("tests/")


def judge(fault: Fault) -> dict[str, Any]:
    """A test that fails without the fault as well says nothing."""
    begin = time.monotonic()
    tests = candidates(fault.file, fault.around())
    found = outcome(fault, tests[:FIRST])
    if found == SURVIVED and tests[FIRST:]:
        found = outcome(fault, tests[FIRST:])
    seconds = round(time.monotonic() - begin)
    if is_test(found) and not passes(found):
        found = f"{UNCLEAR}: {found} fails without the fault"
    print(f"{seconds:6} s {fault.place} ({fault.edit.kind}): {found}", file=sys.stderr, flush=True)
    return {"place": fault.place, "found": found, "seconds": seconds}


def is_test(found: str) -> bool:
    return not found.startswith((*NOT_NOTICED, UNCLEAR))


@functools.cache
def passes(test: str) -> bool:
    """Whether it passes without a fault; a file that could not be imported, whether it can be."""
    return outcome(None, [test], *([] if "::" in test else ["--collect-only"])) == SURVIVED


# The results


def key(fault: Fault) -> str:
    """What it is: not its line, so that code above it can change."""
    return f"{fault.file}\n{fault.shown()}"


def results(word: str) -> Results:
    """The last word on each."""
    file = KNOWN / f"{word}.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return {one["fault"]: one for one in map(json.loads, lines)}


def run(word: str, faults: Iterable[Fault], processes: int) -> None:
    KNOWN.mkdir(parents=True, exist_ok=True)

    def judged(fault: Fault) -> None:
        line = json.dumps({"fault": key(fault), **judge(fault)})
        with (KNOWN / f"{word}.jsonl").open("a") as file:
            file.write(f"{line}\n")

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(judged, faults))


def table(word: str, faults: list[Fault], equal: dict[str, str]) -> dict[str, Any]:
    """What results.json has of this word: by folder how many are noticed of how many, then those that are not."""
    known = results(word)
    counted = [fault for fault in faults if key(fault) in known and fault.place not in equal]
    found = {fault: str(known[key(fault)]["found"]) for fault in counted}
    clear = {fault: name for fault, name in found.items() if not name.startswith(UNCLEAR)}
    folders = {
        folder: [sum(is_test(clear[fault]) for fault in own), len(own)]
        for folder in dict.fromkeys(fault.folder for fault in clear)
        if (own := [fault for fault in clear if fault.folder == folder])
    }
    return {
        "release": VERSION.findall((PROJECT / "mirror" / "version.py").read_text())[0],
        "all": [sum(column) for column in zip(*folders.values(), strict=True)],
        **folders,
        "not noticed": {
            fault.place: f"{fault.edit.kind}; {clear[fault]}" for fault in clear if not is_test(clear[fault])
        },
        "changes nothing": {place: why for place, why in equal.items() if place in {one.place for one in faults}},
    }


def show(written: dict[str, Any], faults: list[Fault]) -> None:
    for name, counts in written.items():
        if isinstance(counts, list) and counts:
            noticed, of = counts
            print(f"{name:18} {noticed:3} of {of:3} {100 * noticed / of:4.0f}%")
    for fault in faults:
        if fault.place in written["not noticed"]:
            print(f"\n{fault.place}: {written['not noticed'][fault.place]}\n{fault.shown()}")


def in_turn(faults: list[Fault]) -> list[Fault]:
    """All folders get their first faults first."""
    places: dict[str, int] = {}
    order = {}
    for fault in faults:
        order[fault] = places[fault.folder] = places.get(fault.folder, 0) + 1
    return sorted(faults, key=order.__getitem__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("word", help="what draws the faults; a new one for each release")
    parser.add_argument("folders", nargs="*", help="all if none is named")
    parser.add_argument("--first", type=int, help="so many of each folder")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="judge also what has been judged")
    parser.add_argument("--table", action="store_true", help="print what is known, run nothing")
    given = parser.parse_args()

    faults = draw(given.word)
    names = given.folders or list(dict.fromkeys(fault.folder for fault in faults))
    chosen = [fault for name in names for fault in faults if fault.folder == name]
    first = [fault for name in names for fault in [one for one in chosen if one.folder == name][: given.first]]
    known = {} if given.again else results(given.word)
    if not given.table:
        run(given.word, [fault for fault in in_turn(first) if key(fault) not in known], given.processes)

    tables = json.loads(RESULTS.read_text())
    equal = tables.get(given.word, {}).get("changes nothing", {})
    tables[given.word] = table(given.word, faults, equal)
    RESULTS.write_text(json.dumps(tables, indent=2, ensure_ascii=False) + "\n")
    show(tables[given.word], chosen)


if __name__ == "__main__":
    main()
