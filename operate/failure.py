"""How a verb ends that cannot do what it was asked for."""

from __future__ import annotations


class Failure(Exception):
    """A sentence that says what is wrong and what to do, and the exit status."""

    def __init__(self, sentence: str, status: int = 1) -> None:
        super().__init__(sentence)
        self.status = status


class SaidFailure(Failure):
    """One of which the user has seen what is wrong, above."""

    def __init__(self, status: int) -> None:
        super().__init__("it failed, see above", status)


def wrong_usage(sentence: str) -> Failure:
    return Failure(f"{sentence} (use --help)", 2)
