"""Python processes without the half second of their imports: forked from one that has made these, and has no threads.

    python tests/worker/forks.py DESCRIPTOR IMPORTS

makes the imports, then forks at each message on the socket, and the child runs the code of the message.
"""

import atexit
import functools
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST_MESSAGE = 1 << 20


class Forks:
    def __init__(self, imports: str) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.lock = threading.Lock()
        command = [sys.executable, "-P", __file__, str(theirs.fileno()), imports]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()

    def close(self) -> None:
        self.socket.close()
        self.process.wait()

    def ask(self, question: dict[str, Any], descriptors: Sequence[int] = ()) -> list[int]:
        with self.lock:
            socket.send_fds(self.socket, [json.dumps(question).encode()], descriptors)
            return json.loads(self.socket.recv(LONGEST_MESSAGE))

    def start(
        self, code: str, *arguments: str, environment: Mapping[str, str], cwd: str = "", errors_apart: bool = False
    ) -> "Forked":
        """Standard error goes where standard output goes, or has an output of its own."""
        pipes = [os.pipe() for _ in range(1 + errors_apart)]
        question = {"code": code, "arguments": arguments, "environment": dict(environment), "cwd": cwd}
        pid, _ = self.ask(question, [writing for _, writing in pipes])
        for _, writing in pipes:
            os.close(writing)
        return Forked(self, pid, [reading for reading, _ in pipes])


@functools.cache
def forks_after(imports: str) -> Forks:
    """One for all tests of this process."""
    begun = Forks(imports)
    atexit.register(begun.close)
    return begun


class Forked:
    """What the tests use of subprocess.Popen."""

    def __init__(self, forks: Forks, pid: int, outputs: list[int]) -> None:
        self.forks, self.pid, self.returncode = forks, pid, None
        self.read = [b""] * len(outputs)
        self.selector = selectors.DefaultSelector()
        for number, descriptor in enumerate(outputs):
            self.selector.register(descriptor, selectors.EVENT_READ, number)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = self.forks.ask({"pid": self.pid})
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = 300) -> int:
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("a forked process", timeout)
            time.sleep(0.005)
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """All that it wrote, after its end; may be called again."""
        end = time.monotonic() + timeout
        while self.selector.get_map():
            ready = self.selector.select(max(0.0, end - time.monotonic()))
            if not ready:
                raise subprocess.TimeoutExpired("a forked process", timeout)
            for key, _ in ready:
                if data := os.read(key.fd, LONGEST_MESSAGE):
                    self.read[key.data] += data
                else:
                    self.selector.unregister(key.fd)
                    os.close(key.fd)
        self.wait(max(0.0, end - time.monotonic()))
        texts = [data.decode() for data in self.read]
        return texts[0], "".join(texts[1:])

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def serve(connection: socket.socket) -> str:
    """The code that is to be run: in each child. Nothing at the end."""
    while message := (received := socket.recv_fds(connection, LONGEST_MESSAGE, 2))[0]:
        asked, descriptors = json.loads(message), received[1]
        if "pid" in asked:
            answer = os.waitpid(asked["pid"], os.WNOHANG)
        else:
            answer = (os.fork(), 0)
            if answer[0] == 0:
                connection.close()
                become(descriptors, asked)
                return asked["code"]
        for descriptor in descriptors:
            os.close(descriptor)
        connection.send(json.dumps(answer).encode())
    return ""


def become(descriptors: list[int], asked: dict[str, Any]) -> None:
    os.dup2(descriptors[0], 1)
    os.dup2(descriptors[-1], 2)
    for descriptor in descriptors:
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["cwd"] or ".")
    sys.argv = ["-c", *asked["arguments"]]


if __name__ == "__main__":
    exec(sys.argv[2], {})
    gc.freeze()  # what is shared stays so
    exec(serve(socket.socket(fileno=int(sys.argv[1]))), {"__name__": "__main__"})
