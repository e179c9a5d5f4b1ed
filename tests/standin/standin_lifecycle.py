"""S3 Lifecycle on a directory bucket: rules that delete objects of an age and abort uploads that were left.

As documented (S3 User Guide, "Working with S3 Lifecycle for directory buckets" and "Lifecycle rules: Based on an
object's age"; S3 API reference, PutBucketLifecycleConfiguration): S3 adds the days to the object's own LastModified and
rounds up to the next midnight UTC. What is due then goes later, when S3 comes to it, and no event is sent.
"""

import zlib
from collections.abc import Iterable
from typing import Any

from standin_store import S3, Bucket, Object, S3Error, Upload

DAY = 86_400
MOST_RULES = 1000
ACTIONS = ("Expiration", "AbortIncompleteMultipartUpload")  # all that a directory bucket has


def put_rules(bucket: Bucket, rules: list[dict[str, Any]]) -> None:
    """Takes the place of all that were there. Raises S3Error for what S3 refuses."""
    if not bucket.is_directory:
        raise S3Error("NotImplemented", "The stand-in has lifecycles for directory buckets only")
    names = [rule.get("ID") for rule in rules if rule.get("ID")]
    if not 1 <= len(rules) <= MOST_RULES:
        raise S3Error("MalformedXML")
    if len(names) > len(set(names)):
        raise S3Error("InvalidArgument", "Rule ID must be unique. Found same ID for more than one rule")
    for rule in rules:
        check_rule(rule)
    bucket.lifecycle = rules


def check_rule(rule: dict[str, Any]) -> None:
    if unknown := rule.keys() - {"ID", "Status", "Filter", *ACTIONS}:
        raise S3Error("InvalidRequest", f"A directory bucket has no {', '.join(sorted(unknown))} in its lifecycle")
    if rule.get("Status") not in ("Enabled", "Disabled") or not any(action in rule for action in ACTIONS):
        raise S3Error("MalformedXML")
    if rule.get("Filter", {}).keys() - {"Prefix"}:
        raise S3Error("InvalidRequest", "The stand-in filters by prefix only, as the rules of this project do")
    for days in (days_of(rule, action) for action in ACTIONS if action in rule):
        if not isinstance(days, int) or days < 1:
            raise S3Error("InvalidArgument", "'Days' for an action must be a positive integer")


def days_of(rule: dict[str, Any], action: str) -> Any:
    return rule.get(action, {}).get("Days" if action == "Expiration" else "DaysAfterInitiation")


def rules_for(bucket: Bucket, action: str, key: str) -> Iterable[dict[str, Any]]:
    for rule in bucket.lifecycle:
        if rule["Status"] == "Enabled" and action in rule and key.startswith(rule.get("Filter", {}).get("Prefix", "")):
            yield rule


def midnight_after(begun: int, days: int) -> int:
    """The next midnight UTC once `days` have passed since `begun`; one that is hit exactly is not the next."""
    return ((begun + days * DAY) // DAY + 1) * DAY


def due(bucket: Bucket, action: str, begun: int, key: str) -> float:
    """When the first of the rules that apply acts; never without one."""
    return min(
        (midnight_after(begun, days_of(rule, action)) for rule in rules_for(bucket, action, key)),
        default=float("inf"),
    )


def share_of(name: str) -> float:
    """From 0 up to 1: how much of the delay an object gets."""
    return zlib.crc32(name.encode()) / 2**32


def run_rules(s3: S3, bucket: Bucket, now: float, late_days: float = 0.0) -> list[tuple[str, Object]]:
    """Does what is due at `now`, and gives what it deleted with the keys. S3 may come to an object late: here by a part
    of `late_days` that is the object's own, so that a later run does not take it sooner."""
    late = late_days * DAY
    expired = [
        (key, found)
        for key in bucket.objects
        if (found := bucket.current(key))
        and due(bucket, "Expiration", found.modified, key) + late * share_of(key + found.etag) <= now
    ]
    for key, _ in expired:
        s3.delete(bucket, key, "LifecycleExpiration")
    for upload in [upload for upload in bucket.uploads.values() if is_left(bucket, upload, now - late)]:
        del bucket.uploads[upload.id]
    return expired


def is_left(bucket: Bucket, upload: Upload, now: float) -> bool:
    return due(bucket, "AbortIncompleteMultipartUpload", upload.initiated, upload.key) <= now
