"""docs/evidence.md lists the assumptions of lib/verify/assumptions.json, which ./sync.sh verify reports on."""

from __future__ import annotations

import json
import re

import pytest
from pages import ROOT, chinese_of, text_of

PAGE = "docs/evidence.md"
ASSUMPTIONS = json.loads((ROOT / "lib/verify/assumptions.json").read_text())


def rows(page: str) -> list[list[str]]:
    """The cells of each row of the table of assumptions."""
    found = re.findall(r"^\| (\[`[a-z-]+`\].*) \|$", text_of(page), re.MULTILINE)
    return [row.split(" | ") for row in found]


@pytest.mark.parametrize("page", [PAGE, chinese_of(PAGE)])
def test_the_page_has_each_assumption_with_its_check_or_a_reason_why_there_is_none(page: str) -> None:
    found = {re.match(r"\[`(.*?)`\]\(https://", row[0])[1]: re.fullmatch("`(.*)`", row[3]) for row in rows(page)}
    assert [(name, check and check[1]) for name, check in found.items()] == list(ASSUMPTIONS.items())


def test_both_languages_have_the_same_sources() -> None:
    assert [row[0] for row in rows(PAGE)] == [row[0] for row in rows(chinese_of(PAGE))]
