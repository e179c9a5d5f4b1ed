"""What the README says, in both languages, held against the scripts, and its commands run on the local cloud."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cost
import modes_cost
import pytest
from account import CREDENTIALS, answers, free_port, python_with, running, running_cli, wait_for

from mirror.settings import NUMBER_SETTINGS, TEXT_SETTINGS

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = "README.md", "README.zh-CN.md"
NOT_COPIED = shutil.ignore_patterns(".git", ".venv*", ".local", ".cache", "*_cache", "__pycache__", ".hypothesis")

# Settings of deploy.sh that are for its tests and its own options.
NOT_FOR_USERS = {"RETRY_PAUSE", "RETRY_LIMIT", "DRY_RUN"}

# Commands that are not run here, and where they are.
NOT_RUN = {
    "aws configure": "asks questions",
    "docker buildx version": "test_deploy.py: a machine without Docker is told so",
    "./deploy.sh --local --once": "test_chain.py",
    "tests/run": "this is it",
    "tests/fast": "this has all that it has",
    "tests/bench/run": "test_bench.py",
}
CLEAN_UP = ("./cleanup.sh --dry-run", 'aws s3 rb "s3://$SRC_BUCKET" --force')  # the blocks that have to be the last
REPLACED = {
    r"\bcount=6144\b": "count=12",  # with MULTIPART_THRESHOLD=8 MiB below
    r"^\./cleanup\.sh$": "./cleanup.sh --yes",  # there is nobody to ask
}
EXPECTED = (
    'synced key="test.txt" action=copied',
    "Uploading 3 parts in parallel (max 256 concurrent)...",
    '"ENABLED"',
    '"visible"',  # the starter's answer
    "An error occurred (404) when calling the HeadObject operation: Not Found",
    "role s3-to-s3express-sync-exec-role: removed",
    "remove_bucket: your-standard-bucket",
)
ONE_IS_FINE = (
    "./sync.sh reconcile --dry-run",
    "./sync.sh status",
    "| grep ",
)  # their exit status tells what they found

PRELUDE = """
set -euo pipefail
export IMAGE_URI="${AWS_ENDPOINT_URL#http://}/worker.py:process" TASK_ARCH=X86_64 RETRY_PAUSE=1 FOLLOW_PAUSE=1
export MULTIPART_THRESHOLD=8388608 PART_SIZE=5242880 WAIT_TIME_SECONDS=1 CHANGEOVER_SECONDS=1
export COPY_TIMEOUT=60 VISIBILITY_EXTEND_INTERVAL=15
set -x
"""


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def blocks(name: str) -> list[list[str]]:
    """The bash blocks as lists of commands, without comments; a command that goes on in the next line is one."""
    found = re.findall(r"^```bash\n(.*?)^```$", text_of(name), re.MULTILINE | re.DOTALL)
    joined = [re.sub(r"\\\n *", "", block) for block in found]
    without_comments = [re.sub(r"(^|   *)#.*$", "", block, flags=re.MULTILINE) for block in joined]
    return [[line.rstrip() for line in block.splitlines() if line.strip()] for block in without_comments]


def prose(name: str) -> str:
    return re.sub(r"^```.*?^```$", "", text_of(name), flags=re.MULTILINE | re.DOTALL)


def settings_table(name: str) -> dict[str, str]:
    """setting -> default of the rows whose first cell is one name in capitals."""
    rows = re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \| ([^|]*) \|", prose(name), re.MULTILINE)
    return {setting: re.sub(r"\(empty\)|\W空\W", "", default) for setting, default in rows}


def script_settings() -> dict[str, str]:
    """setting -> default of deploy.sh."""
    return dict(re.findall(r'^: "\$\{([A-Z_]+):=(.*?)\}"', text_of("deploy.sh"), re.MULTILINE))


def worker_settings() -> dict[str, str]:
    texts = {name: default or "" for name, (default, *_) in TEXT_SETTINGS.items()}
    return texts | {name: str(default or "") for name, (default, *_) in NUMBER_SETTINGS.items()}  # 0: as if empty


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def shape(name: str) -> list[str]:
    """The kinds of the page's lines in their order, and of table rows the number of cells."""
    found = []
    for line in prose(name).splitlines():
        if heading := re.match(r"(#+) ", line):
            found.append(heading[1])
        elif line.startswith("|"):
            found.append(f"row of {line.count('|') - 1}")
        elif item := re.match(r"(\d+\.|-) ", line):
            found.append(item[1])
    return found


def numbers(name: str) -> set[str]:
    """Figures of two digits and more; small ones are words in one of the languages."""
    without_links = re.sub(r"\]\([^)]*\)", "", prose(name))
    return set(re.findall(r"\d[\d,.]*\d", without_links))


def test_both_languages_give_the_same_commands() -> None:
    assert blocks(ENGLISH) == blocks(CHINESE)
    assert len(blocks(ENGLISH)) > 15


def test_both_languages_have_the_same_sections_lists_and_tables() -> None:
    assert shape(ENGLISH) == shape(CHINESE)


def test_both_languages_give_the_same_figures() -> None:
    assert numbers(ENGLISH) ^ numbers(CHINESE) == set()


def test_each_language_links_to_the_other() -> None:
    assert f"]({CHINESE})" in text_of(ENGLISH)
    assert f"]({ENGLISH})" in text_of(CHINESE)


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_the_settings_tables_give_all_settings_with_the_defaults_of_the_scripts(name: str) -> None:
    wanted = {setting: default for setting, default in script_settings().items() if setting not in NOT_FOR_USERS}
    given_to_the_worker = worker_settings()
    del given_to_the_worker["QUEUE_URL"]  # deploy.sh finds it out
    for setting, default in given_to_the_worker.items():
        wanted[setting] = wanted.get(setting) or default
    assert settings_table(name) == wanted


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_every_link_leads_to_a_file_or_a_section_that_is_there(name: str) -> None:
    links = re.findall(r"\]\((?!https://)([^)]*)\)", text_of(name))
    assert len(links) > 4
    assert [link for link in links if not leads_somewhere(name, link)] == []


def leads_somewhere(name: str, link: str) -> bool:
    """`link`: a file, "#section" of the same file, or both."""
    file, _, section = link.partition("#")
    file = file or name
    if not (ROOT / file).is_file():
        return False
    return not section or section in {anchor(h) for h in re.findall(r"^#+ (.*)$", prose(file), re.MULTILINE)}


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_the_log_lines_are_those_that_the_worker_writes(name: str) -> None:
    progress = re.findall(r"^(?:Using|Uploading|Progress).*$", text_of(name), re.MULTILINE)
    troubles = re.split(r"^## (?:Troubleshooting|故障排除)$(?s:(.*?))^###? ", prose(name), flags=re.MULTILINE)[1]
    shown = [*progress, *re.findall(r"^\| `([^`]*)` ", troubles, re.MULTILINE)]
    assert len(shown) > 10
    # Compared is what does not differ from key to key; error codes are those of S3.
    pieces = [piece.strip() for line in shown for piece in re.split(r"\.\.\.(?= |$)|\w+=\S*", line) if piece.strip()]
    files = sorted((ROOT / "mirror").rglob("*.py"))
    written = re.sub(r"%[sd]|%%", "", "".join(file.read_text() for file in files))
    assert [piece for piece in pieces if re.sub(r"(?<!^)\b\d+|%", "", piece) not in written] == []


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_every_option_of_a_script_is_in_its_help(name: str) -> None:
    commands = [line for block in blocks(name) for line in block] + re.findall(r"`([^`]+)`", prose(name))
    used = {
        (script, verb, option)
        for command in commands
        for script, verb, rest in re.findall(r"(\./\w+\.sh)((?: (?!--)[a-z]+)?)([^|;]*)", command)
        for option in re.findall(r"--[a-z-]+", rest)
        if option != "--local" or not verb
    }
    assert len(used) > 7
    unknown = [
        (script, verb, option)
        for script, verb, option in sorted(used)
        if option not in help_of(script, verb.split()[0] if verb and script == "./sync.sh" else None)
    ]
    assert unknown == []


def help_of(script: str, verb: str | None) -> str:
    command = [script, *filter(None, [verb]), "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_cost_table_is_the_one_that_is_computed() -> None:
    assert cost.table() in text_of(ENGLISH)
    assert cost.PRICES_OF in text_of(ENGLISH)
    assert f"{cost.worker_hour():.4f}" in text_of(ENGLISH)


def test_the_cost_table_of_the_modes_and_of_a_burst_are_those_that_are_computed() -> None:
    assert modes_cost.table_of_modes() in text_of(ENGLISH)
    paragraph = next(part for part in text_of(ENGLISH).split("\n\n") if part.startswith("A burst of 100,000 files"))
    computed = set(re.findall(r"[\d.,]*\d", modes_cost.line_of_burst()))
    assert computed <= set(re.findall(r"[\d.,]*\d", paragraph))


def test_the_picture_is_drawn_from_its_source() -> None:
    labels = re.findall(r'label="([^"]*)"', text_of("docs/architecture.dot"))
    words = [word for label in labels for word in re.split(r"\\[nl]| {2,}", label) if word.strip()]
    drawn = " ".join(re.findall(r">([^<]+)</text>", text_of("docs/architecture.svg"))).replace("&#45;", "-")
    drawn = re.sub(r"&#160;|\xa0", " ", drawn)
    assert [word for word in words if word.strip() not in drawn] == []


def cli_with_logs_tail() -> Path:
    """The AWS CLI of version 2, which tests/run installs."""
    return Path(os.environ.get("AWS_CLI_V2") or "/usr/bin/aws")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment for commands in a local cloud in which nothing is yet, and a worker is a process."""
    python = python_with("ministack", ROOT / "local/requirements.txt")
    port, log = free_port(), tmp_path / "cloud.log"
    settings = {
        "GATEWAY_PORT": str(port),
        "LOCAL_TICK": "3",
        "LOCAL_WORKER": str(ROOT / "worker.py"),
        "COPY_MAX": str(8 * 1024**2),
        "TMPDIR": str(tmp_path),
        "AUTH": "true",
    }
    url = f"http://127.0.0.1:{port}"
    own = ("AWS_", "REGION", "SRC_", "DST_", "APP_NAME")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    with (
        running_cli(cli_with_logs_tail(), tmp_path) as tools,
        running([python, str(ROOT / "local/cloud.py")], log, **settings) as process,
    ):
        wait_for(lambda: answers(f"{url}/_ministack/health"), process, log)
        yield kept | CREDENTIALS | {"AWS_ENDPOINT_URL": url, "PATH": f"{tools}:{os.environ['PATH']}", "AWS_PAGER": ""}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    copy = tmp_path / "the project"
    shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
    return copy


def runnable(command: str) -> str:
    """The command as it is run here."""
    for start, reason in NOT_RUN.items():
        if command.startswith(start):
            return f": not run: {reason}"
    for pattern, new in REPLACED.items():
        command = re.sub(pattern, new, command)
    return f"{command} || test $? -eq 1" if any(part in command for part in ONE_IS_FINE) else command


def test_the_commands_run_from_top_to_bottom_on_the_local_cloud(
    cloud: dict[str, str], project: Path, tmp_path: Path
) -> None:
    found = blocks(ENGLISH)
    last = [block for block in found if block[0] in CLEAN_UP]
    assert len(last) == len(CLEAN_UP)
    in_order = [block for block in found if block not in last] + last
    script = PRELUDE + "\n".join(runnable(command) for block in in_order for command in block)
    log = tmp_path / "output"
    with log.open("w") as output:
        status = subprocess.run(
            ["bash", "-c", script], cwd=project, env=cloud, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ).returncode
    text = log.read_text()
    assert status == 0, text[-4000:]
    assert [line for line in EXPECTED if line not in text] == [], text[-4000:]
