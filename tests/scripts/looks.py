"""What looks at the path of events in an account on paper: ./sync.sh status, and so verify, and the guard."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from broken_links import FUNCTION
from operated import Operated, Verbs
from paper_account import Client, PaperAccount

from launch.guard import Guard

Kept = dict[str, Any]


class Seen:
    """What status sees of an account, and so verify, which looks at the same path. `shows` is what goes on in it."""

    def __init__(
        self, verbs: Verbs, account: Operated, shows: Callable[[Operated], Any] = lambda _: None, **settings: str
    ) -> None:
        verbs.account, account.parked = account, []
        account.decide()
        shows(account)
        done = verbs.sync("status --json", None, **settings)
        self.events, self.reasons, self.errors = done.json["events"], done.json["reasons"], done.errors
        self.faults = [(one["link"], f"{one['fault']}: {one['cure']}") for one in done.json["faults"]]
        self.looks = [one["look"] for one in done.json["faults"]]

    @property
    def way(self) -> tuple[str, bool, list[str]]:
        """Of the events: its name, whether they start the starter at once, and what is wrong with it."""
        return self.events["source"], self.events["at_once"], self.events["problems"]


def operated(kept: Kept, *refused: str) -> Operated:
    """An account that holds this and refuses these calls."""
    found = Operated()
    found.kept = kept
    for call in refused:
        found.deny(call, "AccessDeniedException")
    return found


def guarded(kept: Kept) -> Guarded:
    account = PaperAccount()
    account.kept = kept
    return Guarded(account, kept[FUNCTION])


class Guarded:
    """A process of the function in that account; `at`: its clock, which a pause moves on."""

    def __init__(self, account: PaperAccount, function: Kept) -> None:
        self.at, self.account, self.function, self.pauses = 1_000_000.0, account, function, 0
        self.during_pause: Callable[[], Any] = lambda: None
        clients = tuple(Client(account, name) for name in ("s3", "sqs", "events", "lambda"))
        self.guard = Guard(clients=clients, clock=lambda: self.at, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.at, self.pauses = self.at + seconds, self.pauses + 1
        self.during_pause()

    def run(self, left: float = 60, is_scheduled: bool = True) -> list[str]:
        """What a run with this many seconds left fails with: one of its rule, or one for an event of the bucket."""
        ends = self.at + left
        context = SimpleNamespace(
            invoked_function_arn=self.function["FunctionArn"],
            get_remaining_time_in_millis=lambda: (ends - self.at) * 1000,
        )
        return self.guard.run(self.function["Environment"]["Variables"], context, is_scheduled)
