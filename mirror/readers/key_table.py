"""Millions of keys, each with a value, in little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

BEGIN, SEPARATOR = b"\xff", b"\xfe"  # no byte of a text in UTF-8
KEYS_PER_SLOT = 32  # on average, before their number doubles
MOST_LOOSE = 2000  # keys that are kept as they are: a fifth of the time, ten times the memory


class KeyTable[V]:
    """Keys, each with a value. Takes the bytes of the key and of the value as a text, and about a fifth of that: 100
    MiB for a million objects whose keys have 26 bytes.

    A record is BEGIN, the key, SEPARATOR, the text. The hash of a key says in which slot its record is, and the number
    of slots grows with that of the keys, so that each is found as fast. The latest few keys are not in slots yet.
    """

    def __init__(self, to_text: Callable[[V], str], from_text: Callable[[str], V]) -> None:
        self.to_text = to_text
        self.from_text = from_text
        self.loose: dict[str, V] = {}
        self.slots = [bytearray()]
        self.packed = 0  # records in them

    def slot_of(self, key: bytes) -> bytearray:
        return self.slots[hash(key) & len(self.slots) - 1]

    def put(self, key: str, value: V) -> None:
        """A key that is there already gets the new value, and may have several records until it is taken."""
        self.loose[key] = value
        if len(self.loose) > MOST_LOOSE:
            self.pack()

    def take(self, key: str) -> V | None:
        """Removes the key, and returns its value; None if it is not there."""
        value = self.loose.pop(key, None)
        older = self.unpack(key) if self.packed else None
        return older if value is None else value

    def take_all(self) -> Iterator[tuple[str, V]]:
        """Removes all keys one by one."""
        if self.packed:
            self.pack()
        while self.loose:
            yield self.loose.popitem()
        while self.slots:
            latest = dict(record.split(SEPARATOR) for record in bytes(self.slots.pop()).split(BEGIN)[1:])
            for key, text in latest.items():
                yield key.decode(), self.from_text(text.decode())
        self.slots, self.packed = [bytearray()], 0

    def pack(self) -> None:
        """Puts the loose keys into the slots."""
        self.packed += len(self.loose)
        while self.packed > KEYS_PER_SLOT * len(self.slots):
            self.grow()
        for key, value in self.loose.items():
            encoded = key.encode()
            slot = self.slot_of(encoded)
            slot += BEGIN + encoded + SEPARATOR + self.to_text(value).encode()
        self.loose.clear()

    def unpack(self, key: str) -> V | None:
        """Like take(), from the slots: removes all records of the key, and returns the value of the latest."""
        encoded = key.encode()
        slot = self.slot_of(encoded)
        beginning, text, start = BEGIN + encoded + SEPARATOR, None, 0
        while (start := slot.find(beginning, start)) >= 0:
            end = slot.find(BEGIN, start + 1)
            end = len(slot) if end < 0 else end
            text = slot[start + len(beginning) : end].decode()
            del slot[start:end]
            self.packed -= 1
        return None if text is None else self.from_text(text)

    def grow(self) -> None:
        """The keys of a slot go into that slot and a new one, which is as far behind it as there were slots."""
        old = self.slots
        self.slots = [bytearray() for _ in range(2 * len(old))]
        for number, slot in enumerate(old):
            old[number] = bytearray()
            for record in slot.split(BEGIN)[1:]:
                target = self.slot_of(bytes(record.partition(SEPARATOR)[0]))
                target += BEGIN + record
