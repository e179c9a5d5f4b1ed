"""How an object is cut into parts, and the upload that takes them."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.model.limits import MAX_COPY_SIZE, MAX_PARTS, MIB


@dataclass(frozen=True)
class Part:
    """Bytes first..last, both included, of the source; numbers begin at 1 while bytes begin at 0."""

    number: int
    first: int
    last: int

    @property
    def size(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class Upload:
    """A multipart upload under way, as it is handed on to the next worker."""

    upload_id: str
    source: str  # identity of the source version it was begun for
    part_size: int


def part_size_for(size: int, smallest: int) -> int:
    """Bytes per part so that at most 10,000 parts are needed. Raises ValueError above 10,000 parts of 5 GiB."""
    needed = -(-size // MAX_PARTS)
    part_size = max(smallest, -(-needed // MIB) * MIB)
    if part_size > MAX_COPY_SIZE:
        raise ValueError(f"{size} bytes are more than {MAX_PARTS} parts of 5 GiB, the largest object of S3")
    return part_size


def parts_of(size: int, part_size: int) -> list[Part]:
    """The parts of an object, numbered from 1 without gaps as a directory bucket demands."""
    starts = range(0, size, part_size)
    return [Part(number, start, min(start + part_size, size) - 1) for number, start in enumerate(starts, 1)]
