"""How the commands of the pages are run on a local cloud: in which order, which are changed, which left out."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from pages import PAGES, blocks

# Commands that are not run here, as patterns of how they begin, and where they are tested (a file of tests/), or why
# they are not.
DEPLOYED = "APP_NAME=|KEEP_DAYS=7 |EVENT_SOURCE=eventbridge STARTER_COPIES="
NOT_RUN = {
    "aws configure": "asks questions",
    "./sync.sh cost --estimate$": "docs/test_estimate.py",  # asks questions, too
    "./sync.sh cost --reads": "scripts/test_reads.py",  # no local cloud has request metrics
    "./deploy.sh --local --once": "chain/test_chain.py",
    r"\./sync\.sh verify": "scripts/test_workflows.py",
    # What nothing below looks at. That deploy.sh takes these settings, docs/test_pages.py shows.
    rf"(?!{DEPLOYED})[A-Z_]+=.*\./deploy\.sh": "scripts/test_generated.py",
    "tests/run": "this is it",
    "tests/fast": "this has all that it has",
    "tests/bench/run": "bench/test_benches.py",
}
# Pages repeat these: a text is run where it stands first.
REPEATED = re.compile(r"\./(deploy\.sh|sync\.sh (explain|reconcile|status|verify))\b")
REPLACED = {
    r"\bcount=6144\b": "count=12",  # with MULTIPART_THRESHOLD=8 MiB below
    r"^\./cleanup\.sh$": "./cleanup.sh --yes",  # there is nobody to ask
    r"\bsleep 5\b": "sleep 0.5",
}
# Their exit status says what they found.
ONE_IS_FINE = ("./sync.sh reconcile --dry-run", "./sync.sh status", "./sync.sh wait ", "| grep ")

# The blocks that have to be the last, by their first command, in this order.
CLEAN_UP = ("./cleanup.sh --dry-run", 'aws s3 rb "s3://$SRC_BUCKET" --force')

# What they write, at least.
EXPECTED = (
    "log group /ecs/s3-to-s3express-sync-task: created",
    "role s3-to-s3express-sync-exec-role: removed",
    "remove_bucket: your-standard-bucket",
    "0.0409 USD an hour",
    "vCPU hours of workers, Spot",
    "the dead-letter queue is empty",
    'synced key="test.txt" action=copied',
    "Uploading 3 parts in parallel (max 256 concurrent)...",
    "An error occurred (404) when calling the HeadObject operation: Not Found",
    "bucket lifecycle your-express-bucket--euw1-az1--x-s3: changed (rules of KEEP_DAYS)",
    "event switch your-standard-bucket: created",
    "queue sync-second-zone-q: removed",
    '"ENABLED"',  # the rule
    '"visible"',  # the starter's answer
    "waited end=empty status=1",  # nobody has uploaded a data set
)

# The pages that are run first, in this order, after README.md's blocks down to the deployment; any other comes after.
FIRST = ("README.md", "docs/operations.md", "docs/troubleshooting.md", "docs/recipes.md", "docs/settings.md")

PRELUDE = """\
set -euo pipefail
export TASK_ARCH=X86_64 RETRY_PAUSE=1 FOLLOW_PAUSE=3
export MULTIPART_THRESHOLD=8388608 PART_SIZE=5242880 WAIT_TIME_SECONDS=1 CHANGEOVER_SECONDS=1
export COPY_TIMEOUT=60 VISIBILITY_EXTEND_INTERVAL=15
PS4='+ $LINENO: '
set -x
"""


class Command(NamedTuple):
    """A command as it stands on a page."""

    page: str
    line: int
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


class Script(NamedTuple):
    """A Bash script, and which of its lines is which command."""

    text: str
    commands: dict[int, Command]


def commands_of(page: str) -> list[list[Command]]:
    """Block by block."""
    return [
        [Command(page, line, text) for line, text in zip(block.lines, block.commands, strict=True)]
        for block in blocks(page)
    ]


def all_commands() -> list[Command]:
    return [command for page in PAGES for block in commands_of(page) for command in block]


@functools.cache
def tour() -> list[Command]:
    """The commands of all pages in the order of the run."""
    start, rest = begin_of_readme()
    pages = [*FIRST, *(page for page in PAGES if page not in FIRST)]
    found = [block for page in pages for block in (rest if page == "README.md" else commands_of(page))]
    last = [block for first in CLEAN_UP for block in found if block[0].text == first]
    return [command for block in [*start, *(block for block in found if block not in last), *last] for command in block]


def begin_of_readme() -> tuple[list[list[Command]], list[list[Command]]]:
    """The blocks of README.md down to the deployment, and those after it."""
    found = commands_of("README.md")
    deploys = next(place for place, block in enumerate(found) if any(c.text == "./deploy.sh" for c in block))
    return found[: deploys + 1], found[deploys + 1 :]


def script_of(commands: list[Command]) -> Script:
    text, known = PRELUDE, {}
    for command in commands:
        first = text.count("\n") + 1
        text += as_run(command) + "\n"
        known |= dict.fromkeys(range(first, text.count("\n") + 1), command)
    return Script(text, known)


def reason_not_to_run(command: Command) -> str | None:
    if REPEATED.match(command.text):
        first = next((other for other in tour() if other.text == command.text), command)
        if first != command:
            return f"as {first.place}"
    return next((reason for start, reason in NOT_RUN.items() if re.match(start, command.text)), None)


def as_run(command: Command) -> str:
    if reason := reason_not_to_run(command):
        return f": not run: {reason}"
    text = command.text
    for pattern, new in REPLACED.items():
        text = re.sub(pattern, new, text)
    return f"{text} || test $? -eq 1" if any(part in text for part in ONE_IS_FINE) else text


def place_of(script: Script, output: str) -> str:
    """Where the command stands that was run last."""
    traced = re.findall(r"^\++ (\d+): ", output, re.MULTILINE)
    return next((script.commands[int(n)].place for n in reversed(traced) if int(n) in script.commands), "before any")
