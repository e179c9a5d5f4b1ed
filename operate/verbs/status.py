"""usage: ./sync.sh status [--json]

One word, from idle to failing, and then the details.

  idle     nothing is waiting and no worker is running
  working  messages are waiting or in progress
  behind   the oldest message has waited for more than 15 minutes (longer with
           LAMBDA_POLL_RATE above 5), or workers could not be started
  paused   somebody ran ./sync.sh pause; shows since when, and until when events
           wait
  failing  a bucket does not respond, the starter fails or does not run, workers
           fail, no key can be synced (an outage), the dead-letter queue is
           not empty, the last audit failed or is too old (AUDIT_DAYS), or an
           alarm is gone or tells nobody
  unknown  nothing fails as far as could be read, but a bucket, a queue, the
           workers, the function or its rule could not be read

  --json   the same as JSON on stdout

Exit status 1 when failing, 3 when unknown. The age of the oldest message is a
CloudWatch metric, about a minute old.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from operate import health, logs, report, text
from operate.alarms import judge_alarms, read_alarms
from operate.cloud import Cloud, Denied, NoAnswer, Once, side_by_side
from operate.deployment import Deployment
from operate.failure import Failure, wrong_usage
from operate.figures import made_of
from operate.parts import (
    Part,
    is_unread,
    read_function,
    read_oldest,
    read_request_metrics,
    read_tasks,
    variables_of,
)
from operate.path import judge_path, read_path, selection_of
from operate.times import DAY

MOST_LINES = 1000
COLOURS = {health.IDLE: text.GREEN, health.WORKING: text.GREEN, health.FAILING: text.RED}
STATUSES = {health.FAILING: 1, health.UNKNOWN: 3}


class Options(NamedTuple):
    as_json: bool = False


def parse(words: Sequence[str]) -> Options:
    for word in words:
        if word != "--json":
            raise wrong_usage(f"status: unknown option {text.visible(word)}")
    return Options(as_json="--json" in words)


def run(options: Options, deployment: Deployment, cloud: Cloud) -> int:
    names = health.Names(deployment.via, deployment.starter_role, deployment.task_role)
    with text.progress("status: asking AWS"):
        parts, unread = gather(cloud, deployment)
    state, reasons = health.judge(parts, unread, names)

    if options.as_json:
        text.print_json({"state": state, "reasons": reasons, **as_shown(parts, unread)})
    else:
        text.paint(COLOURS.get(state, text.AMBER), state)
        rows = report.rows(parts, unread, names, reasons, time.time())
        text.print_rows([*(f"  {reason}" for reason in reasons), "", *rows])
        if state in (*STATUSES, health.BEHIND):
            text.say('what to do about each reason: docs/operations.md, "Status"')
    return STATUSES.get(state, 0)


def as_shown(parts: Mapping[str, Any], unread: Mapping[str, str]) -> dict[str, Any]:
    """Some parts are left out if there is nothing to say of them."""
    optional = ("alarms", "audit", "markers", "paused", "reads")
    shown = {name: parts[name] for name in sorted(parts) if parts[name] is not None or name not in optional}
    if unread:
        shown |= {"not_known": sorted(unread), "errors": dict(unread)}
    return shown


# --- parts: each function asks AWS for one ---------------------------------------------------------------------------


def gather(cloud: Cloud, deployment: Deployment) -> tuple[dict[str, Any], dict[str, str]]:
    """(the parts, why each of the others could not be read). All at once, because each call of the AWS CLI takes about
    a second to begin; those that need to know what the function is set to wait for it."""
    function = Once[Part](lambda: read_function(cloud, deployment))

    def of_log(read: Callable[[Cloud, Deployment, Mapping[str, str], bool], Part]) -> Callable[[], Part]:
        def job() -> Part:
            variables = variables_of(function())
            copies = is_unread(function()) or variables.get("STARTER_COPIES") == "true"
            return read(cloud, deployment, variables, copies)

        return job

    found = side_by_side(
        {
            "function": function,
            "source": lambda: read_bucket(cloud, deployment.settings["SRC_BUCKET"]),
            "destination": lambda: read_bucket(cloud, deployment.settings["DST_BUCKET"]),
            "oldest": lambda: read_oldest(cloud, deployment, time.time()),
            "workers": lambda: read_tasks(cloud, deployment, "--desired-status", "RUNNING"),
            "path": lambda: read_path(cloud, deployment, function),
            "alarms": lambda: read_alarms(cloud, deployment, function),
            "reads": lambda: read_request_metrics(cloud, deployment),
            "version": lambda: cloud.ask("lambda", "list-tags", "--resource", deployment.starter_arn),
            "starter": of_log(read_last_start),
            "failures": of_log(read_failures),
            "lag": of_log(read_lags),
            "outages": of_log(read_outages),
            "markers": of_log(read_markers),
            "audit": of_log(read_audit),
        }
    )
    path, watchers = found.pop("path"), found.pop("alarms")
    found |= {name: path[name] for name in ("queue", "dead_letters", "rule", "event_rule", "permissions")}
    need_something(found, deployment)

    unread = {name: part.error for name, part in found.items() if isinstance(part, (Denied, NoAnswer))}
    for name in ("source", "destination"):
        if is_unread(found[name]) and not is_known_failure(found[name]):
            unread[name] = found[name].error
        else:
            unread.pop(name, None)
    known = {name: None if is_unread(part) else part for name, part in found.items()}
    now = time.time()
    judged = judge_path(deployment, path, selection_of(deployment, variables_of(known["function"])))
    alarms = judge_alarms(deployment, watchers, found["function"], judged.path, now)

    parts = made_of(known, found, judged, deployment, now)
    parts |= {"alarms": alarms.row, "faults": [*judged.faults, *alarms.faults]}
    if health.is_fixed(parts):
        parts["starter"]["fixed"] = True
    return parts, {**unread, **alarms.unread}


def need_something(found: Mapping[str, Any], deployment: Deployment) -> None:
    if all(found[name] is None for name in ("function", "queue", "dead_letters", "rule", "event_rule")):
        where = f"{deployment.app_name} in {deployment.region}"
        raise Failure(f"nothing is deployed as {where}: set REGION and APP_NAME", 2)


def read_bucket(cloud: Cloud, name: str) -> Any:
    return cloud.ask("s3api", "list-objects-v2", "--bucket", name, "--max-keys", "1", "--no-paginate")


def is_known_failure(answer: Any) -> bool:
    """S3 itself says that the bucket does not work, to a caller who may ask."""
    return isinstance(answer, NoAnswer) and bool(answer.code)


def read_last_start(cloud: Cloud, deployment: Deployment, _variables: Mapping[str, str], _copies: bool) -> Part:
    """The starter's last decision or failure; None when it has not run for an hour."""
    query = logs.newest(logs.DECISION_OR_FAILURE, 1, "@timestamp, @message")
    rows = logs.query(cloud, [deployment.starter_log_group], 3600, query)
    return rows[:1] if isinstance(rows, list) else rows


def read_failures(cloud: Cloud, deployment: Deployment, _variables: Mapping[str, str], copies: bool) -> Part:
    """The failures of the last hour; `synced`: whether the key has been synced since, by a query that names as many
    keys as it can, those that failed last."""
    groups = logs.groups_of(deployment, copies)
    rows = logs.query(cloud, groups, 3600, logs.newest(logs.FAILED_LINE, MOST_LINES))
    if not isinstance(rows, list) or not rows:
        return rows
    failures = sorted(logs.failures(logs.messages(rows)), key=lambda one: str(one["at"]), reverse=True)

    keys = list(dict.fromkeys(one["key"] for one in failures))
    rows = logs.query(cloud, groups, 3600, logs.newest(logs.synced_of(keys), MOST_LINES))
    if not isinstance(rows, list):
        return rows
    synced = logs.synced_at(logs.messages(rows))
    return [{**one, "synced": one["at"] < synced.get(one["key"], "")} for one in failures]


def read_lags(cloud: Cloud, deployment: Deployment, _variables: Mapping[str, str], copies: bool) -> Part:
    """The newest copies of the last hour."""
    query = logs.newest(f"{logs.SYNCED_LINE}.*{logs.LAG_START}", MOST_LINES)
    rows = logs.query(cloud, logs.groups_of(deployment, copies), 3600, query)
    return logs.messages(rows) if isinstance(rows, list) else rows


def read_outages(cloud: Cloud, deployment: Deployment, _variables: Mapping[str, str], copies: bool) -> Part:
    """One that goes on may have begun before the last hour, in the last three."""
    query = logs.newest(logs.OUTAGE_LINE, MOST_LINES, "@logStream, @message")
    rows = logs.query(cloud, logs.groups_of(deployment, copies), 10800, query)
    return logs.outages(rows) if isinstance(rows, list) else rows


def read_markers(cloud: Cloud, deployment: Deployment, variables: Mapping[str, str], copies: bool) -> Part:
    """The newest line on each key that waits for others by the log of the last hour, and has not been synced since: the
    newest first. None if there is nothing that waits (COPY_LAST, TABLES)."""
    if not (variables.get("COPY_LAST") or variables.get("TABLES")):
        return None

    groups = logs.groups_of(deployment, copies)
    rows = logs.query(cloud, groups, 3600, logs.newest(logs.WAITS_LINE, MOST_LINES))
    if not isinstance(rows, list):
        return rows
    waits = sorted(logs.waits(logs.messages(rows)), key=lambda wait: str(wait["at"]))
    newest = {wait["key"]: wait for wait in waits}
    waits = sorted(newest.values(), key=lambda wait: str(wait["at"]), reverse=True)
    if not waits:
        return []

    rows = logs.query(cloud, groups, 3600, logs.newest(logs.synced_of(newest), MOST_LINES))
    if not isinstance(rows, list):
        return rows
    synced = logs.synced_at(logs.messages(rows))
    return [wait for wait in waits if wait["at"] > synced.get(wait["key"], "")]


def read_audit(cloud: Cloud, deployment: Deployment, variables: Mapping[str, str], _copies: bool) -> Part:
    """The lines on the last audit, as far as the log reaches; None without AUDIT_DAYS."""
    if not variables.get("AUDIT_DAYS"):
        return None
    rows: Any = []
    # A query costs by what it reads: first the two days in which the last audit of a daily one is.
    for days in (2, int(variables["AUDIT_DAYS"]) + 2):
        rows = logs.query(cloud, [deployment.worker_log_group], days * DAY, logs.newest(logs.AUDITED_LINE, 1))
        if rows:
            break
    return logs.audits(logs.messages(rows)) if isinstance(rows, list) else rows
