"""As much of the query language of CloudWatch Logs Insights as this project uses, for gaps/cloudwatch.py and for the
tests (CloudWatch Logs User Guide, "CloudWatch Logs Insights language query syntax").

A row is a dictionary, at first with @logStream, @message, and @timestamp in milliseconds, which stats shows so.
"""

import re
import time

NUMBERED_GROUP = r"(?<!\\)\((?!\?<\w+>)"


def answer(commands, rows):
    """Return the rows that a query finds, of which these are the parts between two pipes."""
    fields = []
    for command in commands:
        word, _, rest = command.partition(" ")
        if word == "fields":
            fields = rest.split(", ")
        else:
            rows = COMMANDS[word](rows, rest)
    return [{name: row[name] for name in fields} for row in rows] if fields else rows


def keep(rows, rest):
    """Filter by a regular expression for the message, or by a number."""
    if like := re.fullmatch(r"@message like /(.*)/", rest):
        return [row for row in rows if re.search(like[1], row["@message"])]

    field, least = re.fullmatch(r"(\w+) > (\d+)", rest).groups()
    return [row for row in rows if field in row and float(row[field]) > int(least)]


def parse(rows, rest):
    """Name what the groups of a regular expression match; a row that it does not match stays as it is."""
    (pattern,) = re.fullmatch(r"@message /(.*)/", rest).groups()
    if re.search(NUMBERED_GROUP, pattern):
        raise ValueError(f"a group of parse has a name: {pattern}")

    matches = [re.search(pattern.replace("(?<", "(?P<"), row["@message"]) for row in rows]
    return [row | match.groupdict() if match else row for row, match in zip(rows, matches, strict=True)]


def stats(rows, rest):
    """Aggregate the rows of each minute, or those with the same value of a field."""
    columns, _, by = rest.partition(" by ")
    groups = {}
    for row in rows:
        value = stamp(row["@timestamp"] // 60_000 * 60_000) if by == "bin(1m)" else row.get(by, "")
        groups.setdefault(value, []).append(row)

    wanted = re.findall(r"(\w+)\(([^()]*)\) as (\w+)", columns)
    return [
        {by: value} | {name: FUNCTIONS[function](found, argument) for function, argument, name in wanted}
        for value, found in sorted(groups.items())
    ]


def stamp(milliseconds):
    """Return a time as a bin is named, and as `fields @timestamp` shows it."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(seconds))}.{rest:03}"


def sort(rows, rest):
    """Show the largest first."""
    (field,) = re.fullmatch(r"(\S+) desc", rest).groups()
    return sorted(rows, key=lambda row: row[field], reverse=True)


def values(rows, field):
    """Return the numbers of a field; a row of which it was not parsed has none."""
    return [float(row[field]) for row in rows if field in row]


def percentile(rows, arguments):
    """Return that of a field, with the percentage behind the comma."""
    field, percent = arguments.split(", ")
    ordered = sorted(values(rows, field))
    return ordered[round((len(ordered) - 1) * float(percent) / 100)]


COMMANDS = {
    "SOURCE": lambda rows, _: rows,
    "filter": keep,
    "parse": parse,
    "stats": stats,
    "sort": sort,
    "limit": lambda rows, most: rows[: int(most)],
}
FUNCTIONS = {
    "count": lambda rows, field: sum(field in ("*", *row) for row in rows),
    "count_distinct": lambda rows, field: len({row[field] for row in rows}),
    "sum": lambda rows, field: sum(values(rows, field)),
    "min": lambda rows, field: min(row[field] for row in rows),
    "max": lambda rows, field: max(row[field] for row in rows),
    "pct": percentile,
}
