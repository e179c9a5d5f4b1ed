"""What the scripts refuse before they call AWS, and that everybody reads the same table of settings."""

import re
import subprocess
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from account import PROJECT

from launch.settings import load_settings as load_starter
from mirror.model.checks import TABLE as ROWS
from mirror.model.checks import Setting
from mirror.settings import load_settings as load_worker
from mirror.version import VERSION

SETTINGS = {"REGION": "us-east-1", "SRC_BUCKET": "their-source", "DST_BUCKET": "mirror--use1-az4--x-s3"}
SCRIPTS = (("deploy.sh",), ("cleanup.sh", "--yes"), ("sync.sh", "status"), ("sync.sh", "redrive"))
TABLE = {setting.name: setting for setting in ROWS}
OURS = "ghcr.io/their-name/s3-to-s3express-sync"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234-ab"
NO_AWS = '#!/bin/sh\necho "$@" >>"$0.calls"\nexit 255\n'


def environment(**settings: str) -> dict[str, str]:
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", **SETTINGS, **settings}


def bash(script: str, entry: str | Path = "deploy.sh", **settings: str) -> str:
    """What functions of a script print."""
    command = ["bash", "-c", f'source "{PROJECT / entry}"; start_run; set_account 123456789012; {script}']
    done = subprocess.run(command, env=environment(**settings), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(folder: Path, *command: str, **settings: str) -> tuple[int, str, str]:
    """(exit status, stderr, calls of the AWS CLI) of a script, whose AWS CLI notes its calls and fails."""
    tool, calls = folder / "aws", folder / "aws.calls"
    tool.write_text(NO_AWS)
    tool.chmod(0o755)
    calls.write_text("")
    given = environment(**settings) | {"PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin"}
    done = subprocess.run([PROJECT / command[0], *command[1:]], env=given, capture_output=True, text=True)
    return done.returncode, done.stderr, calls.read_text()


def problems(folder: Path, **settings: str) -> list[str]:
    """What ./deploy.sh refuses of settings; that there is no AWS is another problem."""
    status, errors, _ = run(folder, "deploy.sh", **settings)
    assert status == 2, errors
    found = [" ".join(problem.split()) for problem in errors.split("\n- ")[1:]]
    return [problem for problem in found if re.match("[A-Z0-9_]+[=,: ]", problem) and not problem.startswith("AWS ")]


@pytest.mark.parametrize("script", SCRIPTS, ids=" ".join)
def test_what_decides_on_writes_and_on_the_aws_that_is_called_is_checked_before_the_first_call(
    script: tuple[str, ...], tmp_path: Path
) -> None:
    """All scripts have one check of it, so the others show that they make it."""
    values = ["1", "yes", "TRUE", "truefalse", " true"]
    rows = [("DRY_RUN", value, f"DRY_RUN={value}: set true or false") for value in values]
    rows += [("CREATE_VPC_ENDPOINTS", "1", "CREATE_VPC_ENDPOINTS=1: set true or false")]
    regions = ["cn-north-1", "us-gov-west-1", "us-iso-east-1", "us-isob-east-1", "eusc-de-east-1"]
    rows += [("REGION", region, f"REGION={region}: S3 Express One Zone exists only in") for region in regions]
    for name, value, said in rows if script == ("deploy.sh",) else [rows[0], rows[-1]]:
        status, errors, calls = run(tmp_path, *script, **{name: value})
        assert (status, calls, said in errors) == (2, "", True), errors


NO_DRY_RUN = "--local has no dry run: leave out --dry-run, and unset DRY_RUN or set it to false"
WITHOUT_DRY_RUN = {
    ("sync.sh", "verify", "--yes"): "verify: it puts and removes objects of its own; set DRY_RUN=false",
    ("sync.sh", "pause"): "pause: it stops workers and has no dry run; set DRY_RUN=false",
    ("sync.sh", "resume"): "resume: it lets workers start and has no dry run; set DRY_RUN=false",
    ("deploy.sh", "--local"): NO_DRY_RUN,
    ("cleanup.sh", "--local"): NO_DRY_RUN,
}


def test_what_has_no_dry_run_is_refused_in_one(tmp_path: Path) -> None:
    for command, said in WITHOUT_DRY_RUN.items():
        status, errors, calls = run(tmp_path, *command, DRY_RUN="true")
        assert (status, calls, said in errors) == (2, "", True), errors


@pytest.mark.parametrize("script", SCRIPTS, ids=" ".join)
def test_a_control_character_is_refused_by_name_and_shown_escaped(script: tuple[str, ...], tmp_path: Path) -> None:
    """In each setting of ./deploy.sh; the others look at what they go by. Nothing shows a password of builds."""
    signs = [sign for sign in map(chr, range(1, 0x10000)) if unicodedata.category(sign) in {"Cc", "Zl", "Zp"}]
    names = set(TABLE) if script == ("deploy.sh",) else {"REGION", "SRC_BUCKET", "DST_BUCKET", "APP_NAME"}
    for locale, first in (("C.UTF-8", 0), ("C", 0), ("C", -len(names))):
        values = {name: f"a{sign}b=\u6a21[2J" for name, sign in zip(sorted(names), signs[first:], strict=False)}
        status, errors, calls = run(tmp_path, *script, LC_ALL=locale, **values)
        assert (status, calls) == (2, ""), errors
        said = set(re.findall(r"^- (\w+)(?:=\S+)? has a control character, such as a newline", errors, re.MULTILINE))
        assert said == names
        assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", errors) == []
        assert "- DOCKER_BUILD_FLAGS=" not in errors
    settings = dict.fromkeys(set(TABLE) - names - {"DRY_RUN"}, "") | {"TAGS": "a=b\nc=d"}
    _, errors, calls = run(tmp_path, *script, **settings)
    assert (calls != "") == (script != ("deploy.sh",)), errors


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.fast
def test_the_table_has_what_deploy_sh_is_shipped_with() -> None:
    block = dict(re.findall(r'^: "\$\{([A-Z_0-9]+):=([^}]*)\}"', (PROJECT / "deploy.sh").read_text(), re.MULTILINE))
    lines = (PROJECT / "mirror/model/settings.table").read_text().splitlines()
    rows = [line.split(" ", 4) for line in lines if not line.startswith("#")]
    assert {name: "" if default[0] in "-(" else default for name, _, _, default, _ in rows} == block
    assert {setting.kept for setting in TABLE.values()} == {"deployment", "release", "target", "run"}
    never = {name for name, setting in TABLE.items() if setting.kept in ("target", "run")}
    assert never == {"REGION", "APP_NAME", "DOCKER_BUILD_FLAGS", "DRY_RUN", "RETRY_PAUSE", "RETRY_LIMIT"}


REQUIRED = {"QUEUE_URL": "https://queue", "CLUSTER": "c", "TASK_DEFINITION": "t", "SUBNETS": "subnet-1"}


@pytest.mark.fast
def test_readers_go_by_the_defaults_of_the_table() -> None:
    given = SETTINGS | REQUIRED
    worker, starter = vars(load_worker(given)), load_starter(given)
    for name, setting in TABLE.items():
        if name not in given and setting.reader in ("worker", "both") and name != "TASK_MEMORY":
            assert str(worker[name.lower()]) == setting.default
        if name not in given and setting.reader in ("starter", "both"):
            assert str(starter[name]) == setting.default


def candidates(setting: Setting) -> Iterator[tuple[str, bool]]:
    """Values at the limits and just outside, each with whether deploy.sh takes it."""
    if both := re.fullmatch(r"(?:\d+/)?(\d+)\.\.(\d+)", setting.values):
        lowest, highest = int(both[1]), int(both[2])
        yield from ((str(number), True) for number in (lowest, highest))
        yield from ((text, False) for text in (str(lowest - 1), str(highest + 1), f"{highest}.0", "-1", "01x"))
    elif re.fullmatch(r"\w+(\|\w+)+", setting.values):
        words = setting.values.split("|")
        yield from ((word, True) for word in (*words[:2], words[-1]))
        yield from (
            (text, False) for text in (f"{words[0]}x", f"x{words[-1]}", ",".join(words), f"{words[0].swapcase()}_")
        )


def rounds(rows: Iterable[tuple[str, str]]) -> Iterator[dict[str, str]]:
    """As few runs as there are values of one setting."""
    left = list(rows)
    while left:
        this = dict(reversed(left))
        left = [row for row in left if this[row[0]] != row[1]]
        yield this


def test_deploy_takes_what_is_within_the_limits_of_the_table_and_nothing_just_outside(tmp_path: Path) -> None:
    """The readers go by the same limits, but for some that take 0."""
    asked = {
        (name, value): taken for name, row in TABLE.items() for value, taken in candidates(row) if name != "DRY_RUN"
    }
    switches = {(name, value) for name, value in asked if TABLE[name].values == "true|false"}
    assert len(asked) > 150
    wrong = []
    for part in (switches, asked.keys() - switches):  # the switches end a run before the others are looked at
        for settings in rounds(sorted(part)):
            found = problems(tmp_path, **settings)
            for name, value in settings.items():
                said = any(re.match(f"{name}={value}: set (?!at least)", problem) for problem in found)
                wrong += [(name, value, found)] if said == asked[name, value] else []
    assert wrong == []
    for (name, value), taken in asked.items():
        is_also = TABLE[name].values.startswith("0/") and value in ("0", "511")
        if TABLE[name].reader != "deploy":
            assert (not TABLE[name].problem(value)) == (taken or is_also), (name, value)


# Setting, value, part of the message. What is allowed stands beside what is not.
REFUSED = (
    ("SRC_BUCKET", "Their_Source", "set the name of a standard bucket"),
    ("APP_NAME", "mirror-", "does not end in a hyphen"),
    ("APP_NAME", "sg-mirror", "does not begin with sg-"),
    ("APP_NAME", "a" * 51, "2 to 50"),
    ("PREFIX_FILTER", "a" * 1025, "it has 1025 characters in the encoded form"),
    ("PREFIX_FILTER", "a$/", "wildcards"),
    ("COPY_LAST", "x" * 501, "at most 500 characters"),
    ("SRC_KMS_KEY_ARN", f"{KEY},alias/aws/s3", "alias/aws/s3 is not the ARN of a KMS key"),
    ("SRC_KMS_KEY_ARN", KEY.replace("us-east-1", "eu-west-1"), "in REGION=us-east-1"),
    ("SRC_KMS_KEY_ARN", ",".join([KEY] * 51), "at most 50 keys"),
    ("DST_KMS_KEY_ARN", KEY.replace("key/", "alias/"), "is not the ARN of a KMS key"),
    ("DST_KMS_KEY_ARN", f"{KEY},{KEY}2", "at most 1 key, because a directory bucket keeps one for its whole life"),
    ("TAGS", "team", '"team" is not a tag: write KEY=VALUE'),
    ("TAGS", "team=m&l", "team=m&l is not a tag: a key has up to 128"),
    ("TAGS", f"{'k' * 129}=v", "is not a tag"),
    ("TAGS", "AWS:team=ml", "AWS:team=ml: keys and values that begin with aws: are reserved"),
    ("TAGS", "team=ml,Version=2", "the tag Version is set by deploy.sh itself"),
    ("TAGS", "team=ml,Team=ai", "team and Team are the same tag for IAM"),
    ("TAGS", ",".join(f"k{number}=v" for number in range(48)), "most 47 tags, because a resource can have"),
    ("ROLE_PATH", "ml", "begins and ends with a slash"),
    ("ROLE_PATH", f"/{'a' * 511}/", "at most 512"),
    ("ROLE_BOUNDARY_ARN", "arn:aws:iam::123456789012:role/a", "the ARN of an IAM policy"),
    ("ALARM_EMAIL", "you@example.com,me@example.com", "a mail address"),
    ("ALARM_EMAIL", "ops@localhost", "a mail address"),
    ("ANNOUNCE", "none,all", "none, markers, all or failures, or"),
    ("SRC_BUCKET_OWNER", "1" * 13, "the 12 digits of an AWS account"),
    ("DST_BUCKET_OWNER", "1" * 11, "the 12 digits of an AWS account"),
    ("BASE_IMAGE", "python:3.13@sha256:12", "the name of an image with Python 3.13"),
    ("IMAGE_URI", "worker:1 ", "the name of an image"),
    ("IMAGE_URI", "--help", "the name of an image"),  # an option of docker
    ("IMAGE_URI", f"{OURS}:1.2.0", f"is the image of 1.2.0, but this checkout is {VERSION}: check out v1.2.0,"),
    ("IMAGE_URI", f"{OURS}:1.2.0@sha256:{'a' * 64}", "is the image of 1.2.0"),
    ("IMAGE_URI", f"s3-to-s3express-sync:1.2.0@sha256:{'a' * 64}", "is the image of 1.2.0"),
    ("IMAGE_URI", f"{OURS.replace('their', 'Their')}:7", "write the path in lower case"),
    ("ECR_REGISTRY", "host/path", "the host of a registry"),
    ("RETRY_PAUSE", "5s", "set seconds"),
)
ALLOWED = (
    ("APP_NAME", "a--b"),
    ("APP_NAME", "a" * 50),
    ("COPY_LAST", "x" * 500),
    ("SRC_KMS_KEY_ARN", f"{KEY}, {KEY}2"),
    ("TAGS", " Cost Center = 4 2 , \u6a21=\u00e9=+-@_.:/,empty="),
    ("TAGS", f"{'k' * 128}={'v' * 256}"),
    ("TAGS", ",".join(f"k{number}=v" for number in range(47))),
    ("ROLE_PATH", "/"),
    ("ROLE_PATH", f"/{'a' * 510}/"),
    ("ROLE_BOUNDARY_ARN", "arn:aws:iam::aws:policy/ReadOnlyAccess"),
    ("ALARM_EMAIL", "first.last+sync@mail.example.com"),
    ("ANNOUNCE", "all,failures"),
    ("BASE_IMAGE", f"mirror.example:5000/python:3.13@sha256:{'a' * 64}"),
    ("IMAGE_URI", "123456789012.dkr.ecr.us-east-1.amazonaws.com/a/b@sha256:" + "0" * 64),
    ("IMAGE_URI", f"{OURS}:{VERSION}"),
    ("IMAGE_URI", f"{OURS}:7"),  # their own numbers
    ("ECR_REGISTRY", "127.0.0.1:4566"),
    ("RETRY_PAUSE", "0.05"),
)


def test_what_aws_would_refuse_half_way_is_refused_before_and_what_it_takes_is_taken(tmp_path: Path) -> None:
    messages = {(name, value): message for name, value, message in REFUSED}
    for settings in rounds(messages):
        found = problems(tmp_path, **settings)
        for name, value in settings.items():
            (said,) = [one for one in found if re.match(f"{name}[=:]", one)]
            assert messages[name, value] in said, (name, value)
    for settings in rounds(ALLOWED):
        assert problems(tmp_path, **settings) == []


# vCPU units -> memory that is between two sizes, and the sizes that its refusal names, in MiB (Amazon ECS Developer
# Guide, "Task size").
FARGATE = {
    "256": ("1000", "512 to 1024 in steps of 512 2048 to 2048 in steps of 1"),
    "512": ("1536", "1024 to 4096 in steps of 1024"),
    "1024": ("2560", "2048 to 8192 in steps of 1024"),
    "2048": ("4608", "4096 to 16384 in steps of 1024"),
    "4096": ("8704", "8192 to 30720 in steps of 1024"),
    "8192": ("17408", "16384 to 61440 in steps of 4096"),
    "16384": ("36864", "32768 to 122880 in steps of 8192"),
    "32768": ("65536", " ".join(f"{size} to {size} in steps of 1" for size in (61440, 122880, 249856))),
    "768": ("4096", "nothing; TASK_CPU has to be 256, 512, 1024, 2048, 4096, 8192, 16384 or 32768"),
}
COPYING = "or messages come back while their copies are still running"
# Settings, and what is said if they do not go together.
TOGETHER: tuple[tuple[dict[str, str], str], ...] = (
    ({"VISIBILITY_EXTEND_INTERVAL": "300", "VISIBILITY_TIMEOUT": "1199"}, COPYING),
    ({"VISIBILITY_EXTEND_INTERVAL": "300", "VISIBILITY_TIMEOUT": "1200"}, ""),
    ({"COPY_TIMEOUT": "60", "VISIBILITY_EXTEND_INTERVAL": "15", "VISIBILITY_TIMEOUT": "74"}, COPYING),
    ({"COPY_TIMEOUT": "60", "VISIBILITY_EXTEND_INTERVAL": "15", "VISIBILITY_TIMEOUT": "75"}, ""),
    ({"MIN_WORKERS": "3", "MAX_WORKERS": "2"}, "MIN_WORKERS=3 is more than MAX_WORKERS=2: lower the one or raise the"),
    ({"MIN_WORKERS": "2", "MAX_WORKERS": "2"}, ""),
    ({"MIN_WORKERS": "9", "MAX_WORKERS": "ten"}, "MAX_WORKERS=ten: set a whole number"),
    ({"AUDIT_DAYS": "7", "LAMBDA_POLL_RATE": "16"}, "the starter would miss the time of an audit"),
    ({"AUDIT_DAYS": "7", "LAMBDA_POLL_RATE": "15"}, ""),
    ({"AUDIT_DAYS": "", "LAMBDA_POLL_RATE": "60"}, ""),
    ({"AUDIT_DAYS": "30", "LOG_RETENTION_DAYS": "30"}, "the log would not keep what an audit found"),
    ({"AUDIT_DAYS": "29", "LOG_RETENTION_DAYS": "30"}, ""),
    ({"ANNOUNCE": "markers"}, "set COPY_LAST, which says what a marker is"),
    ({"TABLES": "delta", "KEEP_DAYS": "7"}, "because a table needs its files at any age"),
    ({"TABLES": "delta", "EXCLUDE": "*.json"}, "remove *.json, which matches files of a table's log"),
    ({"TABLES": "delta", "EXCLUDE": "*.tmp"}, ""),
    ({"TABLES": "delta", "COPY_LAST": "a/*.json"}, "remove a/*.json, which can match files of a table's log"),
    ({"TABLES": "delta", "COPY_LAST": "a/*.done"}, ""),
    *(
        ({"TASK_CPU": cpu, "TASK_MEMORY": between}, f"for this CPU, set TASK_MEMORY to {sizes}")
        for cpu, (between, sizes) in FARGATE.items()
    ),
    ({"TASK_CPU": "512"}, ""),
    ({"TASK_CPU": "32768", "TASK_MEMORY": "122880"}, ""),
)


def test_settings_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    for settings, message in TOGETHER:
        found = problems(tmp_path, **settings)
        assert len(found) == bool(message), (settings, found)
        assert message in " ".join(found)


@pytest.mark.fast
def test_those_who_read_such_settings_say_the_same() -> None:
    loads = {"worker": load_worker, "starter": load_starter}
    said = dict.fromkeys(loads, 0)
    for settings, message in TOGETHER:
        for reader, load in loads.items():
            own = [TABLE[name] for name in settings if TABLE[name].reader in (reader, "both")]
            if len(own) == len(settings) and not any(one.problem(settings[one.name]) for one in own):
                refusal = ""
                try:
                    load(SETTINGS | REQUIRED | settings)
                except ValueError as error:
                    refusal = str(error)
                assert (bool(refusal), message in refusal) == (bool(message), True), (reader, settings, refusal)
                said[reader] += bool(message)
    assert said == {"worker": 6, "starter": 1}
