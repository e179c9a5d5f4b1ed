"""The pages as they stand: each in two languages that say the same, every link leads somewhere, each command is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import NOT_RUN, all_commands, tour
from pages import (
    CHINESE_ENDING,
    PAGES,
    ROOT,
    anchors,
    blocks,
    chinese_of,
    fenced,
    file_and_section,
    in_chinese,
    is_local,
    links,
    numbers,
    place,
    prose,
    shape,
    text_of,
)
from test_settings import TABLE, problems

MOST_LINES_OF_README = 200
CHINESE_PAGES = [chinese_of(page) for page in PAGES]
ALL_PAGES = [*PAGES, *CHINESE_PAGES]
OTHERS_WITH_LINKS = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]

every_page = pytest.mark.parametrize("page", PAGES)


def test_each_page_is_there_in_both_languages() -> None:
    assert len(PAGES) > 5
    found = ROOT.glob(f"*{CHINESE_ENDING}"), (ROOT / "docs").glob(f"*{CHINESE_ENDING}")
    assert sorted(path.relative_to(ROOT).as_posix() for folder in found for path in folder) == sorted(CHINESE_PAGES)


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readme_is_short(page: str) -> None:
    assert text_of(page).count("\n") <= MOST_LINES_OF_README


def figures_of_cells(page: str) -> list[list[str]]:
    rows = re.findall(r"^\|(.*)\|$", prose(page), re.MULTILINE)
    cells = [cell for row in rows for cell in re.split(r"(?<!\\)\|", re.sub(r"\]\([^)]*\)", "", row))]
    return [sorted(re.findall(r"\d[\d,.]*\d", cell)) for cell in cells]


def plain_blocks(page: str) -> list[str]:
    """Those without commands; what is not ASCII is in the language of the page."""
    texts = [text for _, language, text in fenced(page) if language != "bash"]
    return [text if text.isascii() else "" for text in texts]


def boxes_and_arrows(page: str) -> list[list[str]]:
    pictures = [file_and_section(page, link.target)[0] for link in links(page) if link.target.endswith(".svg")]
    return [re.findall(r"<(?:path|rect) .*", text_of(picture)) for picture in pictures]


COMPARED: dict[str, Callable[[str], Any]] = {
    "commands": lambda page: [block.commands for block in blocks(page)],
    "sections, lists, tables and blocks": shape,
    "figures": numbers,
    "figures in each cell of the tables": figures_of_cells,
    "lines of logs and answers": plain_blocks,
    "boxes and arrows of pictures": boxes_and_arrows,
}


@pytest.mark.parametrize("what", COMPARED)
@every_page
def test_both_languages_have_the_same(page: str, what: str) -> None:
    assert COMPARED[what](page) == COMPARED[what](chinese_of(page))


def name_of(page: str) -> str:
    """As pages of the same folder name it."""
    return Path(page).name


@every_page
def test_a_page_begins_with_its_title_and_the_links_to_its_other_language_and_to_the_readme(page: str) -> None:
    chinese = name_of(chinese_of(page))
    back_from = {"English": "", "Chinese": ""}
    if page != "README.md":
        back_from = {"English": "[README](../README.md) | ", "Chinese": "[README](../README.zh-CN.md) | "}
    head, gap, line = text_of(page).splitlines()[:3]
    assert (head[:2], gap, line) == ("# ", "", f"{back_from['English']}English | [中文]({chinese})")
    head, gap, line = text_of(chinese_of(page)).splitlines()[:3]
    assert (head[:2], gap, line) == ("# ", "", f"{back_from['Chinese']}[English]({name_of(page)}) | 中文")


@pytest.mark.parametrize("page", [*ALL_PAGES, *OTHERS_WITH_LINKS])
def test_every_link_leads_to_a_file_or_a_section_that_is_there(page: str) -> None:
    broken = [link for link in links(page) if is_local(link.target) and not leads_somewhere(page, link.target)]
    assert broken == []


def leads_somewhere(page: str, target: str) -> bool:
    """`target`: a file or folder, "#section" of the same file, or both; or a form for an issue, as GitHub finds it."""
    if form := re.fullmatch(r"(?:\.\./)+issues/new\?template=(.+)", target):
        depth = target.count("../") - page.count("/")
        return depth == 2 and (ROOT / ".github/ISSUE_TEMPLATE" / form[1]).is_file()
    file, section = file_and_section(page, target)
    if file.startswith("..") or not (ROOT / file).exists():
        return False
    return not section or (file.endswith(".md") and section in anchors(file))


@every_page
def test_the_links_of_both_languages_lead_to_the_same_places_each_in_its_language(page: str) -> None:
    """So Chinese pages lead to Chinese ones, and to the section that stands where the English one does."""
    chinese = chinese_of(page)
    wanted = {in_chinese(page, link.target) for link in links(page) if link.target != name_of(chinese)}
    found = {place(chinese, link.target) for link in links(chinese) if link.target != name_of(page)}
    assert (wanted - found, found - wanted) == (set(), set())


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_every_page_is_one_click_away_from_the_readme(page: str) -> None:
    wanted = {file for file in (PAGES if page == "README.md" else CHINESE_PAGES) if file != page}
    assert wanted - {file_and_section(page, link.target)[0] for link in links(page)} == set()


# Commands that are not run as they stand: each row of their tables is for a command of a page, and none is too many

TEXTS = [command.text for command in all_commands()]


@pytest.mark.parametrize("start", NOT_RUN)
def test_a_command_that_is_not_run_has_one_row_with_a_test_elsewhere_or_a_reason(start: str) -> None:
    others, reason = [row for row in NOT_RUN if row != start], NOT_RUN[start]
    assert " " in reason or (ROOT / "tests" / reason).is_file()
    assert [text for text in TEXTS if re.match(start, text) and not any(re.match(row, text) for row in others)] != []


def test_each_command_of_each_page_is_run_once_and_the_clean_up_last() -> None:
    assert sorted(tour()) == sorted(all_commands())
    assert tour()[-1].text == 'aws s3api delete-bucket --bucket "$DST_BUCKET"'


def test_deploy_takes_the_settings_that_the_pages_deploy(tmp_path: Path) -> None:
    commands = {text for text in TEXTS if text.endswith("./deploy.sh") and "$" not in text}
    assert len(commands) > 8
    for command in commands:
        settings = dict(word.split("=", 1) for word in shlex.split(command)[:-1])
        assert settings.keys() - TABLE.keys() == set()
        assert problems(tmp_path, **settings) == []
