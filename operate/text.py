"""What people read: results on standard output in rows of 80 columns, messages and progress on standard error.

lib/say.sh does the same for the scripts.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from mirror.model import log_lines
from operate.failure import Failure

COLUMNS = 80
NAME_COLUMNS = 14  # of the name of a row
GREEN, AMBER, RED = 32, 33, 31

# A text in quotes or backticks is one word, and so is a command of ours: each can be copied as a whole.
WORD = re.compile(r' *(?:(?:"(?:[^"\\]|\\.)*"|`[^`]*`|\./\w+\.sh(?: --local)?(?: [a-z]+)?(?: --[a-z-]+)*)[^ ]*|[^ ]+)')


def visible(text: str) -> str:
    """The text on one line, as the worker writes what is from outside into its log, but for tabs."""
    return "\t".join(map(log_lines.visible, text.split("\t")))


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


amount = log_lines.amount


# --- results ----------------------------------------------------------------------------------------------------------


def row(name: str, text: str) -> str:
    return f"{name:<{NAME_COLUMNS}}{text}"


def folded(line: str, indent: int) -> list[str]:
    """The line in 80 columns, broken between words; what follows is indented."""
    lines = [""]
    for word in WORD.findall(line):
        if len(lines[-1]) < indent or len(lines[-1] + word) <= COLUMNS:
            lines[-1] += word
        else:
            lines.append(" " * indent + word.lstrip(" "))
    return lines


def print_rows(rows: Iterable[str]) -> None:
    """A row, or a detail of one, which begins with spaces."""
    for one in rows:
        indent = 4 if one.startswith("  ") else NAME_COLUMNS
        write_lines(folded(visible(one), indent))


def print_lines(lines: Iterable[str], indent: int) -> None:
    for one in lines:
        write_lines(folded(visible(one), indent))


def print_json(value: Any, on_one_line: bool = False) -> None:
    indent, separators = (None, (",", ":")) if on_one_line else (2, None)
    lines = json.dumps(value, indent=indent, separators=separators, ensure_ascii=False).split("\n")
    write_lines(map(visible, lines))


def paint(colour: int, word: str) -> None:
    """A line in colour, if a terminal shows it and NO_COLOR is empty (https://no-color.org)."""
    is_coloured = is_terminal(sys.stdout) and not os.environ.get("NO_COLOR")
    write_lines([f"\x1b[{colour}m{word}\x1b[0m" if is_coloured else word])


def write_lines(lines: Iterable[str]) -> None:
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except OSError as error:
        # Otherwise Python tries to write the rest once more when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Failure(f"standard output cannot be written: {error.strerror}") from None


# --- questions --------------------------------------------------------------------------------------------------------


def need_yes(question: str, refusal: str) -> None:
    """Fails unless a person says yes. Ctrl-D, too, is an answer."""
    if not sys.stdin.isatty():
        raise Failure(f"{refusal}: there is no terminal to ask on; use --yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print(file=sys.stderr)
    if not answer.lower().startswith("y"):
        raise Failure(refusal)


# --- messages and progress --------------------------------------------------------------------------------------------
#
# On a terminal, long work is one line, which the next line takes the place of. Elsewhere it is nothing.

_screen = threading.RLock()
_shown: list[TextIO] = []  # the terminal on which a line of progress is, or none


def is_terminal(stream: TextIO) -> bool:
    """Whether lines can be erased and coloured there: Emacs and editors have a terminal that cannot, called dumb."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def say(message: str) -> None:
    """In 80 columns on a terminal; elsewhere each message stays one line, for logs and for grep."""
    lines = lines_on(sys.stderr, "\n".join(map(visible, message.split("\n"))))
    with _screen:
        end_progress()
        put("\n".join(lines) + "\n", sys.stderr)


def lines_on(stream: TextIO, message: str) -> list[str]:
    if not is_terminal(stream) or len(message) <= COLUMNS:
        return [message]
    indent = len(re.match(r" *(?:- )?", message)[0])  # type: ignore[index]
    return folded(message, indent or 2)


def write_log(line: str, stream: TextIO) -> None:
    """A line of a log that a person watches, on standard output or standard error, as say() has it."""
    with _screen:
        end_progress()
        lines = lines_on(stream, line)
        if stream is sys.stdout:
            write_lines(lines)
        else:
            put("\n".join(lines) + "\n", stream)


def say_for_now(message: str) -> None:
    """What the next message makes obsolete."""
    if is_terminal(sys.stderr):
        show_progress(message)
    else:
        say(message)


def show_progress(line: str, stream: TextIO | None = None) -> None:
    """The terminal, which is that of standard error, cuts it off at its width (?7l: no wrapping), because only one line
    can be replaced."""
    with _screen:
        _shown[:] = [stream or sys.stderr]
        put(f"\r\x1b[K\x1b[?7l{line}\x1b[?7h", _shown[0])


def end_progress() -> None:
    with _screen:
        if _shown:
            put("\r\x1b[K", _shown.pop())


def put(line: str, stream: TextIO) -> None:
    """For a person, who may have closed the terminal: then there is no one to whom that could be said."""
    with suppress(OSError):
        print(line, end="", file=stream, flush=True)


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Shows a terminal for how long something has been going on."""
    if not is_terminal(sys.stderr):
        yield
        return

    is_over = threading.Event()

    def tick() -> None:
        began = time.monotonic()
        show_progress(what)
        while not is_over.wait(1):
            show_progress(f"{what}: {time.monotonic() - began:.0f} s")

    ticking = threading.Thread(target=tick, daemon=True)
    ticking.start()
    try:
        yield
    finally:
        is_over.set()
        ticking.join()
        end_progress()
