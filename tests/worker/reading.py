"""A command of worker.py that only reads, in a process of its own and without QUEUE_URL."""

from __future__ import annotations

import re

from world import World

LAST_LINE = re.compile(r" (\w+) end=(\w+) status=(\d) (.*)")


class Reading:
    """One start of the command. `program`, in Python, gives it shorter times and runs worker.main()."""

    def __init__(self, world: World, program: str, command: str, *arguments: str, **settings: str) -> None:
        program = f"import os; del os.environ['QUEUE_URL']\n{program}"
        self.process = world.start(program, command, *arguments, errors_apart=True, **settings)

    def end(self) -> Reading:
        self.output, self.errors = self.process.communicate(timeout=300)
        self.status = self.process.returncode
        assert "Traceback" not in self.output + self.errors, self.output + self.errors
        return self

    def numbers(self, what: str) -> dict[str, float]:
        """Those of the last line of the log, which begins with `what` and has to give the exit status."""
        found = LAST_LINE.search((self.errors or self.output).splitlines()[-1])
        assert found, self.output + self.errors
        assert (found[1], int(found[3])) == (what, self.status)
        return {name: float(number) for name, number in (pair.split("=") for pair in found[4].split())}
