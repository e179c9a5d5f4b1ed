"""What the pages say of options, log lines and money is what the scripts, the worker and the sums say."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import metadata

import cost
import noticed
import pytest
from mutants import MUTANTS
from pages import PAGES, ROOT, all_code_in, blocks, chinese_of, code_in, in_both, prose, section, text_of
from terminal_picture import SCENES, lines_of
from write_tables import NOT_FOR_USERS, files

from mirror.model.checks import TABLE
from mirror.options.announcer import SYNCED
from mirror.version import VERSION

ALL_PAGES = [*PAGES, *map(chinese_of, PAGES)]
FIGURE = r"\d[\d,.]*\d"
MOST_LINES_OF_TERMINAL = 40
SETTINGS = "docs/settings.md"

WARNING_CALLS = ("log.warning", "log.error", "log.exception")

every_page = pytest.mark.parametrize("page", ALL_PAGES)


# Options

# Of the AWS CLI and of Docker, where the page names them without the command.
OPTIONS_OF_OTHERS = {"--build-arg", "--create-bucket-configuration"}
VERBS = ("operate/verbs/*.py",)
WITH_OPTIONS = ("*.sh", *VERBS, "mirror/cli.py", "tests/bench/run")


@every_page
def test_every_option_in_the_text_is_one_of_the_scripts_or_of_the_worker(page: str) -> None:
    """Those in blocks are run."""
    codes = [code for code in code_in(page) if code.startswith(("--", "./", "IMAGE"))]
    named = {word for code in codes for word in code.split() if re.fullmatch("--[a-z-]+", word)}
    assert sorted(named - OPTIONS_OF_OTHERS - {*re.findall(r"--[a-z-]+", written(WITH_OPTIONS))}) == []


# What the help of a program shows, and its own page does not explain.
OF_ALL = {"--json", "--yes", "--help"}


@pytest.mark.parametrize("pages", [PAGES, [*map(chinese_of, PAGES)]], ids=["English", "Chinese"])
def test_every_verb_and_every_option_is_on_a_page(pages: list[str]) -> None:
    codes = "\n".join(code for page in pages for code in all_code_in(page))
    named = {*re.findall(r"--[a-z-]+|(?<=sync\.sh )[a-z]+", codes)}
    verbs = {file.stem for pattern in VERBS for file in ROOT.glob(pattern)} - {"__init__"}
    options = {*re.findall(r"(?<![\w-])--[a-z-]+", help_of_programs())} - OF_ALL
    assert (len(verbs), len(options)) > (9, 30)
    assert sorted((verbs | options) - named) == []


def help_of_programs() -> str:
    """The head of each script of the top level, and of each verb."""
    files = [file for pattern in ("*.sh", *VERBS) for file in sorted(ROOT.glob(pattern))]
    heads = (re.match(r'(?:#.*\n)+|"""[^"]*"""', file.read_text()) for file in files)
    return "\n".join(head[0] for head in heads if head)


# Settings

# Variables of the AWS CLI, of pip, of the tools that read the destination, and of a workflow.
NAMES_OF_OTHERS = {"AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ROLE_ARN", "PIP_INDEX_URL"}
NAMES_OF_OTHERS |= {"AWS_S3_EXPRESS", "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING", "PUBLISH_RELEASES"}


@every_page
def test_every_name_in_capitals_is_one_of_the_scripts_or_is_set_on_the_page(page: str) -> None:
    capitals = r"(?<!\w)[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?!\w)"
    named = {name for text in all_code_in(page) for name in re.findall(capitals, text)}
    commands = "\n".join(command for block in blocks(page) for command in block.commands)
    set_here = set(re.findall(r"^(?:export )?([A-Z_]+)=(?:\S+$|\$\()", commands, re.MULTILINE))
    assert [name for name in sorted(named - set_here - NAMES_OF_OTHERS) if name not in names_of_scripts()] == []


@cache
def names_of_scripts() -> frozenset[str]:
    patterns = (*SCRIPTS_TOO, "local/**/*.sh", "local/*.py", "tests/protocol/*.py")
    return frozenset(re.findall(r"(?<!\w)[A-Z][A-Z0-9_]+(?!\w)", written(patterns)))


# Alarms


@in_both("docs/operations.md")
def test_the_minutes_of_the_alarms_are_those_of_their_periods(page: str) -> None:
    found = {name: noticed.alarm_of(name) for name in ("behind", "starter-fails", "starter-silent", "outage")}
    minutes = {name: [alarm.seconds * alarm.count // 60] for name, alarm in found.items()}
    silent = found["starter-silent"]
    minutes["starter-silent"] = [(silent.count + extra) * silent.seconds // 60 for extra in (2, 3)]
    minutes["behind"] += [lowest_age(0) // 60, highest_rate_of_an_hour()]
    rows = dict(re.findall(r"^\| \[`\.\.\.-([a-z-]+)`\]\([^)]*\) \| (.*) \|$", text_of(page), re.MULTILINE))
    for name, wanted in minutes.items():
        assert {str(one) for one in wanted} <= {*re.findall(r"\d+", rows[name])}, name


@in_both(SETTINGS)
def test_the_rate_up_to_which_an_hour_is_right_is_that_of_the_rule(page: str) -> None:
    (row,) = re.findall(r"^\| `ALARM_AGE_SECONDS` .*$", text_of(page), re.MULTILINE)
    assert {str(highest_rate_of_an_hour()), str(lowest_age(0) // 60)} <= {*re.findall(r"\d+", row)}


@cache
def lowest_age(minutes: int) -> int:
    """The threshold of the alarm on the oldest message at this rate, if none is shipped that is higher."""
    asked = [sys.executable, str(ROOT / "launch" / "rates.py"), str(minutes), "0", "0"]
    done = subprocess.run(asked, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout)["lowest"])


def highest_rate_of_an_hour() -> int:
    return max(minutes for minutes in range(60) if lowest_age(minutes) <= 3600)


# Log lines

WORKER = ("worker.py", "starter.py", "mirror/**/*.py", "launch/*.py")
SCRIPTS_TOO = (*WORKER, "*.sh", "lib/**/*.sh", "operate/**/*.py")

# Tables of what is written: (page, chapter) -> the column, and who writes it.
TABLES_OF_LINES = {
    ("docs/troubleshooting.md", "lines-of-the-log"): (0, WORKER),
    ("docs/operations.md", "faults"): (2, SCRIPTS_TOO),
    ("docs/operations.md", "status"): (0, SCRIPTS_TOO),
}


@every_page
def test_the_log_lines_of_copies_are_those_that_the_worker_writes(page: str) -> None:
    lines = re.findall(r"^(?:Using|Uploading|Progress|synced key).*$", text_of(page), re.MULTILINE)
    assert [line for line in lines if not is_written(line, WORKER)] == []


@pytest.mark.parametrize("language", [str, chinese_of], ids=["English", "Chinese"])
@pytest.mark.parametrize(("page", "chapter"), TABLES_OF_LINES)
def test_the_lines_in_tables_are_those_that_are_written(
    page: str, chapter: str, language: Callable[[str], str]
) -> None:
    column, writers = TABLES_OF_LINES[page, chapter]
    rows = re.findall(r"^\| (.*) \|$", section(language(page), chapter), re.MULTILINE)
    lines = [code for row in rows for code in re.findall(r"`([^`]*)`", row.split(" | ")[column])]
    assert len(lines) > 7
    assert [line for line in lines if not is_written(line, writers)] == []


@cache
def written(writers: tuple[str, ...]) -> str:
    files = sorted(file for pattern in writers for file in ROOT.glob(pattern))
    return re.sub(r"%[sd]|%%", "", "".join(file.read_text() for file in files))


def is_written(line: str, writers: tuple[str, ...]) -> bool:
    """Compared is what does not differ from key to key; error codes are those of S3."""
    pieces = [piece.strip(" ,:") for piece in re.split(r"\.\.\.(?= |$)|\w+=\S*", line)]
    return all(re.sub(r"(?<!^)\b\d+|%", "", piece) in written(writers) for piece in pieces)


def test_the_rule_that_starts_a_job_does_not_match_the_event_of_a_marker_that_failed() -> None:
    (pattern,) = re.findall(r"--event-pattern '(.*?)'", text_of("docs/recipes.md"), re.DOTALL)
    assert json.loads(pattern).get("detail-type") == [SYNCED]


@in_both("docs/troubleshooting.md")
def test_each_line_of_a_worker_that_warns_or_reports_an_error_is_on_the_page(page: str) -> None:
    codes = code_in(page)
    assert [line for line in sorted(lines_at_warning()) if not is_explained(line, codes)] == []


def is_explained(line: str, codes: list[str]) -> bool:
    """The page has words of the line, or something that begins as the line does."""
    begin = line.partition("...")[0]
    return any(" " in code and code in line for code in codes) or any(
        code.startswith(begin) for code in codes if len(begin) > 6
    )


@cache
def lines_at_warning() -> frozenset[str]:
    """With "..." for what differs."""
    found = set()
    for file in sorted(ROOT.glob("mirror/**/*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        lines = [call.args[0] for call in calls if ast.unparse(call.func) in WARNING_CALLS]
        found |= {
            getattr(importlib.import_module(name), line.id) if isinstance(line, ast.Name) else ast.literal_eval(line)
            for line in lines
        }
    return frozenset(re.sub(r"%\.?\d*[sdf]", "...", line) for line in found)


# Money and time


@in_both("README.md")
def test_the_figures_of_the_readmes_tables_stand_in_those_of_costs_or_performance(page: str) -> None:
    sources = [name if page == "README.md" else chinese_of(name) for name in ("docs/costs.md", "docs/performance.md")]
    known = {figure for source in sources for figure in re.findall(FIGURE, prose(source))}
    chapters = [text for text in re.split(r"^## ", prose(page), flags=re.MULTILINE) if quotes(text, sources)]
    rows = [row for text in chapters for row in re.findall(r"^\|.*\|$", text, re.MULTILINE)]
    assert len(rows) > 4
    assert [row for row in rows if set(re.findall(FIGURE, re.sub(r"\]\([^)]*\)", "", row))) - known] == []


def quotes(chapter: str, sources: list[str]) -> bool:
    """It says where its figures are from."""
    return any(f"]({source}" in chapter for source in sources)


# The release


def test_the_changelog_begins_with_the_release_of_the_code_or_with_what_comes_before_it() -> None:
    """With -dev it is between the newest release, which both READMEs name, and its own; only then is there more."""
    dated = re.findall(r"^## (.*?)(?: - (\d{4}-\d\d-\d\d))?$", text_of("CHANGELOG.md"), re.MULTILINE)
    newest = next(name for name, date in dated if date)
    release, _, dev = VERSION.partition("-")
    assert (dated[0][0], dev) in ((release, ""), ("Unreleased", "dev"))
    assert not dev or numbers_of(newest) < numbers_of(release)
    for page, word in ("README.md", "Release"), ("README.zh-CN.md", "版本"):
        assert f"[{word} {newest}](CHANGELOG.md)" in text_of(page)


def numbers_of(release: str) -> list[int]:
    return [int(number) for number in release.split(".")]


# Licences


@in_both("docs/guarantees.md")
def test_the_licences_are_those_that_the_packages_name(page: str) -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", section(page, "licences"), re.MULTILINE)
    shown = {name: licence for names, licence in rows for name in re.findall(r"`([\w-]+)`", names)}
    packages = re.findall(r"^[\w-]+", text_of("requirements.txt"), re.MULTILINE)
    assert shown.keys() == {*packages}
    assert [name for name in packages if not shown[name].startswith(licence_of(name))] == []


def licence_of(package: str) -> str:
    found = metadata(package)
    return str(found.get("License-Expression") or found["License"])


# Pictures


def test_the_picture_of_a_terminal_shows_the_commands_of_its_program_on_one_screen() -> None:
    """tests/chain/test_chain.py compares its lines with what the scripts print."""
    lines = lines_of(text_of("docs/terminal.svg"))
    assert [line for line in lines if line.startswith("$ ")] == [f"$ {scene.command}" for scene in SCENES]
    assert len(lines) <= MOST_LINES_OF_TERMINAL


# What was proven


SEARCHES = {
    "test_interleavings": ("CASES", "NIGHTLY_CASES"),
    "test_readers": ("CASES", "NIGHTLY_CASES"),
    "test_table_readers": ("CASES", "NIGHTLY_CASES"),
    "test_keeping": ("CASES", "MARKERS", "NIGHTLY_CASES", "NIGHTLY_MARKERS"),
}
HISTORIES = {
    "test_histories": ("TestHistories", "TestHistoriesWithAMarker", "TestHistoriesWithKeepDays"),
    "test_table_histories": ("TestHistoriesWithTables",),
    "test_function": ("TestHistories",),
}


@in_both("docs/guarantees.md")
def test_the_cases_and_planted_faults_are_counted(page: str) -> None:
    searches = {name: importlib.import_module(name) for name in SEARCHES}
    lines = text_of(page).splitlines()
    for name, tables in SEARCHES.items():
        counted = whole_numbers("".join(row_of(name, lines).split("|")[-3:-1]))
        assert counted == [len(getattr(searches[name], table)) for table in tables], name
    left_out = sum(len(search.LEFT_OUT) for search in searches.values())
    planted = {number for line in lines if line.startswith("- ") for number in whole_numbers(line)}
    assert {left_out, len(MUTANTS)} <= planted


@in_both("docs/guarantees.md")
def test_the_random_histories_and_worlds_are_counted(page: str) -> None:
    worlds = importlib.import_module("test_starter_worlds")
    drawn = {"test_starter_worlds": [worlds.BLOCKS * worlds.WORLDS, 2 * worlds.OF_AUDITS]}
    for name, classes in HISTORIES.items():
        histories = importlib.import_module(name)
        drawn[name] = [getattr(histories, of_cases).settings.max_examples for of_cases in classes]
    lines = text_of(page).splitlines()
    for name, counts in drawn.items():
        assert {*counts} <= {*whole_numbers(row_of(name, lines).replace(",", ""))}, name


def row_of(test: str, lines: list[str]) -> str:
    return next(line for line in lines if f"{test}.py`" in line)


def whole_numbers(text: str) -> list[int]:
    """Without those of code, and without figures such as 4e16."""
    return [int(number) for number in re.findall(r"\d+", re.sub(r"`[^`]*`|\d+e\d+", "", text))]


# What other files decide


def test_the_tables_have_what_other_files_decide() -> None:
    """Otherwise: .venv/bin/python tests/docs/write_tables.py"""
    assert [path for path, text in files().items() if path.read_text() != text] == []


# Settings


def test_the_help_of_deploy_shows_each_setting_with_what_it_is_shipped_with() -> None:
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    command = ["./deploy.sh", "--help"]
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    given = dict(re.findall(r'^: "\$\{([A-Z_0-9]+):=(.*?)\}"', text_of("deploy.sh"), re.MULTILINE))
    assert dict(re.findall(r"^  ([A-Z_0-9]+)=(.*?)(?:  #.*)?$", shown, re.MULTILINE)) == given


@in_both(SETTINGS)
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


@in_both(SETTINGS)
def test_the_table_of_when_a_change_takes_effect_has_what_no_worker_has(page: str) -> None:
    cells = re.findall(r"^\| (`[A-Z_0-9]+`(?:, `[A-Z_0-9]+`)+) \|", prose(page), re.MULTILINE)
    resources, starters = ([name.strip("`") for name in cell.split(", ")] for cell in cells)
    read = {reader: {one.name for one in TABLE if one.reader == reader} for reader in ("deploy", "starter")}
    assert sorted(starters) == sorted(read["starter"])
    files = text_of("lib/resources/task_definition.sh"), text_of("lib/resources/image.sh")
    of_tasks = {name for text in files for name in re.findall(r"\$\{?([A-Z_]+)", text)}
    assert sorted(resources) == sorted(read["deploy"] - of_tasks - NOT_FOR_USERS)


# What they cost


def cpu_ms(worker: str) -> float:
    """Of an object, as measured: the last figure but one of its row."""
    (row,) = (line for line in text_of("docs/performance.md").splitlines() if line.startswith(f"| {worker} |"))
    return float(row.split("|")[-3])


@in_both(SETTINGS)
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
        "COPY_LAST": [f"{cost.PRICE['express_get_request'] * 1e6:.2f}"],
        "METRICS": [f"{8 * cost.PRICE['metric_month'] + 2 * cost.PRICE['alarm_month'] + 0.05:.2f}"],
        "LOG_LEVEL": [f"{cost.PRICE['logs_gb']:.2f}"],
        "S3_CLIENT": [f"{cpu_ms('worker with `S3_CLIENT=boto3`') / cpu_ms('worker, 1 process'):.1f}"],
        "AUDIT_DAYS": ["0.02"],  # no sum of cost.py
    }
    costs = re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \| .* \| (.*) \|$", prose(page), re.MULTILINE)
    given = {name: re.findall(r"\d+\.\d+", words) for name, words in costs}
    assert {name: sorted(figures) for name, figures in given.items() if figures} == {
        name: sorted(figures) for name, figures in wanted.items()
    }
    assert f"{cost.worker_hour():.4f}" in text_of(page)
