"""The layout of the scripts: what has to stand where, shown also on copies in which it does not."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENTRY_POINTS = ("deploy.sh", "cleanup.sh", "sync.sh")
MOST_LINES = 450
# What a deployment calls a kind of resource, if the list of cleanup.sh has another name for it.
REMOVED_AS = {"dead-letter queue": "queue", "image": "repository", "gateway endpoint": "vpc_endpoint"}
STAYS = {"service-linked role", "tag"}  # the account's, not ours; what goes with that which has it
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


def scripts(root: Path) -> dict[str, str]:
    """Path in the project -> text of every script of the product."""
    files = [*(root / name for name in ENTRY_POINTS), *root.glob("lib/**/*.sh"), *root.glob("local/*.sh")]
    return {str(file.relative_to(root)): file.read_text() for file in files}


def functions(text: str) -> dict[str, int]:
    """Function -> its number of lines."""
    found = re.finditer(r"^(\w+)\(\) (?:\{[^\n]*\}$|[{(]\n.*?\n[})]$)", text, re.MULTILINE | re.DOTALL)
    return {match[1]: match[0].count("\n") + 1 for match in found}


def code(text: str) -> str:
    """The text without comments, and so without its help."""
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def words_of_list(text: str, name: str) -> list[str]:
    """The members of an array that is written out as NAME=( ... )."""
    found = re.search(rf"{name}=\((.*?)\)", text, re.DOTALL)
    return found[1].split() if found else []


def lengths(files: dict[str, str]) -> Iterator[str]:
    for name, text in files.items():
        if text.count("\n") > MOST_LINES:
            yield f"{name} is too long"


def heads(files: dict[str, str]) -> Iterator[str]:
    for name, text in files.items():
        first, second = text.split("\n")[:2]
        wanted = "# shellcheck shell=bash" if name.startswith("lib/") else "#!/usr/bin/env bash"
        if first != wanted or not second.startswith("# "):
            yield f"{name} does not begin by saying what it is for"


def arrows(files: dict[str, str]) -> Iterator[str]:
    for name, text in files.items():
        for target in re.findall(r'^ *source "\$(?:[^"]*?/)?([\w/]+(?:\.sh)?)"$', text, re.MULTILINE):
            if not re.fullmatch(MAY_SOURCE.get(name, "nothing"), target):
                yield f"{name} may not source {target}"
    above = {function for name in ENTRY_POINTS for function in functions(files[name])}
    called = re.compile(rf"(?:^\s*|\$\(|[|&;] |then |do |! )({'|'.join(sorted(above))})\b(?!\()", re.MULTILINE)
    for name, text in files.items():
        if name.startswith("lib/"):
            yield from (f"{name} calls {found} of an entry point" for found in called.findall(code(text)))


def kinds(files: dict[str, str]) -> Iterator[str]:
    removed = words_of_list(files["cleanup.sh"], "KINDS")
    resources = {name: functions(text) for name, text in files.items() if name.startswith("lib/resources/")}
    for kind in removed:
        if not any({f"list_{kind}", f"remove_{kind}"} <= found.keys() for found in resources.values()):
            yield f"no file has both list_{kind} and remove_{kind}"
    for found in resources.values():
        orphans = {name.removeprefix("remove_") for name in found if name.startswith("remove_")} - {*removed}
        yield from (f"cleanup.sh never calls remove_{kind}" for kind in sorted(orphans))
    steps = set(re.findall(r"\bensure_\w+", code(files["deploy.sh"])))
    known = {function for found in resources.values() for function in found}
    yield from (f"lib/resources/ has no {step}" for step in sorted(steps - known))
    for kind in made_kinds(files) - STAYS:
        if REMOVED_AS.get(kind, kind).replace(" ", "_") not in [*removed, "bucket_lifecycle"]:
            yield f"nothing removes what is made as {kind}"
    if len(removed) != len(set(removed)):
        yield "cleanup.sh removes a kind twice"


def made_kinds(files: dict[str, str]) -> set[str]:
    """The first words of the lines of a deployment: begin KIND NAME, or the KIND that a function hands to begin."""
    text = "\n".join(code(text) for name, text in files.items() if name.startswith("lib/resources/"))
    found = re.findall(r'^ +begin (?:"([\w -]+)"|(\w+)) ', text, re.MULTILINE)
    for function in re.findall(r'^(\w+)\(\) \{\n(?:  .*\n)*?  begin "\$1" ', text, re.MULTILINE):
        found += re.findall(rf'\b{function} (?:"([\w -]+)"|(\w+)) ', text)
    return {quoted or word for quoted, word in found}


def verbs(files: dict[str, str]) -> Iterator[str]:
    known = words_of_list(files["sync.sh"], "VERBS")
    there = [Path(name).stem for name in files if name.startswith("lib/verbs/")]
    yield from (f"sync.sh does not know {verb}" for verb in sorted({*there} - {*known}))
    for verb in known:
        text = files.get(f"lib/verbs/{verb}.sh", "")
        if not re.match(
            rf"# shellcheck shell=bash\n# usage: ./sync.sh {verb}\b.*\n(#  .*\n)*#\n# \w.*\n#\n(#.*\n)+\n", text
        ):
            yield f"lib/verbs/{verb}.sh does not begin with its help"
        if f"verb_{verb}" not in functions(text):
            yield f"lib/verbs/{verb}.sh has no verb_{verb}"


def names(files: dict[str, str]) -> Iterator[str]:
    """Of two functions of the same name the one that is sourced last takes the place of the other."""
    defined = [(found, name) for name, text in files.items() for found in sorted(one_liners(text)) if found != "main"]
    first = dict(reversed(defined))
    yield from (f"{first[found]} and {name} both have {found}" for found, name in defined if first[found] != name)


def one_liners(text: str) -> set[str]:
    return set(re.findall(r"^(\w+)\(\)", text, re.MULTILINE))


def asked_facts(files: dict[str, str]) -> Iterator[str]:
    """Each fact has the function that asks for it, or is kept by somebody."""
    text = "\n".join(map(code, files.values()))
    asked = set(re.findall(r"\b(?:fact|fact_or_reason|latest) ([a-z]\w*)", text))
    asked |= set(re.findall(r"[a-z]\w*", re.sub(r"\$\w+", "", questions(files))))
    kept = set(re.findall(r"\bkeep ([a-z]\w*)(?= \"| <<<|$)", text, re.MULTILINE))
    defined = set(re.findall(r"^ask_(\w+)\(\)", text, re.MULTILINE))
    yield from (f"nothing says what the fact {name} is" for name in sorted(asked - kept - defined))
    yield from (f"nobody asks for the fact {name}" for name in sorted(kept - asked - {"created"}))


def questions(files: dict[str, str]) -> str:
    return " ".join(re.findall(r"questions\+?=\((.*?)\)", code(files["deploy.sh"]), re.DOTALL))


def log_patterns(files: dict[str, str]) -> Iterator[str]:
    for name, text in files.items():
        if name.startswith(("lib/", *ENTRY_POINTS)) and name != "lib/log_lines.sh":
            yield from (f"{name} has the log pattern {found} of its own" for found in LOG_PATTERNS.findall(code(text)))


def faults(root: Path) -> list[str]:
    files = scripts(root)
    return [
        fault
        for rule in (lengths, heads, arrows, kinds, verbs, names, asked_facts, log_patterns)
        for fault in rule(files)
    ]


def test_the_scripts_are_laid_out_as_agreed() -> None:
    assert faults(ROOT) == []
    assert len(scripts(ROOT)) > 30
    assert len(made_kinds(scripts(ROOT))) > 15


PLANTED = {
    "lib/report.sh is too long": ("lib/report.sh", "$", ":\n" * MOST_LINES),
    "lib/names.sh does not begin by saying what it is for": ("lib/names.sh", r"^(.*\n)# .*", r"\1"),
    "lib/names.sh may not source deploy.sh": ("lib/names.sh", "$", 'source "$PROJECT_DIR/deploy.sh"\n'),
    "lib/names.sh calls deploy_all of an entry point": ("lib/names.sh", "$", "again() {\n  deploy_all\n}\n"),
    "no file has both list_topic and remove_topic": ("lib/resources/alarms.sh", r"list_topic\(\)", "show_topic()"),
    "cleanup.sh never calls remove_alarm": ("cleanup.sh", " alarm rule", " rule"),
    "nothing removes what is made as alarm": ("cleanup.sh", " alarm rule", " rule"),
    "nothing removes what is made as dead-letter queue": ("cleanup.sh", " queue\n  metric_filter", "\n  metric_filter"),
    "cleanup.sh removes a kind twice": ("cleanup.sh", " alarm rule", " alarm alarm rule"),
    "lib/resources/ has no ensure_rule": ("lib/resources/eventbridge.sh", r"ensure_rule\(\)", "make_rule()"),
    "sync.sh does not know logs": ("sync.sh", r"=\(status logs", "=(status"),
    "lib/verbs/logs.sh does not begin with its help": ("lib/verbs/logs.sh", "^# usage: ", "# how to: "),
    "lib/verbs/logs.sh has no verb_logs": ("lib/verbs/logs.sh", "^verb_logs", "show_logs"),
    "lib/wanted.sh and lib/verbs/logs.sh both have wanted": ("lib/verbs/logs.sh", "$", "wanted() { :; }\n"),
    "nothing says what the fact cluster is": ("lib/resources/cluster.sh", r"ask_cluster\(\)", "find_cluster()"),
    "nothing says what the fact quotas is": ("deploy.sh", " quota ", " quotas "),
    "lib/verbs/status.sh has the log pattern failed key= of its own": (
        "lib/verbs/status.sh",
        r'\$\(like "\$FAILED_LINE"\)',
        "filter @message like /failed key=/",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_fault_in_the_layout_is_found(fault: str, tmp_path: Path) -> None:
    for name in scripts(ROOT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    file, pattern, replacement = PLANTED[fault]
    text = (tmp_path / file).read_text()
    flags = re.MULTILINE if pattern != "$" else 0
    end = pattern if pattern != "$" else r"\Z"
    changed = re.sub(
        end, replacement if pattern.startswith("^(") else lambda _: replacement, text, count=1, flags=flags
    )
    assert changed != text
    (tmp_path / file).write_text(changed)
    assert fault in faults(tmp_path)


def test_the_local_cloud_s_jq_takes_every_option_that_the_scripts_use() -> None:
    of_jq = "arg|argjson|slurpfile|rawfile|args|jsonargs|tab|indent|join-output|stream|unbuffered"
    used = {option for text in scripts(ROOT).values() for option in re.findall(rf"--(?:{of_jq})\b", code(text))}
    assert "--slurpfile" in used
    assert [option for option in sorted(used) if f'"{option}"' not in (ROOT / "local/jq").read_text()] == []
