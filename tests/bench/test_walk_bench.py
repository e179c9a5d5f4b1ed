"""The benchmark of the walk is no test, but its command has to work, and it has to see a wrong number."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from made_up import TREES, Tree
from walk import COMMANDS, differences

BENCH = Path(__file__).with_name("walk.py")


def walked(directory: Path, command: str) -> dict[str, str]:
    """The figures of a small tree, by their headings."""
    arguments = ["--only", "small", "--page-seconds", "0", "--command", command, "--output", directory]
    ended = subprocess.run([sys.executable, BENCH, *arguments], capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    heading, _, row = [re.split(r" *\| *", line.strip("| ")) for line in ended.stdout.splitlines()]
    return dict(zip(heading, row, strict=True))


@pytest.mark.parametrize(
    ("command", "keys", "looks"),
    [("reconcile", "1777", "44"), ("wait", "1770", "1"), ("marker", "1770", "3")],
)
def test_a_small_tree_is_compared_as_it_is(tmp_path: Path, command: str, keys: str, looks: str) -> None:
    """The folder itself, and what is below it on two pages of each side. Of what differs each key is looked at on both
    sides: 12 missing ones, 5 stale ones and 5 ghosts. `wait` looks whether the source has versions; a marker knows that
    from the look at it before its copy, and there are two of the destination and after it."""
    shown = walked(tmp_path, command)
    assert (shown["keys"], shown["told"], shown["looks"]) == (keys, "as it is", looks)
    assert [shown[name] for name in ("source pages", "destination pages")] == ["3", "3"]


def test_a_wrong_number_is_told() -> None:
    tree = Tree(TREES["small"])
    assert tree.expected() == {"missing": 12, "stale": 5, "ghost": 5, "source": 1772, "mirror--use1-az4--x-s3": 1765}
    right = "compared=1772 missing=12 stale=5 ghost=5"
    assert differences(right, "reconcile", tree) == []
    assert differences(right.replace("=12", "=11"), "reconcile", tree) == ["missing=11 instead of 12"]
    assert all(differences("", command, tree) for command in COMMANDS)
