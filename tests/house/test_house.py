"""The rules of the house for Python, and what no file may name; each rule is shown a breach that it has to find."""

import ast
import re
from collections.abc import Callable, Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 40
PRODUCT = [
    *(ROOT / name for name in ("worker.py", "starter.py", "local/jq")),
    *sorted(path for folder in ("mirror", "local") for path in (ROOT / folder).rglob("*.py")),
]
NOT_OURS = re.compile(r"\.git|\.venv.*|\.local|\.cache|.*_cache|__pycache__|\.hypothesis")
# The hosts that packages and images come from; which ones a machine uses is its own setting.
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|crates\.io|rubygems\.org|golang\.org"
    r"|(?:index|registry-1|registry|auth)\.docker\.io|ghcr\.io|quay\.io|public\.ecr\.aws|(?:deb|security)\.debian\.org"
)
PATH_OF_A_MACHINE = re.compile(r"(?<![\w.$}-])/(?:home|root|Users|work)/\w")


# Each rule: what is wrong with a file's text, one sentence per breach.


def length(text: str) -> list[str]:
    lines = text.count("\n")
    return [f"has {lines} lines, {MOST_LINES} are allowed"] if lines > MOST_LINES else []


def functions(text: str) -> list[str]:
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    sizes = {f"{node.name} in line {node.lineno}": (node.end_lineno or 0) - node.lineno + 1 for node in found}
    return [f"{name} has {size} lines" for name, size in sizes.items() if size > MOST_LINES_OF_A_FUNCTION]


def job(text: str) -> list[str]:
    """The first line, or the one after "#!", begins a docstring and has words of it."""
    first, _, rest = text.partition("\n")
    line = rest.partition("\n")[0] if first.startswith("#!") else first
    says = ast.get_docstring(ast.parse(text)) and re.match(r'r?"""\w', line)
    return [] if says else ["does not say its job in a docstring on its first line"]


def names(text: str) -> list[str]:
    return [f"names {match[0]}" for rule in (REGISTRY, PATH_OF_A_MACHINE) for match in rule.finditer(text)]


def packages(text: str) -> list[str]:
    """Requirements other than boto3[crt] and what it pulls in, or without an exact version."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    without = [line for line in lines if not re.fullmatch(r"\S+==[\w.]+", line)]
    pinned = {canonicalize_name(Requirement(line).name) for line in lines if line not in without}
    wanted = pulled_in("boto3", {"crt"})
    return (
        [f"{line} has no exact version" for line in without]
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


# The rules on the files


def breaches(rule: Callable[[str], list[str]], files: list[Path]) -> list[str]:
    return [f"{path.relative_to(ROOT)} {breach}" for path in files for breach in rule(path.read_text())]


def texts(folder: Path = ROOT) -> Iterator[Path]:
    """Every text file of the project."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or NOT_OURS.fullmatch(path.name):
            continue
        if path.is_dir():
            yield from texts(path)
        elif b"\0" not in path.read_bytes():
            yield path


@pytest.mark.parametrize("rule", [length, functions, job])
def test_every_python_file_of_the_product_keeps(rule: Callable[[str], list[str]]) -> None:
    assert len(PRODUCT) > 10
    assert breaches(rule, PRODUCT) == []


def test_the_worker_runs_on_boto3_with_the_crt_and_what_they_pull_in() -> None:
    assert breaches(packages, [ROOT / "requirements.txt"]) == []


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    files = list(texts())
    assert ROOT / "worker.py" in files
    assert breaches(names, files) == []


# Each rule finds a breach


def function_of(lines: int) -> str:
    return "def f():\n" + "    pass\n" * (lines - 1)


GOOD = (ROOT / "requirements.txt").read_text()


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (length, "\n" * MOST_LINES, "\n" * (MOST_LINES + 1)),
        (functions, function_of(40), function_of(41)),
        (
            functions,
            f"class A:\n    async {function_of(2).replace(chr(10), chr(10) + '    ')}",
            "async " + function_of(41),
        ),
        (functions, function_of(3), "def outer():\n    def inner():\n" + "        pass\n" * 40),
        (job, '"""The job."""\n', "import os\n"),
        (job, '#!/usr/bin/env python3\n"""The job."""\n', "#!/usr/bin/env python3\nimport os\n"),
        (job, 'r"""The job."""\n', '"""\nThe job.\n"""\n'),
        (names, "docker.io docker-cli", "index-url = https://py" + "pi.org/simple"),
        (names, "FROM python:3.13-slim", "FROM gh" + "cr.io/x"),
        (names, "$HOME/work/x ../root/x", 'PATH = "/ho' + 'me/someone/x"'),
        (names, "https://example.com/work/x", "cd /ro" + "ot/x"),
        (packages, GOOD, GOOD + "requests==2.32.3\n"),
        (packages, GOOD, GOOD.replace("urllib3==", "urllib3>=")),
        (packages, GOOD, re.sub("six==.*\n", "", GOOD)),
    ],
)
def test_a_breach_is_found(rule: Callable[[str], list[str]], good: str, bad: str) -> None:
    assert rule(good) == []
    assert rule(bad) != []
