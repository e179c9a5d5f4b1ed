"""What has to be done when a run ends before its work: by an error, or by Ctrl-C, SIGTERM, SIGHUP or a closed pipe.

A verb registers it with at_end(), and takes it back with forget() when there is no need any more.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)

Action = Callable[[], None]
_to_do: list[Action] = []


def at_end(action: Action) -> None:
    _to_do.append(action)


def forget(action: Action) -> None:
    _to_do.remove(action)


def do_all() -> None:
    """Each once, the last first. A second signal does not end them, nor the calls that they make."""
    if _to_do:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    while _to_do:
        _to_do.pop()()


@contextmanager
def signals_held() -> Iterator[None]:
    """A signal that comes meanwhile is felt afterwards, by this process and by what it starts: for a call after which
    there is something to do at the end. No other thread runs then, because a signal would reach that one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
