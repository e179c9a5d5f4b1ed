"""How long after each change of a source its mirror showed it, or something newer."""

import time
from collections import Counter, defaultdict

from standin_store import S3, Bucket


def group_of(key: str) -> str:
    return key.partition("/")[0]


class Lags:
    """Told by S3.on_change. Keys are grouped by their first folder."""

    def __init__(self, s3: S3, source: str, mirror: str) -> None:
        self.s3, self.source, self.mirror = s3, source, mirror
        self.waiting: dict[str, list[tuple[float, float, bool]]] = {}  # key -> number, time, is it a deletion
        self.seconds: dict[str, list[float]] = defaultdict(list)  # group -> what the mirror has shown
        self.behind: Counter[str] = Counter()  # group -> changes it has not

    def on_change(self, bucket: Bucket, key: str) -> None:
        if bucket.name == self.source:
            self.changed(bucket, key)
        elif bucket.name == self.mirror and key in self.waiting:
            self.shown(bucket, key)

    def changed(self, bucket: Bucket, key: str) -> None:
        current = bucket.current(key)
        number = self.s3.generation + (0.5 if current is None else 0)  # a deletion makes no generation
        self.waiting.setdefault(key, []).append((number, time.monotonic(), current is None))
        self.behind[group_of(key)] += 1
        if current is None and self.s3.buckets[self.mirror].current(key) is None:
            self.end(key, number, is_measured=False)  # there is nothing to delete

    def shown(self, bucket: Bucket, key: str) -> None:
        """Up to which change: that which the bytes are of, or the last deletion."""
        if current := bucket.current(key):
            newest = float(max(generation for generation, _, _ in current.content))
        else:
            newest = max((number for number, _, is_deletion in self.waiting[key] if is_deletion), default=-1.0)
        self.end(key, newest)

    def end(self, key: str, newest: float, is_measured: bool = True) -> None:
        now, group = time.monotonic(), group_of(key)
        ended = [change for change in self.waiting[key] if change[0] <= newest]
        left = self.waiting[key][len(ended) :]
        self.behind[group] -= len(ended)
        self.seconds[group] += [now - changed for _, changed, _ in ended if is_measured]
        if left:
            self.waiting[key] = left
        else:
            del self.waiting[key]

    def report(self) -> dict[str, list[float]]:
        """group -> seconds of every change that was shown."""
        return {group: self.seconds[group] for group in self.behind}
