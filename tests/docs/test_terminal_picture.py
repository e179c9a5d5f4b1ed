"""docs/terminal.svg shows what the scripts print today; tests/chain/test_chain.py compares its lines."""

from __future__ import annotations

import pytest
from pages import text_of
from terminal_picture import SCENES, lines_of

MOST_LINES = 40


@pytest.mark.fast
def test_the_picture_shows_the_commands_of_its_program_on_one_screen() -> None:
    lines = lines_of(text_of("docs/terminal.svg"))
    assert [line for line in lines if line.startswith("$ ")] == [f"$ {scene.command}" for scene in SCENES]
    assert len(lines) <= MOST_LINES
