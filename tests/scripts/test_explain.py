"""What ./sync.sh explain says of a key (operate/explanation.py). What it asks AWS for is in test_verbs.py."""

from __future__ import annotations

import time
from typing import Any

import pytest
from operated import stamp

from mirror.model import log_lines
from mirror.model.services import as_utf8
from mirror.protocol.objects import PROVENANCE, source_from_head
from operate import explanation
from operate.verbs.explain import rows

ETAG, DAY = '"0123456789abcdef0123456789abcdef"', 86_400
NOW = int(time.time())
OLD = NOW - 30 * DAY
SETTINGS = {"PREFIX_FILTER": "", "EXCLUDE": "", "KEEP_DAYS": "", "COPY_LAST": "", "TABLES": ""}
MARKER = {"at": "2026-11-27T10:00:00.000Z", "key": "d/_DONE", "keys": 3, "prefix": "d/", "example": "d/a", "why": "no"}
PARKED = {"at": "2026-11-27T10:00:00Z", "reason": "AccessDenied", "key": "d/a", "sent": "2026-11-27T09:00:00Z"}


def head(at: int = OLD, size: int = 3, **more: Any) -> dict[str, Any]:
    """As the AWS CLI prints it."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(at))
    return {"ETag": ETAG, "ContentLength": size, "LastModified": moment, "ContentType": "text/plain", **more}


def copy_of(source: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The copy that a worker makes, which reads the time as boto3 does."""
    from dateutil.parser import parse

    asked = {"ExpiresString": "Tue, 01 Jan 2030 00:00:00 GMT"} if "Expires" in source else {}
    asked |= as_utf8(source) | {"LastModified": parse(source["LastModified"])}
    return head(OLD + 60) | {"Metadata": {PROVENANCE: source_from_head(asked).identity}} | more


def explain(key: str = "d/a", source: Any = None, destination: Any = None, **facts: Any) -> dict[str, Any]:
    """The answer to these facts."""
    source = source() if callable(source) else source
    sides = {
        name: {"head": side} if side and "ETag" in side else side or {}
        for name, side in (("source", source), ("destination", destination))
    }
    given: dict[str, Any] = {
        "key": key, "quoted": key, "quoted_example": "d/a", "via": "", "sides": sides, "markers": [], "synced": "",
        "queue": {"visible": 0}, "paused_since": "", "dead_letters": [], "log": [], "not_known": [],
    }  # fmt: skip
    given |= facts | {"settings": SETTINGS | facts.get("settings", {})}
    return explanation.explain(given, time.time())


def fresh() -> dict[str, Any]:
    """Not fresh any more some minutes after it is made."""
    return head(int(time.time()) - 10)


PLAIN, VERSIONED = head(), head(VersionId="v1")
WHY = 'operation=CopyObject error=AccessDenied message="no" advice="allow s3:GetObject"'
FAILED = f"{stamp(-3600)} ERROR {log_lines.FAILED % (log_lines.quoted('d/a'), 1, 3, WHY)}"
FAILED_BEFORE = f"{stamp(DAY)} ERROR {log_lines.FAILED % (log_lines.quoted('d/a'), 1, 3, WHY)}"
COPIED = f"{stamp(DAY)} INFO {log_lines.SYNCED % (log_lines.quoted('d/a'), 'copied', 3, 0.1, '')}"
SUM = {"ChecksumCRC64NVME": "M3eFcAZSQlc=", "ChecksumType": "FULL_OBJECT"}
OTHER_SUM = SUM | {"ChecksumCRC64NVME": "AAAAAAAAAAA="}
EXPIRES = head(Expires="2030-01-01T00:00:00+00:00", CacheControl="gr\u00c3\u00b6n")
# As newer releases of the CLI show it, which also print what they take the text for.
ODD = head(Expires="1970-01-01T00:00:00+00:00", ExpiresString="0", **SUM)
DELETED = {"delete_marker": {"version": "v2", "at": "2026-11-27T10:00:00+00:00"}}
# Facts -> the verdict, whether all is right, and a part of what is to be done.
CASES: dict[str, tuple[dict[str, Any], str, bool, str]] = {
    "a copy": ({"source": VERSIONED, "destination": copy_of(VERSIONED)}, "equal", True, "nothing"),
    "a copy of special headers": ({"source": EXPIRES, "destination": copy_of(EXPIRES)}, "equal", True, "nothing"),
    "a copy of an Expires that is no date": ({"source": ODD, "destination": copy_of(ODD, **SUM)}, "equal", True, ""),
    "of unknown origin": ({"source": PLAIN, "destination": head(OLD + 1)}, "equal", True, "nothing"),
    "changed by others": (
        {"source": PLAIN | SUM, "destination": copy_of(PLAIN, **OTHER_SUM)}, "corrupt", False, "d/a --deep copies it",
    ),
    "missing": ({"source": PLAIN}, "missing", False, "./sync.sh reconcile --prefix d/a"),
    "just put": ({"source": fresh}, "missing", False, "wait: it changed"),
    "in the queue perhaps": ({"source": PLAIN, "queue": {"visible": 4}}, "missing", False, "in the queue"),
    "the queue is gone": (
        {"source": PLAIN, "queue": None, "not_known": ["queue"]}, "missing", False, "./sync.sh status shows about",
    ),
    "parked": ({"source": PLAIN, "dead_letters": [PARKED]}, "missing", False, "./sync.sh redrive"),
    "paused": ({"source": fresh, "paused_since": "2026-11-27T09:00:00Z"}, "missing", False, "./sync.sh resume"),
    "stale": ({"source": head(OLD + 9), "destination": copy_of(PLAIN)}, "stale", False, "reconcile"),
    "ghost": ({"source": DELETED, "destination": copy_of(PLAIN)}, "ghost", False, "reconcile"),
    "foreign": ({"source": DELETED, "destination": PLAIN}, "foreign", False, "--remove-foreign"),
    "absent": ({}, "absent", True, "spelling"),
    "archived": ({"source": head(StorageClass="GLACIER")}, "archived", False, "restore-object"),
    "expired": ({"source": PLAIN, "settings": {"KEEP_DAYS": "7"}}, "expired", True, "nothing"),
    "a pattern": ({"source": PLAIN, "settings": {"EXCLUDE": "*.tmp,d/*"}}, "excluded", True, "nothing"),
    "a copy of before": (
        {"source": PLAIN, "destination": copy_of(PLAIN), "settings": {"EXCLUDE": "d/*"}},
        "excluded", True, "--remove-unwanted",
    ),
    "what failed": ({"source": fresh, "log": [FAILED]}, "missing", False, "allow s3:GetObject; it is tried again by"),
    "what failed before it changed": ({"source": fresh, "log": [FAILED_BEFORE]}, "missing", False, "wait: it changed"),
    "what was copied": ({"source": PLAIN, "log": [COPIED]}, "missing", False, "has deleted or changed the copy since"),
    "a copy that others changed": (
        {"source": PLAIN, "destination": head(OLD + 60) | {"Metadata": {PROVENANCE: "x"}}, "log": [COPIED]},
        "stale", False, "a worker copied this very version at",
    ),
    "another version was copied": (
        {"source": head(size=4), "log": [COPIED]}, "missing", False, "./sync.sh reconcile --prefix d/a syncs it",
    ),
    "copied before it failed": ({"source": PLAIN, "log": [COPIED, FAILED]}, "missing", False, "allow s3:GetObject"),
    "a marker": (
        {"key": "d/_DONE", "source": PLAIN, "settings": {"COPY_LAST": "_DONE"}, "markers": [MARKER]},
        "waits", False, "./sync.sh explain d/a",
    ),
    "a marker that was synced since": (
        {"key": "d/_DONE", "source": PLAIN, "settings": {"COPY_LAST": "_DONE"}, "markers": [MARKER],
         "synced": "2026-11-27T11:00:00.000Z"},
        "missing", False, "reconcile",
    ),
    "a commit": (
        {"key": "t/_delta_log/00000000000000000001.json", "source": PLAIN, "markers": [MARKER]},
        "waits", False, "./sync.sh explain d/a",
    ),
    "a file of a table whose commit comes first": (
        {"destination": copy_of(PLAIN), "markers": [MARKER]}, "waits", False, "./sync.sh explain d/a",
    ),
    "a marker that is deleted": (
        {"key": "d/_DONE", "destination": copy_of(PLAIN), "settings": {"COPY_LAST": "_DONE"}, "markers": [MARKER]},
        "ghost", False, "reconcile",
    ),
    "denied": ({"source": {"problem": "denied: grant yourself s3:GetObject"}}, "unknown", False, "permissions"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_and_what_to_do_follow_from_what_both_sides_hold(case: str) -> None:
    facts, verdict, is_right, advice = CASES[case]
    found = explain(**facts)
    assert (found["verdict"], found["is_right"]) == (verdict, is_right), found
    assert advice in found["advice"], found
    for side in ("source", "destination"):
        given = facts.get(side) or {}
        given = given() if callable(given) else given
        shown = found[side] or {}
        assert bool(shown) == bool(given), found
        if "ETag" in given:
            assert (shown["size"], shown["etag"]) == (given["ContentLength"], given["ETag"].strip('"'))
            assert callable(facts[side]) or shown["modified"] == given["LastModified"].replace("+00:00", "Z")
            assert shown.get("version") == given.get("VersionId")


def test_no_command_is_advised_for_an_excluded_object_that_it_would_leave() -> None:
    found = explain(source=PLAIN, destination=head(OLD + 1), settings={"EXCLUDE": "d/*"})
    assert (found["verdict"], found["advice"]) == ("excluded", "nothing")


def test_each_setting_that_is_set_says_what_it_does_with_the_key() -> None:
    settings = {"PREFIX_FILTER": "x/,d/", "EXCLUDE": "*.tmp,d/?", "KEEP_DAYS": "7", "TABLES": "delta"}
    assert explain(source=PLAIN, settings=settings)["settings"] == {
        "PREFIX_FILTER": "takes it, by d/",
        "EXCLUDE": "leaves it out, by d/?",
        "KEEP_DAYS": "keeps what changed within 7 days",
        "TABLES": "copies the commits of a table in order",
    }


PAUSED = "2026-11-27T09:00:00Z"
EVERYTHING: dict[str, Any] = {
    "key": "d/_DONE", "source": VERSIONED | SUM, "destination": copy_of(VERSIONED, **SUM), "markers": [MARKER],
    "settings": {"PREFIX_FILTER": "d/", "EXCLUDE": "*.tmp", "COPY_LAST": "_DONE"}, "paused_since": PAUSED,
    "queue": {"visible": 1, "in_flight": 2, "delayed": 3}, "dead_letters": [PARKED, PARKED | {"at": None}],
    "log": [FAILED, COPIED],
}  # fmt: skip


def test_every_fact_has_its_row() -> None:
    """`source` and `destination` are below."""
    first, *found = (line for line in rows(explain(**EVERYTHING), {"dead_letters": "AccessDenied"}) if line)
    assert first == "  the destination has a copy of the source as it is now"
    assert [line for line in found if not line.startswith(("source ", "destination "))] == [
        'key           "d/_DONE"',
        "checksums     equal; S3 may have copied the value with the object",
        "PREFIX_FILTER takes it, by d/",
        "EXCLUDE       does not leave it out",
        "COPY_LAST     makes it a marker",
        'waits         for 3 keys under "d/", such as "d/a": no',
        "queue         1 waiting, 2 in flight, 3 delayed, of all keys",
        f"paused        since {PAUSED}",
        f"dead letter   sent {PARKED['sent']}, failed {PARKED['at']} AccessDenied",
        f"dead letter   sent {PARKED['sent']}, the failure is AccessDenied",
        f"log           {FAILED}",
        f"log           {COPIED}",
        "dead letters  not known: AccessDenied",
        "to do         nothing",
    ]


OF = f"3 bytes, of {head()['LastModified'].removesuffix('+00:00')}Z"
SHOWN: dict[str, Any] = {
    "no such object": {},
    OF: PLAIN,
    f"{OF}, version v1": VERSIONED,
    f"{OF}, archived: GLACIER": head(StorageClass="GLACIER"),
    "deleted at 2026-11-27T10:00:00+00:00: the newest version is a delete marker, v2": DELETED,
    "no such object; nobody knows": {"note": "nobody knows"},
    "denied": {"problem": "denied"},
    "denied; it is listed with 4 bytes, of now": {"problem": "denied", "listed": {"size": 4, "modified": "now"}},
}


def test_each_side_is_shown_as_it_is() -> None:
    for side in ("source", "destination"):
        for shown, given in SHOWN.items():
            found = explain(queue=None, **{side: given})
            lines = [line for line in rows(found, {}) if line.startswith(f"{side} ")]
            archive = ", archived: GLACIER" if side == "destination" else ""
            assert lines == [f"{side:<14}{shown.removesuffix(archive)}"], found
