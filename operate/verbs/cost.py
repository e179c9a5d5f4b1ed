"""usage: ./sync.sh cost [--prices FILE] [--days N] [--json]
       ./sync.sh cost --estimate [--files N] [--size SIZE]
                      [--arrival spread|burst|once] [--keep GB]
                      [--prices FILE] [--json]
       ./sync.sh cost --reads DAYS [--top N | --folders LIST] [--yes]
                      [--stop] [--prices FILE] [--json]

What this deployment costs a month, and what settings would save.

Prints it item by item. A task, which needs about a minute to start, lists both
buckets once; meanwhile the logs are queried. That costs one list request for
each 1,000 objects (0.005 USD for 1,000 requests to the source), a task of some
minutes, and 0.005 USD for each GB of log, which is read four times. Nothing is
changed. Ctrl-C stops the task, too.

  --prices FILE  your own prices, all or some, in the format of
                 lib/prices.json; also PRICES_FILE
  --days N       the figures of the last N days (default 30, at most
                 LOG_RETENTION_DAYS and 455)
  --json         the same as JSON on stdout, everything else on stderr
  --estimate     a month before anything is deployed, without AWS, from the
                 settings and from: files a day, the size of each (100KB, 1GB),
                 how they arrive (spread, burst; or once, as a backfill), GB
                 kept (default: those of a month); asks for missing values
  --reads DAYS   turns on S3's request metrics of the ten largest folders of the
                 destination (--top N, or --folders a/,b/) for DAYS days, after
                 it has shown the price and asked (--yes: without asking);
                 while they are on: reports what is read, and turns them off
                 after those days, or at once with --stop

Each figure is marked: measured, rule (calculated from measured ones as in
docs/costs.md), or assumed. The free tier belongs to the account, so it is
shown in a line of its own. Taxes, KMS, and requests of audits are left out.

Exit status: 0 done; 1 AWS refused something; 2 wrong usage; 3 the buckets
could not be counted.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, Union

from mirror.model.checks import TABLE, check, problems_together
from operate import bill, bill_table, estimate, request_metrics, tasks, text, usage
from operate.cloud import Cloud
from operate.deployment import Deployment
from operate.failure import Failure, wrong_usage
from operate.options import value_of
from operate.parts import need_function, read_function, variables_of
from operate.prices import read_prices

MOST_DAYS = 455  # CloudWatch has no older figures (CloudWatch User Guide, "Metrics retention")
USUAL_DAYS = 30
NOT_COUNTED = 3  # exit status


class BillOptions(NamedTuple):
    prices: dict[str, Any]
    as_json: bool
    days: int | None


class EstimateOptions(NamedTuple):
    prices: dict[str, Any]
    as_json: bool
    given: dict[str, str]
    asks_aws: bool = False


Options = Union[BillOptions, EstimateOptions, request_metrics.Options]


# --- options ----------------------------------------------------------------------------------------------------------


def parse(words: Sequence[str]) -> Options:
    if "--estimate" in words:
        return parse_estimate(words)
    if "--reads" in words:
        return parse_reads(words)
    return parse_bill(words)


def given_in(words: Sequence[str], flags: Sequence[str], with_value: Sequence[str], refusal: str) -> dict[str, str]:
    """The values of options; that of a flag is its name."""
    found: dict[str, str] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        if word in flags:
            found[word] = word
        elif word in with_value:
            found[word] = value_of(word, left)
        else:
            raise wrong_usage(f"cost: {refusal} {text.visible(word)}")
    return found


def prices_in(given: dict[str, str]) -> dict[str, Any]:
    return read_prices(given.get("--prices", os.environ.get("PRICES_FILE", "")))


def parse_bill(words: Sequence[str]) -> BillOptions:
    given = given_in(words, ["--json"], ["--days", "--prices"], "unknown option")
    days = given.get("--days")
    if days is not None:
        if not re.fullmatch("[1-9][0-9]{0,3}", days):
            raise wrong_usage(f"cost: --days {text.visible(days)} is not a number of days such as 30")
        if int(days) > MOST_DAYS:
            raise wrong_usage(f"cost: --days {days} is more than {MOST_DAYS}: CloudWatch has no older figures")
    return BillOptions(prices_in(given), "--json" in given, int(days) if days else None)


def parse_estimate(words: Sequence[str]) -> EstimateOptions:
    names = [f"--{question.name}" for question in QUESTIONS]
    given = given_in(words, ["--estimate", "--json"], [*names, "--prices"], "--estimate cannot be combined with")
    values = {}
    for question in QUESTIONS:
        value = given.get(f"--{question.name}")
        if value is not None:
            if not question.takes(value):
                raise wrong_usage(f"cost: --{question.name} {text.visible(value)} is not {question.meaning}")
            values[question.name] = value
    return EstimateOptions(prices_in(given), "--json" in given, values)


def parse_reads(words: Sequence[str]) -> request_metrics.Options:
    flags, with_value = ["--yes", "--stop", "--json"], ["--reads", "--folders", "--top", "--prices"]
    given = given_in(words, flags, with_value, "--reads cannot be combined with")
    days, top, folders = given["--reads"], given.get("--top", ""), given.get("--folders", "")
    most = request_metrics.MOST_FOLDERS
    if not re.fullmatch("[1-9][0-9]?", days):
        raise wrong_usage(f"cost: --reads {text.visible(days)} is not a number of days from 1 to 99")
    if top and not (re.fullmatch("[1-9][0-9]{0,2}", top) and int(top) <= most):
        raise wrong_usage(f"cost: --top {text.visible(top)} is not a number of folders from 1 to {most}")

    named = folders.split(",") if folders else []
    if any(not folder.endswith("/") for folder in named if folder):
        said = f"cost: --folders {text.visible(folders)}"
        raise wrong_usage(f"{said}: a folder ends with a slash, such as logs/")
    if "" in named:
        raise wrong_usage(f"cost: --folders {text.visible(folders)} has an empty item")
    if len(named) > most:
        raise wrong_usage(f"cost: --folders names more than {most} folders")

    return request_metrics.Options(
        prices=prices_in(given),
        as_json="--json" in given,
        days=int(days),
        folders=named,
        top=int(top) if top else None,
        assume_yes="--yes" in given,
        stop="--stop" in given,
    )


def run(options: Options, deployment: Deployment, cloud: Cloud) -> int:
    if isinstance(options, EstimateOptions):
        return run_estimate(options, deployment)
    if isinstance(options, request_metrics.Options):
        return request_metrics.run(options, deployment, cloud)
    return run_bill(options, deployment, cloud)


# --- what a deployment costs ------------------------------------------------------------------------------------------


def run_bill(options: BillOptions, deployment: Deployment, cloud: Cloud) -> int:
    function = need_function(read_function(cloud, deployment), deployment)
    seconds = usage.seconds_of(cloud, deployment, days_of(options, deployment))

    task = tasks.start_own(cloud, deployment, variables_of(function), "cost", "measure")
    source, destination = (f"s3://{deployment.settings[name]}" for name in ("SRC_BUCKET", "DST_BUCKET"))
    text.say(f"task {task.id} lists {source} and {destination} once; meanwhile the logs are read; its log:")
    setup = usage.setup_of(cloud, deployment, function, tasks.described(cloud, deployment, task.id))
    used = usage.used_in(cloud, deployment, function, seconds)
    stored = tasks.Followed(cloud, deployment, task, sys.stderr).to_its_end()
    task.has_ended()
    if stored["status"]:
        text.say("cost: the buckets could not be counted, see above")
        return NOT_COUNTED

    found = bill.bill(options.prices, seconds / 3600, setup, used, stored)
    if options.as_json:
        text.print_json(bill.for_json(found))
    else:
        bill_table.print_bill(found)
    return 0


def days_of(options: BillOptions, deployment: Deployment) -> int:
    """The log has no lines of older ones."""
    kept = int(deployment.settings["LOG_RETENTION_DAYS"])
    if options.days is None:
        return min(kept, USUAL_DAYS)
    if options.days > kept:
        said = f"cost: --days {options.days} is more than LOG_RETENTION_DAYS={kept}"
        raise wrong_usage(f"{said}: older lines are gone")
    return options.days


# --- before anything is deployed --------------------------------------------------------------------------------------


class Question(NamedTuple):
    """What has to be known: the option's name, what its value is like, and how a person is asked for it. Some have a
    default, which is an empty value."""

    name: str
    pattern: str
    meaning: str
    question: str

    def takes(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value) is not None


QUESTIONS = (
    Question("files", "[0-9]{1,12}", "a whole number", "Files a day (or in all, if they come once)"),
    Question(
        "size",
        "[0-9]{1,15}([.][0-9]{1,6})?([KMGTkmgt]?i?[Bb])?",
        "a size such as 100KB, 10MB or 1GB",
        "Size of a file, such as 100KB, 10MB or 1GB",
    ),
    Question(
        "arrival",
        "(spread|burst|once)?",
        "spread, burst or once",
        "They arrive: spread (over the day), burst or once [spread]",
    ),
    Question(
        "keep",
        "([0-9]{1,12}([.][0-9]{1,6})?)?",
        "a number of GB",
        "GB kept in the directory bucket [those of one month]",
    ),
)


def run_estimate(options: EstimateOptions, deployment: Deployment) -> int:
    values, _ = check(TABLE, deployment.settings, ())
    problems = problems_together(values)
    if problems:
        raise Failure("; ".join(problems), 2)

    given = {question.name: answer_to(question, options.given) for question in QUESTIONS}
    keep_days = deployment.settings["KEEP_DAYS"]
    load = estimate.Load(
        files=int(given["files"]),
        bytes=estimate.bytes_of(given["size"]),
        arrival=given["arrival"] or estimate.SPREAD,
        keep_gb=float(given["keep"]) if given["keep"] else None,
        keep_days=int(keep_days) if keep_days else None,
    )
    plan = estimate.plan_of(deployment.settings, int(deployment.copying_memory), int(deployment.starter_memory))
    found = estimate.estimate(options.prices, plan, load)

    if options.as_json:
        text.print_json(bill.for_json(found))
    else:
        bill_table.print_bill(found)
        bill_table.print_modes(found)
    return 0


def answer_to(question: Question, given: dict[str, str]) -> str:
    """What an option says, or a person on a terminal; elsewhere the default. Nothing is guessed."""
    if question.name in given:
        return given[question.name]
    if not sys.stdin.isatty():
        if question.takes(""):
            return ""
        said = f"cost: --estimate needs --{question.name}, {question.meaning}"
        raise wrong_usage(f"{said}: there is no terminal to ask on")

    while True:
        print(f"{question.question}: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line.endswith("\n"):
            raise Failure("nothing was estimated, because there was no answer")
        answer = line.strip()
        if question.takes(answer):
            return answer
        text.say(f"that is not {question.meaning}")
