"""Pairs of buckets at random: what each command that reads many keys finds and does is what the model says."""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from drawn import AGAIN, DAY, DELETE, DESTINATION, LATE, LOOK, START, Drawn, Ran, Version, plain
from expected import (
    DIFFERENCES,
    GHOST,
    Waited,
    category,
    compared,
    fits,
    is_copy,
    is_excluded,
    is_old,
    keys_of,
    measured,
    waited,
)
from invocations import LastingClient

from mirror.cli import parse_arguments
from mirror.model.errors import Postponed
from mirror.model.log_lines import quoted
from mirror.model.selection import folder_of
from mirror.options import options_for
from mirror.protocol.attempt import Host, KeySync
from mirror.queue.messages import Queue
from mirror.queue.option import Option, methods
from mirror.readers.reconcile import ReconcileArguments, Reconciliation
from mirror.readers.wait import WaitArguments
from operate.explanation import explain

pytestmark = pytest.mark.fast
SEEDS = range(2000 if os.environ.get("NIGHTLY") == "1" else 100)
SAID = {"missing": "Missing", "corrupt": "Compare", "ghost": "Ghost"}  # by a message, to the worker that gets it
REPORTED = r"difference number=\d+ what=(\w+) key=(\".*\")"
ROW = r"  (\w+) (\".*\")"
LACKING = r"lacking key=(\".*\") why=(trouble|.*)"
AUDITED = r"audited end=(\w+) status=(\d) found="


@contextlib.contextmanager
def world(seed: int, *moments: str) -> Iterator[Drawn]:
    drawn = Drawn(seed, moments)
    try:
        yield drawn
    except Exception as error:
        error.add_note(f"seed {seed}: {drawn.environment}")
        raise


def options_of(drawn: Drawn, *chosen: str) -> list[str]:
    """Some of them, and at times a prefix."""
    some = [option for option in chosen if drawn.chance.random() < 0.4]
    prefix = drawn.chance.choice((None, None, "a/", "a/b", "ü"))
    return [*some, "--prefix", prefix] if prefix else some


def limited(drawn: Drawn, arguments: list[str]) -> list[str]:
    """At times with just as many deletions as there are, or one fewer."""
    options = parse_arguments(["reconcile", *arguments])
    assert isinstance(options, ReconcileArguments)
    doomed = compared(drawn, options).doomed
    most = ["--max-delete", str(doomed - drawn.chance.randrange(2))]
    return [*arguments, *most] if doomed and drawn.chance.random() < 0.7 else arguments


def is_outside(drawn: Drawn, prefix: str) -> bool:
    return not any(prefix.startswith(item) or item.startswith(prefix) for item in drawn.prefixes)


def repeat(drawn: Drawn) -> None:
    """The destination lists some keys twice that are equal on both sides."""
    equal = [key for key, pair in drawn.before.items() if fits(*pair) and not category(drawn, key, pair)]
    drawn.repeated = frozenset(
        key for key in drawn.some(3) if key in equal and key not in {**drawn.changes, **drawn.denied}
    )


def let_learn_of_versions(drawn: Drawn) -> None:
    """Only a look at a key of the source says whether it has versions."""
    drawn.denied = dict.fromkeys(drawn.denied, DESTINATION)
    drawn.busy = set() if drawn.environment["ROLLBACKS"] == "true" else drawn.busy


def without(figures: dict[str, int], *names: str) -> dict[str, int]:
    return {name: number for name, number in figures.items() if name not in names}


def check_reconcile(drawn: Drawn, arguments: list[str]) -> None:
    options, ran = parse_arguments(["reconcile", *arguments]), drawn.run("reconcile", *arguments, "--examples", "1000")
    assert isinstance(options, ReconcileArguments)
    if is_outside(drawn, options.prefix):
        assert (ran.status, drawn.asked.total()) == (2, 0) and " has to begin with PREFIX_FILTER" in ran.log[0][1]
        return
    expected = compared(drawn, options)
    assert (ran.status, {*drawn.deleted}) == (expected.status, expected.removed), ran.log
    queued = [key for key, _ in drawn.queued]
    too_many = f"more than {options.max_delete} objects would be deleted: list them with --dry-run"
    assert (ran.status == 3) == any(too_many in line for _, line in ran.log), ran.log
    needless = "--remove-unwanted: nothing can be unwanted, because neither EXCLUDE nor KEEP_DAYS is set"
    is_needless = options.remove_unwanted and not (drawn.environment["EXCLUDE"] or drawn.days)
    assert any(line == needless for _, line in ran.log) == is_needless
    if ran.status == 3:  # once they are too many, not all that only the destination had are looked at
        assert {key for key in queued if drawn.before[key][0]} == {
            key for key in expected.queued if drawn.before[key][0]
        }
    else:
        assert sorted(queued) == sorted(expected.queued)
    if options.audit:
        [(end, status)] = ran.keys(AUDITED)
        level = next(level for level, line in ran.log if line.startswith("audited"))
        is_alarm = expected.status or any(expected.figures[row] for row in set(DIFFERENCES) - {"foreign", "archived"})
        assert (end == "stopped", int(status)) == (expected.status == 3, expected.status)
        assert level == ("ERROR" if is_alarm else "INFO")
    if ran.status == 3:
        return
    rows = {(row, key) for key, row in expected.rows.items()} | {("unreadable", key) for key in expected.unremoved}
    assert ran.keys(ROW) == rows
    if options.report:
        lines = [line for _, line in ran.log if line.startswith("difference ")]
        assert [int(line.split()[1].partition("=")[2]) for line in lines] == [*range(1, len(lines) + 1)]
        assert ran.keys(REPORTED) >= rows
        expected.figures += Counter(differences=len(lines), reported=len(lines))
    if drawn.is_calm and not drawn.repeated:
        assert drawn.asked["head_object"] == expected.looks
    assert dict(drawn.queued) == {key: SAID.get(expected.rows[key], "Look") for key in expected.queued}
    assert without(ran.numbers(), "listed") == +expected.figures
    not_in_table = ("compared", "differences", "kept", "reported", "to_delete")
    assert +Counter(table_of(ran)) == +Counter(without(expected.figures, *not_in_table))


def reconcile(seed: int) -> None:
    """In every other world the keys change before the second look at what is to be removed."""
    with world(seed, LOOK, DELETE) as drawn:
        if seed % 2:
            drawn.changes = {key: (AGAIN, drawn.changed(*pair)) for key, pair in drawn.before.items()}
            drawn.busy = set()  # a look that S3 is too busy for begins once more
        arguments = options_of(
            drawn, "--remove-unwanted", "--dry-run", "--deep", "--remove-unwanted", "--remove-foreign", "--report"
        )
        if seed % 2:
            arguments = [*(option for option in arguments if option != "--dry-run"), "--remove-foreign"]
        if "--deep" not in arguments:
            repeat(drawn)
        check_reconcile(drawn, limited(drawn, arguments))


def audit(seed: int) -> None:
    with world(seed, LOOK, LATE) as drawn:
        drawn.late = 200.0  # in its pause
        arguments = ["--audit", *options_of(drawn, "--dry-run", "--deep")]
        check_reconcile(drawn, limited(drawn, arguments))


def table_of(ran: Ran) -> dict[str, int]:
    return {name: int(number) for number, name in re.findall(r"^ *(\d+) (\w+)  ", "\n".join(ran.shown), re.MULTILINE)}


def rows_of(drawn: Drawn, options: WaitArguments, expected: Waited) -> dict[str, int]:
    """The table of a wait: keys that are not there count as archived, as ghosts or as waiting."""
    figures, ghosts = expected.figures, sum(drawn.before[key][0] is None for key in expected.lacking)
    rows = {"here": figures["here"], "archived": figures["archived"], "ghost": ghosts}
    rows["waiting"] = figures["lacking"] - figures["archived"] - ghosts
    rows |= {"expired": figures["expired"]} if drawn.days else {}
    rows |= {"foreign": figures["of_unknown_origin"]} if options.exact else {}
    return rows | ({name: figures[name] for name in ("checked", "unchecked")} if options.deep else {})


def wait(seed: int) -> None:
    with world(seed, LOOK, LATE) as drawn:
        let_learn_of_versions(drawn)
        arguments = ["wait", "--timeout", "60s", *options_of(drawn, "--exact", "--deep", "--allow-empty")]
        few = drawn.chance.choice((None, 0, 1, 3))
        examples = 1000 if few is None else few
        options, ran = parse_arguments(arguments), drawn.run(*arguments, "--examples", str(examples))
        assert isinstance(options, WaitArguments)
        if is_outside(drawn, options.prefix):
            assert (ran.status, drawn.asked.total()) == (2, 0)
            return
        expected = waited(drawn, options)
        named, whys = ran.keys(LACKING), [*expected.lacking.values()]
        assert named <= {*expected.lacking.items()}
        assert len(named) == min(examples, len(whys))
        of_themselves = len(whys) - whys.count("waiting")  # those with a reason of their own are named first
        assert len(named) - [why for _, why in named].count("waiting") == min(examples, of_themselves)
        assert ran.numbers() == +expected.figures
        assert table_of(ran) == rows_of(drawn, options, expected)
        is_empty = not expected.figures["keys"] + expected.figures["expired"]
        is_refused = is_empty and bool(options.prefix) and not (options.exact or options.allow_empty)
        assert (ran.status, drawn.clock > 59) == (int(is_refused or bool(expected.lacking)), bool(expected.lacking))
        ends = {"empty": is_refused, "timeout": bool(expected.lacking), "complete": True}
        assert ran.log[-1][1].startswith(f"waited end={next(end for end, is_so in ends.items() if is_so)} ")
        named = f"the source has no key under {quoted(options.prefix or drawn.environment['PREFIX_FILTER'])}"
        assert any(line.startswith(named) for _, line in ran.log) == is_empty
        expired = expected.figures["expired"]
        not_waited = f"not waited for: {expired} keys that have not changed for more than KEEP_DAYS"
        assert any(line == not_waited for _, line in ran.log) == bool(expired)
        progress = [line for _, line in ran.log if line.startswith("progress here=")]
        assert progress or not expected.lacking
        assert all(line.endswith(" bytes/s=0 left=estimating") for line in progress[:1])
        assert set(drawn.asked) <= {"list_objects_v2", "head_object", "get_object"}


def wait_with_little_memory(seed: int) -> None:
    """It remembers some of the missing keys, and lists again to find whether the others have arrived. In a minute it
    does not look at the source of all of them, so it need not know which are archived."""
    with world(seed) as drawn:
        let_learn_of_versions(drawn)
        drawn.busy = set()
        ran = drawn.run("wait", "--timeout", "60s", "--examples", "1000", names=drawn.chance.choice((1, 9)))
        expected = waited(drawn, WaitArguments())
        assert {key for key, _ in ran.keys(LACKING)} <= {*expected.lacking}
        assert without(ran.numbers(), "archived") == without(+expected.figures, "archived")
        assert ran.status == int(bool(expected.lacking))


def measure(seed: int) -> None:
    with world(seed) as drawn:
        ran = drawn.run("measure")
        lists = {f"{name}_lists": drawn.listings[side].requests for side, name in enumerate(("source", "destination"))}
        assert ran.status == 0
        assert ran.numbers() == {**+measured(drawn), **lists}
        assert set(drawn.asked) == {"list_objects_v2"}


class Asked(Host):
    """Keeps the keys of which a look was asked for, as ghosts."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    async def look_later(self, key: str, delay: float, is_ghost: bool = False) -> None:
        assert (delay, is_ghost) == (0, True)
        self.asked.add(key)


def marker(seed: int) -> None:
    """It waits if a wait for its folder would. If it was put off before, it asks about the copies that are to go."""
    with world(seed) as drawn:
        let_learn_of_versions(drawn)
        drawn.busy = set()
        keys = [key for key in keys_of(drawn) if not is_excluded(drawn, key)]
        folder = folder_of(drawn.chance.choice(keys)) if keys else "a/"
        put_off = drawn.chance.choice((None, time.time()))
        sync, buckets = (
            KeySync(f"{folder}_SUCCESS", waiting_since=put_off, host=Asked()),
            drawn.buckets(COPY_LAST="_SUCCESS"),
        )

        async def copy() -> int:
            [before_copy] = methods(options_for(buckets), Option.before_copy)
            try:
                await before_copy(sync)
            except Postponed:
                return 1
            return 0

        expected = waited(drawn, WaitArguments(prefix=folder, exact=True), settled=math.inf)
        assert drawn.ran(copy(), []).status == int(bool(expected.lacking)), expected.lacking
        ghosts = {key for key, why in expected.lacking.items() if why == GHOST}
        assert sync.host.asked == (ghosts if put_off else set())


def explained(seed: int) -> None:
    with world(seed) as drawn:
        settings = {"COPY_LAST": "", "TABLES": ""} | drawn.environment
        for key, (source, copy) in drawn.before.items():
            heads: dict[str, Any] = {}
            for side, (name, found) in enumerate((("source", source), ("destination", copy))):
                head = drawn.head(found, side) if found else None
                heads[name] = {"head": head | {"LastModified": head["LastModified"].isoformat()}} if head else {}
            facts = {"key": key, "settings": settings, "sides": heads, "markers": [], "synced": "", "queue": {}}
            facts |= {"paused_since": None, "dead_letters": [], "log": [], "not_known": []}
            facts |= dict.fromkeys(("via", "quoted", "quoted_example"), "")
            row = category(drawn, key, (source, copy))
            if is_excluded(drawn, key) or key not in keys_of(drawn):
                row = "excluded"
            elif is_old(source, int(settings["KEEP_DAYS"])):
                row = "expired" if copy is None or is_copy(source, copy) else "stale"
            assert explain(facts, START)["verdict"] == (row or ("equal" if source else "absent")), key


@pytest.mark.parametrize("check", [reconcile, audit, wait, wait_with_little_memory, measure, marker, explained])
def test_what_is_found_and_done_is_what_the_model_says(check: Any) -> None:
    for seed in SEEDS:
        check(seed)


def test_what_an_audit_has_no_room_for_counts_at_once() -> None:
    """Of 1100 missing keys it remembers 1050, more than a page. Every second one goes in the pause."""
    pairs = {f"{number:04}": (Version("v", START - DAY, 10), None) for number in range(1100)}
    drawn = plain(pairs, dict.fromkeys([*pairs][::2], (LATE, (None, None))))
    drawn.late = 200.0
    buckets, queue = drawn.buckets(), Queue(LastingClient(drawn.answer_sqs), "https://queue")
    ran = drawn.ran(
        Reconciliation(buckets, queue, ReconcileArguments(audit=True), drawn.interruption, most_doubtful=1050).run(), []
    )
    assert (ran.status, ran.numbers()["missing"], len(drawn.queued)) == (0, 575, 575)
    assert [level for level, line in ran.log if line.startswith("audited end=complete status=0 found=575 ")] == [
        "ERROR"
    ]
    assert sum("more than 1050 keys differ" in line for _, line in ran.log) == 1
