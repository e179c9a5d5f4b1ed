"""Writes what other files of the project decide into the tables of the pages, beside the words of each language.

    .venv/bin/python tests/docs/write_tables.py

Rows are added and removed by hand, as are all words, and the rest of docs/modes.svg, whose curves are drawn here.
"""

import json
import re
import sys
from pathlib import Path

import cost
from cost import ROOT

sys.path.insert(0, str(ROOT / "tests/scripts"))
sys.path.insert(0, str(ROOT))

import noticed

from mirror.model.checks import TABLE, Setting

NOT_FOR_USERS = {"RETRY_PAUSE", "RETRY_LIMIT", "DRY_RUN"}  # for tests, and an option
Cells = dict[str, dict[int, str]]  # of a row, by their place in it


def with_cells(text: str, first: str, rows: Cells) -> str:
    """A page in which the rows that begin so are these, and have these cells; no cells: the page says in words why."""
    names = re.findall(f"^{first}", text, re.MULTILINE)
    assert sorted(names) == sorted(rows), set(names) ^ rows.keys()
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if found := re.match(first, line):
            cells = line.split(" | ")
            for place, cell in rows[found[1]].items():
                cells[place] = cell
            lines[number] = " | ".join(cells)
    return "\n".join(lines)


def limits(setting: Setting, to: str) -> str:
    """Nothing if the page has words of its own for them."""
    if setting.name == "TASK_CPU":
        return ", ".join(dict.fromkeys(re.findall(r"'(\d+) ", (ROOT / "lib/settings.sh").read_text())))
    if setting.limits:
        lowest, highest = setting.values.split("/")[-1].split("..")
        return f"{lowest} {to} {highest}"
    return setting.values.replace("|", ", ") if re.fullmatch(r"\w+(\|\w+)+", setting.values) else ""


def settings(text: str, empty: str, to: str) -> str:
    """The defaults and the limits. A default of 0 may be shown as none, where it turns something off."""
    rows = {}
    for setting in (setting for setting in TABLE if setting.name not in NOT_FOR_USERS):
        is_off = setting.default == "0" and f"| `{setting.name}` | {empty} |" in text
        rows[setting.name] = {1: empty if is_off or not setting.default else setting.default}
        if found := limits(setting, to):
            rows[setting.name][2] = found
    return with_cells(text, r"\| `([A-Z][A-Z0-9_]+)` \|(?: [^|]+ \|){4}$", rows)


def evidence(text: str) -> str:
    """The check of each assumption of AWS; for one without, the page says why there is none."""
    checks = json.loads((ROOT / "operate/verify/assumptions.json").read_text())
    rows = {name: {3: f"`{check}` |"} if check else {} for name, check in checks.items()}
    return with_cells(text, r"\| \[`([a-z-]+)`\]\(https://", rows)


def noticing(text: str) -> str:
    """After how many minutes a break is noticed."""
    return with_cells(text, r"\| [^|]+ \| `([^`|]+)` \| [^|]+ \| [^|]+ \|$", noticed.rows())


def files() -> dict[Path, str]:
    """What is to stand in the files that have something of others."""
    found = cost.files()
    for ending, words in {".md": ("(empty)", "to"), ".zh-CN.md": ("\uff08空\uff09", "到")}.items():
        page = ROOT / f"docs/settings{ending}"
        found[page] = settings(page.read_text(), *words)
        page = ROOT / f"docs/operations{ending}"
        found[page] = noticing(page.read_text())
        page = ROOT / f"docs/evidence{ending}"
        found[page] = evidence(page.read_text())
    return found


if __name__ == "__main__":
    for path, written in files().items():
        path.write_text(written)
