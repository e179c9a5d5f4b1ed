"""What goes wrong in the stand-in because a test asked for it: rules that make requests fail, late or refused."""

import asyncio
import random
import re
import time
from dataclasses import dataclass

from standin_store import S3Error


class Disconnect(Exception):
    """Close the connection without an answer."""


@dataclass
class Fault:
    """A rule that makes requests fail. It applies to requests of one operation, of several (separated by commas)
    or of all of "S3", "SQS" or "Events"; and of one bucket (or queue) and of keys that a regular expression finds, if
    given; for `until` seconds from now (0: forever); after the first `skip` of them; `times` times (0: always), each
    time with `probability`. With `rate` it applies only to requests beyond that many a second.

    kind: error          answer `status` and `code`, do nothing
          error_in_200   answer 200 with `code` in the body, do nothing
          empty_200      answer 200 without a body, do nothing
          reset          close the connection, do nothing
          hang           wait `seconds`, then close the connection, do nothing
          lost           do the work, then close the connection
    """

    operation: str
    kind: str
    bucket: str = ""
    key: str = ""
    skip: int = 0
    times: int = 1
    probability: float = 1.0
    rate: float = 0.0
    until: float = 0.0
    status: int = 500
    code: str = "InternalError"
    message: str = "planted by a test"
    seconds: float = 3600.0
    seed: int = 0
    used: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.operations = set(self.operation.split(","))
        self.planted = self.refilled = time.monotonic()
        self.allowed = 0.0

    def applies(self, operation: str, service: str, bucket: str, key: str) -> bool:
        if self.operations.isdisjoint((operation, service)) or (self.bucket and bucket != self.bucket):
            return False
        if (self.key and not re.search(self.key, key)) or (self.times and self.used >= self.times):
            return False
        if self.until and time.monotonic() - self.planted >= self.until:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.random.random() >= self.probability or (self.rate and self.has_allowance()):
            return False
        self.used += 1
        return True

    def has_allowance(self) -> bool:
        """A bucket of tokens for a tenth of a second, so that the limit holds at all times."""
        now = time.monotonic()
        self.allowed = min(self.allowed + self.rate * (now - self.refilled), max(self.rate / 10, 1.0))
        self.refilled = now
        if self.allowed < 1:
            return False
        self.allowed -= 1
        return True


async def fail(fault: Fault, error: type[S3Error]) -> None:
    """What a fault does before the work of the request, or instead of it."""
    if fault.kind == "hang":
        await asyncio.sleep(fault.seconds)
    if fault.kind in ("reset", "hang"):
        raise Disconnect
    if fault.kind in ("error", "error_in_200"):
        raise error(fault.code, fault.message, status=fault.status if fault.kind == "error" else 200)
