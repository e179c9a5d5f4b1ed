"""Millions of keys with their size and time, in little memory."""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict

ENTRY = struct.Struct(">14sQI")  # rest of the key's digest, size in bytes, LastModified in seconds since the epoch


class KeyTable:
    """Keys with their size and time. 26 bytes and some room for each: about 35 MB for a million.

    A key is known by its 128-bit digest, whose first two bytes choose the slot that its entry is in.
    """

    def __init__(self) -> None:
        self.slots: defaultdict[int, bytearray] = defaultdict(bytearray)  # made when needed: most tables are small
        self.count = 0

    def place(self, key: str) -> tuple[bytearray, bytes, int]:
        """The key's slot, the digest in its entry, and where that entry begins, -1 for nowhere."""
        digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
        slot = self.slots[int.from_bytes(digest[:2])]
        at = slot.find(digest[2:])
        while at > 0 and at % ENTRY.size:  # found across two entries
            at = slot.find(digest[2:], at + 1)
        return slot, digest[2:], at

    def add(self, key: str, size: int, modified: int) -> None:
        """A key that is listed twice, as it changed meanwhile, is one key: the later entry replaces the first."""
        slot, digest, at = self.place(key)
        if at >= 0:
            del slot[at : at + ENTRY.size]
            self.count -= 1
        slot += ENTRY.pack(digest, size, modified)
        self.count += 1

    def take(self, key: str) -> tuple[int, int] | None:
        """Removes the key; its size and time, None if it is not there."""
        slot, _, at = self.place(key)
        if at < 0:
            return None
        _, size, modified = ENTRY.unpack_from(slot, at)
        del slot[at : at + ENTRY.size]
        self.count -= 1
        return size, modified
