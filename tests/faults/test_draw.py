"""The faults that are drawn: what somebody could have written instead, in a file that can still be read."""

import subprocess

import pytest
from draw import Fault, drawn, language, product
from which_tests import candidates

# A line of Python or Bash, the kind of a fault, and what it makes of the line.
POSSIBLE = [
    ("if size < least: stop()", "comparison", "if size <= least: stop()"),
    ("if is_on: stop()", "comparison", "if not is_on: stop()"),
    ("delay = 2 * wait", "constant", "delay = 3 * wait"),
    ("delay = 3600", "unit", "delay = 60"),
    ("def f(source, destination): look(source)", "side", "def f(source, destination): look(destination)"),
    ("keys = [key for key in page]", "page", "keys = [key for key in list(page)[:1]]"),
    ("for page in pages:\n    count(page)", "page", "for page in pages:\n    count(page)\n    break"),
    ("days = row.get('Days', 1)", "default", "days = row.get('Days')"),
    ("def f(): raise Failure('no queue')", "swallowed error", "def f(): pass"),
    ("def f(): one_rule(); another_rule()", "order", "def f(): another_rule(); one_rule()"),
    ("rights = ['s3:GetObject', 's3:PutObject']", "missing case", "rights = ['s3:PutObject']"),
    ("f() { ((size < least)) || stop; }", "comparison", "f() { ((size <= least)) || stop; }"),
    ("f() { sleep 2; }", "constant", "f() { sleep 3; }"),
    ("f() { sleep $((minutes * 60)); }", "unit", "f() { sleep $((minutes * 3600)); }"),
    ('f() { g "$SRC_BUCKET" "$DST_BUCKET"; }', "side", 'f() { g "$DST_BUCKET" "$DST_BUCKET"; }'),
    ("f() { jq '.Rules[] | .ID'; }", "page", "f() { jq '.Rules[0] | .ID'; }"),
    ('f() { g "${DAYS:-1}"; }', "default", 'f() { g "${DAYS:-}"; }'),
    ("f() { [[ -n $1 ]] || die 'no queue'; }", "swallowed error", "f() { [[ -n $1 ]] || true; }"),
    ("f() {\n  one_rule\n  another_rule\n}", "order", "f() {\n  another_rule\n  one_rule\n}"),
    ("f() { aws sqs purge-queue --queue-url $1; }", "missing case", "f() { aws sqs purge-queue; }"),
    ("f() { case $1 in a) one ;; b) another ;; esac }", "missing case", "f() { case $1 in a) one ;;  esac }"),
    ("f() { jq 'map(select(.is_ours))'; }", "missing case", "f() { jq 'map(.)'; }"),
]


@pytest.mark.parametrize(("line", "kind", "fault"), POSSIBLE)
def test_it_could_be_drawn(line: str, kind: str, fault: str) -> None:
    file = "a.sh" if line.startswith("f()") else "a.py"
    find, is_other = language(file, line)
    source = f"{line}\n".encode()
    found = {edit.applied(source) for edit in find(source) if edit.kind == kind}
    assert f"{fault}\n".encode() in found
    assert is_other(f"{fault}\n".encode(), source)


def is_readable(fault: Fault, changed: str) -> bool:
    if fault.file.endswith(".py"):
        return bool(compile(changed, fault.file, "exec", dont_inherit=True))
    return subprocess.run(["bash", "-n"], input=changed, text=True).returncode == 0


@pytest.mark.parametrize("folder", ["launch", "scripts"])
def test_what_is_drawn_is_another_file_that_can_be_read(folder: str) -> None:
    faults = list(drawn("any word", folder, 9))
    assert len({fault.place for fault in faults}) == 9
    for fault in faults:
        changed = fault.planted(product()[fault.file])
        assert changed != product()[fault.file]
        assert is_readable(fault, changed)


# Lines that were changed -> the tests that look for the fault first.
FIRST = [
    ("lib/resources/source_bucket.sh", '"its own Region: set REGION=$region and a source there"', "refusals"),
    ("lib/resources/cluster.sh", "vCPUs, the account's Fargate Spot quota is $quota: lower one of", "checks"),
    ("lib/resources/queue.sh", "", "documents"),
    ("launch/watchers.py", "vCPUs, the account's Fargate Spot quota is", "watchers"),
]


@pytest.mark.parametrize(("file", "changed", "first"), FIRST)
def test_those_that_have_the_words_of_a_fault_come_first(file: str, changed: str, first: str) -> None:
    assert candidates(file, changed)[0] == f"scripts/test_{first}.py"


def test_there_are_tests_that_can_see_faults_in_each_file() -> None:
    assert [file for file in product() if not candidates(file)] == []
