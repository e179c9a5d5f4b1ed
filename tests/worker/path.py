"""The way of one small object through the worker: which functions of which files it passes, from queue to queue.

python tests/worker/path.py
"""

import asyncio
import os
import sys
from itertools import pairwise
from pathlib import Path
from types import CodeType

PROJECT = Path(__file__).parents[2]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests/standin")]

from standin import running_standin  # noqa: E402
from world import CREDENTIALS, World  # noqa: E402

Step = tuple[str, str]  # file, function


def steps_of(world: World) -> list[Step]:
    """Every function of the project that begins, in order, after one object has warmed everything up."""
    working = world.worker()
    steps: list[Step] = []

    def begins(code: CodeType, _offset: int) -> object:
        file = Path(code.co_filename)
        if PROJECT not in file.parents or "tests" in file.parts or ".venv" in file.parts or code.co_name == "<genexpr>":
            return sys.monitoring.DISABLE
        if "beat" not in code.co_qualname and code.co_name != "utc_text":  # which is cached for a second
            steps.append((str(file.relative_to(PROJECT)), code.co_qualname))
        return None

    async def one() -> None:
        await working.step(1)
        while working.scheduler.by_key:
            await asyncio.sleep(0.01)
        await working.leases.settle(working.leases.take_batch())

    world.put("first")
    world.run(one())
    world.put("second")
    sys.monitoring.use_tool_id(sys.monitoring.PROFILER_ID, "path")
    sys.monitoring.register_callback(sys.monitoring.PROFILER_ID, sys.monitoring.events.PY_START, begins)
    sys.monitoring.set_events(sys.monitoring.PROFILER_ID, sys.monitoring.events.PY_START)
    world.run(one())
    sys.monitoring.set_events(sys.monitoring.PROFILER_ID, 0)
    return steps


def print_path(steps: list[Step]) -> None:
    for file, function in steps:
        print(f"{file:30} {function}")
    jumps = sum(one[0] != two[0] for one, two in pairwise(steps))
    files = {file for file, _ in steps}
    print(f"{len(set(steps))} functions of {len(files)} files, {len(steps)} calls, {jumps} jumps between files")


def main() -> None:
    with running_standin() as standin:
        os.environ.update(CREDENTIALS, AWS_ENDPOINT_URL=standin.url)
        world = World(standin)
        world.build()
        print_path(steps_of(world))
        world.kill_all()


if __name__ == "__main__":
    main()
