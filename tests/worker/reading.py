"""A command of worker.py that only reads, in a process of its own and without QUEUE_URL."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from world import World

import worker

LAST_LINE = re.compile(r" (\w+) end=(\w+) status=(\d) (.*)")


class Reading:
    """One start of the command. `program`, in Python, gives it shorter times and runs worker.main()."""

    def __init__(self, world: World, program: str, command: str, *arguments: str, **settings: str) -> None:
        environment = world.environment(**settings) | {"PYTHONPATH": str(Path(worker.__file__).parent)}
        environment.pop("QUEUE_URL")
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, command, *arguments],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        world.processes.append(self.process)

    def end(self) -> Reading:
        self.output, self.errors = self.process.communicate(timeout=120)
        self.status = self.process.returncode
        assert "Traceback" not in self.output + self.errors, self.output + self.errors
        return self

    def numbers(self, what: str) -> dict[str, float]:
        """Those of the last line of the log, which begins with `what` and has to tell the exit status."""
        found = LAST_LINE.search((self.errors or self.output).splitlines()[-1])
        assert found, self.output + self.errors
        assert (found[1], int(found[3])) == (what, self.status)
        return {name: float(number) for name, number in (pair.split("=") for pair in found[4].split())}
