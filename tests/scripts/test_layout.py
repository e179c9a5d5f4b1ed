"""The layout of the scripts: what has to stand where."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENTRY_POINTS = ("deploy.sh", "cleanup.sh", "sync.sh")
MOST_LINES = 450
# Which files a file may source: one way, but for the settings that users edit at the top of deploy.sh.
MAY_SOURCE = {
    "deploy.sh": r"part|local/local\.sh",
    "cleanup.sh": r"deploy\.sh|local/local\.sh",
    "sync.sh": r"deploy\.sh|local/local\.sh",
    "local/local.sh": r"local/machine\.sh",
}
LOG_PATTERNS = re.compile(
    r"synced key=|failed key=|reconciled end=|waited end=|lacking key=|action=(?:copied|deleted|\*)|lag=[*(]"
    r'|"visible":|ERROR outage|\\sERROR|outage over'
)
LOOK_FOR_LINES = {"lib/resources/dashboard.sh", "lib/resources/alarms.sh"}
FILES = [*(ROOT / name for name in ENTRY_POINTS), *ROOT.glob("lib/**/*.sh"), *ROOT.glob("local/*.sh")]
SCRIPTS = {str(file.relative_to(ROOT)): file.read_text() for file in FILES}


def functions(text: str) -> list[str]:
    return re.findall(r"^(\w+)\(\)", text, re.MULTILINE)


def code(text: str) -> str:
    """The text without comments, and so without its help."""
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def test_every_script_is_short_and_begins_by_saying_what_it_is_for() -> None:
    assert len(SCRIPTS) > 25
    for name, text in SCRIPTS.items():
        assert text.count("\n") <= MOST_LINES, name
        first, second = text.split("\n")[:2]
        assert first == ("# shellcheck shell=bash" if name.startswith("lib/") else "#!/usr/bin/env bash"), name
        assert second.startswith("# "), name


def test_arrows_go_down_only() -> None:
    above = {function for name in ENTRY_POINTS for function in functions(SCRIPTS[name])}
    called = re.compile(rf"(?:^\s*|\$\(|[|&;] |then |do |! )({'|'.join(sorted(above))})\b(?!\()", re.MULTILINE)
    for name, text in SCRIPTS.items():
        for target in re.findall(r'^ *source "\$(?:[^"]*?/)?([\w/]+(?:\.sh)?)"$', text, re.MULTILINE):
            assert re.fullmatch(MAY_SOURCE.get(name, "nothing"), target), (name, target)
        assert not name.startswith("lib/") or called.findall(code(text)) == [], name


def test_no_two_functions_share_a_name() -> None:
    """The one that is sourced last would take the place of the other."""
    names = [found for text in SCRIPTS.values() for found in functions(text) if found != "main"]
    assert sorted(names) == sorted(set(names))


def test_log_patterns_stand_where_the_dashboard_and_the_metric_filters_are_made() -> None:
    found = {name for name, text in SCRIPTS.items() if LOG_PATTERNS.findall(code(text))}
    assert {name for name in found if not name.startswith("local/")} == LOOK_FOR_LINES


def test_the_local_cloud_s_jq_takes_every_option_that_the_scripts_use() -> None:
    of_jq = "arg|argjson|slurpfile|rawfile|args|jsonargs|tab|indent|join-output|stream|unbuffered"
    used = {option for text in SCRIPTS.values() for option in re.findall(rf"--(?:{of_jq})\b", code(text))}
    assert "--slurpfile" in used
    assert [option for option in sorted(used) if f'"{option}"' not in (ROOT / "local/jq").read_text()] == []
    filters = [file.read_text() for file in ROOT.glob("lib/**/*.jq")]
    one_by_one = re.compile(r"input_filename|[:|(] ?input\b(?!_)")  # its library reads no files, and all inputs at once
    assert [name for name, text in SCRIPTS.items() if one_by_one.search(code(text))] == []
    assert not any(one_by_one.search(text) for text in filters)


OLDEST_PYTHON = (3, 9)  # of an operator (operate/__main__.py)


def imported(name: str) -> set[str]:
    """The files of ours that a file in Python imports, and so on."""
    found, left = set[str](), [name]
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            modules: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
            elif isinstance(node, ast.Import):
                modules = [one.name for one in node.names]
            files = [f"{module.replace('.', '/')}.py" for module in modules]
            left += [file for file in files if (ROOT / file).exists()]
    return found


def test_what_operators_run_in_python_is_for_their_oldest() -> None:
    entries = [str(file.relative_to(ROOT)) for folder in ("lib", "operate") for file in ROOT.glob(f"{folder}/**/*.py")]
    files = {file for entry in entries for file in imported(entry)}
    assert {"launch/path.py", "mirror/model/log_lines.py", "operate/verbs/status.py"} <= files
    for file in files:
        ast.parse((ROOT / file).read_text(), feature_version=OLDEST_PYTHON)
    for file in imported("operate/wanted.py"):  # which deploy.sh asks
        ast.parse((ROOT / file).read_text(), feature_version=(3, 7))
    modules = [file.removesuffix(".py").replace("/", ".") for file in files if not file.endswith("__main__.py")]
    python = shutil.which(f"python{OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]}")
    if python and subprocess.run([python, "--version"], capture_output=True).returncode == 0:  # pyenv may have none
        subprocess.run([python, "-B", "-c", f"import {', '.join(sorted(modules))}"], cwd=ROOT, check=True)


def test_a_verb_in_python_runs_from_anywhere_by_itself_and_leaves_nothing(tmp_path: Path) -> None:
    """What a user has in the folder at hand, or names in PYTHONPATH, does not take the place of a module."""
    project, folder = tmp_path / "project", tmp_path / "folder"
    for name in ("lib", "operate", "mirror", "launch"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("deploy.sh", "sync.sh"):
        shutil.copy(ROOT / name, project)
    folder.mkdir()
    for name in ("json", "operate", "mirror"):
        (folder / f"{name}.py").write_text("raise RuntimeError('not ours')\n")
    (folder / "sync").symlink_to(project / "sync.sh")

    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(folder), "LC_ALL": "C"}
    command = ["./sync", "status", "caf\u00e9\n"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True)
    said = "sync: status: unknown option caf\u00e9\\u000a (use --help)\n"
    assert (done.returncode, done.stderr.decode(), done.stdout) == (2, said, b"")
    assert [*project.rglob("__pycache__")] == []
