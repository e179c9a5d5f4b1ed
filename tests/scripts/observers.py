"""What looks at the path of events in an account on paper: ./sync.sh status, and so verify, and the guard."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from broken_links import FUNCTION
from call import Call
from operated import Operated, Verbs
from paper_account import Client, PaperAccount

from launch.guard import Clients, Guard

Kept = dict[str, Any]
SERVICES = ("s3", "sqs", "events", "lambda", "cloudwatch", "sns", "logs")
# Than the account on paper makes a function.
AN_HOUR_LATER = 3600 + datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC).timestamp()


class Seen:
    """What status sees of an account, and so verify, which looks at the same path. `shows` is what goes on in it."""

    def __init__(
        self, verbs: Verbs, account: Operated, shows: Callable[[Operated], Any] = lambda _: None, **settings: str
    ) -> None:
        verbs.account, account.parked = account, []
        account.decide()
        shows(account)
        done = verbs.sync("status --json", None, **settings)
        self.events, self.reasons, self.errors = done.json["events"], done.json["reasons"], done.json.get("errors", {})
        self.faults = [(one["link"], f"{one['fault']}: {one['cure']}") for one in done.json["faults"]]
        self.alarms, self.errors_of = done.json.get("alarms"), done.json.get("errors", {})
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


def clients_of(account: PaperAccount, calls: list[Call] | None = None) -> Clients:
    return Clients(*(Client(account, name, calls) for name in SERVICES))


def guarded(kept: Kept) -> Guarded:
    account = PaperAccount()
    account.kept = kept
    return Guarded(account, kept[FUNCTION])


class Guarded:
    """A process of the function in that account; `at`: its clock, which a pause moves on."""

    def __init__(self, account: PaperAccount, function: Kept) -> None:
        self.at, self.account, self.function, self.pauses = AN_HOUR_LATER, account, function, 0
        self.during_pause: Callable[[], Any] = lambda: None
        self.calls: list[Call] = []
        clients = clients_of(account, self.calls)
        self.guard = Guard(clients=clients, clock=lambda: self.at, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.at, self.pauses = self.at + seconds, self.pauses + 1
        self.during_pause()

    def run(self, spent: float = 0, is_scheduled: bool = True) -> list[str]:
        """What a run fails with, after it has spent some seconds on its other work: one of its rule, or one for an
        event of the bucket."""
        ends = self.at + self.function["Timeout"] - spent
        context = SimpleNamespace(
            invoked_function_arn=self.function["FunctionArn"],
            get_remaining_time_in_millis=lambda: (ends - self.at) * 1000,
        )
        return self.guard.run(self.function["Environment"]["Variables"], context, is_scheduled, spent)
