"""docs/terminal.svg shows what the scripts print today, but for figures."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest
import terminal_picture
from account import running_cli
from pages import text_of
from terminal_picture import SCENES, lines_of, masked, run

SHOWN = lines_of(text_of("docs/terminal.svg"))


@pytest.mark.fast
def test_the_picture_shows_the_commands_of_its_program() -> None:
    assert [line for line in SHOWN if line.startswith("$ ")] == [f"$ {scene.command}" for scene in SCENES]


def test_every_line_of_the_picture_is_one_that_the_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first command is left out: what it prints the second and the last print, too."""
    transcript = io.StringIO()
    monkeypatch.setattr(terminal_picture, "SCENES", SCENES[1:])
    with running_cli(Path(os.environ.get("AWS_CLI_V2") or "/usr/bin/aws"), tmp_path) as tools:
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        run(transcript)
    printed = {comparable(line) for line in transcript.getvalue().splitlines()}
    shown = [line for line in SHOWN if line and not re.match(r"\$ |\.\.\. \d+ lines? \.\.\.$", line)]
    assert len(shown) > 20
    assert [line for line in shown if comparable(line) not in printed] == []


def comparable(line: str) -> str:
    """Without figures, and without the spaces before them, which depend on their length."""
    return re.sub(r"\s+", " ", masked(line.rstrip()))
