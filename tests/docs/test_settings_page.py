"""What docs/settings.md says of each setting is what deploy.sh, its checks and the worker have, in both languages."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import cost
import pytest
from pages import ROOT, chinese_of, code_in, fenced, prose, text_of

from launch.settings import NUMBER_SETTINGS as STARTER_NUMBERS
from launch.settings import TEXT_SETTINGS as STARTER_TEXTS
from mirror.settings import NUMBER_SETTINGS, TEXT_SETTINGS

PAGE = "docs/settings.md"
NOT_FOR_USERS = {"RETRY_PAUSE", "RETRY_LIMIT", "DRY_RUN"}  # for tests, and an option
NOT_OURS = {"X86_64"}  # looks like a setting
EMPTY = ("(empty)", "\uff08空\uff09")
ACCOUNT = "123456789012"
BARE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}  # an environment without settings

both_languages = pytest.mark.parametrize("page", [PAGE, chinese_of(PAGE)])


class Row(NamedTuple):
    """Of a table of settings."""

    name: str
    default: str
    limits: str
    meaning: str
    costs: str


class Try(NamedTuple):
    """NAME=VALUE, and what is set beside it."""

    setting: str
    beside: tuple[str, ...]
    is_taken: bool


def rows(page: str) -> list[Row]:
    found = re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \| (.*) \|$", prose(page), re.MULTILINE)
    return [Row(name, *cells.split(" | ")) for name, cells in found]


def default_of(row: Row) -> str:
    return "" if row.default in EMPTY else row.default


def script_settings() -> dict[str, str]:
    """setting -> default of deploy.sh."""
    return dict(re.findall(r'^: "\$\{([A-Z_0-9]+):=(.*?)\}"', text_of("deploy.sh"), re.MULTILINE))


def worker_settings() -> dict[str, str]:
    texts = {name: default or "" for name, (default, *_) in TEXT_SETTINGS.items()}
    numbers = {name: str(default or "") for name, (default, *_) in NUMBER_SETTINGS.items()}  # 0: as if empty
    return {name: default for name, default in (texts | numbers).items() if name != "QUEUE_URL"}  # deploy.sh finds it


def users_settings() -> dict[str, str]:
    """setting -> default; what deploy.sh leaves empty is the worker's to know."""
    wanted = {name: default for name, default in script_settings().items() if name not in NOT_FOR_USERS}
    return wanted | {name: wanted.get(name) or default for name, default in worker_settings().items()}


# Names and defaults


@pytest.mark.fast
@both_languages
def test_each_setting_is_there_once_with_the_default_of_the_scripts(page: str) -> None:
    assert sorted((row.name, default_of(row)) for row in rows(page)) == sorted(users_settings().items())


@pytest.mark.fast
@both_languages
def test_the_help_of_deploy_shows_each_setting_with_the_same_default(page: str) -> None:
    shown = dict(re.findall(r"^  ([A-Z_0-9]+)=(.*?)(?:  #.*)?$", help_of_deploy(), re.MULTILINE))
    given = {row.name: default_of(row) for row in rows(page)}
    theirs = {name: shown.get(name) or default for name, default in worker_settings().items()}
    assert {name: default for name, default in (shown | theirs).items() if name not in NOT_FOR_USERS} == given
    assert shown.keys() >= given.keys()


@cache
def help_of_deploy() -> str:
    command = ["./deploy.sh", "--help"]
    return subprocess.run(command, cwd=ROOT, env=BARE, capture_output=True, text=True, check=True).stdout


@pytest.mark.fast
@both_languages
def test_every_setting_that_it_names_exists(page: str) -> None:
    code = [*code_in(page), *(text for _, _, text in fenced(page))]
    named = {name for text in code for name in re.findall(r"(?<!\w)[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?!\w)", text)}
    named |= {name for text in code for name in re.findall(r"(?<!\w)([A-Z_]+)=", text)}
    assert len(named) > 40
    assert named - script_settings().keys() - NOT_OURS == set()


# The limits of each, tried

KEY = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/1234-ab"
# Unit of a length, in both languages -> a value of that length.
OF_LENGTH = {
    ("characters", "个字符"): lambda length: "a" * length,
    ("bytes", "字节"): lambda length: "é" * (length // 2) + "a" * (length % 2),
    ("prefixes", "个前缀"): lambda count: ",".join(f"p{number}/" for number in range(count)),
    ("ARNs", "个 ARN"): lambda count: ",".join([KEY] * count),
    ("digits", "位数字"): lambda count: "1" * count,
    ("tags", "个标签"): lambda count: ",".join(f"key {number}=value" for number in range(count)),
}
# Other limits, in both languages -> values that are taken, and some that are not.
SAID = {
    ("a Region of AWS", "AWS 的一个区域"): (
        ["us-east-1"],
        ["Ireland", "cn-north-1", "us-gov-west-1", "eusc-de-east-1"],
    ),
    ("NAME--ZONE--x-s3",) * 2: (["mirror--euw1-az3--x-s3"], ["mirror", "mirror--x-s3", "mirror--use1-az4--x-s3"]),
    ("subnet IDs of one VPC", "同一 VPC 的子网 ID"): (["subnet-1", "subnet-1,subnet-1b"], ["subnet-1,subnet-2"]),
    ("a host", "一个主机名"): (["proxy.example.com:5000"], ["https://proxy.example.com/"]),
    ("an image", "一个镜像"): (
        ["python:3.13-slim", "mirror.example:5000/python:3.13", f"python:3.13@sha256:{'a' * 64}"],
        ["", "python:3.13@sha256:12", "two words", "-x"],
    ),
    ("any words", "任意参数"): (["--build-arg PROXY=http://proxy:3128 --no-cache"], []),
    ("the ARN of a key", "一个密钥的 ARN"): ([KEY], ["alias/aws/s3", "1234-ab", KEY.replace("eu-west-1", "us-east-1")]),
    ("delta, or empty", "delta 或空"): (["delta"], ["DELTA", "lance", "delta,"]),
    ("a path", "一个路径"): (["/", "/ml/", "/ml/2026/"], ["ml/", "/ml", "//", "/m l/", f"/{'a' * 511}/"]),
    ("the ARN of a policy", "一个策略的 ARN"): (
        [f"arn:aws:iam::{ACCOUNT}:policy/a/b", "arn:aws:iam::aws:policy/ReadOnlyAccess"],
        ["workloads", f"arn:aws:iam::{ACCOUNT}:role/a", f"arn:aws:iam::{ACCOUNT}:policy/"],
    ),
    ("a mail address", "一个邮件地址"): (["you@example.com"], ["you", "you@example.com,me@example.com"]),
}
# What has to stand beside a value for its own limits to be the only ones.
BESIDE = {
    "ANNOUNCE": ("COPY_LAST=_SUCCESS",),
    "AUDIT_DAYS": ("LOG_RETENTION_DAYS=3653",),
    "MAX_WORKERS": ("QUOTA=32000",),
    "MIN_WORKERS": ("MAX_WORKERS=1000", "QUOTA=32000"),
    "VISIBILITY_TIMEOUT": ("VISIBILITY_EXTEND_INTERVAL=1", "COPY_TIMEOUT=1"),
}


@both_languages
def test_the_checks_take_what_is_within_the_limits_and_refuse_what_is_just_outside(page: str) -> None:
    made = [one for row in rows(page) for one in tries(row, sizes(page))]
    assert len(made) > 3 * len(rows(page))
    answers = problems([(one.setting, *one.beside) for one in made])
    wrong = [(one, said) for one, said in zip(made, answers, strict=True) if is_refused(one, said) == one.is_taken]
    assert wrong == []


@pytest.mark.fast
@both_languages
def test_the_words_of_a_limit_are_all_that_the_checks_know(page: str) -> None:
    given = {row.name: set(words_of(row.limits)) for row in rows(page) if words_of(row.limits)}
    checks = text_of("lib/settings.sh")
    known = re.findall(r"check_pattern ([A-Z_0-9]+) '\(?(\w+(?:\|\w+)+)\)?(?:\(,\w+\))?\??'", checks)
    wanted = {name: set(words.split("|")) for name, words in known}
    wanted |= {name: {"true", "false"} for name in array("SWITCHES") if name not in NOT_FOR_USERS}
    wanted["TASK_CPU"] = {row.split()[0] for row in array("FARGATE_SIZES")}
    wanted["LOG_RETENTION_DAYS"] = set(re.findall(r"RETENTION_DAYS='([\d ]+)'", checks)[0].split())
    assert given == wanted


@pytest.mark.fast
@both_languages
def test_the_table_of_sizes_is_that_of_fargate(page: str) -> None:
    wanted: dict[str, set[int]] = {}
    for row in array("FARGATE_SIZES"):
        cpu, lowest, highest, step = row.split()
        wanted.setdefault(cpu, set()).update(range(int(lowest), int(highest) + 1, int(step)))
    assert sizes(page) == wanted
    assert [int(cpu) / 1024 for cpu in sizes(page)] == [float(vcpus) for _, vcpus, _ in rows_of_sizes(page)]


def tries(row: Row, memory: dict[str, set[int]]) -> Iterator[Try]:
    inside, outside = values(row)
    for value in [*inside, *outside]:
        beside = BESIDE.get(row.name, ())
        if row.name == "TASK_CPU":
            beside = (f"TASK_MEMORY={min(memory.get(value, {4096}))}",)
        yield Try(f"{row.name}={value}", beside, value in inside)


def values(row: Row) -> tuple[list[str], list[str]]:
    """At the limits of the row, and just outside of them. Empty stands for the default, so it is none."""
    if words := words_of(row.limits):
        after = {str(int(word) + 1) for word in words if word.isdigit()}
        return words, [f"{words[0]}x", f"x{words[-1]}", ",".join(words), *(after - set(words))]
    if both := re.fullmatch(r"(\d+) (?:to|到) (\d+)", row.limits):
        lowest, highest = int(both[1]), int(both[2])
        return [str(lowest), str(highest)], [str(lowest - 1), str(highest + 1), f"{highest}.0"]
    if lengths := re.fullmatch(r"(\d+ (?:to|到) |at most |最多 |)(\d+) (\D+)", row.limits):
        least, highest = re.match(r"\d+", lengths[1]), int(lengths[2])
        lowest = int(least[0]) if least else 1 if lengths[1] else highest
        value = next(make for units, make in OF_LENGTH.items() if lengths[3] in units)
        return [value(lowest), value(highest)], [value(length) for length in (lowest - 1, highest + 1) if length]
    return next(both for texts, both in SAID.items() if row.limits in texts)


def words_of(limits: str) -> list[str]:
    return limits.split(", ") if re.fullmatch(r"\w+(, \w+)+", limits) else []


def array(name: str) -> list[str]:
    """The items of an array of lib/settings.sh."""
    text = re.findall(rf"^readonly {name}=\((.*?)\)", text_of("lib/settings.sh"), re.MULTILINE | re.DOTALL)[0]
    return re.findall(r"'([^']+)'", text) or text.split()


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


def is_refused(one: Try, said: Sequence[str]) -> bool:
    """By its own limits: messages about other settings are left out."""
    name = one.setting.partition("=")[0]
    return any(re.match(rf"{name}[=:]", problem) for problem in said)


# Reads lines of NAME=VALUE with tabs between them, prints what the real checks say of each line. The account has both
# buckets, a quota of 6 vCPUs, and a VPC for each figure in a subnet's id. What takes its time is left out if it is
# about settings that are not in the line: patterns, and all for which jq is needed.
CHECKS = r"""
source deploy.sh
start_run
aws_or_error() {
  case "$1 $2" in
    "s3api get-bucket-location") printf '{"LocationConstraint": "%s"}' "$REGION" ;;
    "s3api get-bucket-notification-configuration") printf '{}' ;;
    "s3api list-directory-buckets") printf '{"Buckets": [{"Name": "%s"}]}' "$DST_BUCKET" ;;
    "service-quotas get-service-quota") printf '{"Quota": {"Value": %s}}' "${QUOTA:-6}" ;;
  esac
}
ask_subnets() {
  jq -n --arg ids "${SUBNETS:-subnet-1}" '{Subnets: [$ids | split(",")[]
    | {SubnetId: ., VpcId: ("vpc-" + .[7:8]), MapPublicIpOnLaunch: true, AvailabilityZoneId: "euw1-az1"}]}'
}
has() { [[ " $names " == *" $1 "* ]]; }
eval "really_$(declare -f check_pattern)"
check_pattern() { ! has "$1" || really_check_pattern "$@"; }
check_line() {
  local one names=""
  for one in "$@"; do
    printf -v "${one%%=*}" %s "${one#*=}"
    names+=" ${one%%=*}"
  done
  rm -f "$TEMP_DIR"/facts/* # what was learned of another line
  set_account 123456789012
  has PREFIX_FILTER || check_prefix() { :; }
  has EXCLUDE || check_exclude() { :; }
  check_before_calls
  check_settings
  if has REGION || has DST_BUCKET; then check_destination_bucket; fi
  if has EVENT_SOURCE || has SRC_BUCKET_OWNER; then check_source_bucket; fi
  if has MAX_WORKERS; then check_quota; fi
  if has SUBNETS; then check_network; fi
  ((${#PROBLEMS[@]} == 0)) || printf '%s\t' "${PROBLEMS[@]//$'\t'/ }"
  printf '\n'
}
while IFS=$'\t' read -ra given; do (check_line "${given[@]}" 2>/dev/null); done
"""


@cache
def problems_of(text: str) -> str:
    command = ["bash", "-c", CHECKS]
    done = subprocess.run(command, cwd=ROOT, env=BARE, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def problems(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """Of each line of settings."""
    answers = problems_of("".join("\t".join(line) + "\n" for line in lines))
    return [answer.rstrip("\t").split("\t") if answer else [] for answer in answers.splitlines()]


# Limits between settings, and who has which


@both_languages
def test_of_settings_together_the_checks_refuse_and_take_what_the_page_says(page: str) -> None:
    pairs = re.findall(r"^\| [^|]* \| `([^`]+=[^`]+)` \| `([^`]+=[^`]+)` \|$", prose(page), re.MULTILINE)
    assert len(pairs) >= 10
    refused, taken = (problems([pair[column].split() for pair in pairs]) for column in (0, 1))
    assert [pair for pair, said in zip(pairs, refused, strict=True) if len(said) != 1] == []
    assert [said for said in taken if said] == []


@pytest.mark.fast
@both_languages
def test_the_table_of_who_has_which_setting_is_right(page: str) -> None:
    cells = re.findall(r"^\| (`[A-Z_0-9]+`(?:, `[A-Z_0-9]+`)+) \|", prose(page), re.MULTILINE)
    workers, tasks, starters = ([name.strip("`") for name in cell.split(", ")] for cell in cells)
    of_task = {"TASK_MEMORY"}  # which the worker also gets
    assert sorted(workers) == sorted(worker_settings().keys() - of_task)
    assert sorted(starters) == sorted((STARTER_NUMBERS.keys() | STARTER_TEXTS.keys()) & script_settings().keys())
    files = text_of("lib/resources/task_definition.sh"), text_of("lib/resources/image.sh")
    used = {name for text in files for name in re.findall(r"\$\{?([A-Z_]+)", text)} & script_settings().keys()
    assert sorted(tasks) == sorted(used - set(workers) - {"APP_NAME"})


# What they cost


def cpu_ms(worker: str) -> float:
    """Of an object, as measured: the last figure but one of its row."""
    (row,) = (line for line in text_of("docs/performance.md").splitlines() if line.startswith(f"| {worker} |"))
    return float(row.split("|")[-3])


@pytest.mark.fast
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
