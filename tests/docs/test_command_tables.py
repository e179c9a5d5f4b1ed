"""The tables of commands that are not run as they stand: each row is for a command of a page, and none is too many."""

from __future__ import annotations

import re
import subprocess

import pytest
from commands import (
    CLEAN_UP,
    EXPECTED,
    NOT_RUN,
    ONE_IS_FINE,
    REPLACED,
    Command,
    all_commands,
    commands_of,
    output_by_page,
    place_of,
    reason_not_to_run,
    script_of,
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


def test_each_command_of_each_page_is_run_once() -> None:
    assert sorted(tour()) == sorted(all_commands())


def test_each_page_with_commands_that_run_has_an_output_that_is_expected() -> None:
    run = {command.page for command in all_commands() if not reason_not_to_run(command)}
    assert run == EXPECTED.keys()
    assert all(EXPECTED.values())


def test_the_clean_up_is_last() -> None:
    assert [command.text for command in tour()][-1] == 'aws s3api delete-bucket --bucket "$DST_BUCKET"'


# How a script is made and read


def test_a_block_that_fails_is_named_by_page_and_line() -> None:
    script = script_of([Command("README.md", 3, "echo good"), Command("docs/a.md", 7, "for i in 1; do\n  false\ndone")])
    traced = re.sub("export.*", ":", script.text)
    done = subprocess.run(["bash", "-c", traced], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (done.returncode, place_of(script, done.stdout)) == (1, "docs/a.md:7")
    assert output_by_page(script, done.stdout) == {"README.md": "good"}
