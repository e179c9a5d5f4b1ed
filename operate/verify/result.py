"""Gathers the result of ./sync.sh verify, for operate/verify/outcomes.py and report.py."""

from __future__ import annotations

import filecmp
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mirror.model.log_lines import UNCONDITIONAL
from operate.cloud import side_by_side
from operate.parts import read_function, variables_of
from operate.times import DAY
from operate.verify import bench, cases
from operate.verify.cases import ARRIVED, LARGE, NOT_ASKED
from operate.verify.report import tenths
from operate.verify.speed import Synced, synced_of
from operate.verify.state import Plan, Seen, required
from operate.verify.watch import TASK_TIMES, body_there, events_of, groups_of_keys, lines_of

OPTIONS = ("STARTER_COPIES", "STARTER_MAX_SIZE", "MIN_WORKERS")
PROJECT = Path(__file__).resolve().parents[2]
REFUSED = re.compile(r"^\S+ WARNING " + re.escape(UNCONDITIONAL.partition("%s")[0]) + r"operation=(\S+)")


def gather(plan: Plan, seen: Seen) -> dict[str, Any]:
    own = synced_of(line for line in seen.lines if bench.folder_of(plan.name + "/") not in line.message)
    found = side_by_side({"refused": lambda: refused_writes(plan, seen), "versions": lambda: versions(plan)})
    encoded = seen.heads["destination"].get(cases.ENCODED, {})
    return {
        "results": [*rows(plan, seen), row_of_removal(plan, seen)],
        "synced": own,
        "times": times(seen, own),
        "breaks": seen.breaks,
        "versions": found["versions"],
        "refused": found["refused"],
        "bench": bench.figures(seen),
        "page": seen.page,
        "conditions": seen.conditions,
        "etags": changed_etags(plan, seen),
        "encoding": encoded.get("ContentEncoding", ""),
        "mirror": plan.destination.bucket,
        "source": plan.source.bucket,
        "copying": plan.copies,
    }


# --- objects ----------------------------------------------------------------------------------------------------------


def rows(plan: Plan, seen: Seen) -> Iterator[dict[str, str]]:
    """One for each object."""
    for case in plan.cases:
        state = seen.results.get(case.name, NOT_ASKED)
        source, copy = (seen.heads[side].get(case.name) for side in ("source", "destination"))
        compared = {"bytes": "-", "metadata": "-", "checksum": "-"}
        if state == ARRIVED and source is not None and copy is not None:
            compared = {
                "bytes": compared_bytes(plan, case.name),
                "metadata": cases.compared_metadata(source, copy),
                "checksum": cases.compared_checksum(source, copy),
            }
        yield {"name": case.name, "key": plan.folder + case.path, "state": state, **compared}


def row_of_removal(plan: Plan, seen: Seen) -> dict[str, str]:
    state = seen.results.get("removed", NOT_ASKED)
    return {"name": "removed", "key": plan.folder, "state": state, "bytes": "-", "metadata": "-", "checksum": "-"}


def compared_bytes(plan: Plan, name: str) -> str:
    """An object of --large is compared with itself on the other side only."""
    source, destination = body_there(plan, "source", name), body_there(plan, "destination", name)
    want = source if name == LARGE else plan.body(name)
    is_equal = all(filecmp.cmp(want, there, shallow=False) for there in (source, destination))
    return "equal" if is_equal else "different"


def changed_etags(plan: Plan, seen: Seen) -> list[tuple[str, str]]:
    """(the first, the last) of each copy that was written twice; of one, the bytes are the same."""
    found = []
    for name in cases.REWRITTEN:
        first, last = seen.first_destination.get(plan.key(name)), seen.heads["destination"].get(name)
        if seen.results.get(name) == ARRIVED and first and last:
            found.append((first.etag, last["ETag"].replace('"', "")))
    return found


# --- times ------------------------------------------------------------------------------------------------------------


def times(seen: Seen, synced: list[Synced]) -> dict[str, Any]:
    """Seconds from the first upload on, by the clocks of S3 and ECS, or None if nothing is known."""
    began = min((one.at for one in seen.first_source.values()), default=None)
    first = synced[0] if synced else None
    task = next((one for one in seen.tasks if first and one["id"] == first.task), {})

    def since(at: float | None) -> float | None:
        return None if at is None or began is None else tenths(at - began)

    copies = [one.at for one in seen.first_destination.values()]
    received = [one.at - one.seconds for one in synced if task and one.task == task["id"]]
    is_known = seen.first_event_at is not None and not seen.was_busy
    uploaded = max((one.at for one in seen.first_source.values()), default=0)
    return {
        "event": math.floor((seen.first_event_at or 0) - seen.put_at) if is_known else None,
        "busy": seen.was_busy,
        "by": first.by if first else None,
        **{name: since(task.get(name)) for name in TASK_TIMES},
        "received": since(min(received, default=None)),
        "first": since(min(copies, default=None)),
        "last": since(max(copies, default=None)),
        "clock": math.floor(seen.put_ended - uploaded) if began is not None else None,
    }


# --- logs, and what it ran on -----------------------------------------------------------------------------------------


def refused_writes(plan: Plan, seen: Seen) -> set[str]:
    """Which a worker was refused with a condition in the last day: each process tries each such write once, and logs if
    it is refused."""
    events = events_of(plan, groups_of_keys(plan), seen.began - DAY, '"refuses conditional writes"')
    found = (REFUSED.match(line.message) for line in lines_of(events))
    return {one[1] for one in found if one}


def versions(plan: Plan) -> list[tuple[str, str]]:
    """What it ran on; under "options" what was chosen beyond the default."""
    deployment, definition = plan.deployment, plan.definition
    container = next(one for one in definition["containerDefinitions"] if one["name"] == "worker")
    architecture = (definition.get("runtimePlatform") or {}).get("cpuArchitecture") or "X86_64"
    chosen = [*(["EVENT_SOURCE=eventbridge"] if plan.has_event_rule else []), *options_of(plan)]
    return [
        ("project", release(deployment.version)),
        ("Region", deployment.region),
        ("AWS CLI", deployment.cli_version),
        ("Bash", deployment.bash_version),
        ("jq", output_of("jq", "--version")),
        ("task definition", definition["taskDefinitionArn"].rpartition("/")[2]),
        ("image", container["image"]),
        ("task", f"{definition['cpu']} CPU units, {definition['memory']} MiB, {architecture}"),
        ("function", function_now(plan)),
        *([("options", ", ".join(chosen))] if chosen else []),
    ]


def options_of(plan: Plan) -> list[str]:
    variables = variables_of(plan.function)
    return [f"{name}={variables[name]}" for name in OPTIONS if variables.get(name)]


def function_now(plan: Plan) -> str:
    found = required(read_function(plan.cloud, plan.deployment))
    if found is None:
        return "gone"
    runtime = found.get("Runtime") or "an image"
    return f"{runtime}, code {found['CodeSha256'][:12]}, changed {found['LastModified']}"


def release(version: str) -> str:
    """With the commit of a checkout. Git says why if there is none, such as that somebody else owns the folder."""
    if not (PROJECT / ".git").exists() or shutil.which("git") is None:
        return version
    commit = output_of("git", "-C", str(PROJECT), "rev-parse", "--short", "HEAD")
    return f"{version}, commit {commit}" if commit else version


def output_of(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=False).stdout.strip()
