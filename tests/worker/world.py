"""The stand-in with two buckets and a queue, and workers on them: processes, or the parts in this one."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from standin import Standin

import worker
from mirror.aws.boto3_clients import OF_TASK, Timeouts
from mirror.cli import CLIENTS
from mirror.loop import Worker, make_parts, make_worker
from mirror.settings import load_settings

SOURCE = "source"
MIRROR = "mirror--use1-az4--x-s3"
QUEUE = "sync-q"
DEAD_LETTERS = "sync-dlq"
ROOT = Path(worker.__file__).parent
WORKER = "import worker; worker.leave(worker.main())"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

# Short enough for a test, in the proportions of the real ones.
QUICK = {
    "REGION": "us-east-1",
    "SRC_BUCKET": SOURCE,
    "DST_BUCKET": MIRROR,
    "VISIBILITY_TIMEOUT": "8",
    "VISIBILITY_EXTEND_INTERVAL": "1",
    "WAIT_TIME_SECONDS": "1",
    "EMPTY_POLLS_BEFORE_EXIT": "2",
    "RETRY_BASE_SECONDS": "1",
    "COPY_TIMEOUT": "3",
}


class World:
    """A source, a mirror and a queue in the stand-in, and the worker that is run on them."""

    def __init__(self, standin: Standin) -> None:
        self.standin = standin
        self.queue_url = ""
        self.processes: list[subprocess.Popen[str]] = []
        self.runner = asyncio.Runner()

    def build(self, **queue_settings: Any) -> None:
        self.standin.reset()
        self.standin.create_bucket(SOURCE)
        self.standin.create_bucket(MIRROR)
        settings = {"visibility_timeout": 8, "max_receive_count": 3, "dead_letter_queue": DEAD_LETTERS}
        self.queue_url = self.standin.create_queue(QUEUE, **settings | queue_settings)
        self.standin.notify(SOURCE, QUEUE)

    def environment(self, **changed: str) -> dict[str, str]:
        given = {"PATH": os.environ["PATH"], "AWS_ENDPOINT_URL": self.standin.url, "QUEUE_URL": self.queue_url}
        return given | CREDENTIALS | QUICK | changed

    def start(
        self,
        code: str,
        *arguments: str,
        output: int = subprocess.PIPE,
        errors: int = subprocess.STDOUT,
        stdin: int | None = None,
        **changed: str,
    ) -> subprocess.Popen[str]:
        """A process that runs this code."""
        command = [sys.executable, "-c", code, *arguments]
        environment = self.environment(**changed) | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, env=environment, stdin=stdin, stdout=output, stderr=errors, text=True)
        self.processes.append(process)
        return process

    def start_worker(self, **changed: str) -> subprocess.Popen[str]:
        return self.start(WORKER, **changed)

    def run_worker(self, status: int = 0, **changed: str) -> str:
        """The output of a worker that has ended by itself with that exit status."""
        process = self.start_worker(**changed)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == status, output
        return output

    def stop_worker(self, process: subprocess.Popen[str], number: int = signal.SIGTERM) -> str:
        process.send_signal(number)
        output, _ = process.communicate(timeout=300)
        return output

    def kill_all(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=300)
        self.runner.close()

    def run[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        """In the event loop of the worker's parts in this process, which goes on only meanwhile."""
        return self.runner.run(coroutine)

    def worker(self, **changed: str) -> Worker:
        """The worker's parts in this process, for tests that call one of its functions."""

        async def make() -> Worker:
            settings = load_settings(self.environment(**changed))
            return make_worker(make_parts(settings, CLIENTS[settings.s3_client](settings)))

        return self.run(make())

    def clients(self, name: str, timeouts: Timeouts = OF_TASK, **changed: str) -> SimpleNamespace:
        """Those of this name, each as a worker has it: s3, sqs, events."""

        async def make() -> SimpleNamespace:
            made = CLIENTS[name](load_settings(self.environment(**changed)), timeouts)
            return SimpleNamespace(s3=made.s3(), sqs=made.sqs(), events=made.events())

        return self.run(make())

    def put(self, key: str, size: int = 1024, **fields: Any) -> dict[str, Any]:
        return self.standin.put(SOURCE, key, size, **fields)

    def synced(self, *keys: str, **fields: Any) -> "World":
        """With these objects in both buckets, by the worker's own doing."""
        for key in keys:
            self.put(key, **fields)
        self.run_worker()
        assert self.is_equal()
        return self

    def mirrored(self) -> dict[str, Any]:
        return self.standin.objects(MIRROR)

    def requests(self) -> dict[str, int]:
        return self.standin.stats()["requests"]

    def is_equal(self) -> bool:
        sides = self.standin.objects(SOURCE), self.mirrored()
        source, mirrored = ({key: held(found) for key, found in side.items()} for side in sides)
        return source == mirrored

    def is_empty(self) -> bool:
        return not any(self.standin.queue(QUEUE).values())


def held(found: dict[str, Any]) -> tuple[Any, dict[str, str], dict[str, str]]:
    """Of an object its bytes (as ranges of the writes they come from), its headers and its metadata, without what only
    a copy has."""
    headers = {name: value for name, value in found["headers"].items() if not name.startswith("x-amz-meta-")}
    metadata = {name: value for name, value in found["metadata"].items() if name != "sync-source"}
    return found["content"], headers, metadata


def wait_until(condition: Callable[[], Any], seconds: float = 300) -> None:
    """Raises where the condition does not become true in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
