"""What a terminal shows of the local cloud as a picture, docs/terminal.svg, from a real run on this machine.

    python tests/docs/terminal_picture.py run >transcript.txt
    python tests/docs/terminal_picture.py draw <transcript.txt docs/terminal.svg

The first runs the commands of SCENES on a terminal of 80 columns in a copy of the project, without Docker, in three
minutes on an idle machine; it needs the AWS CLI, `script`, and what deploy.sh --local needs. The second leaves out what
SCENES does not show, puts CUT in its place, and draws the rest in the colours that were printed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from typing import TextIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))  # the copy that the tests make

from account import APP, copy_checkout

FOREIGN = ("AWS_", "REGION", "SRC_", "DST_", "APP_NAME", "DRY_RUN")  # settings that the run is not to have
NO_ENGINE = "unix:///nonexistent/docker.sock"
COLUMNS = 80
IDLE_SECONDS = 1800  # until all is synced and no worker runs
CUT = "⋮"
SOURCE = "s3://local-source"
MIRROR = "s3://local-destination--use1-az4--x-s3"


@dataclass(frozen=True)
class Scene:
    """A command, and regular expressions of the lines that the picture shows of its output, each once if `once`."""

    command: str
    shown: tuple[str, ...]
    once: bool = True
    then_idle: bool = False  # what it began has ended before the next command


SCENES = (
    Scene(
        "./deploy.sh --local",
        (
            "^local: deployed ",
            "^# sync.sh verify",
            "^all files equal",
            "^The cloud keeps running",
            "^  source .local/env",
            "^  ./sync.sh --local explain",
            "^  ./sync.sh --local status",
        ),
    ),
    Scene(f"source .local/env && aws s3 cp README.md {SOURCE}/", ("^upload: ",), then_idle=True),
    Scene("./sync.sh --local explain README.md", ("^equal$", "^  the destination ", "^log ", "^ +size=", "^to do ")),
    Scene("./sync.sh --local status", (r"^",), once=False),
    Scene("./cleanup.sh --local", ("^local: removed",)),
)

# --- the run ------------------------------------------------------------------------------------------------------


def on_terminal(command: str) -> list[str]:
    """As a person sees it: in colour, and in 80 columns."""
    on_screen = f"stty cols {COLUMNS} rows 40; exec bash -c {shlex.quote(command)}"
    return ["script", "--quiet", "--return", "--command", on_screen, "/dev/null"]


def run(output: TextIO) -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = copy_checkout(Path(folder) / "project")
        try:
            for scene in SCENES:
                play(scene, project, output, is_terminal=True)
        finally:
            subprocess.run(["./cleanup.sh", "--local"], cwd=project, env=environment(), capture_output=True)


def play(scene: Scene, project: Path, output: TextIO, is_terminal: bool = False, **settings: str) -> None:
    """Write the command after a prompt, and what it prints."""
    printed = printed_by(scene.command, project, is_terminal, **settings)
    print(f"$ {scene.command}\n{printed}", file=output, flush=True)
    if scene.then_idle:
        await_idle(project, **settings)


def printed_by(command: str, project: Path, is_terminal: bool = False, **settings: str) -> str:
    """Raises CalledProcessError if it fails."""
    command = command.replace(" s3 cp ", " s3 cp --no-progress ")
    return subprocess.run(
        on_terminal(command) if is_terminal else ["bash", "-c", command],
        cwd=project,
        env=environment() | settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    ).stdout


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return kept | {"LOCAL_TICK": "5", "DOCKER_HOST": NO_ENGINE}


def await_idle(project: Path, **settings: str) -> None:
    """Idle is also what status says before the event of a new file has come: so both sides have to be equal first."""
    end = time.monotonic() + IDLE_SECONDS
    task = "source .local/env; aws ecs list-tasks --query 'taskArns[0]' --output text --cluster "
    status = "./sync.sh --local status"
    while not (
        are_equal(project, **settings)
        and printed_by(f"{task}{APP}-cluster", project, **settings) == "None\n"
        and printed_by(status, project, **settings).startswith("idle\n")
    ):
        if time.monotonic() > end:
            raise TimeoutError(f"not idle after {IDLE_SECONDS} s")
        time.sleep(5)


def are_equal(project: Path, **settings: str) -> bool:
    listing = "source .local/env; aws s3api list-objects-v2 --query 'Contents[].Key' --output text --bucket "
    buckets = (name.removeprefix("s3://") for name in (SOURCE, MIRROR))
    source, destination = (printed_by(listing + bucket, project, **settings) for bucket in buckets)
    return set(source.split()) == set(destination.split())


# --- what is shown of it ------------------------------------------------------------------------------------------


def shortened(transcript: str) -> list[str]:
    """The lines of the picture."""
    lines: list[str] = []
    # Progress, over which the next line was written. What was a carriage return is a newline here.
    transcript = re.sub(r"\n?\x1b\[K(?:\x1b\[\?7l.*?\x1b\[\?7h)?", "", transcript)
    parts = re.split(r"^\$ (.*)\n", transcript, flags=re.MULTILINE)[1:]
    given = list(zip(parts[::2], parts[1::2], strict=True))
    if [command for command, _ in given] != [scene.command for scene in SCENES]:
        raise ValueError("the transcript is one of other commands: run them again")
    for scene, (command, printed) in zip(SCENES, given, strict=True):
        lines += [f"$ {command}", *shown_of(scene, printed.rstrip().splitlines())]
    return lines


def shown_of(scene: Scene, printed: list[str]) -> Iterator[str]:
    left, cut = list(scene.shown), False
    for line in printed:
        found = next((pattern for pattern in left if re.search(pattern, plain(line))), None)
        if found:
            yield line.rstrip()
            if scene.once:
                left.remove(found)
        elif not cut:
            yield CUT
        cut = not found
    if scene.once and left:
        raise ValueError(f"{scene.command} did not print {left}")


def plain(line: str) -> str:
    return re.sub(r"\x1b\[\d+m", "", line)


# --- the picture --------------------------------------------------------------------------------------------------

# Nothing is loaded: the font is the first of these that the reader has. Colours are named as the terminal's are.
HEAD = """<svg viewBox="0 0 994 HEIGHT" xmlns="http://www.w3.org/2000/svg">
<!-- Made by tests/docs/terminal_picture.py from a run -->
<style>
text { font: 20px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace;
  fill: #c9d1d9; }
.c1 { font-weight: bold; } .c31 { fill: #ff7b72; } .c32 { fill: #3fb950; } .c33 { fill: #d29922; }
.title { font-size: 16px; text-anchor: middle; }
</style>
<rect fill="#0d1117" width="100%" height="100%" rx="8"/>
<circle cx="26" cy="22" r="7" fill="#ff5f57"/>
<circle cx="48" cy="22" r="7" fill="#febc2e"/>
<circle cx="70" cy="22" r="7" fill="#28c840"/>
<text class="title" x="496" y="27">s3-to-s3express-sync</text>"""
LEFT, TOP, LINE_HEIGHT, CHARACTER = 9, 61, 24.4, 12.2


def draw(lines: list[str]) -> str:
    """The picture's SVG. Not every viewer keeps spaces at the beginning of a text, so it begins behind them."""
    drawn = []
    for number, line in enumerate(lines):
        shown = plain(line)
        text = shown.strip()
        if not text:
            continue
        colour = "1" if shown.startswith("$ ") else "".join(re.findall(r"^\x1b\[(\d+)m", line))
        indented = len(shown) - len(shown.lstrip())
        x, y = LEFT + CHARACTER * indented, TOP + LINE_HEIGHT * number
        placed = f'class="c{colour}" x="{x:g}" y="{y:g}" textLength="{CHARACTER * len(text):g}"'
        words = escape(text).replace(" ", "&#160;")
        drawn.append(f"<text {placed}>{words}</text>")

    height = TOP + LINE_HEIGHT * len(lines)
    return "\n".join([HEAD.replace("HEIGHT", f"{height:g}"), *drawn, "</svg>", ""])


def lines_of(svg: str) -> list[str]:
    """The lines of a picture of draw, without those that are empty."""
    return [unescape(text).replace("\xa0", " ") for text in re.findall(r'<text class="c[^>]*>([^<]*)', svg)]


def masked(line: str) -> str:
    """What the line has in common with that of a run on another day: no figures, no ETag, and no -dev of a version."""
    return re.sub(r" +", " ", re.sub(r"[0-9a-f]{32}|\d+(-dev)?", "0", line))


def main(command: str, picture: str = "docs/terminal.svg") -> None:
    if command == "run":
        run(sys.stdout)
    else:
        lines = shortened(sys.stdin.read().replace("\r\n", "\n"))
        Path(picture).write_text(draw(lines))
        print(f"{picture}: {len(lines)} lines of at most {max(len(plain(line)) for line in lines)} characters")


if __name__ == "__main__":
    main(*sys.argv[1:])
