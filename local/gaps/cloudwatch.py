"""CloudWatch: alarms and dashboards as older CLIs ask for them, what SQS measures, and queries of Logs Insights with
stats."""

from __future__ import annotations

import json
import time
from xml.sax.saxutils import escape

from ministack.services import cloudwatch, cloudwatch_logs, eventbridge, sqs

import insights
from gaps import replaces


@replaces(cloudwatch, "_describe_alarms")
def describe_alarms(original, params, data, is_cbor, is_json=False):
    """Describe all of an alarm in the Query protocol too, which older versions of the AWS CLI speak."""
    if is_cbor or is_json:
        return original(params, data, is_cbor, is_json)
    names = [cloudwatch._p(params, name) for name in params if name.startswith("AlarmNames.member.")]
    _, _, body = original(params, {"AlarmNames": names}, False, True)
    return cloudwatch._xml(200, "DescribeAlarmsResponse", as_xml({"DescribeAlarmsResult": json.loads(body)}))


@replaces(cloudwatch, "_put_metric_alarm")
def put_metric_alarm(original, params, data, is_cbor, is_json=False):
    """Keep what an alarm on several metrics watches. Its state stays what it was made with. Keep in the Query protocol
    what it does without data, too."""
    answer = original(params, data, is_cbor, is_json)
    name = data.get("AlarmName") if is_cbor or is_json else cloudwatch._p(params, "AlarmName")
    actions = [cloudwatch._p(params, part) for part in params if part.startswith("InsufficientDataActions.member.")]
    if answer[0] == 200 and actions:
        cloudwatch._alarms[name]["InsufficientDataActions"] = actions
    watched = data.get("Metrics") if is_cbor or is_json else structures(params, "Metrics.member.")
    if answer[0] == 200 and watched:
        alarm = {part: value for part, value in cloudwatch._alarms[name].items() if part not in OF_ONE_METRIC}
        cloudwatch._alarms[name] = alarm | {"Metrics": watched}
    return answer


@replaces(cloudwatch, "_evaluate_alarm")
def evaluate_alarm(original, alarm):
    """Go by the metric of the alarm's own dimensions: messages of one queue say nothing of another."""
    own = {one["Name"]: one["Value"] for one in alarm.get("Dimensions") or []}
    every = cloudwatch._metrics
    cloudwatch._metrics = {key: points for key, points in every.items() if key[2] == cloudwatch._dims_key(own)}
    try:
        original(alarm)
    finally:
        cloudwatch._metrics = every


OF_ONE_METRIC = ("MetricName", "Namespace", "Dimensions", "Statistic", "ExtendedStatistic", "Period", "Unit")


def structures(params, prefix):
    """Read a list of structures as the Query protocol writes it: Metrics.member.1.MetricStat.Period=300."""
    found = {}
    for name in params:
        if name.startswith(prefix):
            *path, last = name.removeprefix(prefix).split(".")
            value = cloudwatch._p(params, name)
            place = found
            for part in path:
                place = place.setdefault(part, {})
            place[last] = {"true": True, "false": False}.get(value, int(value) if value.isdigit() else value)
    return [found[number] for number in sorted(found, key=int)]


@replaces(cloudwatch, "_get_dashboard")
def get_dashboard(original, params, data, is_cbor, is_json=False):
    """Escape the body of a dashboard in the Query protocol: its queries hold signs that XML has for itself."""
    answer = original(params, data, is_cbor, is_json)
    if is_cbor or is_json or answer[0] != 200:
        return answer
    _, _, body = original(params, {"DashboardName": cloudwatch._p(params, "DashboardName")}, False, True)
    return cloudwatch._xml(200, "GetDashboardResponse", as_xml({"GetDashboardResult": json.loads(body)}))


def as_xml(value):
    """Write a value as the Query protocol does."""
    if isinstance(value, dict):
        return "".join(f"<{name}>{as_xml(item)}</{name}>" for name, item in value.items() if item is not None)
    if isinstance(value, list):
        return "".join(f"<member>{as_xml(item)}</member>" for item in value)
    return escape(json.dumps(value) if isinstance(value, bool) else str(value))


@replaces(eventbridge, "_tick_scheduled_rules")
def publish_queue_metrics(original):
    """Publish what SQS reports to CloudWatch about each queue, every second instead of every minute."""
    now = time.time()
    for (_, _, url), queue in sqs._queues.all_items():
        messages = list(queue["messages"])
        visible = sum(message["visible_at"] <= now for message in messages)
        ages = [now - message["sent_at"] for message in messages]
        measured = {
            "ApproximateNumberOfMessagesVisible": visible,
            "ApproximateNumberOfMessagesNotVisible": len(messages) - visible,
            "ApproximateAgeOfOldestMessage": max(ages, default=0),
        }
        for name, value in measured.items():
            cloudwatch.record_metric("AWS/SQS", name, value, dimensions={"QueueName": url.rpartition("/")[2]})
    return original()


# --- Logs Insights ----------------------------------------------------------------------------------------------------

MOST_ROWS = 10_000
# Of a query with stats; by sort and limit, its rows stay as they are.
COMMANDS = ("parse", "filter", "stats")


@replaces(cloudwatch_logs, "_start_query")
def start_query(original, data):
    """Answer a query with stats, which ministack would answer as if they were not there."""
    text = data.get("queryString", "")
    stages = cloudwatch_logs._split_insights_pipes(text)
    answer = original(data)
    query = cloudwatch_logs._queries.get(json.loads(answer[2]).get("queryId"))
    if not query or not any(stage.startswith("stats ") for stage in stages):
        return answer

    groups = cloudwatch_logs._resolve_query_log_groups(data)
    records = cloudwatch_logs._collect_query_records(groups, query["startTime"], query["endTime"])
    for takes in cloudwatch_logs._insights_filter_predicates(text):  # those on fields with @
        records = [record for record in records if takes(record)]
    rest = [stage for stage in stages if stage.startswith(COMMANDS) and not stage.startswith("filter @")]
    rows = insights.answer(rest, [record | {"@timestamp": record["_timestamp_ms"]} for record in records])
    query["results"] = [fields_of(row) for row in rows[:MOST_ROWS]]
    return answer


def fields_of(row):
    """Return a row as GetQueryResults shows it."""
    return [{"field": name, "value": str(value)} for name, value in row.items()]
