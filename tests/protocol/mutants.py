"""Faults to plant in a copy of the worker, each with the tests that have to notice it.

They are the faults that tools of this kind had, and those that the design of the worker is there to exclude.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from forks import forks_after

PROJECT = Path(__file__).resolve().parents[2]
LIBRARIES = (
    "import awscrt.auth, awscrt.http, awscrt.io, boto3, httptools, hypothesis.strategies, pytest, xdist.scheduler"
)
WORKER = (".pytest.ini", "worker.py", "mirror", "tests")


class Mutant(NamedTuple):
    """`text` occurs once in mirror/; `tests` are node ids below tests/."""

    name: str
    text: str
    replacement: str
    tests: tuple[str, ...]


def schedules(case: str) -> tuple[str, ...]:
    return (f"protocol/test_interleavings.py::test_every_schedule_ends_with_a_destination_equal_to_the_source[{case}]",)


def keeping(*cases: str) -> tuple[str, ...]:
    return tuple(f"protocol/test_keeping.py::test_every_schedule_ends_with_what_is_in_time[{case}]" for case in cases)


def copies(name: str) -> tuple[str, ...]:
    return (f"worker/test_copies.py::test_{name}",)


def queue(name: str) -> tuple[str, ...]:
    return (f"worker/test_queue.py::test_{name}",)


def rules(name: str) -> tuple[str, ...]:
    return (f"protocol/test_rules.py::test_{name}",)


def faults(name: str) -> tuple[str, ...]:
    return (f"protocol/test_faults.py::test_{name}",)


def function(name: str) -> tuple[str, ...]:
    return (f"protocol/test_function.py::test_{name}",)


def outage(name: str) -> tuple[str, ...]:
    return (f"protocol/test_outage.py::test_{name}",)


def fairness(name: str) -> tuple[str, ...]:
    return (f"worker/test_fairness.py::test_{name}",)


def markers(name: str) -> tuple[str, ...]:
    return (f"worker/test_markers.py::test_{name}",)


WALK = ("worker/test_walk.py",)
AGREE = ("worker/test_readers_agree.py",)  # the model of the commands that read many keys


def metrics(name: str) -> tuple[str, ...]:
    return (f"worker/test_metrics.py::test_{name}",)


MUTANTS = (
    # The protocol
    Mutant(
        "no second look",
        "if wrote and await retries.patiently(head_source, buckets, sync.key) != source:",
        "if False:",
        schedules("new, deleted, created again"),
    ),
    Mutant(
        "the destination is looked at after the source",
        """existing = await self.look_at_destination(sync, retries) if sync.destination_first else None
        sync.host.look_begins(sync)
        source = await retries.patiently(head_source, buckets, sync.key, by_checksum)
""",
        """sync.host.look_begins(sync)
        source = await retries.patiently(head_source, buckets, sync.key, by_checksum)
        existing = await self.look_at_destination(sync, retries) if sync.destination_first else None
""",
        schedules("new, deleted, created again"),
    ),
    Mutant("no IfMatch", '{"IfMatch": existing.etag} if existing', "{} if existing", schedules("with three workers")),
    Mutant("no IfNoneMatch", 'else {"IfNoneMatch": "*"}', "else {}", schedules("with three workers")),
    Mutant("no CopySourceIfMatch", '        "CopySourceIfMatch": source.etag,\n', "", schedules("two parts")),
    Mutant(
        "an object of the same size is skipped",
        'f"{destination.provenance} ".startswith(f"{source.identity} ")',
        "destination.provenance.split()[2:3] == [str(source.size)]",
        schedules("overwritten with the same size, then deleted"),
    ),
    Mutant(
        "the identity leaves out the metadata",
        "hashlib.sha256(described.encode()).hexdigest()[:12]",
        '""',
        rules("every_change_of_a_source_object_changes_its_identity"),
    ),
    Mutant(
        "the identity leaves out LastModified",
        "utc_text(modified), str(size), *more",
        '"", str(size), *more',
        rules("every_change_of_a_source_object_changes_its_identity"),
    ),
    Mutant(
        "a missing source bucket counts as a missing object",
        "        await buckets.answering.require_source()\n        return None\n",
        "        return None\n",
        copies("a_vanished_source_bucket_does_not_empty_the_destination"),
    ),
    Mutant(
        "a source that may not be read counts as absent",
        'in ("404", "NoSuchKey"):',
        'in ("404", "NoSuchKey", "403"):',
        copies("a_source_that_may_not_be_read_does_not_count_as_absent"),
    ),
    Mutant(
        "an empty 200 is taken for a copy",
        'if not answer.get("CopyObjectResult", {}).get("ETag"):',
        "if False:",
        faults("a_write_that_fails_once_is_repeated_within_the_same_delivery"),
    ),
    Mutant(
        "an empty 200 is taken for a completed upload",
        '        if not answer.get("ETag"):',
        "        if False:",
        faults("a_write_that_fails_once_is_repeated_within_the_same_delivery"),
    ),
    Mutant(
        "a timeout is taken for nothing done",
        "return meaning_of(error).is_unknown",
        "return isinstance(error, ClientError) and meaning_of(error).is_unknown",
        schedules("no conditional writes, with a lost answer"),
    ),
    Mutant(
        "an archived object is copied",
        "copy = REFUSE if source.archived else COPY",
        "copy = COPY",
        copies("an_archived_object_fails_with_a_line_that_says_so_and_is_copied_once_restored"),
    ),
    # What a copy carries
    Mutant(
        "tags are copied",
        '"TaggingDirective": "REPLACE"',
        '"TaggingDirective": "COPY"',
        copies("a_source_with_tags_and_annotations_is_copied_without_them"),
    ),
    Mutant(
        "annotations are copied",
        ', "AnnotationDirective": "EXCLUDE"}',
        "}",
        copies("a_source_with_tags_and_annotations_is_copied_without_them"),
    ),
    Mutant(
        "a multipart copy loses the metadata",
        "create_multipart_upload(Key=key, **buckets.destination, **metadata)",
        'create_multipart_upload(Key=key, **buckets.destination, Metadata=metadata["Metadata"])',
        copies("all_metadata_comes_along_on_both_copy_paths"),
    ),
    # Parts
    Mutant(
        "the part size is fixed",
        "part_size = max(smallest, -(-needed // MIB) * MIB)",
        "part_size = smallest + 0 * needed",
        rules("the_part_size_grows_so_that_any_object_fits_in_10000_parts"),
    ),
    Mutant(
        "part numbers have gaps",
        "[Part(number, start,",
        "[Part(2 * number - 1, start,",
        rules("parts_are_numbered_from_1_and_cover_every_byte_once"),
    ),
    Mutant(
        "an upload is resumed for another version",
        "if sync.upload.source != source.identity:",
        "if False:",
        faults("an_upload_handed_on_is_not_completed_for_another_version"),
    ),
    Mutant(
        "uploads of a dead worker are left behind",
        "            await abort_orphans(buckets, sync)\n",
        "            pass\n",
        schedules("two parts"),
    ),
    Mutant(
        "an upload that failed is left behind",
        "                        await drop_upload(self.buckets, sync)\n                    raise\n",
        "                        pass\n                    raise\n",
        copies("an_upload_whose_part_cannot_be_copied_is_aborted_and_its_message_is_parked"),
    ),
    Mutant(
        "a part that lands late ends the upload",
        'Kind.CHANGED, "InvalidPart"',
        'Kind.OWN, "InvalidPart"',
        schedules("two parts, with SIGTERM"),
    ),
    Mutant(
        "an upload is not handed on",
        "                    content.uploads[sync.key] = sync.upload\n",
        "                    pass\n",
        faults("sigterm_uses_up_no_receive_and_hands_the_upload_on"),
    ),
    # Messages
    Mutant(
        "a key is not decoded",
        'unquote_plus(record["s3"]["object"]["key"])',
        'record["s3"]["object"]["key"]',
        rules("a_key_is_decoded_from_its_form_encoding"),
    ),
    Mutant(
        "a plus is not a space",
        'unquote_plus(record["s3"]["object"]["key"])',
        'unquote_plus(record["s3"]["object"]["key"].replace("+", "%2B"))',
        rules("a_key_is_decoded_from_its_form_encoding"),
    ),
    Mutant(
        "a key of EventBridge is decoded",
        'detail["object"]["key"],',
        'unquote_plus(detail["object"]["key"]),',
        rules("both_forms_of_an_event_ask_for_the_same"),
    ),
    Mutant(
        "a deletion that EventBridge tells counts as probably new",
        'body["detail-type"] == "Object Created"',
        'body["detail-type"].startswith("Object")',
        rules("both_forms_of_an_event_ask_for_the_same"),
    ),
    Mutant(
        "keys outside the prefix are synced",
        "or not settings.wanted.takes(event.key)",
        "",
        rules("another_bucket_and_a_key_outside_the_prefix_ask_for_nothing"),
    ),
    Mutant(
        "an unreadable message is deleted",
        '                lease.fail("(unreadable)")\n',
        "",
        queue("a_body_that_is_no_event_is_parked_after_three_receives_and_the_log_shows_it"),
    ),
    Mutant(
        "a message is deleted before its copy is done",
        "                self.add(key, lease)\n            if not lease.content.keys:",
        "                self.add(key, lease)\n            if True:",
        faults("a_message_is_not_deleted_before_its_copy_is_done_and_looked_at"),
    ),
    Mutant(
        "a message is deleted after its first key",
        "unsettled_until)\n            if not content.keys:",
        "unsettled_until)\n            if True:",
        faults("a_message_with_two_keys_of_which_one_fails_stays"),
    ),
    Mutant(
        "a failed message is deleted",
        "[lease for lease in batch if lease.state is State.ACK]",
        "[lease for lease in batch if lease.outcome is not State.REQUEUE]",
        faults("a_message_that_fails_three_times_is_parked_and_copied_once_it_is_redriven"),
    ),
    Mutant(
        "the end lasts as if no time had passed since the signal",
        "self.bounds.drain - passed",
        "self.bounds.drain",
        faults("a_worker_that_is_stopped_ends_before_it_is_killed_although_nothing_answers"),
    ),
    Mutant(
        "overwriting is not expected however often it happens",
        "return self.overwritten > OVERWRITTEN_SHARE",
        "return False",
        faults("once_most_keys_are_overwritten_the_destination_is_looked_at_first"),
    ),
    Mutant(
        "a delete is repeated without a look at the source",
        "await delete_object(self.buckets, sync, existing, left_out)",
        "await retries.patiently(delete_object, self.buckets, sync, existing, left_out)",
        faults("a_delete_that_s3_is_too_busy_for_is_decided_anew"),
    ),
    Mutant(
        "a process that knows nothing yet expects new keys",
        "overwritten: float = 0.375",
        "overwritten: float = 0.0",
        faults("a_process_looks_at_the_destination_first_until_it_knows_how_many_are_overwritten"),
    ),
    Mutant(
        "what is asked for without an event counts as a creation",
        "sync.is_creation or content.is_event",
        "True",
        faults("a_key_that_reconcile_found_missing_is_not_looked_for_however_many_are_overwritten"),
    ),
    Mutant(
        "a message that comes while its key is synced is taken for done",
        "job.covered, job.looked = len(job.leases), self.now()",
        "job.covered, job.looked = 1000, self.now()",
        faults("a_change_that_comes_while_its_key_is_synced_is_not_lost"),
    ),
    Mutant(
        "all messages on a key are acknowledged once their change is copied",
        "self.leases[: min(self.covered, len(self.leases) - 1)]",
        "self.leases[: self.covered]",
        faults("the_newest_message_stays_until_the_sync_has_ended_although_its_change_is_copied"),
    ),
    Mutant(
        "messages on a key that keeps changing are kept until it does not",
        "            sync.host.overtaken(sync)\n",
        "",
        faults("of_a_key_that_keeps_changing_few_messages_are_left_and_the_newest_is_enough"),
    ),
    Mutant(
        "the uploads of a dead worker are left behind by a sync that its message joins",
        "sync.redelivered or job.joined_left_over",
        "sync.redelivered",
        faults("the_upload_of_a_dead_worker_is_aborted_by_a_sync_that_its_message_joins"),
    ),
    Mutant(
        "an interruption uses up a receive",
        "                await self.requeue(lease)\n",
        "                await self.nack(lease)\n",
        faults("sigterm_uses_up_no_receive_and_hands_the_upload_on"),
    ),
    Mutant(
        "a message comes back while its copy is under way",
        "if isinstance(error, asyncio.CancelledError) or outcome_unknown(error):",
        "if isinstance(error, Exception) and outcome_unknown(error):",
        faults("what_a_stopping_worker_leaves_under_way_comes_back_only_when_it_has_ended"),
    ),
    Mutant(
        "a message is handed on while its copy is under way",
        "max(lease.postpone, self.seconds_until(lease.unsettled_until))",
        "lease.postpone",
        faults("a_message_that_is_handed_on_does_not_come_back_before_its_copy_has_ended"),
    ),
    Mutant(
        "a lost answer is forgotten",
        "                await self.look_again_later(job.sync)\n",
        "                pass\n",
        faults("a_call_without_an_answer_is_looked_at_again_when_it_must_have_ended"),
    ),
    Mutant(
        "the visibility is not extended",
        "            if not await self.set_visibility(due[start : start + SQS_BATCH]):\n",
        "            if True:\n",
        faults("a_long_sync_keeps_its_message"),
    ),
    Mutant(
        "the visibility is extended beyond 12 hours",
        "        return self.visibility_left(lease) <= self.settings.visibility_extend_interval\n",
        "        return False\n",
        faults("at_the_12_hour_cap_the_message_is_handed_back_and_not_delivered_twice"),
    ),
    Mutant(
        "any visibility timeout is accepted",
        "    if settings.visibility_timeout < lowest:",
        "    if False:",
        rules("a_message_may_not_come_back_before_a_copy_of_a_dead_worker_has_ended"),
    ),
    # KEEP_DAYS
    Mutant(
        "an expired source is copied",
        "judge(source, existing, expired=expired, same_bytes=same_bytes)",
        "judge(source, existing, same_bytes=same_bytes)",
        keeping("new, with a crash"),
    ),
    Mutant(
        "a stale copy of an expired source stays",
        "if destination is None or is_equal(destination, source, deep=False):",
        "if True:",
        keeping("overwritten, with a crash"),
    ),
    Mutant(
        "an expired source is done with before the destination is looked at",
        "if not sync.destination_first and (may_have_uploads or expired):",
        "if not sync.destination_first and may_have_uploads:",
        keeping("overwritten, with a crash"),
    ),
    Mutant(
        "a marker waits for what has expired",
        "        if is_expired(state.buckets, source.moment):\n            self.expired",
        "        if False:\n            self.expired",
        ("protocol/test_keeping.py::test_a_marker_waits_for_what_is_in_time_and_no_longer",),
    ),
    Mutant(
        "kept for a day too short",
        "(modified // SECONDS_OF_DAY + self.keep_days + 1) * SECONDS_OF_DAY",
        "(modified // SECONDS_OF_DAY + self.keep_days) * SECONDS_OF_DAY",
        keeping("new, with a crash"),
    ),
    Mutant(
        "kept beyond midnight",
        "self.keep_days > 0 and now >= (",
        "self.keep_days > 0 and now > (",
        keeping("new, with a crash"),
    ),
    Mutant(
        "a removal without a second look",
        "existing, found = await look_at(self.buckets, sync.key, deep=False)",
        "existing, found = (await look_at(self.buckets, sync.key, deep=False))[0], Finding(sync.key, 'unwanted')",
        keeping("touched, two removals"),
    ),
    Mutant(
        "a removal deletes whatever is there by then",
        "await delete_object(self.buckets, sync, existing)",
        "await self.buckets.s3.delete_object(Key=sync.key, **self.buckets.destination)",
        keeping("touched, two removals"),
    ),
    Mutant(
        "a removal looks at the source first",
        """    destination = await head_destination(buckets, key, deep)
    excluded = buckets.settings.wanted.excludes(key)
    is_unmarked = destination is not None and not destination.provenance
    source = await head_source(buckets, key, deep) if is_unmarked or not excluded else None
""",
        """    excluded = buckets.settings.wanted.excludes(key)
    source = None if excluded else await head_source(buckets, key, deep)
    destination = await head_destination(buckets, key, deep)
""",
        keeping("no provenance, touched"),
    ),
    # Outages
    Mutant(
        "an error that all may have is an outage though S3 answers others",
        "is_new and not await self.buckets.answering.both_since(suspect.at)",
        "is_new",
        outage("an_error_that_all_may_have_is_a_keys_own_if_s3_answers_others[40-ExpiredToken]"),
    ),
    Mutant(
        "a copy of a key that keeps changing shows nothing",
        "        self.note_success(job)\n\n    def note_success",
        "\n    def note_success",
        outage("a_key_that_is_always_changing_ends_the_outage_that_it_is_tried_in"),
    ),
    Mutant(
        "what was deleted waits for copies that fail",
        "self.is_of_copies() and job.sync.destination_first",
        "False",
        outage("in_an_outage_of_copies_what_was_deleted_goes"),
    ),
    Mutant(
        "a key is at fault as soon as another has got through",
        "MORE_TRIES = 1 ",
        "MORE_TRIES = 0 ",
        outage("an_outage_that_comes_and_goes_uses_up_no_receive[3-9-all-403]"),
    ),
    Mutant(
        "a success that began before the latest failure ends an outage",
        "is_shown and at <= (with_session if is_of_session(error) else since)",
        "is_shown",
        outage("a_success_from_before_the_latest_failure_ends_no_outage"),
    ),
    Mutant(
        "a copy shows that sessions work",
        "(with_session if is_of_session(error) else since)",
        "since",
        outage("an_outage_of_sessions_alone_parks_no_delete_although_new_objects_are_copied"),
    ),
    Mutant(
        "new objects wait for sessions that fail",
        "goes_on = is_new if self.is_of_sessions()",
        "goes_on = False if self.is_of_sessions()",
        outage("an_outage_of_sessions_alone_parks_no_delete_although_new_objects_are_copied"),
    ),
    Mutant(
        "a part that was copied shows nothing",
        'self.outage.note_success("copied", since)',
        "pass",
        fairness("ten_denied_keys_hold_up_neither_a_large_copy_nor_deletes"),
    ),
    Mutant(
        "a long copy that pauses takes a place",
        " and sync.host.has_place(sync)",
        "",
        fairness("long_copies_that_s3_was_too_busy_for_take_no_place_of_small_ones"),
    ),
    Mutant(
        "headers are read as ISO-8859-1",
        "return as_utf8(await self.with_session(self.quick.head_object, **parameters))",
        "return await self.with_session(self.quick.head_object, **parameters)",
        copies("both_clients_take_a_large_copy_with_headers_beyond_ascii_for_equal"),
    ),
    # Many keys at a time
    Mutant(
        "a long copy has small ones wait",
        "source.size > LONG_COPY_SIZE and not sync.host.step_aside(sync)",
        "False",
        queue("small_objects_do_not_wait_for_large_ones"),
    ),
    Mutant(
        "the error of an answer is overlooked",
        "    if answer.status >= 300:\n",
        "    if False:\n",
        copies("a_source_that_may_not_be_read_does_not_count_as_absent"),
    ),
    # The function that copies
    Mutant(
        "the function copies what is large",
        "largest=min(int(text), settings.multipart_threshold),",
        "largest=0,",
        function("it_copies_what_is_small_and_hands_back_what_is_large_without_a_receive"),
    ),
    Mutant(
        "the function copies nothing that is as large as it may be",
        "source.size > (self.buckets.settings.largest or source.size)",
        "source.size >= (self.buckets.settings.largest or source.size + 1)",
        function("what_is_just_small_enough_is_copied_and_a_byte_more_is_not"),
    ),
    Mutant(
        "what the function hands back is a failure",
        "HANDED_BACK = (Interrupted, GaveUp, Postponed)",
        "HANDED_BACK = (Interrupted, GaveUp)",
        function("a_large_object_that_it_meets_again_and_again_uses_up_no_receive"),
    ),
    Mutant(
        "what the function hands back loses its upload",
        "handed_back_body(lease.received.body, content.uploads, ",
        "handed_back_body(lease.received.body, {}, ",
        function("a_worker_goes_on_with_an_upload_that_was_handed_to_the_function"),
    ),
    Mutant(
        "what the function hands back comes back at once",
        "lease.postpone = max(lease.postpone, pause)",
        "pass",
        function("what_is_large_does_not_come_back_before_the_function_has_ended"),
    ),
    Mutant(
        "the function has no deadline",
        "process.loop.call_later(deadline - time.monotonic(), worker.stop",
        "process.loop.call_later(3600, worker.stop",
        function("at_its_deadline_it_hands_back_what_is_not_begun_at_once_and_what_is_under_way_with_a_delay"),
    ),
    Mutant(
        "the function waits for its copies for as long as a task does",
        "make_worker(process.settings, process.parts, OF_FUNCTION, (EVENTS_SECONDS, EVENTS_PAUSE), print)",
        "make_worker(process.settings, process.parts, events=(EVENTS_SECONDS, EVENTS_PAUSE), show=print)",
        function("at_its_deadline_it_hands_back_what_is_not_begun_at_once_and_what_is_under_way_with_a_delay"),
    ),
    Mutant(
        "a copy that the function leaves at its deadline is forgotten",
        "delay = max(lease.postpone, self.seconds_until(lease.unsettled_until))",
        "delay = lease.postpone",
        function("a_copy_that_it_leaves_at_its_deadline_lands_before_its_message_comes_back"),
    ),
    Mutant(
        "a message of a killed function comes back before its copy has ended",
        "return self.visibility_extend_interval + self.copy_timeout",
        "return self.visibility_extend_interval",
        function("a_copy_of_a_killed_function_lands_before_its_message_comes_back"),
    ),
    Mutant(
        "a thawed function takes the source bucket for seen",
        "        self.parts.buckets.answering.forget_source()\n",
        "",
        function("after_it_was_frozen_it_asks_anew_whether_the_source_bucket_is_there"),
    ),
    Mutant(
        "a thawed function takes a marker for absent",
        "self.known: dict[str, tuple[float, bool]] = {}",
        'self.known = vars(buckets).setdefault("known", {})',
        function("after_it_was_frozen_it_looks_anew_for_a_marker_that_was_not_there"),
    ),
    # Markers
    Mutant(
        "a key that is listed twice is two",
        "while (start := slot.find(beginning, start)) >= 0:",
        "if (start := slot.find(beginning, start)) >= 0:",
        ("worker/test_reconcile.py::test_the_table_gives_back_what_was_put_in",),
    ),
    Mutant(
        "a marker waits for nothing",
        "            await self.hooks.before_copy(sync)\n",
        "            pass\n",
        markers("nested_markers_come_from_the_inside_out"),
    ),
    Mutant(
        "a marker does not wait for those in deeper folders",
        "not (folder_of(key) == folder and patterns.match(key))",
        "not patterns.match(key)",
        markers("nested_markers_come_from_the_inside_out"),
    ),
    Mutant(
        "markers of one folder wait for each other",
        "return key != sync.key and not (folder_of(key) == folder and patterns.match(key))",
        "return key != sync.key",
        markers("markers_of_one_folder_do_not_wait_for_each_other"),
    ),
    Mutant(
        "a marker comes though something is there that the source has no longer",
        "counts, exact=True, settled",
        "counts, exact=False, settled",
        markers("a_marker_waits_until_what_the_source_has_no_longer_is_gone"),
    ),
    Mutant(
        "a marker that waits uses up receives",
        'return Postponed("what it needs is not there yet", delay, is_exact=True, waiting_since=since)',
        'return ValueError("what it needs is not there yet")',
        markers("a_worker_ends_although_a_marker_waits_and_no_receive_is_used_up"),
    ),
    Mutant(
        "a marker waits for ever",
        "    if time.time() - since < bodies.LONGEST_WAIT:",
        "    if True:",
        markers("a_marker_that_waits_for_too_long_is_parked_with_its_reason"),
    ),
    Mutant(
        "a marker that is redriven is parked again at once",
        "if sent_at < since + LONGEST_WAIT:",
        "if since > 0:",
        markers("a_marker_that_waits_for_too_long_is_parked_with_its_reason"),
    ),
    Mutant(
        "each message on a marker that waits is kept",
        "if isinstance(error, Postponed) and error.waiting_since:",
        "if False:",
        markers("however_often_reconcile_finds_it_one_message_on_a_marker_is_left"),
    ),
    Mutant(
        "a deleted marker does not go first",
        "            await self.hooks.before_write(sync)\n",
        "            pass\n",
        markers("a_deleted_marker_goes_before_anything_of_its_folder_changes"),
    ),
    Mutant(
        "a marker goes although the source has it",
        "if existing and await head_source(self.buckets, marker) is None:",
        "if existing:",
        markers("a_marker_that_the_source_still_has_stays"),
    ),
    Mutant(
        "a marker that is created again while it is removed is forgotten",
        "        if not is_as_seen:\n",
        "        if False:\n",
        markers("a_marker_that_is_created_again_meanwhile_is_looked_at_again"),
    ),
    # The log
    Mutant(
        "a text from outside begins a line of the log",
        "visible(record.getMessage())",
        "record.getMessage()",
        ("worker/test_log_writer.py::test_no_text_from_outside_begins_a_line",),
    ),
    # Wait
    Mutant(
        "a wait believes the clock of its own machine",
        "return parsedate_to_datetime(date) if date else FAR",
        "return datetime.now(UTC)",
        ("worker/test_wait.py::test_a_clock_that_is_behind_makes_no_version_of_before_the_start_a_newer_one",),
    ),
    # Reconcile
    Mutant(
        "a dry run changes something",
        "        if not self.options.dry_run:\n            await self.hints",
        "        if True:\n            await self.hints",
        AGREE,
    ),
    Mutant(
        "any number of ghosts is deleted",
        "return len(self.held) + len(self.removal.keys) > self.options.max_delete",
        "return False",
        AGREE,
    ),
    Mutant(
        "the guard does not count what goes as stale",
        "await self.send(self.hold_back(await self.check(keys)))",
        "await self.send(await self.check(keys))",
        AGREE,
    ),
    Mutant(
        "a listing that failed counts as complete",
        "        await self.walk.run()\n        await self.send([], last=True)\n",
        '        with __import__("contextlib").suppress(*AWS_ERRORS):\n            await self.walk.run()\n'
        "        await self.send([], last=True)\n",
        ("worker/test_readers_stopped.py",),
    ),
    Mutant(
        "the directory bucket is taken to list in order",
        """            other = take(key)
""",
        """            if side and key < getattr(self, "last", ""):
                continue
            self.last = key if side else getattr(self, "last", "")
            other = take(key)
""",
        WALK,
    ),
    Mutant(
        "a subfolder is left out after some were drawn",
        "        else:\n            self.visit_all(folder.subfolders)",
        "        else:\n            self.visit_all(folder.subfolders[1:])",
        WALK,
    ),
    Mutant(
        "only subfolders of the source are visited",
        "subfolders.update(",
        "side == SOURCE and subfolders.update(",
        WALK,
    ),
    Mutant(
        "only subfolders that both sides have are visited",
        "subfolders.update(",
        "(subfolders.intersection_update if side == SOURCE and subfolders else subfolders.update)(",
        WALK,
    ),
    Mutant(
        "the token of a second page is lost, and with it the rest",
        '        if not page["IsTruncated"]:\n            return\n        following',
        '        if not page["IsTruncated"] or "ContinuationToken" in parameters:\n            return\n'
        "        following",
        WALK,
    ),
    Mutant(
        "an empty page is taken for the last one",
        '        if not page["IsTruncated"]:\n            return\n        following',
        '        if not page["IsTruncated"] or not (page["Contents"] or page["CommonPrefixes"]):\n            return\n'
        "        following",
        WALK,
    ),
    Mutant(
        "what a walk has found when a page fails is all of it",
        "                raise errors[0]\n",
        "                jobs.clear()\n",
        WALK,
    ),
    Mutant(
        "a listing is taken for its first two pages",
        "page = folder.pages[side] or await anext(folder.listings[side])",
        'page = folder.pages[side] or await anext(folder.listings[side]) | {"IsTruncated": False}',
        WALK,
    ),
    Mutant(
        "subfolders that were drawn are compared twice",
        'own = {"", *folder.drawn}',
        'own = {""}',
        WALK,
    ),
    Mutant(
        "what a listing has found is handed on and found again",
        "                elif taken >= most:\n                    is_dropped = True",
        "                elif taken >= most:\n                    is_dropped = True\n"
        "                    await self.hand_on(join)",
        WALK,
    ),
    Mutant(
        "the guard counts each folder by itself",
        "            self.held += held[",
        "            self.held = held[",
        AGREE,
    ),
    # Metrics
    Mutant(
        "a key that was found equal has a lag",
        'if error or sync.result.action == "skipped":',
        "if error:",
        metrics("a_key_that_was_found_equal_says_nothing_of_the_lag"),
    ),
    Mutant(
        "a message of ours has a lag",
        "for lease in leases if lease.content.is_event]",
        "for lease in leases]",
        metrics("they_are_the_figures_of_the_log_and_cost_no_call"),
    ),
    Mutant(
        "each line has what the lines before it had",
        "counts[count] - self.said[count]",
        "counts[count]",
        metrics("there_is_a_line_a_minute_if_anything_happened"),
    ),
    Mutant(
        "a minute without anything has a line, which costs",
        "if any(values.values()):",
        "if values:",
        metrics("there_is_a_line_a_minute_if_anything_happened"),
    ),
    Mutant(
        "the first lags of a minute are its sample",
        "random.randrange(self.keys)) < SAMPLE",
        "self.keys) < SAMPLE",
        metrics("many_lags_are_a_fair_sample_and_counted_to_the_last"),
    ),
    Mutant(
        "what waits for an outage to end is not held",
        "len(scheduler.waiting) + len(scheduler.backfill) if",
        "0 if",
        metrics("what_an_outage_or_a_marker_holds_is_counted_each_minute"),
    ),
    Mutant(
        "the function never writes its line",
        "        if self.metrics:\n            self.metrics.say()\n",
        "",
        metrics("the_function_writes_a_line_for_each_run_that_did_something"),
    ),
)


def copy_project(names: Iterable[str], directory: Path) -> None:
    """Files and folders of the project, with what Python has compiled of them."""
    for name in names:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, directory / name, ignore=shutil.ignore_patterns("bench"))
        else:
            shutil.copy(PROJECT / name, directory)


def replace_once(file: Path, text: str, replacement: str) -> None:
    """Raises ValueError if the text is not in the file once."""
    source = file.read_text()
    if source.count(text) != 1:
        raise ValueError(f"the text has to be in {file} once, it is there {source.count(text)} times: {text}")
    file.write_text(source.replace(text, replacement))
    for compiled in file.parent.glob(f"__pycache__/{file.stem}.*"):
        compiled.unlink()


def plant(mutant: Mutant | None, directory: Path) -> None:
    """A copy of the worker and its tests, with the fault. Raises ValueError if the worker has changed too much."""
    copy_project(WORKER, directory)
    if mutant:
        found = [file for file in (directory / "mirror").rglob("*.py") if mutant.text in file.read_text()]
        if len(found) != 1:
            raise ValueError(f"{mutant.name}: its text has to be in one file of mirror/, it is in {[*map(str, found)]}")
        replace_once(found[0], mutant.text, mutant.replacement)


def run_tests(directory: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Return code 0: the tests pass, 1: they fail, others: they could not be run."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "NIGHTLY"))}
    options = ["-x", "-q", "-c", ".pytest.ini", "-p", "no:cacheprovider"]
    code = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    named = [f"tests/{test}" for test in tests]
    process = forks_after(LIBRARIES).start(code, *options, *named, environment=environment, cwd=str(directory))
    output, _ = process.communicate(timeout=3000)
    return subprocess.CompletedProcess(named, process.wait(), output, "")
