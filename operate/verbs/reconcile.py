"""usage: ./sync.sh reconcile [--prefix P] [--dry-run] [--audit] [--deep]
                           [--remove-unwanted] [--remove-foreign]
                           [--max-delete N] [--examples N] [--report FILE]
                           [--json]

Compare both buckets, and put the keys that differ on the queue.

Workers copy what is missing or stale, and delete copies that the source no
longer has. Foreign objects, which only the destination has and which do not
say that the sync wrote them, stay. To leave them out of the comparison, set
EXCLUDE.

Use it as a backfill, an audit or a repair. It runs in a task of its own, and is
safe to interrupt and to run again. Ctrl-C ends only the view of its log, not
the task, and shows how to stop the task.

  --prefix P      only keys that begin with P (default: PREFIX_FILTER)
  --dry-run       only report
  --audit         as with AUDIT_DAYS: look again at what differs after five
                  minutes, and raise the alarm if it still differs
  --deep          look at every object, not only at sizes and times: also finds
                  changes within the second of the copy, and by S3's checksums
                  copies that others have changed
  --remove-unwanted
                  delete from the destination what EXCLUDE or KEEP_DAYS leaves
                  out now, except for foreign objects; not with --audit
  --remove-foreign
                  delete foreign objects, too; those that EXCLUDE leaves
                  out only with --remove-unwanted; not with --audit
  --max-delete N  stop when more than N objects would be deleted from the
                  destination, by this command and by workers (default 1000)
  --examples N    keys to name of each kind (default 10)
  --report FILE   write each difference to the file (-: stdout) as a line of
                  JSON, {"what": ..., "key": ...}, 100,000 at most. If one is
                  missing, because the log may drop lines, the last line is
                  {"incomplete": WHY}
  --json          the numbers as JSON on stdout, the log on stderr

Exit status: 0 equal, or all that differs is on the queue; 1 differences are
left, such as foreign objects (not with --audit); 2 wrong usage; 3 a listing
failed, too many would be deleted, the task did not end by itself, or the
report is incomplete. Nothing is deleted before both buckets are listed; if a
removal is stopped after that, the number "removed" says how many are gone,
and the next run removes the rest.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from operate import text
from operate.cloud import Cloud, Denied, NoAnswer
from operate.deployment import Deployment
from operate.failure import Failure, wrong_usage
from operate.options import check_number, check_prefix, value_of
from operate.parts import (
    in_short,
    need_function,
    numbers_of,
    pause_of,
    read_function,
    read_queue,
    read_tasks,
    variables_of,
)
from operate.tasks import LAST_LINES_TRIES, Followed, command_that_stops, start

DRY_RUN = "--dry-run"
UNKNOWN = 3  # exit status
STDOUT = "-"
# Until the report is whole, who reads it must not take it for that.
NOT_ENDED = "reconcile has not ended"
NO_SUMMARY = "the summary did not reach the log"
REMOVALS = ("--remove-unwanted", "--remove-foreign")
Numbers = Mapping[str, Any]


class Options(NamedTuple):
    arguments: tuple[str, ...] = ()  # of the image's command
    removes: bool = False
    report: str = ""
    as_json: bool = False


def parse(words: Sequence[str]) -> Options:
    arguments, report, as_json, left = list[str](), "", False, list(words)
    while left:
        word = left.pop(0)
        if word == "--json":
            as_json = True
        elif word in ("--dry-run", "--audit", "--deep", *REMOVALS):
            arguments.append(word)
        elif word == "--report":
            report = value_of(word, left)
            arguments.append(word)
        elif word in ("--prefix", "--max-delete", "--examples"):
            value = value_of(word, left)
            arguments += [word, value]
            if word == "--prefix":
                check_prefix("reconcile: --prefix", value)
            else:
                check_number(f"reconcile: {word}", value)
        else:
            raise wrong_usage(f"reconcile: unknown option {text.visible(word)}")

    removals = [word for word in flags(arguments) if word in REMOVALS]
    if removals and "--audit" in flags(arguments):
        raise wrong_usage(f"reconcile: --audit removes nothing: leave out {removals[-1]}")
    if as_json and report == STDOUT:
        raise wrong_usage("reconcile: --json and --report - both print on stdout: name a file")
    return Options(tuple(arguments), bool(removals) and "--dry-run" not in flags(arguments), report, as_json)


def flags(arguments: Sequence[str]) -> list[str]:
    """Those that are no value of another one: a prefix may look like an option."""
    return [one for before, one in zip(["", *arguments], arguments) if before != "--prefix"]


def run(options: Options, deployment: Deployment, cloud: Cloud) -> int:
    variables = variables_of(need_function(read_function(cloud, deployment), deployment))
    what = "nothing is removed before" if options.removes else "differences are put on the queue, and copied after"
    paused = pause_of(variables, deployment, what)
    if paused and options.removes:
        raise Failure(paused)
    if paused:
        text.say(paused)
    refuse_second(cloud, deployment, variables)
    if options.report not in ("", STDOUT):
        write_report(options.report, [{"incomplete": NOT_ENDED}])

    def say_it_goes_on(task: str) -> None:
        stop = command_that_stops(deployment, task)
        text.say(f"task {task} keeps running; see its end with ./sync.sh{deployment.via} logs, or stop it with {stop}")

    task = start(cloud, deployment, variables, "reconcile", "reconcile", *options.arguments, at_end=say_it_goes_on)
    source, destination = (f"s3://{deployment.settings[name]}" for name in ("SRC_BUCKET", "DST_BUCKET"))
    text.say(f"task {task.id} compares {source} and {destination}; its log:")
    is_stdout_taken = options.as_json or options.report == STDOUT
    followed = Followed(cloud, deployment, task, sys.stderr if is_stdout_taken else sys.stdout)
    try:
        summary = followed.to_its_end()
        task.has_ended()
        say_what_waits(cloud, deployment)
        if options.report:
            summary = report(followed, summary, options.report)
    except Failure as failure:
        raise Failure(str(failure), UNKNOWN) from None
    if options.as_json:
        text.print_json(summary, on_one_line=True)
    return int(summary["status"])


def refuse_second(cloud: Cloud, deployment: Deployment, variables: Mapping[str, str]) -> None:
    """Two at once would do no harm, and all the work twice. An audit is one, too."""
    running: list[str] = []
    for by in filter(None, (f"{deployment.app_name}-reconcile", variables.get("AUDIT_STARTED_BY"))):
        tasks = read_tasks(cloud, deployment, "--started-by", by)
        if isinstance(tasks, (Denied, NoAnswer)):
            raise Failure(tasks.error)
        running += [in_short(task)["id"] for task in tasks or []]
    if running:
        watch = f"watch it with ./sync.sh{deployment.via} logs --follow"
        raise Failure(f"task {' '.join(running)} is already comparing the buckets: {watch}")


def say_what_waits(cloud: Cloud, deployment: Deployment) -> None:
    queue = read_queue(cloud, deployment.queue_name)
    if not isinstance(queue, dict):
        why = queue.error if queue else f"there is no queue {deployment.queue_name} in {deployment.region}"
        text.say(f"whether messages are in the queue is not known: {why}")
        return
    number = sum(numbers_of(queue).values())
    if number:
        are = "is" if number == 1 else "are"
        some = "some of the differences may be on their way already"
        text.say(f"{text.amount(number, 'message')} {are} in the queue: {some}")


# --- the report ------------------------------------------------------------------------------------------------------


def report(followed: Followed, summary: Numbers, file: str) -> dict[str, Any]:
    """Writes it, and returns the summary, whose status is another one if the report is incomplete."""
    for _ in range(LAST_LINES_TRIES):
        if not lines_on_their_way(followed, summary):
            break
        followed.look_again()

    rows: list[dict[str, str]] = [found for _, found in sorted(followed.differences.items())]
    why = why_incomplete(len(rows), summary)
    write_report(file, [*rows, {"incomplete": why}] if why else rows)
    if not why:
        return dict(summary)
    text.say(f"the report is incomplete: {why}")
    return {**summary, "status": UNKNOWN}


def lines_on_their_way(followed: Followed, summary: Numbers) -> bool:
    return len(followed.differences) < int(summary.get("reported", 0))


def why_incomplete(found: int, summary: Numbers) -> str:
    """What the report does not have; nothing if it has all differences."""
    reported = summary.get("reported")
    if reported is None:
        return NO_SUMMARY
    if found < reported:
        return f"{reported - found} of {reported} lines did not reach the log: try it again"
    if summary["end"] != "complete":
        return "reconcile was stopped: see its log"
    if reported < summary.get("differences", 0):
        return f"the first {reported} of {summary['differences']}: run one --prefix after the other"
    return ""


def write_report(file: str, rows: Sequence[Mapping[str, str]]) -> None:
    texts = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    lines = [text.visible(line) for line in texts]
    if file == STDOUT:
        text.write_lines(lines)
        return
    try:
        Path(file).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        said = f"reconcile: --report {text.visible(file)} cannot be written: {error.strerror}"
        raise Failure(said) from None
