"""Request metrics of the destination's folders, for ./sync.sh cost --reads: turns them on and off, and reports them.

Others may do so at the same time: another run of it, deploy.sh and cleanup.sh. What is charged and could not be looked
at is said.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import IO, Any, NamedTuple

from operate import bill, reads, text
from operate.change import change
from operate.cloud import Cloud, Denied, Interrupted, NoAnswer
from operate.deployment import Deployment
from operate.failure import Failure, wrong_usage
from operate.parts import Metrics, need_function, read_function, read_request_metrics
from operate.times import iso

MOST_FOLDERS = 250
USUAL_FOLDERS = 10
FOLDERS_AT_ONCE = 100  # GetMetricData takes 500 queries (CloudWatch API reference), and each folder has two
COUNTERS = {"gets": "GetRequests", "bytes": "BytesDownloaded"}


class Options(NamedTuple):
    prices: dict[str, Any]
    as_json: bool
    days: int
    folders: list[str]
    top: int | None
    assume_yes: bool
    stop: bool


def run(options: Options, deployment: Deployment, cloud: Cloud) -> int:
    check(deployment)
    filters = metrics_that_are_on(cloud, deployment)
    if not filters:
        if options.stop:
            raise Failure("nothing to stop: ./sync.sh cost --reads has turned on no request metrics")
        need_function(read_function(cloud, deployment), deployment)
        turn_on(options, deployment, cloud)
        return 0

    say_ignored(options, filters)
    try:
        is_over = show_report(options, deployment, cloud, filters)
    except (Failure, Interrupted):
        if options.stop:  # they cost
            turn_off(deployment, [one.id for one in filters])
        raise
    if options.stop or is_over:
        turn_off(deployment, [one.id for one in filters])
    else:
        say_what_stays(cloud, deployment, filters)
    return 0


def check(deployment: Deployment) -> None:
    settings, owner = deployment.settings, deployment.settings["DST_BUCKET_OWNER"]
    if settings["DRY_RUN"] == "true":
        raise wrong_usage("cost: --reads turns request metrics on or off, and has no dry run; set DRY_RUN=false")
    if deployment.via:
        raise Failure("cost: the local cloud has no request metrics, so --reads is for AWS only")
    if deployment.reads_problem:
        raise Failure(f"cost: {deployment.reads_problem}")
    if owner != deployment.account:
        raise Failure(f"cost: --reads has to run in the account of the destination, {owner}")


# --- on and off -------------------------------------------------------------------------------------------------------


def metrics_that_are_on(cloud: Cloud, deployment: Deployment) -> list[Metrics]:
    found = read_request_metrics(cloud, deployment)
    if isinstance(found, (Denied, NoAnswer)):
        raise Failure(f"cost: request metrics of {destination(deployment)}: {found.error}")
    return found


def destination(deployment: Deployment) -> str:
    return deployment.settings["DST_BUCKET"]


def turn_on(options: Options, deployment: Deployment, cloud: Cloud) -> None:
    count = len(options.folders) or options.top or USUAL_FOLDERS
    price = bill.money(reads.price_of(options.prices, count, options.days))
    days = text.amount(options.days, "day")
    text.say(
        f"request metrics of {text.amount(count, 'folder')} for {days} cost at most {price} USD"
        f" ({reads.METRICS} metrics each, by the hour); listing the bucket takes a request for each 1,000 objects"
    )
    if not options.assume_yes:
        text.need_yes("Turn them on?", "nothing was turned on")

    folders = options.folders or largest_folders(cloud, deployment, count)
    began = int(time.time())
    ids = change(deployment, "turn_on_request_metrics", str(began), str(options.days), *folders).split()
    need_deployment(cloud, deployment, ids)
    text.say(
        f"the first figures arrive after about 15 minutes. Run the same command for a report. After {days}, it also"
        " turns them off, as ./deploy.sh and ./cleanup.sh do, and with --stop at once; until one of them runs, they are"
        " charged"
    )


def largest_folders(cloud: Cloud, deployment: Deployment, count: int) -> list[str]:
    with listed(cloud, deployment) as lines:
        found = reads.largest_folders(lines, count)
    if not found:
        raise Failure(f"s3://{destination(deployment)} has no folders: name prefixes with --folders")
    return found


def need_deployment(cloud: Cloud, deployment: Deployment, ids: Sequence[str]) -> None:
    """A run of cleanup.sh in the meantime may not have seen these metrics, and nobody else looks for them."""
    function = read_function(cloud, deployment)
    if isinstance(function, (Denied, NoAnswer)):
        unknown = f"whether {deployment.app_name} is still deployed is not known: {function.error}"
        raise Failure(f"cost: the request metrics are on, and {unknown}. If it is not, turn them off with --stop")
    if function is None:
        turn_off(deployment, ids)
        raise Failure(f"cost: the deployment {deployment.app_name} was removed in the meantime")


def turn_off(deployment: Deployment, ids: Sequence[str]) -> None:
    change(deployment, "turn_off_request_metrics", *ids)


def say_what_stays(cloud: Cloud, deployment: Deployment, filters: Sequence[Metrics]) -> None:
    left = read_request_metrics(cloud, deployment)
    if isinstance(left, (Denied, NoAnswer)):
        raise Failure(f"cost: the request metrics may still be on: {left.error}")
    if not left:
        by = "by ./cleanup.sh or another run of cost"
        text.say(f"the request metrics were turned off in the meantime, {by}")
        return
    until = iso(reads.until(filters))
    text.say(f"they stay on: run this again after {until}, which turns them off, or now with --stop")


# --- the report -------------------------------------------------------------------------------------------------------


def say_ignored(options: Options, filters: Sequence[Metrics]) -> None:
    """Which options count only when the metrics are turned on."""
    days = filters[0].days
    because = f"--reads {options.days}, because they were turned on for {text.amount(days, 'day')}"
    ignored = [because] if options.days != days else []
    ignored += ["--folders"] if options.folders else []
    ignored += ["--top"] if options.top else []
    if ignored:
        folders = text.amount(len(filters), "folder")
        effect = f"so this has no effect until --stop: {'; '.join(ignored)}"
        text.say(f"the request metrics of {folders} are on already, {effect}")


def show_report(options: Options, deployment: Deployment, cloud: Cloud, filters: Sequence[Metrics]) -> bool:
    """Whether their days are over."""
    now = int(time.time())
    with listed(cloud, deployment) as lines:
        stored = reads.stored_by(lines, [one.folder for one in filters], now)
    found = reads.report(options.prices, filters, counted(cloud, deployment, filters, now), stored, now)
    if options.as_json:
        text.print_json(reads.for_json(found))
    else:
        text.write_lines(map(text.visible, reads.table(found)))
    return bool(found["is_over"])


def listed(cloud: Cloud, deployment: Deployment) -> AbstractContextManager[IO[str]]:
    """Size, time and key of each object of the destination, a line each; a list request for each 1,000 of them."""
    columns = ("--query", "Contents[].[Size,LastModified,Key]")
    return cloud.need_lines("s3api", "list-objects-v2", "--bucket", destination(deployment), *columns)


def counted(cloud: Cloud, deployment: Deployment, filters: Sequence[Metrics], now: int) -> list[reads.Read]:
    """What CloudWatch has counted of each since they were turned on."""
    began = min(one.began for one in filters)
    sums: Counter[str] = Counter()
    for start in range(0, len(filters), FOLDERS_AT_ONCE):
        some = filters[start : start + FOLDERS_AT_ONCE]
        queries = [
            query_of(deployment, one, name, f"{name}{start + number}")
            for number, one in enumerate(some)
            for name in COUNTERS
        ]
        span = ("--start-time", iso(began), "--end-time", iso(now))
        written = json.dumps(queries, separators=(",", ":"))
        answer = cloud.need("cloudwatch", "get-metric-data", *span, "--metric-data-queries", written)
        for result in answer.get("MetricDataResults", []):
            sums[result["Id"]] += sum(result["Values"])
    return [reads.Read(gets=sums[f"gets{number}"], bytes=sums[f"bytes{number}"]) for number in range(len(filters))]


def query_of(deployment: Deployment, one: Metrics, name: str, number: str) -> dict[str, Any]:
    dimensions = {"BucketName": destination(deployment), "FilterId": one.id}
    metric = {
        "Namespace": "AWS/S3",
        "MetricName": COUNTERS[name],
        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
    }
    return {"Id": number, "ReturnData": True, "MetricStat": {"Period": 3600, "Stat": "Sum", "Metric": metric}}
