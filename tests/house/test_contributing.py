"""CONTRIBUTING.md names only what is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_path_it_names_is_there() -> None:
    named = {name for name in re.findall(r"`([\w./-]+)`", TEXT) if "/" in name or name.endswith((".py", ".sh"))}
    assert len(named) > 30
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_its_picture_shows_every_file_of_the_package() -> None:
    picture = re.findall(r"^```\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)[0]
    files = {path.name for path in (ROOT / "mirror").glob("*.py")} - {"__init__.py"}
    assert sorted(file for file in files if file not in picture) == []
