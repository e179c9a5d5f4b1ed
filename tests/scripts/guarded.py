"""The guard of the starter on an account on paper, and the moments of its day."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError
from paper_account import PaperAccount, Refused
from recorder import Call

from launch.guard import Guard

Kept = dict[str, Any]


class Client:
    """What boto3 would ask of AWS is asked of the account."""

    def __init__(self, account: PaperAccount, service: str) -> None:
        self.account, self.service = account, service

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = "".join(part.capitalize() for part in name.split("_"))
        return lambda **given: self.ask(operation, given)

    def ask(self, operation: str, given: dict[str, Any]) -> Any:
        try:
            return self.account.answer(Call(self.service, operation, given, 200)) or {}
        except Refused as refused:
            raise ClientError({"Error": {"Code": refused.code, "Message": str(refused)}}, operation) from refused


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
