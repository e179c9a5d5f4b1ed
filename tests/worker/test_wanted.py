"""PREFIX_FILTER and EXCLUDE: what their texts mean, and which keys they take."""

from __future__ import annotations

import fnmatch
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import ENVIRONMENT

import worker
from mirror.model.selection import items_of, wanted_of
from mirror.settings import load_settings

ROOT = Path(worker.__file__).parent
CHANCE = random.Random(1)
OF_LISTS = ("a", "b", "a/", ",", ",", "\\,", "\\", " ", "*", '"', "$", "é", "e\u0301", "\U0001f600", "\uff5e")
OF_GLOBS = (*"ab/**?\\,[]-^.|+(){}$&~#é", "[!", "[a-b]", "[b-a]", "[]]", "\\,")
LISTS = ["".join(CHANCE.choices(OF_LISTS, k=CHANCE.randrange(12))) for _ in range(150)]
GLOBS = ["".join(CHANCE.choices(OF_GLOBS, k=CHANCE.randrange(9))) for _ in range(400)]
# Each of the 500 characters that EXCLUDE may have, against a key of 1,024 bytes.
WORST = [
    "*a" * 249 + "*b", "*?" * 249 + "b", "*" + "a" * 498 + "b", "*" + "?" * 498 + "b", "*" + "?" * 497 + "b*",
    ",".join(["*a*b"] * 100), ",".join(f"*{'?' * number}b" for number in range(1, 28)), "*[!b]" * 99 + "*b",
]  # fmt: skip


def items(text: str) -> list[str]:
    """Those of a list, read letter by letter: a comma ends one unless a backslash is before it."""
    found = [""] if text else []
    for before, letter in zip(" " + text, text, strict=False):
        if letter != ",":
            found[-1] += letter
        elif before == "\\":
            found[-1] = found[-1][:-1] + ","
        else:
            found.append("")
    return list(dict.fromkeys(found))


def prefixes(text: str) -> list[str]:
    """Those that no other one covers; "" covers all."""
    found = items(text)
    return sorted(one for one in found if not any(one.startswith(other) for other in found if other != one)) or [""]


def excludes(exclude: str, key: str) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in items(exclude))


def keys_for(exclude: str) -> list[str]:
    """Keys that a glob matches, or almost: its wildcards are replaced, and letters changed."""
    chance, found = random.Random(exclude), ["a", "b/a", exclude]
    for pattern in items(exclude) * 3:
        key = re.sub(r"\[!?\]?[^]]*\]|[*?]", lambda _: chance.choice(("", "a", "b", "/", "é", "ab")), pattern)
        found += [key, key.upper(), key[1:], key + "a", key + "\n"]
    return list(dict.fromkeys(found))


def test_what_a_list_means() -> None:
    for text in LISTS:
        assert (text, list(items_of(text))) == (text, items(text))
        assert (text, list(wanted_of(text, "", 0).prefixes)) == (text, prefixes(text))


def test_an_exclude_matches_the_whole_key_as_a_glob() -> None:
    for exclude in GLOBS:
        wanted = wanted_of("", exclude, 0)
        for key in keys_for(exclude):
            assert (exclude, key, wanted.excludes(key)) == (exclude, key, excludes(exclude, key))
            assert wanted.takes(key) != wanted.excludes(key)


def test_a_key_is_decided_in_time_that_grows_with_its_length_only() -> None:
    """Without atomic groups the first of them would take forever: where each "*" ends would be tried in all ways."""
    assert max(map(len, WORST)) <= 500
    code = "import sys; from mirror.model.selection import wanted_of\n"
    code += "print([wanted_of('', text, 0).excludes('a' * 1024) for text in sys.argv[1:]])"
    command = [sys.executable, "-c", code, *WORST]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == f"{[False] * len(WORST)}\n"


def test_a_list_is_refused_with_an_empty_item_or_a_space_next_to_a_comma() -> None:
    for name, value in (("EXCLUDE", "*.tmp,"), ("PREFIX_FILTER", "a/,,b/"), ("EXCLUDE", "*.tmp, *.bak")):
        with pytest.raises(ValueError, match=f"{name}=.* has (an empty item|a space next to a comma)"):
            load_settings(ENVIRONMENT | {name: value})
