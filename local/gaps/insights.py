"""CloudWatch Logs Insights: as much of parse, of filters on parsed fields and of stats as ./sync.sh cost asks for."""

from __future__ import annotations

import json
import re

from ministack.services import cloudwatch_logs

from gaps.replace import replaces

MOST_ROWS = 10_000
FUNCTIONS = {
    "count": lambda rows, _field: len(rows),
    "sum": lambda rows, field: sum(float(row[field]) for row in rows if field in row),
    "min": lambda rows, field: min(row[field] for row in rows),
    "max": lambda rows, field: max(row[field] for row in rows),
}


def parse(rows, rest):
    """Name what the groups of a regular expression match; a row that does not match it gets no field."""
    (text,) = re.fullmatch(r"@message /(.*)/", rest).groups()
    pattern = re.compile(text.replace("(?<", "(?P<"))
    matches = [pattern.search(row["@message"]) for row in rows]
    return [row | (match.groupdict() if match else {}) for row, match in zip(rows, matches, strict=True)]


def keep(rows, rest):
    """Filter by a number; ministack's own filters, on fields with @, are applied before."""
    condition = re.fullmatch(r"(\w+) > (\d+)", rest)
    if not condition:
        return rows
    field, least = condition.groups()
    return [row for row in rows if field in row and float(row[field]) > int(least)]


def stats(rows, rest):
    """Aggregate by the values of one field."""
    columns, _, field = rest.partition(" by ")
    groups = {}
    for row in rows:
        groups.setdefault(row.get(field, ""), []).append(row)
    wanted = re.findall(r"(\w+)\((\*|@?\w+)\) as (\w+)", columns)
    return [
        {field: value} | {name: FUNCTIONS[function](found, argument) for function, argument, name in wanted}
        for value, found in groups.items()
    ]


COMMANDS = {"parse": parse, "filter": keep, "stats": stats}


@replaces(cloudwatch_logs, "_start_query")
def start_query(original, data):
    """Answer a query with stats, which ministack would answer as if they were not there."""
    text = data.get("queryString", "")
    stages = [stage.strip().partition(" ") for stage in cloudwatch_logs._split_insights_pipes(text)]
    answer = original(data)
    query = cloudwatch_logs._queries.get(json.loads(answer[2]).get("queryId"))
    if not query or not any(word == "stats" for word, _, _ in stages):
        return answer
    groups = cloudwatch_logs._resolve_query_log_groups(data)
    records = cloudwatch_logs._collect_query_records(groups, query["startTime"], query["endTime"])
    filters = cloudwatch_logs._insights_filter_predicates(text)
    rows = [cloudwatch_logs._public_log_record(record) for record in records if all(f(record) for f in filters)]
    for word, _, rest in stages:
        rows = COMMANDS[word](rows, rest) if word in COMMANDS else rows
    query["results"] = [[{"field": k, "value": str(v)} for k, v in row.items()] for row in rows[:MOST_ROWS]]
    return answer
