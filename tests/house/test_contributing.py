"""CONTRIBUTING.md names only what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_path_it_names_is_there() -> None:
    named = {name for name in re.findall(r"`([\w./-]+)`", TEXT) if "/" in name or name.endswith((".py", ".sh"))}
    assert len(named) > 30
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


FOLDERS = ("launch", "lib", "lib/resources", "lib/verify", "local", "mirror")
FOLDERS += tuple(f"mirror/{name}" for name in ("aws", "model", "options", "protocol", "queue", "readers"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_its_picture_shows_every_file(folder: str) -> None:
    picture = re.findall(r"^```\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)[0]
    shown = set(re.findall(r"[\w.]+", picture))
    files = {path.name for kind in ("*.py", "*.sh", "*.jq", "*.json") for path in (ROOT / folder).glob(kind)}
    assert sorted(files - shown - {"__init__.py"}) == []
