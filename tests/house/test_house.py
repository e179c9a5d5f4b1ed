"""The rules of the house and its budgets, what CONTRIBUTING.md names, and how tests are spread over processes."""

import re
from importlib.metadata import requires
from pathlib import Path

import budgets
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from spread import group_of, is_named_fast

ROOT = Path(__file__).parents[2]
MOST_LINES = 450
PRODUCT = [
    *(ROOT / name for name in ("worker.py", "starter.py", "local/jq")),
    *sorted(path for folder in ("launch", "lib", "mirror", "local") for path in (ROOT / folder).rglob("*.py")),
]


def test_every_python_file_of_the_product_is_short_and_says_its_job_in_its_first_line() -> None:
    """The line after "#!", if there is one."""
    texts = {path.relative_to(ROOT): path.read_text() for path in PRODUCT}
    assert len(texts) > 10
    assert [path for path, text in texts.items() if text.count("\n") > MOST_LINES] == []
    assert [path for path, text in texts.items() if not re.match(r'(#!.*\n)?r?"""\w', text)] == []


def packages(text: str) -> list[str]:
    """Requirements other than boto3[crt] and what it pulls in, or without an exact version and its hashes."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    without = [line for line in lines if not re.fullmatch(r"\S+==[\w.]+( --hash=sha256:[0-9a-f]{64})+", line)]
    pinned = {canonicalize_name(Requirement(line.split()[0]).name) for line in lines if line not in without}
    wanted = pulled_in("boto3", {"crt"})
    return (
        [f"{line} has no exact version or no hash" for line in without]
        + [f"{name} is none of the worker's packages" for name in sorted(pinned - wanted)]
        + [f"{name} is not pinned" for name in sorted(wanted - pinned)]
    )


def pulled_in(package: str, extras: set[str]) -> set[str]:
    """The package and all that it requires with these extras, by what is installed."""
    found: set[str] = {canonicalize_name(package)}
    for line in requires(package) or []:
        needed = Requirement(line)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            found |= pulled_in(needed.name, needed.extras)
    return found


GOOD = (ROOT / "requirements.txt").read_text()


@pytest.mark.parametrize(
    "bad",
    [
        GOOD + re.sub("^.*six==1.17.0", "requests==2.32.3", GOOD, flags=re.DOTALL),
        re.sub("(six==[0-9.]+).*", r"\1", GOOD),
        GOOD.replace("urllib3==", "urllib3>="),
        re.sub("six==.*\n", "", GOOD),
    ],
)
def test_the_worker_runs_on_boto3_with_the_crt_and_what_they_pull_in(bad: str) -> None:
    assert packages(GOOD) == []
    assert packages(bad) != []


# The budgets


def test_no_budget_is_exceeded() -> None:
    """What is traced may differ by a few in a hundred steps, because a deployment asks for many things side by side."""
    found = {name: (count, budgets.budgets()[name]) for name, count in budgets.counts().items()}
    spare = {name: allowed // 50 if name.startswith("one ") else 0 for name, (_, allowed) in found.items()}
    assert [f"{name}: {n} of {most}" for name, (n, most) in found.items() if n > most + spare[name]] == []


INSIDE = {
    "lib/a.sh": "ask_x() {\n  FACT=1\n}\nensure_x() {\n  ask_x\n}\n",
    "mirror/walk.py": "def next_of(): pass\n",
    "tests/a.py": "from mirror import walk\nwalk.next_of()\nimport time\nmonkeypatch.setattr(walk, 'a', 1)\n"
    "monkeypatch.setattr(time, 'time', 1)\nrun('ask_x() { :; }')\n",
}


def test_what_tests_know_of_the_inside_is_found() -> None:
    assert list(budgets.stubs(INSIDE)) == ["tests/a.py: ask_x"]
    assert list(budgets.inner_names(INSIDE)) == ["tests/a.py: ask_x"]
    assert list(budgets.inner_imports(INSIDE)) == ["tests/a.py: mirror/walk.py next_of"]
    assert list(budgets.patches(INSIDE)) == ["tests/a.py:4: walk"]
    assert budgets.of_bash(INSIDE) == {
        "Bash: functions": 2,
        "Bash: functions that are called once": 1,
        "Bash: globals": 1,
    }
    assert budgets.sizes(INSIDE)["lib: lines of code"] == 6


# CONTRIBUTING.md names only what is there


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_path_it_names_is_there() -> None:
    named = {name for name in re.findall(r"`([\w./-]+)`", CONTRIBUTING) if "/" in name or name.endswith((".py", ".sh"))}
    assert len(named) > 30
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


FOLDERS = ("launch", "lib", "lib/resources", "lib/verify", "local", "mirror")
FOLDERS += tuple(f"mirror/{name}" for name in ("aws", "model", "options", "protocol", "queue", "readers"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_its_picture_shows_every_file(folder: str) -> None:
    picture = re.findall(r"^```\n(.*?)^```$", CONTRIBUTING, re.MULTILINE | re.DOTALL)[0]
    shown = set(re.findall(r"[\w.]+", picture))
    files = {path.name for kind in ("*.py", "*.sh", "*.jq", "*.json") for path in (ROOT / folder).glob(kind)}
    assert sorted(files - shown - {"__init__.py"}) == []


# How tests are spread over processes: those that share something stay in one


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        ("scripts/test_local_verbs.py::test_status[v1]", "scripts/test_local_verbs.py::test_purge", True),
        ("chain/test_image.py::test_an_image[amd64]", "chain/test_cloud.py::test_a_container", True),
        ("scripts/test_local_verbs.py::test_purge", "docs/test_pages.py::test_links", False),
        ("scripts/test_deploy.py::test_twice[v1]", "scripts/test_deploy.py::test_twice[v2]", False),
        ("worker/test_copies.py::test_a[crt]", "worker/test_copies.py::test_a[boto3]", False),
    ],
)
def test_what_shares_a_cloud_or_the_engine_is_one_group(one: str, other: str, is_shared: bool) -> None:
    assert (group_of(one) == group_of(other)) == is_shared


def test_a_whole_file_is_fast_or_one_test_of_it() -> None:
    fast = "protocol/test_rules.py::test_any[a]", "protocol/test_mutants.py::test_each_fault_has_its_place_in_the_code"
    slow = "protocol/test_mutants.py::test_a_planted_fault_is_noticed[no IfMatch]", "worker/test_copies.py::test_a"
    assert [is_named_fast(name) for name in fast + slow] == [True, True, False, False]
