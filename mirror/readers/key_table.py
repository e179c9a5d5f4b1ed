"""Millions of keys, each with a short text, in little memory."""

from __future__ import annotations

from collections.abc import Iterator

BEGIN, SEPARATOR = b"\xff", b"\xfe"  # no byte of a text in UTF-8
KEYS_PER_SLOT = 64  # on average, before their number doubles


class KeyTable:
    """Keys, each with a text. Takes the bytes of both, two more, and about a fifth of that: 55 MB for a million keys of
    30 bytes.

    A record is BEGIN, the key, SEPARATOR, the text. The hash of a key says in which slot its record is, and the number
    of slots grows with that of the keys, so that each is found as fast.
    """

    def __init__(self) -> None:
        self.slots = [bytearray()]
        self.count = 0

    def slot_of(self, key: bytes) -> bytearray:
        return self.slots[hash(key) & len(self.slots) - 1]

    def put(self, key: str, text: str) -> None:
        """A key that is there already gets the new text."""
        self.take(key)
        encoded = key.encode()
        slot = self.slot_of(encoded)
        slot += BEGIN + encoded + SEPARATOR + text.encode()
        self.count += 1
        if self.count > KEYS_PER_SLOT * len(self.slots):
            self.grow()

    def take(self, key: str) -> str | None:
        """Removes the key, and returns its text; None if it is not there."""
        encoded = key.encode()
        slot = self.slot_of(encoded)
        start = slot.find(BEGIN + encoded + SEPARATOR)
        if start < 0:
            return None
        end = slot.find(BEGIN, start + 1)
        end = len(slot) if end < 0 else end
        text = slot[start + len(encoded) + 2 : end].decode()
        del slot[start:end]
        self.count -= 1
        return text

    def take_all(self) -> Iterator[tuple[str, str]]:
        """Removes all keys one by one."""
        while self.slots:
            for record in self.slots.pop().split(BEGIN)[1:]:
                key, _, text = record.partition(SEPARATOR)
                yield key.decode(), text.decode()
        self.slots, self.count = [bytearray()], 0

    def grow(self) -> None:
        """The keys of a slot go into that slot and a new one, which is as far behind it as there were slots."""
        old = self.slots
        self.slots = [bytearray() for _ in range(2 * len(old))]
        for number, slot in enumerate(old):
            old[number] = bytearray()
            for record in slot.split(BEGIN)[1:]:
                target = self.slot_of(bytes(record.partition(SEPARATOR)[0]))
                target += BEGIN + record
