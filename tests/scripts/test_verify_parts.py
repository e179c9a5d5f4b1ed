"""The parts of ./sync.sh verify that judge: what has arrived, what differs, what could not be removed, how it ends.

Each is called alone, with what AWS would answer. A whole run is in test_verify.py.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import sourced

ROOT = Path(__file__).parents[2]
ASSUMPTIONS = json.loads((ROOT / "lib/verify/assumptions.json").read_text())
CHECKS = ("small", "tagged", "encoded", "double", "trailing", "name", "changed", "multipart", "large")
CONDITIONS = {
    "CopyObject": "conditional-copy",
    "CompleteMultipartUpload": "conditional-complete",
    "DeleteObject": "conditional-delete",
}
START = """
source "$0/sync.sh"
set_names
TEMP_DIR=$PWD VERIFY_DIR=$PWD VERIFY_FOLDER=F/ VIA='' RESOURCE=verify
SRC_BUCKET=source DST_BUCKET=mirror SRC_BUCKET_OWNER=123456789012 DST_BUCKET_OWNER=123456789012
choose_cases true 5368709120
"""
LISTED = """
in_source() { cat source; }
in_mirror() { cat mirror; }
"""


bash = functools.partial(sourced.alone, START)


def listing(*objects: tuple[str, str, int]) -> str:
    """Of objects with their ETag and size, as ListObjectsV2 answers it."""
    found = [
        {"Key": f"F/{key}", "ETag": f'"{etag}"', "Size": size, "LastModified": "2026-11-25T01:02:03+00:00"}
        for key, etag, size in objects
    ]
    return json.dumps({"Contents": found} if found else {})


# What has failed permanently

FAILURES = r"""
VERIFY_ROUND_AT=1782864000 CASES=(small name tagged)
CASE_KEY=([small]=small.txt [name]=name.txt [tagged]=tagged.txt)
CASE_STATE=([small]=missing [name]=missing [tagged]=missing)
cat >worker.lines
note_failures
jq -r '"\(.link): \(.why)"' breaks
"""


def test_a_failure_counts_from_its_second_attempt_on_or_if_it_is_the_only_one(tmp_path: Path) -> None:
    failed = {"small.txt": "attempt=2/3 ", "tagged.txt": "attempt=1/3 ", "name.txt": ""}
    lines = [
        {"stream": "s", "message": f'2026-07-01T00:00:01.5Z ERROR failed key="{key}" {attempt}denied {key[0]}'}
        for key, attempt in failed.items()
    ]
    done = bash(FAILURES, tmp_path, text="".join(json.dumps(line) + "\n" for line in lines))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["no copy: name.txt: denied n", "no copy: small.txt: denied s"]


# What has arrived

SMALL = ("small.txt", "aa", 7)
DELETED = ("deleted.txt", "bb", 9)
ARRIVED = """
list_folder in_source
list_folder in_mirror
mv mirror.new mirror
list_folder in_mirror
if has_arrived "$@"; then echo yes; else echo no; fi
"""


@pytest.mark.parametrize(
    ("case", "before", "now", "arrived"),
    [
        ("listed small", [], [SMALL], "yes"),
        ("listed small", [], [], "no"),
        ("listed small", [], [("small.txt", "aa", 6)], "no"),
        ("listed small", [SMALL], [], "no"),
        ("listed small", [], [DELETED], "no"),
        ("changed deleted", [DELETED], [DELETED], "no"),
        ("changed deleted", [DELETED, SMALL], [SMALL], "yes"),
        ("gone small", [SMALL], [SMALL], "no"),
        ("gone small", [SMALL, DELETED], [DELETED], "yes"),
    ],
)
def test_what_has_arrived_is_there_with_its_size_or_gone(
    case: str,
    before: list[tuple[str, str, int]],
    now: list[tuple[str, str, int]],
    arrived: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "source").write_text(listing(SMALL, DELETED))
    (tmp_path / "mirror").write_text(listing(*before))
    (tmp_path / "mirror.new").write_text(listing(*now))
    done = bash(LISTED + ARRIVED, tmp_path, *case.split())
    assert (done.stdout, done.returncode) == (f"{arrived}\n", 0), done.stderr


@pytest.mark.parametrize(
    ("copied_from", "arrived"),
    [
        ("aa 2026-11-25T01:02:03Z 7 v1", "yes"),
        ("ab 2026-11-25T01:02:03Z 7 v1", "no"),  # the version before
        ("aa 2026-11-25T01:02:02Z 7 v1", "no"),
        ("aa 2026-11-25T01:02:03Z 70 v1", "no"),
        ("", "no"),
        (None, "no"),
    ],
)
def test_a_change_has_arrived_when_the_copy_was_made_from_the_source_as_it_is_now(
    copied_from: str | None, arrived: str, tmp_path: Path
) -> None:
    metadata = {} if copied_from is None else {"sync-source": copied_from}
    (tmp_path / "source").write_text(listing(("overwritten.txt", "aa", 7)))
    (tmp_path / "mirror").write_text(json.dumps({"Metadata": metadata}))
    script = f'{LISTED}list_folder in_source\nget_mirror "$2"\n{ARRIVED.splitlines()[-1]}'
    done = bash(script, tmp_path, "changed", "overwritten")
    assert (done.stdout, done.returncode) == (f"{arrived}\n", 0), done.stderr


# What the copies are like

PUT = {
    "ContentType": "text/plain",
    "CacheControl": "max-age=60",
    "ContentDisposition": "inline",
    "ContentEncoding": "gzip",
    "ContentLanguage": "en",
    "Metadata": {"colour": "blue"},
    "TagCount": 2,
}
COPY = {name: value for name, value in PUT.items() if name != "TagCount"} | {
    "Metadata": {"colour": "blue", "sync-source": "aa"},
    "StorageClass": "EXPRESS_ONEZONE",
}


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, "equal"),
        *(({name: "other"}, f"different: {name}") for name in PUT if name.startswith("C")),
        ({"CacheControl": None}, "different: CacheControl"),
        ({"Metadata": {"colour": "red", "sync-source": "aa"}}, "different: Metadata"),
        ({"Metadata": {"sync-source": "aa"}}, "different: Metadata"),
        ({"Metadata": {"colour": "blue"}}, "different: sync-source"),
        (
            {
                "ContentEncoding": None,
                "Metadata": {"colour": "blue", "sync-source": "aa", "sync-content-encoding": "gzip"},
            },
            "equal",
        ),
        (
            {
                "ContentEncoding": None,
                "Metadata": {"colour": "blue", "sync-source": "aa", "sync-content-encoding": "br"},
            },
            "different: ContentEncoding, Metadata",
        ),
        ({"ContentType": "text/csv", "ContentLanguage": "zh"}, "different: ContentLanguage, ContentType"),
    ],
)
def test_each_field_that_a_copy_carries_is_compared(changed: dict[str, Any], wanted: str, tmp_path: Path) -> None:
    copy = {name: value for name, value in (COPY | changed).items() if value is not None}
    (tmp_path / "in_source.encoded.json").write_text(json.dumps(PUT))
    (tmp_path / "in_mirror.encoded.json").write_text(json.dumps(copy))
    done = bash("compared_metadata encoded", tmp_path)
    assert (done.stdout, done.returncode) == (f"{wanted}\n", 0), done.stderr


@pytest.mark.parametrize(
    ("name", "put", "source", "mirror", "wanted"),
    [
        ("small", "a", "a", "a", "equal"),
        ("small", "a", "a", "b", "different"),
        ("small", "a", "a", "", "different"),
        ("small", "a", "b", "b", "different"),
        ("empty", "", "", "", "equal"),
        ("large", "seed", "part", "part", "equal"),
        ("large", "seed", "part", "seed", "different"),
    ],
)
def test_bytes_are_compared_with_what_was_put_on_both_sides(
    name: str, put: str, source: str, mirror: str, wanted: str, tmp_path: Path
) -> None:
    for file, text in {
        f"body.{name}": put,
        f"in_source.{name}.body": source,
        f"in_mirror.{name}.body": mirror,
    }.items():
        (tmp_path / file).write_text(text)
    done = bash('compared_bytes "$1"', tmp_path, name)
    assert (done.stdout, done.returncode) == (f"{wanted}\n", 0), done.stderr


WHOLE, OF_PARTS = {"ChecksumType": "FULL_OBJECT"}, {"ChecksumType": "COMPOSITE"}


@pytest.mark.parametrize(
    ("source", "mirror", "wanted"),
    [
        (WHOLE | {"ChecksumCRC32": "a"}, WHOLE | {"ChecksumCRC32": "a"}, "equal"),
        (WHOLE | {"ChecksumCRC32": "a"}, WHOLE | {"ChecksumCRC32": "b"}, "different"),
        (WHOLE | {"ChecksumCRC32": "a"}, {}, "none"),
        (WHOLE | {"ChecksumCRC32": "a"}, WHOLE | {"ChecksumCRC64NVME": "a"}, "-"),
        (OF_PARTS | {"ChecksumCRC32": "a-2"}, WHOLE | {"ChecksumCRC32": "b"}, "-"),
        ({}, WHOLE | {"ChecksumCRC32": "a"}, "-"),
        ({}, {}, "-"),
    ],
)
def test_checksums_of_the_whole_object_by_one_algorithm_are_compared(
    source: dict[str, str], mirror: dict[str, str], wanted: str, tmp_path: Path
) -> None:
    (tmp_path / "in_source.small.json").write_text(json.dumps(source))
    (tmp_path / "in_mirror.small.json").write_text(json.dumps(mirror))
    done = bash("compared_checksum small", tmp_path)
    assert (done.stdout, done.returncode) == (f"{wanted}\n", 0), done.stderr


# What it ends with

RESULT = {"name": "small", "state": "arrived", "bytes": "equal", "metadata": "equal"}
REMOVED = {"name": "removed", "state": "arrived", "bytes": "-", "metadata": "-"}


@pytest.mark.parametrize(
    ("changed", "is_well"),
    [
        ({}, True),
        ({"state": "missing"}, False),
        ({"state": "failed"}, False),
        ({"state": "not asked"}, False),
        ({"bytes": "different"}, False),
        ({"metadata": "different: CacheControl"}, False),
        ({"checksum": "different"}, False),
        ({"breaks": [{"link": "no copy"}]}, False),
    ],
)
def test_all_is_well_only_if_nothing_differs(changed: dict[str, Any], is_well: bool, tmp_path: Path) -> None:
    result = {"breaks": changed.pop("breaks", []), "results": [REMOVED, RESULT | changed]}
    (tmp_path / "result").write_text(json.dumps(result))
    assert bash("is_all_well <result", tmp_path).returncode == int(not is_well)


# What it says of the things that are believed of AWS

WELL: dict[str, Any] = {
    "results": [RESULT | {"name": name, "checksum": "equal"} for name in CHECKS]
    + [{"name": name, "state": "arrived", "bytes": "-", "metadata": "-"} for name in ("deleted", "removed")],
    "times": {"started": 50},
    "breaks": [],
    "encoding": "gzip",
    "refused": [],
    "page": {"keys": 12, "more": False},
    "conditions": {"copy": "PreconditionFailed", "part": "PreconditionFailed"},
    "etags": [{"first": "a", "last": "b"}, {"first": "c", "last": "d"}],
    "bench": {"pages": {"destination": {"count": 3, "least": 3, "keys": 1000}}},
}


def outcomes(folder: Path, result: dict[str, Any]) -> dict[str, str]:
    (folder / "result").write_text(json.dumps(result))
    done = bash("print_assumptions <result", folder)
    assert done.returncode == 0, done.stderr
    *lines, blank, more = done.stdout.splitlines()
    untested = list(ASSUMPTIONS.values()).count(None)
    assert (blank, more) == ("", f"- {untested} more that no run can show: docs/evidence.md")
    rows = [line.strip("| ").split("|") for line in lines[2:]]
    return {name.strip().strip("`"): outcome.strip() for name, outcome in rows}


def test_a_run_that_went_well_confirms_all_that_it_can_test(tmp_path: Path) -> None:
    found = outcomes(tmp_path, WELL)
    assert found == {name: "confirmed" for name, check in ASSUMPTIONS.items() if check}


def without(name: str, **changed: str) -> dict[str, Any]:
    """The run that went well, but for one object."""
    return {"results": [row | changed if row["name"] == name else row for row in WELL["results"]]}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"encoding": ""}, {"gzip": "refuted: kept as sync-content-encoding"}),
        ({"refused": [*CONDITIONS]}, dict.fromkeys(CONDITIONS.values(), "refuted: refused")),
        *(({"refused": [write]}, {CONDITIONS[write]: "refuted: refused"}) for write in CONDITIONS),
        ({"page": {"keys": 10, "more": True}}, {"pages": "refuted: 10 keys in a page"}),
        (
            {"bench": {"pages": {"destination": {"count": 30, "least": 3, "keys": 100}}}},
            {"pages": "refuted: 100 keys in a page"},
        ),
        ({"bench": None}, {"pages": "not tested"}),
        (without("double", state="failed"), {"double-slash": "refuted: not copied"}),
        (without("double", state="missing"), {"double-slash": "not tested"}),
        (without("tagged", metadata="different: CacheControl"), {"directives": "refuted: the copy differs"}),
        (without("multipart", state="not asked"), {}),
        ({"conditions": {"copy": "PreconditionFailed", "part": ""}}, {"source-condition": "refuted: ignored"}),
        ({"conditions": {"copy": "NotImplemented", "part": "x"}}, {"source-condition": "refuted: refused"}),
        ({"conditions": {"copy": "AccessDenied", "part": "AccessDenied"}}, {"source-condition": "not tested"}),
        (
            {"etags": [{"first": "a", "last": "b"}, {"first": "c", "last": "c"}]},
            {"new-etag": "refuted: the same again"},
        ),
        (without("small", checksum="none"), {"checksum": "refuted: none"}),
        (without("small", checksum="-"), {"checksum": "not tested"}),
        ({"times": {"started": None}}, dict.fromkeys(("task-roles", "image"), "not tested")),
        (
            {"times": {"started": None}, "breaks": [{"link": "no task"}]},
            dict.fromkeys(("task-roles", "image"), "refuted: no task"),
        ),
    ],
)
def test_what_a_run_shows_is_said_of_each_assumption(
    changed: dict[str, Any], expected: dict[str, str], tmp_path: Path
) -> None:
    assert outcomes(tmp_path, WELL | changed) == outcomes(tmp_path, WELL) | expected


def test_what_did_not_arrive_refutes_nothing(tmp_path: Path) -> None:
    results = [row | {"state": "missing"} for row in WELL["results"]]
    nothing = {"times": {"started": None}, "bench": None, "conditions": None, "etags": []}
    found = outcomes(tmp_path, WELL | nothing | {"results": results})
    assert {outcome.split(":")[0] for outcome in found.values()} == {"not tested"}


REFUSED = '{"Errors": [{"Key": "F/small.txt", "Code": "AccessDenied"}]}'
REMOVALS = """
answer() { if [[ $1 == list-* ]]; then cat listing; else printf '%s' "$ANSWER"; fi; }
in_source() { answer "$@"; }
in_mirror() { answer "$@"; }
"""


@pytest.mark.parametrize("removal", ["remove_folder in_source", "remove_folder in_mirror", "remove_versions"])
@pytest.mark.parametrize(("answer", "status"), [("", 0), ("{}", 0), ('{"Errors": []}', 0), (REFUSED, 1)])
def test_a_removal_that_s3_refuses_is_a_failure(removal: str, answer: str, status: int, tmp_path: Path) -> None:
    versions = {"Versions": [{"Key": "F/small.txt", "VersionId": "v1"}]}
    (tmp_path / "listing").write_text(json.dumps(json.loads(listing(SMALL)) | versions))
    (tmp_path / "put.small").write_text('{"VersionId": "v1"}')
    done = bash(f"ANSWER=$1\n{REMOVALS}{removal}", tmp_path, answer)
    assert done.returncode == status, done.stderr
    assert ("refused: " in done.stderr) == bool(status)


@pytest.mark.parametrize(
    ("ended", "cleaning", "status"),
    [(0, 0, 0), (0, 1, 1), (1, 0, 1), (130, 0, 130), (130, 1, 1)],
)
@pytest.mark.parametrize(
    ("fails", "left"),
    [
        ("clean_up_objects", "objects may be left: aws s3 rm --recursive 's3://source/F/'"),
        ("in_source", "an upload may be left, which costs as an object does: aws s3api list-multipart-uploads"),
    ],
)
def test_what_may_be_left_is_told_and_no_success(
    ended: int, cleaning: int, status: int, fails: str, left: str, tmp_path: Path
) -> None:
    script = f"""
    clean_up_objects() {{ :; }}
    in_source() {{ :; }}
    {fails}() {{ return {cleaning}; }}
    CASE_KEY[large]=F/large
    VERIFY_TOUCHED=true TEMP_DIR=$PWD/none
    trap end_verify EXIT
    exit "$1"
    """
    done = bash(script, tmp_path, str(ended))
    assert done.returncode == status, done.stderr
    assert ("may be left" in done.stderr) == (left in done.stderr) == bool(cleaning)


def test_what_was_put_is_removed_if_nothing_reads_the_messages_any_more(tmp_path: Path) -> None:
    script = """
    clean_up_objects() { say "verify: 1 copies are still in the destination" && : >cleaned; }
    abort_uploads() { :; }
    VERIFY_TOUCHED=true TEMP_DIR=$PWD/none
    trap end_verify EXIT
    exec 2> >(:)
    wait $!
    exit 130
    """
    assert bash(script, tmp_path).returncode == 130
    assert (tmp_path / "cleaned").exists()
