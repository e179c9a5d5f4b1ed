"""The rules of shape of the house, and what CONTRIBUTING.md names."""

import re
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import budgets
import inner
import said
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mirror.model.checks import TABLE

ROOT = Path(__file__).parents[2]
MOST_LINES = 450


def product() -> budgets.Texts:
    return {name: text for name, text in budgets.files().items() if budgets.room(name) != "tests"}


def test_no_file_of_the_product_is_long() -> None:
    texts = product()
    assert len(texts) > 100
    assert {name: text.count("\n") for name, text in texts.items() if text.count("\n") > MOST_LINES} == {}


def test_every_python_file_of_the_product_says_its_job_in_its_first_line() -> None:
    """The line after "#!", if there is one."""
    texts = {name: text for name, text in product().items() if budgets.is_python(name, text)}
    assert len(texts) > 10
    assert [path for path, text in texts.items() if not re.match(r'(#!.*\n)?r?"""\w', text)] == []


def pulled_in(package: str, extras: set[str]) -> set[str]:
    """The package and all that it requires with these extras, by what is installed."""
    found: set[str] = {canonicalize_name(package)}
    for line in requires(package) or []:
        needed = Requirement(line)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            found |= pulled_in(needed.name, needed.extras)
    return found


def test_the_worker_runs_on_boto3_with_the_crt_and_what_they_pull_in() -> None:
    """Each in an exact version, with its hashes."""
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    exact = re.compile(r"\S+==[\w.]+( --hash=sha256:[0-9a-f]{64})+")
    assert [line for line in lines if not exact.fullmatch(line)] == []

    names = {canonicalize_name(Requirement(line.split()[0]).name) for line in lines}
    assert names == pulled_in("boto3", {"crt"})


# No setting is without a reader


# How the readers that settings.table names read a setting: as a field of Settings, from the checked settings or, where
# those come too late, from the environment, and as a variable of the scripts.
READS = {
    "worker": (("mirror/", "worker.py"), r"\.{lower}\b"),
    "starter": (("launch/", "mirror/", "starter.py"), r"""(\[|get\()"{name}"[]),]"""),
    "deploy": (("lib/", "deploy.sh", "cleanup.sh", "local/"), r"\$\{{?{name}\b"),
}
READERS = {"both": ("worker", "starter")}
# The block of deploy.sh names each setting, and checks are no use of one.
NO_READS = re.compile(r"^: .*|^ *usage .*", re.MULTILINE)


def unread_settings(texts: budgets.Texts) -> Iterator[str]:
    """ "NAME: READER" of each setting that its reader is given, and does not read."""
    for setting in TABLE:
        for reader in READERS.get(setting.reader, (setting.reader,)):
            places, form = READS[reader]
            pattern = re.compile(form.format(name=setting.name, lower=setting.name.lower()))
            code = (NO_READS.sub("", text) for name, text in texts.items() if name.startswith(places))
            if not any(map(pattern.search, code)):
                yield f"{setting.name}: {reader}"


def test_each_setting_is_read_by_its_reader() -> None:
    assert len(TABLE) > 50
    assert list(unread_settings(product())) == []


# What tests know of the inside


def test_no_test_gives_a_bash_function_of_ours_another_body() -> None:
    assert list(inner.stubs(budgets.files())) == []


def test_no_test_names_a_bash_function_that_is_not_for_others() -> None:
    assert list(inner.inner_names(budgets.files())) == []


def test_no_test_names_a_python_function_that_is_not_for_others() -> None:
    assert list(inner.inner_imports(budgets.files())) == []


def test_no_test_sets_an_attribute_of_ours() -> None:
    assert list(inner.patches(budgets.files())) == []


# What the product says


def test_every_refusal_remark_and_printed_sentence_is_named_by_a_test() -> None:
    """By three of its words. Most are in tables: test_refusals.py, test_settings.py and test_sync.py of scripts/."""
    texts = budgets.files()
    found = list(said.all_said(texts))
    assert len(found) > 300
    assert said.unnamed(found, texts) == []


WRITTEN = {
    "lib/a.sh": """
f() { [[ -n $x ]] || die "$x: the moon is" "not in $place: wait"; }
rows=('a|b c|the sun sets here')
printf 'the cold wind blows over %s\\n' "$x" && printf 'map one two-three four five\\n'
jq '"\\(.a | f("no sentence")) birds fly " + "over seas at night", "+", "[a-z]{2}|[^a-z]{3}|none"'
""",
    "operate/a.py": """
def f(x):
    yield f"there are {x} clouds over the sea"
    raise Failure(f"{x} is not a star" if x else "no")
""",
    "tests/scripts/test_a.py": "said = 'x: the moon is not', 'clouds over the', 'cold wind blows over'",
}


def test_what_no_test_names_is_found_in_both_languages() -> None:
    found = list(said.all_said(WRITTEN))
    assert len(found) == 6
    left = ["the sun sets here", "birds fly over seas at night", "is not a star"]
    assert [" ".join(one.text.strip("\0 ").split()) for one in said.unnamed(found, WRITTEN)] == left


# CONTRIBUTING.md names only what is there


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_path_it_names_is_there() -> None:
    named = {name for name in re.findall(r"`([\w./-]+)`", CONTRIBUTING) if "/" in name or name.endswith((".py", ".sh"))}
    assert len(named) > 30
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


FOLDERS = ("launch", "lib", "lib/resources", "local", "mirror", "operate", "operate/verify")
FOLDERS += tuple(f"mirror/{name}" for name in ("aws", "model", "options", "protocol", "queue", "readers"))


PICTURES = re.findall(r"^```\w*\n(.*?)^```$", CONTRIBUTING, re.MULTILINE | re.DOTALL)


def test_its_picture_shows_every_file() -> None:
    picture = PICTURES[0]
    kinds = ("*.py", "*.sh", "*.jq", "*.json")
    files = {path.name for folder in FOLDERS for kind in kinds for path in (ROOT / folder).glob(kind)}
    assert sorted(files - set(re.findall(r"[\w.]+", picture)) - {"__init__.py"}) == []


def test_its_map_of_the_tests_shows_every_helper() -> None:
    shown = next(picture for picture in PICTURES if picture.startswith("tests/protocol/"))
    names = {path.name for path in (ROOT / "tests").rglob("*.py")}
    helpers = {name for name in names if not name.startswith(("test_", "standin_")) and name != "conftest.py"}
    assert sorted(helpers - set(re.findall(r"[\w.]+", shown))) == []
