"""sync.sh, deploy.sh and cleanup.sh as they are called: help, version, and wrong usage, before any call of AWS."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from operated import split

ROOT = Path(__file__).parents[2]
ENTRY_POINTS = ("deploy.sh", "cleanup.sh", "sync.sh")
FILES = {file.stem: file for file in ROOT.glob("operate/verbs/[a-z]*.py")}
VERBS = sorted(FILES)
EVERY_HELP = [*((script, "--help") for script in ENTRY_POINTS), *(("sync.sh", verb, "--help") for verb in VERBS)]


def called(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of the scripts, where no call can reach AWS."""
    environment = {"PATH": "/usr/bin:/bin", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    return subprocess.run(
        [ROOT / script, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


@pytest.mark.parametrize("command", EVERY_HELP, ids=" ".join)
def test_every_help_is_the_head_of_its_file_in_80_columns(command: tuple[str, ...]) -> None:
    done = called(*command)
    assert (done.returncode, done.stderr) == (0, "")
    file = FILES[command[1]] if len(command) == 3 else ROOT / command[0]
    in_python = file.suffix == ".py"
    ends = r'^r?"""usage: .*?(?=\n""")' if in_python else r"^# usage: .*?(?=\n\n)"
    head = re.search(ends, file.read_text(), re.MULTILINE | re.DOTALL)
    assert head and done.stdout.startswith(re.sub('^(# ?|r?""")', "", head[0], flags=re.MULTILINE))
    assert done.stdout.startswith(f"usage: ./{' '.join(command[:-1])}")
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []
    if command == ("sync.sh", "--help"):
        assert re.findall(r"^  ([a-z]+)  +\w", done.stdout, re.MULTILINE) == VERBS


@pytest.mark.parametrize("script", ENTRY_POINTS)
def test_help_and_version_have_their_usual_names(script: str) -> None:
    ways = ["--help", "-h", "help", "--local -h"]
    assert len({called(script, *way.split()).stdout for way in ways}) == 1
    version = r"s3-to-s3express-sync \d+\.\d+\.\d+(-dev)?(, commit \w+)?\n"
    assert re.fullmatch(version, called(script, "--version").stdout)
    ways = ["wait --help", "help wait", "--help wait", "--local wait --prefix a -h", "wait --json --local -h"]
    assert script != "sync.sh" or len({called(script, *way.split()).stdout for way in ways}) == 1


@pytest.mark.parametrize("script", ENTRY_POINTS)
def test_an_older_bash_is_refused_with_what_to_install(script: str, tmp_path: Path) -> None:
    """Bash 4.4 is made too old by a script that needs 99.9."""
    for name in ("lib", "local", "mirror", "operate"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ENTRY_POINTS:
        text = (ROOT / name).read_text().replace("< 404)", "< 9909)")
        (tmp_path / name).write_text(text)
    done = subprocess.run(["bash", tmp_path / script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(r"sh needs Bash 4\.4 or newer, this is \d.* \(macOS: brew install bash\)$", done.stderr)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("sync.sh", "name a verb"),
        ("sync.sh --json", "name a verb"),
        ("sync.sh help destroy", "unknown verb destroy"),
        *((f"sync.sh {verb} --wrong", "unknown option --wrong") for verb in VERBS),
        ("sync.sh redrive everything", "unknown option everything"),
        ("sync.sh logs --since 5x", "--since 5x is not a duration"),
        ("sync.sh logs --since", "--since needs a value"),
        ("sync.sh reconcile --max-delete x", "reconcile: --max-delete x is not a whole number"),
        ("sync.sh reconcile --audit --remove-foreign", "--audit removes nothing: leave out --remove-foreign"),
        ("sync.sh reconcile --report - --json", "both print on stdout"),
        ("sync.sh verify --timeout soon", "--timeout soon is not a duration"),
        ("sync.sh verify --report /nowhere/report.md", "there is no such folder"),
        ("sync.sh verify --report .", "--report .: this file cannot be written"),
        ("sync.sh wait --timeout soon", "--timeout soon is not a duration such as 1h"),
        ("sync.sh wait --examples many", "--examples many is not a whole number"),
        ("sync.sh wait --prefix $'\\xff'", "wait: --prefix \\udcff is not UTF-8, as all keys are"),
        ("sync.sh explain a b", "name one key"),
        ("sync.sh explain -x", "goes after --"),
        ("sync.sh explain --since 3x a", "not a duration"),
        ("sync.sh explain ''", "1 to 1024 bytes, and this one has 0"),
        ("sync.sh explain $(printf 'ü%.0s' {1..513})", "and this one has 1026"),
        ("sync.sh explain $'\\xff'", "the key is not UTF-8"),
        ("sync.sh cost --days 0", "--days 0 is not a number of days such as 30"),
        ("sync.sh cost --days 456", "--days 456 is more than 455: CloudWatch has no older figures"),
        ("sync.sh cost --prices /nowhere", "the prices cannot be read: there is no file /nowhere"),
        ("sync.sh cost --reads 0", "--reads 0 is not a number of days from 1 to 99"),
        ("sync.sh cost --reads 7 --top 0", "--top 0 is not a number of folders"),
        ("sync.sh cost --reads 7 --top 251", "--top 251 is not a number of folders from 1 to 250"),
        ("sync.sh cost --reads 7 --folders a/,,b/", "has an empty item"),
        ("sync.sh cost --reads 7 --folders a/,logs", "--folders a/,logs: a folder ends with a slash, such as logs/"),
        (f"sync.sh cost --reads 7 --folders {'a/,' * 250}b/", "--folders names more than 250 folders"),
        ("sync.sh cost --reads 7 --days 3", "--reads cannot be combined with --days"),
        ("deploy.sh extra", "unknown option: extra"),
        ("deploy.sh --once", "--once needs --local"),
        ("deploy.sh --once --dry-run --local", "--local has no dry run"),
        ("cleanup.sh --local --dry-run", "--local has no dry run"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(command: str, complaint: str) -> None:
    done = called(*split(command))
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"\w+\.sh: .*\(use --help\)\n", done.stderr)
    assert complaint in done.stderr
