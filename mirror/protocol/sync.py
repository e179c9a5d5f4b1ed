"""The protocol for one key: look, write on condition, look again, until nothing moved in between.

An S3 event is only a hint that a key changed. The sync looks at the source as it is now, makes the destination equal to
it with conditional writes, and looks at the source again after each write. So the order, the number and the age of
events do not matter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from botocore.exceptions import ClientError

from mirror.model.errors import (
    HANDED_BACK,
    Changed,
    Kind,
    Postponed,
    Refused,
    describe,
    error_code,
    is_environment,
    meaning,
)
from mirror.model.log_lines import UNCONDITIONAL, log, quoted
from mirror.model.services import MIB
from mirror.protocol.attempt import KeySync, Sight
from mirror.protocol.buckets import CONDITIONAL_WRITES, NOTHING_LEFT_OUT, Buckets, LeftOut
from mirror.protocol.multipart import LargeCopies, abort_orphans, drop_upload
from mirror.protocol.objects import MOVED_CONTENT_ENCODING, Destination, Source, have_same_bytes
from mirror.protocol.retries import Retries
from mirror.protocol.verdict import ABSENT, DELETE, EQUAL, EXPIRED, FOREIGN, NOTHING, REFUSE, is_ours_to_delete, judge

LONG_COPY_SIZE = 64 * MIB  # S3 copies what is larger for seconds
ENCODING_MOVED = "the directory bucket refuses Content-Encoding %s, kept as user metadata %s key=%s"
NOT_KEPT = "not copied key=%s as it has not changed for more than KEEP_DAYS=%d"
FOREIGN_FOUND = "only an event of its key or ./sync.sh reconcile --remove-foreign deletes it"
ENCODED = ("CopyObject", "CreateMultipartUpload")  # the requests that name the ContentEncoding
FOR_WORKER_SECONDS = 5  # what the function leaves to a worker comes back this soon, before that worker has ended again


type Step = Callable[[KeySync], Awaitable[None]]


class Syncer:
    """Syncs the keys of one worker, many at a time.

    `before_copy` and `before_write` are what options do before a copy, and before a copy or a delete. They may wait,
    and raise Postponed or what else a sync may raise.
    """

    def __init__(self, buckets: Buckets, before_copy: Iterable[Step] = (), before_write: Iterable[Step] = ()) -> None:
        self.buckets = buckets
        self.before_copy, self.before_write = tuple(before_copy), tuple(before_write)
        self.keep_days = buckets.settings.keep_days
        self.large_copies = LargeCopies(buckets)
        self.multipart_threshold = buckets.settings.multipart_threshold

    async def sync(self, sync: KeySync) -> None:
        """Makes the destination's object equal to the source's. What that took is in sync.result.

        It is attempted until the source is the same before and after a write. Otherwise an object that is deleted while
        it is copied, or created again while it is deleted, would stay wrong forever.

        Raises one of HANDED_BACK, or Refused or the error of S3 if the key cannot be synced now. An upload that is open
        by then is aborted, unless the next delivery is to go on with it: in that case it is sync.upload.
        """
        retries = Retries(self.buckets, sync)
        is_equal = False
        sync.is_creation = sync.is_creation and not sync.destination_first  # another message may say that it is there
        sync.destination_first = sync.destination_first or (sync.is_creation and self.buckets.expects_overwriting())
        while not is_equal:
            try:
                is_equal = await self.attempt(sync, retries)
            except Exception as error:
                seconds = retries.pause_after(error)
                if seconds is None:
                    if not (isinstance(error, HANDED_BACK) or is_environment(error)):
                        await drop_upload(self.buckets, sync)
                    raise
                log.debug("again in %.3f s key=%s %s", seconds, quoted(sync.key), describe(error))
                await retries.pause(seconds)
            sync.destination_first = True
        if sync.upload:
            await drop_upload(self.buckets, sync)

    async def attempt(self, sync: KeySync, retries: Retries) -> bool:
        """True when both sides are equal. False if another attempt has to look at the destination first, or at the
        checksums as well. Raises Changed.

        If the destination is looked at, this comes before the source. Then the condition of the write fails if anything
        was written after that look, and what was written before it is not newer than the source that was seen.
        """
        buckets = self.buckets
        if not buckets.is_open:
            await buckets.open()

        by_checksum = sync.compares_bytes
        existing = await self.look_at_destination(sync, retries) if sync.destination_first else None
        sync.host.look_begins(sync)
        source = await retries.patiently(buckets.head_source, sync.key, by_checksum)
        sync.result.sight = Sight(source, existing)

        may_have_uploads = source is None or source.size > self.multipart_threshold
        expired = bool(source and self.keep_days and buckets.is_expired(source.modified))
        if not sync.destination_first and (may_have_uploads or expired):
            return False
        if sync.redelivered and may_have_uploads:
            await abort_orphans(buckets, sync)
            sync.redelivered = False

        wrote = await self.make_equal(sync, retries, source, existing, expired)
        if wrote:
            buckets.note_creation(sync, was_there=False)
        if wrote and await retries.patiently(buckets.head_source, sync.key) != source:
            sync.host.overtaken(sync)
            raise Changed("the source changes faster than it can be copied")
        return wrote or by_checksum == sync.compares_bytes

    async def look_at_destination(self, sync: KeySync, retries: Retries) -> Destination | None:
        began = self.buckets.now()
        existing = await retries.patiently(self.buckets.head_destination, sync.key, sync.compares_bytes)
        sync.result.with_session = began
        self.buckets.note_creation(sync, was_there=existing is not None)
        return existing

    async def make_equal(
        self, sync: KeySync, retries: Retries, source: Source | None, existing: Destination | None, expired: bool
    ) -> bool:
        """Makes one write at most. True if it did, so that the source has to be looked at again."""
        buckets, result = self.buckets, sync.result
        same_bytes = have_same_bytes(source, existing)
        verdict = judge(source, existing, expired=expired, same_bytes=same_bytes)
        if verdict.action == NOTHING:
            result.end = verdict.what
            if expired and (existing is None or verdict.of_unknown_origin):
                log.info(NOT_KEPT, quoted(sync.key), self.keep_days)
            return False

        if verdict.action == DELETE and existing and sync.spares_foreign and not is_ours_to_delete(existing):
            buckets.note_foreign(sync.key, FOREIGN_FOUND)
            result.end = EXPIRED if source else FOREIGN
            return False
        if source is None or verdict.action == DELETE:
            await self.write(sync, retries, None, existing)
            result.action, result.size = "deleted", 0
            result.end = EXPIRED if source else ABSENT
            return True

        if verdict.action == REFUSE:
            raise Refused(f"the object is archived in {source.archived}: restore it, its restore event copies it")
        largest = buckets.settings.largest
        if largest and source.size > largest:
            raise Postponed("larger than what is copied here", FOR_WORKER_SECONDS)

        for step in self.before_copy:
            await step(sync)
        if source.size > LONG_COPY_SIZE and not sync.host.step_aside(sync):
            raise Postponed("too many long copies at once")
        sync.spares_foreign = False  # from now on, an object without provenance may be this copy
        await self.write(sync, retries, source, existing)
        result.action, result.size, result.end = "copied", source.size, EQUAL
        return True

    # What the directory bucket refuses

    async def write(self, sync: KeySync, retries: Retries, source: Source | None, existing: Destination | None) -> None:
        """Copies the source, or deletes what exists; again without what the directory bucket refuses in the request.

        A delete that S3 is too busy for is left to a new attempt: no condition says that the source is still gone.
        """
        for step in self.before_write:
            await step(sync)
        left_out, refusal = self.buckets.left_out, ""
        while True:
            try:
                if source and source.size > self.multipart_threshold:
                    await retries.patiently(self.large_copies.copy, sync, source, existing, left_out)
                elif source:
                    await retries.patiently(self.buckets.copy_object, sync, source, existing, left_out)
                elif existing:
                    await self.buckets.delete_object(sync, existing, left_out)
            except ClientError as error:
                less = self.leave_out_more(source, left_out, error)
                if less is None:
                    raise
                left_out, refusal = less, describe(error)
            else:
                if left_out is not NOTHING_LEFT_OUT:
                    self.learn(sync.key, source, left_out, refusal)
                return

    def leave_out_more(self, source: Source | None, tried: LeftOut, error: ClientError) -> LeftOut | None:
        """What to leave out after a refusal: the ContentEncoding, then the condition, then both; then None. What is
        refused of one operation may be accepted of another."""
        code, operation = error_code(error), error.operation_name
        sent_encoding = operation in ENCODED and self.sends_encoding(source) and not tried.encoding
        if sent_encoding and meaning(code).kind is Kind.REFUSED:
            return LeftOut(tried.conditions, encoding=True)
        if code == "NotImplemented" and operation in CONDITIONAL_WRITES - tried.conditions:
            encoding = self.buckets.left_out.encoding if operation in ENCODED else tried.encoding
            return LeftOut(tried.conditions | {operation}, encoding)
        return None

    def sends_encoding(self, source: Source | None) -> bool:
        """Whether our request names the ContentEncoding. Metadata that cannot be sent back are copied by S3 itself."""
        if source is None or "ContentEncoding" not in source.fields:
            return False
        return source.carries_provenance or source.size > self.multipart_threshold

    def learn(self, key: str, source: Source | None, left_out: LeftOut, refusal: str) -> None:
        """Leaves out from now on what a write has succeeded without."""
        known = self.buckets.left_out
        if source and left_out.encoding and self.sends_encoding(source):
            encoding = source.fields["ContentEncoding"]
            log.warning(ENCODING_MOVED, encoding, MOVED_CONTENT_ENCODING, quoted(key))
        if left_out.conditions - known.conditions:
            log.warning(UNCONDITIONAL, refusal)
        self.buckets.left_out = LeftOut(known.conditions | left_out.conditions, known.encoding or left_out.encoding)
