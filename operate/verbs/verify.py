"""usage: ./sync.sh verify [--yes] [--large] [--bench] [--report FILE]
                        [--timeout 15m]

The acceptance test: sends its own objects through the whole chain.

Puts a handful of objects into a new folder sync-verify-TIME/ under
PREFIX_FILTER (under the first prefix if there are several), waits until they
are in the destination, overwrites one, changes the metadata of one in place,
deletes one, and compares bytes and metadata on both sides. Then it removes all
of it, even after Ctrl-C, and prints a table. It touches nothing outside of that
folder.

  --yes          do not ask
  --large        also 6 GiB, made inside S3 from a part of 64 MiB
  --bench        the same, and measures: pauses the sync for one or two minutes,
                 puts 3,000 small objects, resumes it, and reports how many are
                 copied and deleted per second, CPU time, parts per second,
                 pages of both listings, and how often S3 was too busy
  --report FILE  write the table to FILE too, as Markdown to publish: without
                 account IDs and names of buckets
  --timeout 15m  the longest wait of each round

It needs the rights that ./deploy.sh --policy operator prints. It costs a task
of a few minutes and about 100 requests, less than 0.01 USD; --large about 0.03
USD more, --bench, which takes ten minutes, about 0.08 more.

--bench refuses to begin if the sync is paused, and ends its own pause, even if
./sync.sh pause was run meanwhile: then pause again afterwards.

Exit status: 0 all is well; 1 it is not, and the broken link of the chain is
named; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mirror.model.selection import items_of, pattern_for
from operate import text
from operate.cloud import Cloud, side_by_side
from operate.deployment import Deployment
from operate.failure import Failure, wrong_usage
from operate.options import duration_of, value_of
from operate.parts import deployed_settings, need_function, part_of, pause_of, read_function, read_queue, variables_of
from operate.pausing import need_pausable
from operate.verify import bench, cases
from operate.verify.clean_up import leave, to_the_end
from operate.verify.outcomes import is_well
from operate.verify.report import WELL, for_others, is_bad, report
from operate.verify.result import gather
from operate.verify.rounds import change_round, put_round, read_the_rest, remove_round
from operate.verify.state import Jobs, Plan, Seen, required, required_queue

NO_DRY_RUN = "it puts and removes objects of its own"
PLAIN, WITH_LARGE, BENCH = "plain", "large", "bench"
# An estimate at the prices of us-east-1. Of --bench, most of it is for 3,000 uploads, 6 GiB and two workers.
COSTS = {PLAIN: "less than 0.01 USD", WITH_LARGE: "about 0.04 USD", BENCH: "about 0.09 USD"}


class Options(NamedTuple):
    what: str = PLAIN
    assume_yes: bool = False
    report: str = ""
    timeout: int = 900


def parse(words: Sequence[str]) -> Options:
    options, left = Options(), list(words)
    while left:
        word = left.pop(0)
        if word == "--yes":
            options = options._replace(assume_yes=True)
        elif word == "--large":
            options = options._replace(what=BENCH if options.what == BENCH else WITH_LARGE)
        elif word == "--bench":
            options = options._replace(what=BENCH)
        elif word == "--report":
            options = options._replace(report=value_of(word, left))
        elif word == "--timeout":
            seconds = duration_of("verify: --timeout", value_of(word, left), "15m")
            options = options._replace(timeout=seconds)
        else:
            raise wrong_usage(f"verify: unknown option {text.visible(word)}")
    if options.report:
        check_report(options.report)
    return options


def check_report(file: str) -> None:
    """Before ten minutes of measuring."""
    path = Path(file)
    place, said = path if path.exists() else path.parent, f"verify: --report {text.visible(file)}"
    if not path.exists() and not place.is_dir():
        raise wrong_usage(f"{said}: there is no such folder")
    if path.is_dir() or not os.access(place, os.W_OK):
        raise wrong_usage(f"{said}: this file cannot be written")


def run(options: Options, deployment: Deployment, cloud: Cloud) -> int:
    plan = make_plan(options, deployment, cloud)
    ask(options, plan)
    with tempfile.TemporaryDirectory() as files:
        plan = replace(plan, files=Path(files))
        seen = Seen(began=int(time.time()), started=time.monotonic())
        with to_the_end(plan, seen) as ending:
            result = run_rounds(options, plan, seen)
            print_result(options, plan, result)
            ending.status = 0 if is_well(result) else 1
    return leave(ending)


# --- beginning --------------------------------------------------------------------------------------------------------


def make_plan(options: Options, deployment: Deployment, cloud: Cloud) -> Plan:
    """Fails if there is no deployment for these settings, or if nothing would arrive."""
    with text.progress("verify: reading the deployment"):
        found = side_by_side(
            {
                "function": lambda: read_function(cloud, deployment),
                "rule": lambda: cloud.ask("events", "describe-rule", "--name", deployment.event_rule_name),
                "queue": lambda: read_queue(cloud, deployment.queue_name),
            }
        )
    function = need_function(found["function"], deployment)
    if options.what == BENCH:
        need_pausable(function, deployment)
    paused = pause_of(variables_of(function), deployment, "nothing was uploaded, because nothing would arrive before")
    if paused:
        raise Failure(paused)
    required_queue(found["queue"], deployment)
    settings = deployed_settings(deployment)
    refuse_other_settings(deployment, settings)

    threshold = int(settings.get("MULTIPART_THRESHOLD") or cases.COPY_LIMIT)
    name = f"sync-verify-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{random.randrange(32768)}"
    plan = Plan(
        cloud=cloud,
        deployment=deployment,
        function=function,
        definition=json.loads(deployment.task_definition),
        has_event_rule=isinstance(required(part_of(found["rule"])), dict),
        name=name,
        folder=f"{first_prefix(settings)}{name}/",
        cases=cases.choose_cases(options.what != PLAIN, threshold),
        threshold=threshold,
        timeout=options.timeout,
    )
    refuse_excluded_objects(plan, settings.get("EXCLUDE", ""), options.what == BENCH)
    return plan


def first_prefix(settings: Mapping[str, str]) -> str:
    return next(iter(items_of(settings.get("PREFIX_FILTER", ""))), "")


def refuse_other_settings(deployment: Deployment, settings: Mapping[str, str]) -> None:
    for name in ("SRC_BUCKET", "DST_BUCKET", "PREFIX_FILTER"):
        value, was = deployment.settings[name], settings.get(name, "")
        if value != was:
            raise Failure(f"{name}={value}, but what is deployed has {was}: set what ./deploy.sh ran with")


def refuse_excluded_objects(plan: Plan, exclude: str, with_bench: bool) -> None:
    """Fails if the workers would leave out what is put."""
    keys = [plan.folder + case.path for case in plan.cases]
    keys += [bench.first_key(plan.folder)] if with_bench else []
    for key in keys:
        pattern = pattern_for(key, items_of(exclude))
        if pattern is not None:
            said = f"EXCLUDE={exclude} is deployed, and its pattern {pattern} leaves out {key}, one of the objects that"
            limit = (
                "Limit the pattern to its folder, as in models/*.tmp, or put a prefix first in PREFIX_FILTER in which"
            )
            then = f"the pattern leaves out nothing; then run ./deploy.sh{plan.deployment.via} and this again"
            raise Failure(f"nothing was uploaded: {said} verify uploads. {limit} {then}")


def ask(options: Options, plan: Plan) -> None:
    text.say(f"This puts {len(plan.cases)} objects into\n  s3://{plan.source.bucket}/{plan.folder}")
    for case in plan.cases:
        text.say(f"    {case.path}  ({case.meaning})")
    text.say(f"and waits for their copies in\n  s3://{plan.destination.bucket}/{plan.folder}")
    if options.what == BENCH:
        text.say(f"Then it pauses the sync for one or two minutes, puts {bench.SMALL_OBJECTS} small objects,")
        text.say("and resumes the sync.")
    text.say("Nothing outside of this folder is touched, and all of it is removed afterwards,")
    text.say("on both sides.")
    text.say(f"Cost: {COSTS[options.what]}.")
    if not options.assume_yes:
        text.need_yes("Continue?", "nothing was done")


# --- the run ----------------------------------------------------------------------------------------------------------


def run_rounds(options: Options, plan: Plan, seen: Seen) -> dict[str, Any]:
    """Returns the result."""
    rounds = [put_round, change_round, remove_round, *([bench.run_round] if options.what == BENCH else [])]
    with Jobs() as beside:
        for one in rounds:
            if not seen.is_broken:
                one(plan, seen, beside)
    read_the_rest(plan, seen)
    return gather(plan, seen)


def print_result(options: Options, plan: Plan, result: Mapping[str, Any]) -> None:
    """The verdict in colour, and the rows of what did not arrive or differs."""
    lines = [text.visible(line) for line in report(result)]
    for line in lines:
        if is_bad(line):
            text.paint(text.RED, line)
        elif line == WELL:
            text.paint(text.GREEN, line)
        else:
            text.write_lines([line])

    if options.report:
        names = {plan.folder: "FOLDER/", plan.destination.bucket: "DST_BUCKET", plan.source.bucket: "SRC_BUCKET"}
        shown = [for_others(line, names) for line in lines]
        write_report(options.report, "".join(f"{line}\n" for line in shown))
        text.say(f"verify: the report is in {options.report}")


def write_report(file: str, shown: str) -> None:
    try:
        Path(file).write_text(shown, "utf-8")
    except OSError as error:
        raise Failure(f"verify: --report {text.visible(file)} could not be written: {error.strerror}") from None
