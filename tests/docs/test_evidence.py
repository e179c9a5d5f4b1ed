"""docs/evidence.md lists what lib/verify/assumptions.json holds, which is what ./sync.sh verify reports on."""

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


def name(row: dict[str, str]) -> str:
    """Its id, as a link to its source."""
    return f"[`{row['id']}`]({row['source']})"


def check(row: dict[str, str]) -> str:
    return f"`{row['check']}`" if "check" in row else f"cannot: {row['untested']}"


def test_the_page_has_each_assumption() -> None:
    assert rows(PAGE) == [[name(r), r["assumption"], r["otherwise"], check(r)] for r in ASSUMPTIONS]


def test_the_chinese_page_has_them_with_the_same_sources_and_checks() -> None:
    found = [(row[0], row[3] if row[3].startswith("`") else "") for row in rows(chinese_of(PAGE))]
    assert found == [(name(r), f"`{r['check']}`" if "check" in r else "") for r in ASSUMPTIONS]


@pytest.mark.parametrize("row", ASSUMPTIONS, ids=lambda row: row["id"])
def test_each_assumption_has_a_source_and_a_check_or_a_reason_why_there_is_none(row: dict[str, str]) -> None:
    assert row["source"].startswith("https://")
    assert ("check" in row) != ("untested" in row)
