"""The dashboard of deploy.sh as a picture, from the metrics and logs of the cloud that the environment names.

    python tests/docs/dashboard_picture.py PICTURE.png [MINUTES] [SECONDS]

shows the last MINUTES (60) with a point for every SECONDS (60). It needs the packages of tests/bench/requirements.txt.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from insights import Row, answer, titles, widgets
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure

Span = tuple[datetime, datetime]
LINE_WIDTH, LINES_SHOWN = 190, 10


# --- what the cloud knows -----------------------------------------------------------------------------------------


def events_of(query: str, span: Span) -> list[Row]:
    """The lines of the log groups of a query as rows."""
    return [row for group in re.findall("SOURCE '(.*?)'", query) for row in events(group, span)]


def events(group: str, span: Span) -> list[Row]:
    """The lines of a log group as rows."""
    first, last = (int(time.timestamp() * 1000) for time in span)
    paginator = boto3.client("logs").get_paginator("filter_log_events")
    pages = paginator.paginate(logGroupName=group, startTime=first, endTime=last)
    return [
        {"@timestamp": event["timestamp"] / 1000, "@logStream": event["logStreamName"], "@message": event["message"]}
        for page in pages
        for event in page["events"]
    ]


def lines_of(widget: Row, span: Span, seconds: int) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """(label, points) of each line of a widget, which is given by its properties."""
    if "metrics" in widget:
        for metric in widget["metrics"]:
            yield metric[4]["label"], metric_points(metric, widget["stat"], span, seconds)
    else:
        rows = answer(widget["query"], events_of(widget["query"], span), seconds)
        for name in [name for row in rows[:1] for name in row if name != "bin"]:
            yield name, [(row["bin"], row[name]) for row in rows]


def metric_points(metric: list[str], statistic: str, span: Span, seconds: int) -> list[tuple[float, float]]:
    namespace, name, dimension, value, _ = metric
    found = boto3.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": dimension, "Value": value}],
        Statistics=[statistic],
        Period=seconds,
        StartTime=span[0],
        EndTime=span[1],
    )
    return sorted((point["Timestamp"].timestamp(), point[statistic]) for point in found["Datapoints"])


# --- the picture --------------------------------------------------------------------------------------------------


def draw_lines(axes: Any, widget: Row, span: Span, seconds: int) -> None:
    for label, points in lines_of(widget, span, seconds):
        times = [datetime.fromtimestamp(time, UTC) for time, _ in points]
        axes.plot(times, [value for _, value in points], marker=".", markersize=4, linewidth=1, label=label)
    axes.set_xlim(*span)
    axes.margins(y=0.15)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}" if value < 1e5 else f"{value / 1e6:g}M")
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")


def draw_table(axes: Any, widget: Row, span: Span) -> None:
    rows = answer(widget["query"], events_of(widget["query"], span))
    lines = [f"{datetime.fromtimestamp(row['@timestamp'], UTC):%H:%M:%S}  {row['@message']}" for row in rows]
    text = "\n".join(line[:LINE_WIDTH] for line in lines[:LINES_SHOWN])
    axes.axis("off")
    drawn = axes.text(0, 1, text, family="monospace", fontsize=7, va="top", transform=axes.transAxes)
    drawn.set_in_layout(False)  # its end may be cut off


def draw(picture: str, span: Span, seconds: int) -> None:
    found = widgets()
    height = max(widget["y"] + widget["height"] for widget in found)
    figure = Figure(figsize=(11, height * 0.37), dpi=72, layout="constrained")
    figure.suptitle(f"{span[0]:%Y-%m-%d} UTC, a point is {seconds} s", x=0.99, ha="right", fontsize=8)
    grid = figure.add_gridspec(height // 6, 2)
    for widget in found:
        column, properties = widget["x"] // 12, widget["properties"]
        axes = figure.add_subplot(grid[widget["y"] // 6, column : column + widget["width"] // 12])
        axes.set_title(properties["title"], loc="left", fontsize=10, fontweight="bold")
        if properties["view"] == "table":
            draw_table(axes, properties, span)
        else:
            draw_lines(axes, properties, span, seconds)
    figure.savefig(picture, metadata={"Description": titles(found)})
    print(f"{picture}: {Path(picture).stat().st_size} bytes")


def main(picture: str, minutes: str = "60", seconds: str = "60") -> None:
    now = datetime.now(UTC)
    draw(picture, (now - timedelta(minutes=int(minutes)), now), int(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
