"""The dashboard of deploy.sh as a picture, from the metrics and logs of the cloud that the environment names.

    python tests/dashboard_picture.py PICTURE.png [MINUTES] [SECONDS]

shows the last MINUTES (60) with a point for every SECONDS (60). It needs the packages of tests/bench/requirements.txt.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from insights import Row, answer, widgets
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

LINE_WIDTH, LINES_SHOWN = 200, 10


# --- what the cloud knows -----------------------------------------------------------------------------------------


def events(group: str, start: datetime) -> list[Row]:
    """The lines of a log group as rows."""
    pages = (
        boto3.client("logs")
        .get_paginator("filter_log_events")
        .paginate(logGroupName=group, startTime=int(start.timestamp() * 1000))
    )
    return [
        {"@timestamp": event["timestamp"] / 1000, "@logStream": event["logStreamName"], "@message": event["message"]}
        for page in pages
        for event in page["events"]
    ]


def lines_of(widget: Row, start: datetime, seconds: int) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """(label, points) of each line of a widget, which is given by its properties."""
    if "metrics" in widget:
        for metric in widget["metrics"]:
            yield metric[4]["label"], metric_points(metric, widget["stat"], start, seconds)
    else:
        rows = answer(widget["query"], events(widget["query"].split("'")[1], start), seconds)
        for name in [name for row in rows[:1] for name in row if name != "bin"]:
            yield name, [(row["bin"], row[name]) for row in rows]


def metric_points(metric: list[str], statistic: str, start: datetime, seconds: int) -> list[tuple[float, float]]:
    namespace, name, dimension, value, _ = metric
    found = boto3.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": dimension, "Value": value}],
        Statistics=[statistic],
        Period=seconds,
        StartTime=start,
        EndTime=datetime.now(UTC),
    )
    return sorted((point["Timestamp"].timestamp(), point[statistic]) for point in found["Datapoints"])


# --- the picture --------------------------------------------------------------------------------------------------


def draw_lines(axes: Any, widget: Row, start: datetime, seconds: int) -> None:
    for label, points in lines_of(widget, start, seconds):
        times = [datetime.fromtimestamp(time, UTC) for time, _ in points]
        axes.plot(times, [value for _, value in points], marker=".", markersize=4, linewidth=1, label=label)
    axes.set_xlim(start, datetime.now(UTC))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")


def draw_table(axes: Any, widget: Row, start: datetime) -> None:
    rows = answer(widget["query"], events(widget["query"].split("'")[1], start))
    lines = [f"{datetime.fromtimestamp(row['@timestamp'], UTC):%H:%M:%S}  {row['@message']}" for row in rows]
    text = "\n".join(
        line if len(line) <= LINE_WIDTH else line[: LINE_WIDTH - 3] + "..." for line in lines[:LINES_SHOWN]
    )
    axes.axis("off")
    axes.text(0, 1, text, family="monospace", fontsize=7, va="top", transform=axes.transAxes)


def draw(picture: str, minutes: int = 60, seconds: int = 60) -> None:
    start = datetime.now(UTC) - timedelta(minutes=minutes)
    found = widgets()
    height = max(widget["y"] + widget["height"] for widget in found)
    figure = Figure(figsize=(11, height * 0.4), dpi=75, layout="constrained")
    grid = figure.add_gridspec(height, 24)  # a dashboard's own grid
    for widget in found:
        across, down, properties = widget["x"], widget["y"], widget["properties"]
        axes = figure.add_subplot(grid[down : down + widget["height"], across : across + widget["width"]])
        axes.set_title(properties["title"], loc="left", fontsize=10, fontweight="bold")
        if properties["view"] == "table":
            draw_table(axes, properties, start)
        else:
            draw_lines(axes, properties, start, seconds)
    figure.savefig(picture)
    print(f"{picture}: {Path(picture).stat().st_size} bytes")


if __name__ == "__main__":
    draw(sys.argv[1], *map(int, sys.argv[2:]))
