"""Which tests can see a fault in which file: those that are called like the file, those that import it, and then the
others. Of each group, first those that have rare words of the fault or of the lines around it, such as those of a
message, then the cheapest.

The slow ones are left out: deployments on an emulator, the verbs on the local cloud, tests/chain but for the local
cloud itself, tests/docs but for the estimate, and tests/bench. So a fault that only they notice counts as one that
survives. What holds the code as it stands is left out as well: the list of planted faults, the house, and the layout.
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TESTS_FOLDER = Path(__file__).parents[1]

LEFT_OUT = ("mutants", "alarms", "deploy", "interrupted", "layout", "local_verbs")
LEFT_OUT += ("image", "side_by_side", "upgrade", "workflows")  # chain/test_image.py needs a Docker engine

RULES = ("protocol/test_rules.py", "protocol/test_verdict.py", "protocol/test_faults.py")
NAMES = ("scripts/test_log_lines.py", "scripts/test_prefixes.py")


def scripts(names: str) -> tuple[str, ...]:
    return tuple(f"scripts/test_{name}.py" for name in names.split())


# Of the first of these with which a file begins: the tests, as patterns below tests/.
TESTS = {
    "mirror/readers/": ("worker/test_readers*.py", "worker/test_*.py", "protocol/test_*.py"),
    "mirror/options/table": (
        "protocol/test_delta.py",
        "protocol/test_table_files.py",
        "protocol/test_*.py",
        "worker/test_*.py",
    ),
    "mirror/options/": (
        "protocol/test_options.py",
        "protocol/test_waits*.py",
        "protocol/test_*.py",
        "worker/test_*.py",
    ),
    "mirror/aws/": ("worker/test_wire.py", "worker/test_*.py"),
    "mirror/model/": (*RULES, *NAMES, "worker/test_markers*.py", "protocol/test_*.py", "worker/test_*.py"),
    "mirror/": (*RULES, "protocol/test_*.py", "worker/test_*.py"),
    "worker.py": ("worker/test_*.py",),
    "launch/": scripts("path starter* watchers function* losing_worlds noticed copying_fails"),
    "starter.py": scripts("starter* function* losing_worlds copying_fails"),
    "operate/verify/": scripts("verify failing_verbs failing_changes"),
    "operate/": (
        *scripts("explain log_lines prefixes refusals verbs status failing_verbs cost_verb reads following pause"),
        "docs/test_estimate.py",
        *scripts("failing_changes noticed policy_files"),
        "worker/test_readers_agree.py",
    ),
    "local/gaps/": ("standin/test_rules_of_aws.py", "chain/test_cloud*.py"),
    "local/refusals.py": ("standin/test_rules_of_aws.py",),
    "local/insights.py": (*scripts("log_lines explain"), "chain/test_cloud*.py"),
    "local/": ("chain/test_cloud*.py", "chain/test_local_start.py"),
    "sync.sh": (*scripts("sync settings verbs pause prefixes"), "chain/test_local_start.py"),
    "": scripts(
        "documents plan refusals checks settings cleanup_parts event_source generated failing_calls failed_reads "
        "lifecycle policies prefixes path record pause base_image *"
    ),
}


MOST_FILES = 3  # what is in more of them is not rare


def candidates(file: str, lines: str = "") -> list[str]:
    """The tests, in the order in which they look for a fault in these lines of that file."""
    patterns = [f"*/test_{Path(file).stem}.py"]
    patterns += next(tests for start, tests in TESTS.items() if file.startswith(start))
    found = [path for pattern in patterns for path in sorted(TESTS_FOLDER.glob(pattern))]
    names = {path.relative_to(TESTS_FOLDER).as_posix(): path for path in found}
    kept = [name for name in names if not any(f"test_{slow}" in name for slow in LEFT_OUT)]

    wanted = phrases(f"{lines}\n{Path(file).stem}")
    common = {name: wanted & phrases_of(names[name]) for name in kept}
    files = Counter(phrase for those in common.values() for phrase in those)

    def rarity(name: str) -> float:
        return sum(1 / files[phrase] for phrase in common[name] if files[phrase] <= MOST_FILES)

    return sorted(kept, key=lambda name: (nearness(file, names[name]), -rarity(name)))


@cache
def phrases_of(test: Path) -> frozenset[str]:
    return phrases(test.read_text())


def phrases(text: str) -> frozenset[str]:
    """All of four words that follow one another, and the longer of its words with an underscore."""
    words = re.findall(r"\w+", text)
    fours = zip(words, words[1:], words[2:], words[3:], strict=False)
    names = [word for word in words if len(word) > 8 and "_" in word.strip("_")]
    return frozenset([*names, *map(" ".join, fours)])


def nearness(file: str, test: Path) -> int:
    """Which of the three groups the test belongs to."""
    if f"test_{Path(file).stem}" in test.name:
        return 0
    return 1 if file in imported(test.read_text()) else 2


def imported(source: str) -> Iterator[str]:
    """The files that these lines of Python import, and files that are not there, of the names in a module."""
    for package, names in re.findall(r"^from ([\w.]+) import ([\w ,]+|\([^)]*\))", source, re.MULTILINE):
        folder = package.replace(".", "/")
        yield f"{folder}.py"
        yield from (f"{folder}/{name}.py" for name in re.findall(r"\w+", names))
