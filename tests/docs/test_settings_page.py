"""What docs/settings.md says of each setting is what the table of settings and the checks have, in both languages."""

from __future__ import annotations

import re
import subprocess
from typing import NamedTuple

import cost
import pytest
from pages import ROOT, in_both, prose, text_of

from mirror.model.checks import TABLE as ROWS
from mirror.model.checks import Setting

PAGE = "docs/settings.md"
TABLE = {setting.name: setting for setting in ROWS}
NOT_FOR_USERS = {"RETRY_PAUSE", "RETRY_LIMIT", "DRY_RUN"}  # for tests, and an option
EMPTY = ("(empty)", "\uff08空\uff09")


both_languages = in_both(PAGE)
pytestmark = pytest.mark.fast


class Row(NamedTuple):
    """Of a table of settings."""

    name: str
    default: str
    limits: str
    meaning: str
    costs: str


def rows(page: str) -> list[Row]:
    found = re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \| (.*) \|$", prose(page), re.MULTILINE)
    return [Row(name, *cells.split(" | ")) for name, cells in found]


def limits_of(setting: Setting, between: str) -> str:
    """As the page says them; nothing if it has words of its own."""
    if setting.limits:
        lowest, highest = setting.values.split("/")[-1].split("..")
        return f"{lowest} {between} {highest}"
    return setting.values.replace("|", ", ") if re.fullmatch(r"\w+(\|\w+)+", setting.values) else ""


@both_languages
def test_each_setting_is_there_once_with_the_default_and_the_limits_of_the_table(page: str) -> None:
    found = {row.name: row for row in rows(page)}
    assert len(rows(page)) == len(found)
    assert found.keys() == TABLE.keys() - NOT_FOR_USERS
    for name, row in found.items():
        default = "" if TABLE[name].default == "0" and row.default in EMPTY else TABLE[name].default
        assert (row.default in EMPTY) if default == "" else row.default == default, name
        limits = limits_of(TABLE[name], "to" if page == PAGE else "到")
        if name == "TASK_CPU":
            limits = ", ".join(sizes(page))
        assert row.limits == limits or (not limits and row.limits), name


def test_the_help_of_deploy_shows_each_setting_with_what_it_is_shipped_with() -> None:
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    command = ["./deploy.sh", "--help"]
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    given = dict(re.findall(r'^: "\$\{([A-Z_0-9]+):=(.*?)\}"', text_of("deploy.sh"), re.MULTILINE))
    assert dict(re.findall(r"^  ([A-Z_0-9]+)=(.*?)(?:  #.*)?$", shown, re.MULTILINE)) == given


@both_languages
def test_the_table_of_sizes_is_that_of_fargate(page: str) -> None:
    array = re.findall(r"^readonly FARGATE_SIZES=\((.*?)\)", text_of("lib/settings.sh"), re.MULTILINE | re.DOTALL)[0]
    wanted: dict[str, set[int]] = {}
    for row in re.findall(r"'([^']+)'", array):
        cpu, lowest, highest, step = row.split()
        wanted.setdefault(cpu, set()).update(range(int(lowest), int(highest) + 1, int(step)))
    assert sizes(page) == wanted
    assert [int(cpu) / 1024 for cpu in sizes(page)] == [float(vcpus) for _, vcpus, _ in rows_of_sizes(page)]


def rows_of_sizes(page: str) -> list[tuple[str, str, str]]:
    return re.findall(r"^\| (\d+) \| ([\d.]+) \| ([^|]+) \|$", prose(page), re.MULTILINE)


def sizes(page: str) -> dict[str, set[int]]:
    """TASK_CPU -> what TASK_MEMORY may be."""
    found = {}
    for cpu, _, memory in rows_of_sizes(page):
        figures = [int(figure) for figure in re.findall(r"\d+", memory)]
        is_list = re.fullmatch(r"\d+(, \d+)*", memory)
        found[cpu] = set(figures) if is_list else set(range(figures[0], figures[1] + 1, figures[2]))
    return found


@both_languages
def test_the_table_of_when_a_change_takes_effect_has_what_no_worker_has(page: str) -> None:
    cells = re.findall(r"^\| (`[A-Z_0-9]+`(?:, `[A-Z_0-9]+`)+) \|", prose(page), re.MULTILINE)
    resources, starters = ([name.strip("`") for name in cell.split(", ")] for cell in cells)
    read = {reader: {one.name for one in TABLE.values() if one.reader == reader} for reader in ("deploy", "starter")}
    assert sorted(starters) == sorted(read["starter"])
    files = text_of("lib/resources/task_definition.sh"), text_of("lib/resources/image.sh")
    of_tasks = {name for text in files for name in re.findall(r"\$\{?([A-Z_]+)", text)}
    assert sorted(resources) == sorted(read["deploy"] - of_tasks - NOT_FOR_USERS)


# What they cost


def cpu_ms(worker: str) -> float:
    """Of an object, as measured: the last figure but one of its row."""
    (row,) = (line for line in text_of("docs/performance.md").splitlines() if line.startswith(f"| {worker} |"))
    return float(row.split("|")[-3])


@both_languages
def test_the_costs_of_settings_are_those_that_are_computed(page: str) -> None:
    run = cost.PRICE["lambda_request"] + 0.125 * cost.PRICE["lambda_gb_second"]
    starters = [f"{cost.HOURS_A_MONTH * 60 / minutes * run:.2f}" for minutes in (1, 5)]
    one_by_one = cost.LOADS["10,000, spread out"]
    default, events = cost.estimates(f";{one_by_one}", f"EVENT_SOURCE=eventbridge;{one_by_one}")
    of_events = events["before_free_usd"] - default["before_free_usd"] - cost.PRICE["alarm_month"]
    wanted = {
        "EVENT_SOURCE": [f"{of_events / 10_000 / cost.DAYS_A_MONTH * 1e6:.2f}"],
        "DST_BUCKET": [f"{cost.PRICE['express_storage_gb_month']:.2f}"],
        "LAMBDA_POLL_RATE": starters,
        "MIN_WORKERS": [f"{cost.HOURS_A_MONTH * cost.worker_hour():.2f}"],
        "ASSIGN_PUBLIC_IP": [f"{cost.PRICE['ipv4_hour']:.3f}"],
        "IMAGE_URI": [f"{cost.PRICE['image_gb_month']:.2f}"],
        "METRICS": [f"{8 * cost.PRICE['metric_month'] + 2 * cost.PRICE['alarm_month'] + 0.05:.2f}"],
        "LOG_LEVEL": [f"{cost.PRICE['logs_gb']:.2f}"],
        "S3_CLIENT": [f"{cpu_ms('worker with `S3_CLIENT=boto3`') / cpu_ms('worker, 1 process'):.1f}"],
        "AUDIT_DAYS": ["0.02"],  # no sum of cost.py
    }
    given = {row.name: re.findall(r"\d+\.\d+", row.costs) for row in rows(page)}
    assert {name: sorted(figures) for name, figures in given.items() if figures} == {
        name: sorted(figures) for name, figures in wanted.items()
    }
    assert f"{cost.worker_hour():.4f}" in text_of(page)
