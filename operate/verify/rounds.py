"""The rounds of ./sync.sh verify: puts its objects, changes some of them, and removes all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from operate import text
from operate.cloud import no_answer
from operate.verify import cases, watch
from operate.verify.cases import ARRIVED, LARGE, MISSING
from operate.verify.chain import Break
from operate.verify.remove import remove_folder
from operate.verify.state import LARGE_PART_BYTES, LARGE_PARTS, Jobs, Plan, Seen, all_at_once, note_breaks

PARTS_AT_ONCE = 8


def lasting(plan: Plan) -> list[str]:
    """The objects that stay as they are put."""
    return [case.name for case in plan.cases if case.name not in cases.TO_CHANGE]


def arrived(seen: Seen, names: Sequence[str]) -> list[str]:
    return [name for name in names if seen.results.get(name) == ARRIVED]


# --- putting ----------------------------------------------------------------------------------------------------------


def put_round(plan: Plan, seen: Seen, beside: Jobs) -> None:
    """What is read in the source for the comparison is read while the first copies are waited for."""
    for case in plan.cases:
        plan.body(case.name).write_bytes(cases.body_of(case.name, plan.folder, plan.threshold, LARGE_PART_BYTES))
    watch.read_queue(plan, seen)
    seen.was_busy = seen.event_at is not None

    seen.has_put, seen.put_at = True, time.time()
    names = [case.name for case in plan.cases]
    with text.progress("verify: uploading"):
        all_at_once(*(partial(put, plan, seen, name) for name in names))
    seen.put_ended = time.time()
    watch.list_source(plan, seen)
    text.say(f"verify: {len(names)} objects uploaded")

    beside.begin(*(partial(watch.get, plan, seen, "source", name) for name in lasting(plan)))
    watch.await_all(plan, seen, "listed", "put", names)
    seen.first_event_at = seen.event_at
    seen.results.update(seen.states)
    seen.is_broken = seen.is_broken or not seen.in_state(ARRIVED)
    seen.first_source, seen.first_destination = seen.source, seen.destination


def put(plan: Plan, seen: Seen, name: str) -> None:
    if name == LARGE:
        make_large(plan)
        return
    options = cases.UPLOAD_OPTIONS.get(name, ())
    found = plan.source.need("put-object", "--key", plan.key(name), "--body", str(plan.body(name)), *options)
    if found.get("VersionId", "null") != "null":
        seen.is_versioned = True


def make_large(plan: Plan) -> None:
    """Made inside S3: one part is uploaded, and copied as often as it takes."""
    key = plan.key(LARGE)
    seed = f"{key}.part"
    plan.source.need("put-object", "--key", seed, "--body", str(plan.body(LARGE)))
    upload = str(plan.source.need("create-multipart-upload", "--key", key)["UploadId"])

    etags: dict[int, str] = {}
    for first in range(1, LARGE_PARTS + 1, PARTS_AT_ONCE):
        last = min(first + PARTS_AT_ONCE - 1, LARGE_PARTS)
        all_at_once(*(partial(copy_part, plan, upload, seed, etags, number) for number in range(first, last + 1)))
        text.say(f"verify: large object: {last} of {LARGE_PARTS} parts")

    parts = plan.files / "parts.json"
    parts.write_text(cases.parts_document(etags), "utf-8")
    of_upload = ("--upload-id", upload, "--key", key, "--multipart-upload", f"file://{parts}")
    plan.source.need("complete-multipart-upload", *of_upload)


def copy_part(plan: Plan, upload: str, seed: str, etags: dict[int, str], number: int) -> None:
    of_upload = ("--upload-id", upload, "--key", plan.key(LARGE), "--part-number", str(number))
    found = plan.source.need("upload-part-copy", *of_upload, "--copy-source", copy_source(plan, seed))
    etags[number] = found["CopyPartResult"]["ETag"]


def copy_source(plan: Plan, key: str) -> str:
    """As it is, because the CLI encodes it (botocore, handlers.py, _quote_source_header)."""
    return f"{plan.source.bucket}/{key}"


# --- changing ---------------------------------------------------------------------------------------------------------


def change_round(plan: Plan, seen: Seen, beside: Jobs) -> None:
    """The changes are made before the first copies are compared, so that the worker that runs takes them along."""
    changing, staying = arrived(seen, cases.TO_CHANGE), arrived(seen, lasting(plan))
    beside.need()
    beside.begin(lambda: watch.read_page(plan, seen), lambda: try_conditions(plan, seen))
    all_at_once(*(partial(change, plan, seen, name) for name in changing))
    watch.list_source(plan, seen)
    with text.progress("verify: comparing"):
        all_at_once(*(partial(watch.get, plan, seen, "destination", name) for name in staying))

    watch.await_all(plan, seen, "changed", "change", changing)
    seen.results.update(seen.states)
    rewritten = arrived(seen, cases.REWRITTEN)  # await_all has read their copies
    all_at_once(*(partial(watch.get, plan, seen, "source", name) for name in rewritten))
    beside.need()


def change(plan: Plan, seen: Seen, name: str) -> None:
    key = plan.key(name)
    if name == cases.OVERWRITTEN:
        plan.body(name).write_bytes(cases.version_of(2, plan.folder))
        put(plan, seen, name)
    elif name == cases.CHANGED:
        plan.source.need("copy-object", "--key", key, "--copy-source", copy_source(plan, key), *cases.CHANGE_IN_PLACE)
    else:
        plan.source.need("delete-object", "--key", key)


def try_conditions(plan: Plan, seen: Seen) -> None:
    """Copies, whole and as a part, on the condition that the source is what it is not. S3 is to refuse both."""
    side, key = plan.destination, cases.refused_key(plan.folder)
    condition = ("--copy-source", copy_source(plan, plan.key(cases.SMALL)), "--copy-source-if-match", '"another"')
    copy = refusal_of(plan, "copy-object", "--key", key, *condition)
    if not copy:
        side.need("delete-object", "--key", key)

    upload = ("--key", key, "--upload-id", str(side.need("create-multipart-upload", "--key", key)["UploadId"]))
    part = refusal_of(plan, "upload-part-copy", *upload, *condition, "--part-number", "1")
    side.need("abort-multipart-upload", *upload)
    seen.conditions = {"copy": copy, "part": part}


def refusal_of(plan: Plan, operation: str, *options: str) -> str:
    """The code with which the destination refuses it, or nothing if it does not. No answer says neither."""
    words = ("s3api", operation, *plan.destination.options(*options))
    answer = plan.cloud.ask(*words)
    if isinstance(answer, dict):
        return ""
    if not answer.code:
        raise no_answer(answer.error, *words)
    return answer.code


# --- removing ---------------------------------------------------------------------------------------------------------


def remove_round(plan: Plan, seen: Seen, _beside: Jobs) -> None:
    names = [*arrived(seen, lasting(plan)), *arrived(seen, cases.REWRITTEN)]
    remove_folder(plan, plan.source)
    watch.await_all(plan, seen, "gone", "remove", names)
    seen.results["removed"] = ARRIVED if len(seen.in_state(ARRIVED)) == len(names) else MISSING


# --- what was seen on the way -----------------------------------------------------------------------------------------


def read_the_rest(plan: Plan, seen: Seen) -> None:
    """The log and the tasks; of a chain that is not broken, too, what is wrong with the path although all has arrived,
    such as a dead-letter queue that is gone."""
    faults: list[Mapping[str, str]] = []
    jobs: list[Callable[[], object]] = [
        partial(watch.read_lines, plan, seen),
        partial(watch.read_started_tasks, plan, seen),
    ]
    if not seen.is_broken:
        jobs.append(lambda: faults.extend(watch.find_faults(plan)))
    with text.progress("verify: reading the logs"):
        all_at_once(*jobs)
    note_breaks(seen, [Break(one["link"], f"{one['fault']}: {one['cure']}", one["look"]) for one in faults])
