"""AWS, through the AWS CLI as a program: a call is a question that has one of four answers.

ask() returns what AWS answers, or one of these:

Missing   there is no such thing
Denied    the caller may not ask
NoAnswer  AWS, the network or the CLI failed, so nothing is known

What AWS refuses only for a moment, such as too many calls, is asked again for as long as lib/aws.sh does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, Generic, NamedTuple, TypeVar, Union

from operate import text
from operate.deployment import Deployment
from operate.failure import Failure

# The caller may not ask (lib/aws.sh).
DENIED = re.compile(r"AccessDenied.*|UnauthorizedOperation|AuthorizationError.*")

# Refusals that pass by themselves: by the code, or by the text around it.
PASSING = (
    (re.compile(r"Throttl|\((RequestLimitExceeded|SlowDown|TooManyRequestsException)\)"),
     "AWS takes fewer calls at the moment"),
    (re.compile(r"\((Concurrent(Modification|Access)(Exception)?|ConflictException|ResourceConflict)\)"),
     "another change of it is in progress"),
)  # fmt: skip

CODE = re.compile(r"An error occurred \(([^)]*)\) when calling")
MOMENT = 0.2  # seconds after which a wait looks whether it is to end
MOST_AT_ONCE = 12  # a call of the AWS CLI takes about 60 MB

T = TypeVar("T")


def codes_of_missing() -> frozenset[str]:
    """By these AWS says that something does not exist; lib/aws.sh goes by them, too."""
    project = __file__.rpartition("/operate/")[0]
    with open(f"{project}/lib/not_found.txt", encoding="utf-8") as file:  # noqa: PTH123
        return frozenset(file.read().split())


NOT_FOUND = codes_of_missing()


class Missing(NamedTuple):
    """Of all three, `code` is that of AWS."""

    error: str
    code: str


class Denied(NamedTuple):
    error: str
    code: str


class NoAnswer(NamedTuple):
    """With a code, AWS itself says that it failed, or that the question is wrong."""

    error: str
    code: str = ""


Unread = Union[Denied, NoAnswer]
Answer = Union[dict[str, Any], Missing, Denied, NoAnswer]


class Interrupted(Exception):
    """Somebody has pressed Ctrl-C, which a call of the AWS CLI keeps to itself."""


class Cloud:
    """Makes the calls of a verb, several side by side."""

    def __init__(self, deployment: Deployment) -> None:
        self.region = deployment.region
        self.is_of_version_2 = deployment.cli_version.startswith("aws-cli/2")
        self.retry_pause = float(deployment.settings["RETRY_PAUSE"])
        self.retry_limit = int(deployment.settings["RETRY_LIMIT"])
        self.room = threading.Semaphore(MOST_AT_ONCE)
        self.is_closed = False

    def close(self) -> None:
        """No further call begins, and no wait goes on: they raise Interrupted. For a handler of a signal."""
        self.is_closed = True

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.is_closed and time.monotonic() < deadline:
            time.sleep(min(MOMENT, max(deadline - time.monotonic(), 0)))
        if self.is_closed:
            raise Interrupted

    def ask(self, service: str, operation: str, *options: str) -> Answer:
        return self._patiently(lambda: self._ask_once(service, operation, *options))

    def _patiently(self, ask_once: Callable[[], Answer]) -> Answer:
        tries = 0
        while True:
            tries += 1
            answer = ask_once()
            if isinstance(answer, (dict, Missing, Denied)):
                return answer

            reasons = [reason for pattern, reason in PASSING if pattern.search(answer.error)]
            if not reasons:
                return answer
            if tries >= self.retry_limit:
                return NoAnswer(answer.error)
            pause = f"next in {self.retry_pause:g} s"
            text.say_for_now(f"      waiting: {reasons[0]} (try {tries} of {self.retry_limit}, {pause})")
            self.wait(self.retry_pause)
            text.end_progress()

    def need(self, service: str, operation: str, *options: str) -> dict[str, Any]:
        """The answer, without which the verb cannot go on."""
        answer = self.ask(service, operation, *options)
        if isinstance(answer, dict):
            return answer
        raise no_answer(answer.error, service, operation, *options)

    def find(self, service: str, operation: str, *options: str) -> dict[str, Any] | None:
        """The same, or None if there is no such thing."""
        answer = self.ask(service, operation, *options)
        if isinstance(answer, Missing):
            return None
        if isinstance(answer, (Denied, NoAnswer)):
            raise no_answer(answer.error, service, operation, *options)
        return answer

    @contextmanager
    def need_lines(self, service: str, operation: str, *options: str) -> Iterator[IO[str]]:
        """The lines of an answer as text. It may be larger than the memory, so it is in a file."""
        from tempfile import TemporaryFile  # here, because most verbs start without it

        with TemporaryFile("w+", encoding="utf-8", errors="surrogateescape", newline="\n") as file:

            def ask_once() -> Answer:
                file.seek(0)
                file.truncate()
                return self._ask_once(service, operation, *options, "--output", "text", to=file)

            answer = self._patiently(ask_once)
            if not isinstance(answer, dict):
                raise no_answer(answer.error, service, operation, *options)
            file.seek(0)
            yield file

    def debug(self, service: str, operation: str, *options: str) -> str | None:
        """What the CLI logs of such a call, with the credentials of the session; None if it fails."""
        with self.room:
            status, _, logged = call([*self._general_options(service), service, operation, "--debug", *options])
        return None if status else logged

    def _ask_once(self, service: str, operation: str, *options: str, to: IO[str] | None = None) -> Answer:
        with self.room:
            if self.is_closed:
                raise Interrupted
            status, output, error = call([*self._general_options(service), service, operation, *options], to)
        if status == 130 or (status and self.is_closed):
            raise Interrupted
        if status:
            return self._refusal(f"aws {service} {operation}", status, error)
        if to:
            return self._whole_lines(f"aws {service} {operation}", to)
        if not output.strip():
            return {}

        found = as_json(output)
        if isinstance(found, dict):
            return found
        what = f"{len(output)} characters that are not JSON, or only a part of it"
        return NoAnswer(f"aws {service} {operation} failed: it printed {what}: run this again")

    def _whole_lines(self, called: str, file: IO[str]) -> Answer:
        """Whether the last line has its end: lines that are cut off are only a part of the answer."""
        size = file.seek(0, os.SEEK_END)
        if size == 0 or os.pread(file.fileno(), 1, size - 1) == b"\n":
            return {}
        return NoAnswer(f"{called} failed: it printed {size} bytes that are only a part of its answer: run this again")

    def _refusal(self, called: str, status: int, error: str) -> Answer:
        code = CODE.search(error)
        if not code:
            said = error or f"it ended with exit status {status}, and said nothing: run this again"
            return NoAnswer(f"{called} failed: {said}")
        if code[1] in NOT_FOUND:
            return Missing(error, code[1])
        return Denied(error, code[1]) if DENIED.fullmatch(code[1]) else NoAnswer(error, code[1])

    def _general_options(self, service: str) -> list[str]:
        """For SQS, CLI v1 goes by no setting of an endpoint, but uses a legacy one (lib/aws.sh)."""
        url = os.environ.get("AWS_ENDPOINT_URL", "")
        if not url and service == "sqs" and not self.is_of_version_2:
            fips = "-fips" if os.environ.get("AWS_USE_FIPS_ENDPOINT") in ("True", "true") else ""
            own = f"https://sqs{fips}.{self.region}.amazonaws.com"
            url = os.environ.get("AWS_ENDPOINT_URL_SQS") or own
        return [*(["--endpoint-url", url] if url else []), "--region", self.region, "--output", "json"]


def no_answer(error: str, service: str, operation: str, *options: str) -> Failure:
    """What a verb ends with: the error, and what the call was about, which its first option names."""
    about = next((option for option in options if not option.startswith("--")), "")
    failed = "" if " failed: " in error else f"aws {service} {operation} failed: "
    return Failure(f"{about}: {failed}{error}" if about else f"{failed}{error}")


# --- the program ------------------------------------------------------------------------------------------------------

# Nobody is to answer a prompt, and errors are read in the legacy format, whatever format a user has chosen.
ENVIRONMENT = {"AWS_PAGER": "", "AWS_CLI_AUTO_PROMPT": "off", "AWS_CLI_ERROR_FORMAT": "legacy"}

_running: set[subprocess.Popen[str]] = set()


def call(words: list[str], to: IO[str] | None = None) -> tuple[int, str, str]:
    """(exit status, as a shell has it, output, error without empty lines) of the AWS CLI. The output may go to a file
    instead."""
    program = shutil.which("aws")
    if program is None:
        raise Failure("the AWS CLI (aws) is not installed: install version 1 or 2")

    process = subprocess.Popen(
        [program, *words],
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        stdout=to or subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="surrogateescape",
    )
    _running.add(process)
    try:
        output, error = process.communicate()
    finally:
        _running.discard(process)
    status = process.returncode
    return 128 - status if status < 0 else status, output or "", "\n".join(filter(None, error.split("\n")))


def end_calls() -> None:
    for process in list(_running):
        process.terminate()


def as_json(output: str) -> Any:
    """None if it is no JSON, or only a part of it."""
    try:
        return json.loads(output)
    except ValueError:
        return None


# --- side by side -----------------------------------------------------------------------------------------------------


class Once(Generic[T]):
    """What a job returns: it is done once, for all who ask."""

    def __init__(self, job: Callable[[], T]) -> None:
        self.job, self.lock, self.found = job, threading.Lock(), list[T]()

    def __call__(self) -> T:
        with self.lock:
            if not self.found:
                self.found.append(self.job())
        return self.found[0]


def side_by_side(jobs: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What each job returns. If one raises, this does, when all have ended."""
    found: dict[str, Any] = {}
    raised: list[BaseException] = []

    def do(name: str, job: Callable[[], Any]) -> None:
        try:
            found[name] = job()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
            raised.append(error)

    threads = [threading.Thread(target=do, args=one) for one in jobs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]
    return found
