"""A worker that reconcile --deep asks for a copy with other bytes compares checksums, whenever the message comes."""

from datetime import UTC, datetime
from typing import Any

import pytest
from fakes import Client, run, syncer_on

from mirror.protocol.attempt import Host, KeySync
from mirror.protocol.objects import PROVENANCE, source_from_head

pytestmark = pytest.mark.fast

MOMENT = datetime(2026, 11, 25, tzinfo=UTC)
SOURCE = {"ETag": '"e"', "LastModified": MOMENT, "ContentLength": 1}
MIRROR = SOURCE | {"ETag": '"d"', "Metadata": {PROVENANCE: source_from_head(SOURCE).identity}}
WHOLE = {"ChecksumType": "FULL_OBJECT"}


class Asked(Host):
    """A message that asks for it comes while the sync looks at the source."""

    def look_begins(self, sync: KeySync) -> None:
        sync.compares_bytes = True


@pytest.mark.parametrize(
    ("sync", "action"),
    [
        (KeySync("data/key", destination_first=True), "skipped"),
        (KeySync("data/key", destination_first=True, compares_bytes=True), "copied"),
        (KeySync("data/key", destination_first=True, host=Asked()), "copied"),
    ],
    ids=["not asked", "asked", "asked meanwhile"],
)
def test_a_copy_with_other_bytes_is_copied_again_if_a_message_asks_for_it(sync: KeySync, action: str) -> None:
    def answer(operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if operation != "head_object":
            return {"CopyObjectResult": {"ETag": '"d2"'}}
        is_source = arguments["Bucket"] == "source"
        found = SOURCE if is_source else MIRROR
        return found | (WHOLE | {"ChecksumCRC32": f"{is_source}"} if "ChecksumMode" in arguments else {})

    run(syncer_on(Client(answer)).sync(sync))
    assert sync.result.action == action
