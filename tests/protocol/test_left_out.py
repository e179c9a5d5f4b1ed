"""What the directory bucket may not take is learned only from a write that succeeded without it."""

from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError
from fakes import Client, run, syncer_on

from mirror.protocol import sync
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import LeftOut
from mirror.protocol.objects import Destination, Source, source_from_head
from mirror.protocol.retries import Retries


def source(**fields: str) -> Source:
    moment = datetime(2026, 11, 25, tzinfo=UTC)
    return source_from_head({"ETag": '"e"', "LastModified": moment, "ContentLength": 1} | fields)


@pytest.mark.parametrize("refusal", ["InvalidRequest", "NotImplemented"])
def test_a_refusal_of_one_version_teaches_nothing_about_the_next(monkeypatch: pytest.MonkeyPatch, refusal: str) -> None:
    answers = [refusal, "PreconditionFailed", ""]

    async def copy(*_: object) -> None:
        if code := answers.pop(0):
            raise ClientError({"Error": {"Code": code}}, "CopyObject")

    monkeypatch.setattr(sync, "copy_object", copy)
    syncer, key = syncer_on(Client(lambda *_: {})), KeySync("data/key")
    retries = Retries(syncer.buckets, key)
    first = source(ContentEncoding="gzip") if refusal == "InvalidRequest" else source()
    with pytest.raises(ClientError, match="PreconditionFailed"):
        run(syncer.write(key, retries, first, None))
    run(syncer.write(key, retries, source(), None))
    assert syncer.buckets.left_out == LeftOut()


def test_what_one_write_is_refused_others_still_send(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["NotImplemented", ""]

    async def delete(*_: object) -> None:
        if code := answers.pop(0):
            raise ClientError({"Error": {"Code": code}}, "DeleteObject")

    monkeypatch.setattr(sync, "delete_object", delete)
    syncer, key = syncer_on(Client(lambda *_: {})), KeySync("data/key")
    existing = Destination('"e"', 1, datetime(2026, 11, 25, tzinfo=UTC), "")
    run(syncer.write(key, Retries(syncer.buckets, key), None, existing))
    assert syncer.buckets.left_out == LeftOut(conditions=frozenset({"DeleteObject"}))
