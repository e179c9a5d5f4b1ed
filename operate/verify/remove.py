"""Removes what ./sync.sh verify has put, and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from operate import text
from operate.failure import Failure
from operate.verify.cases import LARGE
from operate.verify.state import FOLLOW_SECONDS, LOOK_SECONDS, Plan, Seen, Side

MOST = 1000  # objects that S3 deletes at a time


def remove_folder(plan: Plan, side: Side) -> None:
    """The objects of this run."""
    remove(plan, side, [{"Key": key} for key in side.list(plan.folder)])


def remove(plan: Plan, side: Side, objects: Sequence[dict[str, str]]) -> None:
    """Objects, or versions of them. They are named in a file, because an argument has no room for a thousand."""
    file = plan.files / "remove.json"
    for start in range(0, len(objects), MOST):
        file.write_text(json.dumps({"Objects": objects[start : start + MOST], "Quiet": True}), "utf-8")
        found = side.need("delete-objects", "--delete", f"file://{file}")
        if found.get("Errors"):
            raise Failure(f"s3://{side.bucket}: objects could not be deleted: {json.dumps(found['Errors'])}")


def remove_objects(plan: Plan, seen: Seen) -> None:
    """The destination follows the source by itself; if it does not, its copies are deleted directly."""
    remove_folder(plan, plan.source)
    if seen.is_versioned:
        remove_versions(plan)

    deadline = time.monotonic() + (0 if seen.is_broken else FOLLOW_SECONDS)
    while True:
        left = len(plan.destination.list(plan.folder))
        if not left:
            return
        if time.monotonic() >= deadline:
            break
        text.say_for_now(f"verify: {left} copies are still in the destination")
        plan.cloud.wait(LOOK_SECONDS)

    remove_folder(plan, plan.destination)
    text.say(f"verify: {left} copies were deleted in the destination directly, because it did not follow")


def remove_versions(plan: Plan) -> None:
    """Old versions and delete markers. Without versioning, asking for them would need one more right."""
    found = plan.source.need("list-object-versions", "--prefix", plan.folder)
    both = [*(found.get("Versions") or []), *(found.get("DeleteMarkers") or [])]
    remove(plan, plan.source, [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in both])


def abort_uploads(plan: Plan) -> None:
    if not any(case.name == LARGE for case in plan.cases):
        return
    found = plan.source.need("list-multipart-uploads", "--prefix", plan.folder)
    for upload in found.get("Uploads") or []:
        plan.source.need("abort-multipart-upload", "--key", upload["Key"], "--upload-id", upload["UploadId"])
