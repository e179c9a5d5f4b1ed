"""The tables of commands that are not run as they stand: each row is for a command of a page, and none is too many."""

from __future__ import annotations

import re

import pytest
from commands import (
    CLEAN_UP,
    EXPECTED,
    NOT_RUN,
    ONE_IS_FINE,
    REPLACED,
    all_commands,
    commands_of,
    reason_not_to_run,
    tour,
)
from pages import PAGES, ROOT

TEXTS = [command.text for command in all_commands()]


@pytest.mark.parametrize("start", NOT_RUN)
def test_a_command_that_is_not_run_has_one_row_with_a_test_elsewhere_or_a_reason(start: str) -> None:
    others, reason = [row for row in NOT_RUN if row != start], NOT_RUN[start]
    assert " " in reason or (ROOT / "tests" / reason).is_file()
    assert [text for text in TEXTS if re.match(start, text) and not any(re.match(row, text) for row in others)] != []


def test_every_change_is_for_a_command() -> None:
    assert [pattern for pattern in REPLACED if not any(re.search(pattern, text) for text in TEXTS)] == []
    assert [part for part in ONE_IS_FINE if not any(part in text for text in TEXTS)] == []
    firsts = [block[0].text for page in PAGES for block in commands_of(page)]
    assert {first: firsts.count(first) for first in CLEAN_UP} == dict.fromkeys(CLEAN_UP, 1)


def test_each_command_of_each_page_is_run_once_and_the_clean_up_last() -> None:
    assert sorted(tour()) == sorted(all_commands())
    assert tour()[-1].text == 'aws s3api delete-bucket --bucket "$DST_BUCKET"'
    assert {command.page for command in tour() if not reason_not_to_run(command)} == EXPECTED.keys()
