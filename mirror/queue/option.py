"""What an option may do around the work of a process: the class that each option in mirror/options/ is one of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Concatenate

from mirror.protocol.attempt import KeySync
from mirror.queue.lease import Lease


class Option:
    """An option that does nothing. Each one overrides the methods that it needs; the others are never called."""

    async def before_copy(self, sync: KeySync) -> None:
        """The source is to be copied. May wait, and raise Postponed, Refused or Interrupted."""

    async def before_write(self, sync: KeySync) -> None:
        """A copy or a delete is to be made, after before_copy(). May raise what a sync may raise."""

    def synced(self, sync: KeySync, lease: Lease) -> None:
        """The sync has succeeded, and `lease` is the last message that it was for."""

    def ended(self, sync: KeySync, leases: Sequence[Lease], error: Exception | None) -> None:
        """The sync has ended for these messages, or goes on for others only; `error` is why it failed."""

    def given_up(self, lease: Lease, sync: KeySync | None, error: Exception) -> None:
        """The message has failed for the last time. Nobody can read which keys it names if there is no sync."""

    async def before_delete(self, _leases: Sequence[Lease]) -> Collection[Lease]:
        """These messages are finished. Returns those that are to come again although nothing of them failed."""
        return ()

    async def beat(self, counts: Counter[str], kept: int, is_last: bool = False) -> None:
        """Another second has passed, or the process has ended its work.

        `counts`: what the process has done so far, to which this may add. `kept`: how many keys wait for the end of an
        outage.
        """


def methods[**P, R](options: Iterable[Option], method: Callable[Concatenate[Any, P], R]) -> tuple[Callable[P, R], ...]:
    """That method of each option that overrides it, in their order. So what no option asks for costs nothing."""
    name = method.__name__
    return tuple(getattr(option, name) for option in options if getattr(type(option), name) is not method)
