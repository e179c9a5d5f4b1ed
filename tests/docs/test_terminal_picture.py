"""docs/terminal.svg shows what the scripts print today; tests/chain/test_chain.py compares its lines."""

from __future__ import annotations

import pytest
from pages import text_of
from terminal_picture import SCENES, lines_of


@pytest.mark.fast
def test_the_picture_shows_the_commands_of_its_program() -> None:
    shown = [line for line in lines_of(text_of("docs/terminal.svg")) if line.startswith("$ ")]
    assert shown == [f"$ {scene.command}" for scene in SCENES]
