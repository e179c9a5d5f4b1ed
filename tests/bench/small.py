"""Small objects: how many a second and for how much CPU time, by queue length and by latency."""

from collections.abc import Iterator
from pathlib import Path

from movers import MIRROR, SOURCE
from rows import Row
from runs import clear, copied, requests, run_mover, set_latency
from standin import Standin

HEAD_MS, COPY_MS = 8.0, 25.0
KIB = 1024


def case_name(objects: int, head_ms: float, copy_ms: float) -> str:
    return f"{objects} objects, HEAD {head_ms:g} ms, copy {copy_ms:g} ms"


def measure(
    standin: Standin,
    directory: Path,
    movers: list[str],
    cases: list[tuple[int, float, float]],
    section: str = "small",
) -> Iterator[Row]:
    """A case is (objects, milliseconds of HeadObject, milliseconds of CopyObject). In the section "overwritten" the
    destination has another object under each key."""
    for case in cases:
        for mover in movers:
            yield measure_one(standin, directory, section, mover, *case)


def measure_one(
    standin: Standin, directory: Path, section: str, mover: str, objects: int, head_ms: float, copy_ms: float
) -> Row:
    place = clear(standin, directory)
    keys = [f"directory/{number}" for number in range(objects)]
    if section == "overwritten":
        standin.put_many(MIRROR, keys, KIB)
    standin.put_many(SOURCE, keys, KIB)
    set_latency(standin, head_ms, copy_ms)
    server_before = standin.stats()["cpu_seconds"]
    seconds, usage, problem = run_mover(standin, place, mover, objects)
    case = case_name(objects, head_ms, copy_ms)
    if problem or copied(standin) < objects:
        return Row(section, case, mover, note=problem or f"cannot: copied {copied(standin)} of {objects}")
    figures = {
        "objects/s": objects / seconds,
        "CPU ms/object": 1000 * usage.cpu_seconds / objects,
        "requests/object": requests(standin) / objects,
        "MiB of a process": usage.peak_mib,
        "stand-in CPU ms/object": 1000 * (standin.stats()["cpu_seconds"] - server_before) / objects,
    }
    axes = {"objects": objects, "head_ms": head_ms, "copy_ms": copy_ms}
    return Row(section, case, mover, figures | axes)
