"""Without a Docker engine: the part of docker-py that ministack calls, with processes as containers."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

from ministack.services import ecs


class ProcessContainer:
    """worker.py as a process that looks like a container."""

    def __init__(self, environment, labels, arguments):
        """Start it with the environment and the command of the task and nothing else of ours."""
        env = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **environment}
        self.process = subprocess.Popen(
            [sys.executable, os.environ["LOCAL_WORKER"], *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a killed container takes all of its processes along
        )
        self.id, self.labels, self.attrs = f"process-{self.process.pid}", labels, {}

    @property
    def status(self):
        return "running" if self.process.poll() is None else "exited"

    def reload(self):
        pass

    def logs(self, **_):
        return self.process.stdout

    def wait(self):
        code = self.process.wait()
        return {"StatusCode": code if code >= 0 else 128 - code}

    def stop(self, timeout):
        self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.remove()

    def remove(self, **_):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(self.process.pid, signal.SIGKILL)


def process_engine():
    """Return an engine whose containers are processes."""
    started = {}

    def run(_image, *, environment, labels, command=None, **_):
        container = ProcessContainer(environment, labels, command or [])
        return started.setdefault(container.id, container)

    atexit.register(lambda: [container.remove() for container in started.values()])
    return SimpleNamespace(containers=SimpleNamespace(run=run, get=started.__getitem__))


def replace_docker():
    """Have every task run as a process from now on."""
    ecs._docker = process_engine()
