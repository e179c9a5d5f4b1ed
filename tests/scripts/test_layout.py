"""The layout of the scripts: what has to stand where."""

import re
from collections.abc import Iterator
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
    r'|"visible":|ERROR outage|outage over'
)
Files = dict[str, str]  # path in the project -> text


def scripts() -> Files:
    """Every script of the product."""
    files = [*(ROOT / name for name in ENTRY_POINTS), *ROOT.glob("lib/**/*.sh"), *ROOT.glob("local/*.sh")]
    return {str(file.relative_to(ROOT)): file.read_text() for file in files}


def functions(text: str) -> list[str]:
    return re.findall(r"^(\w+)\(\)", text, re.MULTILINE)


def code(text: str) -> str:
    """The text without comments, and so without its help."""
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def lengths(files: Files) -> Iterator[str]:
    yield from (f"{name} is too long" for name, text in files.items() if text.count("\n") > MOST_LINES)


def heads(files: Files) -> Iterator[str]:
    for name, text in files.items():
        first, second = text.split("\n")[:2]
        wanted = "# shellcheck shell=bash" if name.startswith("lib/") else "#!/usr/bin/env bash"
        if first != wanted or not second.startswith("# "):
            yield f"{name} does not begin by saying what it is for"


def arrows(files: Files) -> Iterator[str]:
    for name, text in files.items():
        for target in re.findall(r'^ *source "\$(?:[^"]*?/)?([\w/]+(?:\.sh)?)"$', text, re.MULTILINE):
            if not re.fullmatch(MAY_SOURCE.get(name, "nothing"), target):
                yield f"{name} may not source {target}"
    above = {function for name in ENTRY_POINTS for function in functions(files.get(name, ""))}
    called = re.compile(rf"(?:^\s*|\$\(|[|&;] |then |do |! )({'|'.join(sorted(above))})\b(?!\()", re.MULTILINE)
    for name, text in files.items():
        if name.startswith("lib/"):
            yield from (f"{name} calls {found} of an entry point" for found in called.findall(code(text)))


def names(files: Files) -> Iterator[str]:
    """Of two functions of the same name the one that is sourced last takes the place of the other."""
    defined = [(found, name) for name, text in files.items() for found in functions(text) if found != "main"]
    first = dict(reversed(defined))
    yield from (f"{first[found]} and {name} both have {found}" for found, name in defined if first[found] != name)


def log_patterns(files: Files) -> Iterator[str]:
    for name, text in files.items():
        if name.startswith(("lib/", *ENTRY_POINTS)) and name != "lib/log_lines.sh":
            yield from (f"{name} has the log pattern {found} of its own" for found in LOG_PATTERNS.findall(code(text)))


def breaches(files: Files) -> list[str]:
    return [breach for rule in (lengths, heads, arrows, names, log_patterns) for breach in rule(files)]


def test_the_scripts_are_laid_out_as_agreed() -> None:
    assert breaches(scripts()) == []
    assert len(scripts()) > 30


def test_the_local_cloud_s_jq_takes_every_option_that_the_scripts_use() -> None:
    of_jq = "arg|argjson|slurpfile|rawfile|args|jsonargs|tab|indent|join-output|stream|unbuffered"
    used = {option for text in scripts().values() for option in re.findall(rf"--(?:{of_jq})\b", code(text))}
    assert "--slurpfile" in used
    assert [option for option in sorted(used) if f'"{option}"' not in (ROOT / "local/jq").read_text()] == []
