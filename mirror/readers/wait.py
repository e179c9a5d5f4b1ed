"""The command wait: ends when everything that the source holds under a prefix is in the destination."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mirror.concurrency import wait_at_most
from mirror.model.log_lines import LACKING, PROGRESS, WAITED, amount, log, quoted
from mirror.protocol.attempt import Interruption
from mirror.protocol.buckets import Buckets
from mirror.readers.completeness import NAMES, Budget, Completeness, budget_of
from mirror.readers.listing import CHECKED, PROGRESS_SECONDS, Progress, came_to_end, chosen_prefixes

RATE_POINTS = 7  # of the progress: the rate is that of the last minute
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between two rounds
PATIENCE = 100  # after this many seconds a pause may last one longer: what is missing for an hour is seldom looked at
EXAMPLES = 100
EMPTY_ADVICE = "is --prefix right, and has the upload begun? With --allow-empty, this is complete"
ARCHIVED = "archived: restore it"
CORRUPT = "corrupt: the checksums differ; reconcile --deep has it copied again"
GHOST = "only in the destination: its deletion is waited for"
FOREIGN = "only in the destination, not written by the sync: not waited for"
STATUS = {"complete": 0, "timeout": 1, "empty": 1, "stopped": 3}


@dataclass(frozen=True)
class WaitArguments:
    """What the command line says."""

    prefix: str = ""
    timeout: int = 3600  # seconds, the listings included
    exact: bool = False
    deep: bool = False
    allow_empty: bool = False
    json: bool = False
    examples: int = EXAMPLES  # keys to name


async def wait(
    buckets: Buckets,
    arguments: WaitArguments,
    interruption: Interruption,
    show: Callable[[str], None],
    shared: Budget | None = None,
) -> int:
    """Waits, and calls show() for each line of the result. Returns the exit status of Wait.run(), or 2 for a wrong
    prefix."""
    prefixes = chosen_prefixes(buckets.settings, arguments.prefix)
    if not prefixes:
        return 2
    state = Completeness(
        buckets,
        prefixes,
        interruption,
        exact=arguments.exact,
        deep=arguments.deep,
        is_patient=True,
        shared=shared or budget_of(buckets, max(NAMES, 2 * arguments.examples)),
    )
    return await Wait(state, arguments, show).run()


class Point(NamedTuple):
    """What was missing at a moment of the progress."""

    at: float
    keys: int
    size: int  # bytes


@dataclass(eq=False)
class Wait:
    """One wait for the state that the source has at its start. It only reads, and needs no queue."""

    state: Completeness
    arguments: WaitArguments
    show: Callable[[str], None] = print
    started: float = field(default_factory=time.monotonic)
    is_compared: bool = False  # both listings were read
    points: deque[Point] = field(default_factory=lambda: deque(maxlen=RATE_POINTS))

    async def run(self) -> int:
        """Returns the exit status: 0 if nothing is missing, 1 at the timeout, or if there is nothing to wait for, 3
        after SIGTERM or if it could not be found out."""
        progress = asyncio.create_task(self.log_progress())
        in_time = wait_at_most(self.until_complete(), self.arguments.timeout)
        try:
            if not await came_to_end("wait stopped, nothing was changed", in_time, self.state.interruption):
                return self.report("stopped")
        finally:
            progress.cancel()
        if not self.is_compared or self.state.lacking:
            return self.report("timeout")
        return self.report("empty" if self.is_empty_by_mistake() else "complete")

    async def until_complete(self) -> None:
        await self.state.compare()
        self.is_compared = True
        self.log_what_is_missing()
        while self.state.lacking:
            begun = time.monotonic()
            self.state = await self.state.look()
            if self.state.lacking:
                await self.state.interruption.pause(self.pause_after(time.monotonic() - begun))

    def pause_after(self, round_seconds: float) -> float:
        """As many seconds as the round lasted, so that S3 is asked for half of the time at most, or a hundredth of the
        whole wait if that is more."""
        waited = (time.monotonic() - self.started) / PATIENCE
        return min(LONGEST_PAUSE, max(SHORTEST_PAUSE, round_seconds, waited))

    def is_empty(self) -> bool:
        return not self.state.keys and not self.state.expired

    def is_empty_by_mistake(self) -> bool:
        """Whether nobody would wait for that: --prefix is wrong, or its upload has not begun."""
        arguments = self.arguments
        return self.is_empty() and bool(arguments.prefix) and not (arguments.exact or arguments.allow_empty)

    # On the way

    def log_what_is_missing(self) -> None:
        if self.is_empty():
            prefix = self.arguments.prefix or self.state.buckets.settings.prefix_filter
            advice = EMPTY_ADVICE if self.is_empty_by_mistake() else "is --prefix right?"
            log.warning("the source has no key under %s: %s", quoted(prefix), advice)
        if self.state.expired:
            log.info("not waited for: %d keys that have not changed for more than KEEP_DAYS", self.state.expired)
        if self.state.lacking:
            log.info("waiting for %d keys: %s", self.state.lacking, self.numbers())
        if archived := self.archived():
            log.warning("%d of them are archived in the source: restore them, or they never arrive", archived)

    async def log_progress(self) -> None:
        of_walk = Progress()
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            if self.is_compared:
                log.info(PROGRESS, self.progress())
            elif walk := self.state.walk:
                far = of_walk.text(walk.listed, walk.done, walk.known)
                log.info(PROGRESS, f"listed={walk.listed} {far}")

    def progress(self) -> str:
        """How much has arrived, how fast the rest arrives, and how long that takes at the same rate."""
        here, here_bytes = self.here()
        now = Point(time.monotonic(), self.state.keys - here, self.state.size - here_bytes)
        self.points.append(now)
        then = self.points[0]

        seconds = max(time.monotonic() - then.at, 0.001)
        keys_per_second = (then.keys - now.keys) / seconds
        bytes_per_second = (then.size - now.size) / seconds
        rests = [(now.keys, keys_per_second), (now.size, bytes_per_second)]
        left = max((rest / rate for rest, rate in rests if rate > 0), default=0)

        shown = f"here={here}/{self.state.keys} bytes={here_bytes}/{self.state.size} bytes/s={bytes_per_second:.0f}"
        return f"{shown} left={left:.0f}s" if left else f"{shown} left=estimating"

    # Figures

    def here(self) -> tuple[int, int]:
        """Keys and bytes of the source that are in the destination; not known before both listings were read."""
        if not self.is_compared:
            return 0, 0
        missing = [source for source in self.state.missing.values() if source]
        more = self.state.more
        keys = len(missing) + more.keys - more.ghosts
        size = sum(source.size for source in missing) + more.size
        return self.state.keys - keys, self.state.size - size

    def archived(self) -> int:
        named = sum(1 for source in self.state.missing.values() if source and source.archived)
        return named + self.state.more.archived

    def figures(self) -> dict[str, int | float]:
        state, (here, here_bytes) = self.state, self.here()
        figures: dict[str, int | float] = {
            "keys": state.keys,
            "bytes": state.size,
            "here": here,
            "here_bytes": here_bytes,
            "lacking": state.lacking,
            "archived": self.archived(),
            "only_in_destination": state.only_in_destination,
        }
        if state.exact:
            figures["of_unknown_origin"] = state.of_unknown_origin
        if state.deep:
            figures |= {"checked": state.checked, "unchecked": state.unchecked}
        if state.buckets.settings.keep_days:
            figures["expired"] = state.expired
        figures["seconds"] = round(time.monotonic() - self.started, 1)
        return figures

    def numbers(self) -> str:
        return " ".join(f"{name}={number}" for name, number in self.figures().items())

    # The end

    def why(self, key: str) -> str:
        source = self.state.missing[key]
        if trouble := self.state.troubles.get(key):
            return f"trouble: {trouble}"
        if source is None:
            return GHOST
        if source.archived:
            return ARCHIVED
        return CORRUPT if key in self.state.corrupt else "waiting"

    def named(self) -> Iterator[tuple[str, str]]:
        """Missing keys and why they are missing; those with a reason of their own first."""
        missing = sorted(self.state.missing, key=lambda key: self.why(key) == "waiting")
        return ((key, self.why(key)) for key in missing[: self.arguments.examples])

    def report(self, end: str) -> int:
        """Shows the result as a table or as JSON, and logs all numbers as the last line. Returns the exit status."""
        status = STATUS[end]
        named = list(self.named()) if self.is_compared else []
        if end == "timeout" and not self.is_compared:
            log.warning("the time was over before both buckets were listed: raise --timeout")
        for key, why in named:
            log.warning(LACKING, quoted(key), why)
        if self.arguments.json:
            missing = [{"key": key, "why": why} for key, why in named]
            self.show(json.dumps({"end": end, "status": status, **self.figures(), "missing_keys": missing}))
        else:
            self.show_table(end)
        log.info(WAITED, end, status, self.numbers())
        return status

    def show_table(self, end: str) -> None:
        figures = self.figures()
        ghosts = sum(1 for source in self.state.missing.values() if source is None) + self.state.more.ghosts
        rows = {
            "here": (figures["here"], "as it was at the start, or newer"),
            "waiting": (self.state.lacking - self.archived() - ghosts, "not there yet"),
            "archived": (figures["archived"], "archived in the source: restore it, its restore event copies it"),
            "ghost": (ghosts, "only in the destination, and to be deleted there (--exact)"),
        }
        if self.state.buckets.settings.keep_days:
            rows["expired"] = figures["expired"], "unchanged in the source for more than KEEP_DAYS: not waited for"
        if self.state.exact:
            rows["foreign"] = figures["of_unknown_origin"], FOREIGN
        if self.state.deep:
            rows |= {name: (figures[name], meaning) for name, meaning in CHECKED.items()}
        prefixes = quoted(",".join(self.state.prefixes))
        self.show(f"{end}: {amount(self.state.keys, 'key')} of the source under {prefixes}")
        for name, (number, meaning) in rows.items():
            self.show(f"{number:>12} {name:<10}  {meaning}")
