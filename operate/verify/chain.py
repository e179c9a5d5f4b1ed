"""Which link of the chain is broken, for ./sync.sh verify. All of it is pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from operate.times import moment

OUTAGE_SECONDS = 60  # verify does not wait for the end of an outage that has lasted this long
SILENCE_SECONDS = 150  # beyond the rate of the rule, after which the starter does not run
NO_EVENT, NO_STARTER, NO_TASK, NO_COPY = "no event", "no starter", "no task", "no copy"
SHORTAGE = "Capacity is unavailable at this time"  # it passes by itself
STARTING = ("PROVISIONING", "PENDING", "ACTIVATING")


class Break(NamedTuple):
    """Why nothing comes through a link, and the command with which to look closer."""

    link: str
    why: str
    command: str


class Names(NamedTuple):
    """What sentences name. `via` is what a command needs for the local cloud."""

    source: str
    queue: str
    starter: str
    rule: str
    cluster: str
    via: str


class Facts(NamedTuple):
    """Times are seconds since the epoch, those of `elapsed` and `rate` a number of seconds."""

    names: Names
    faults: Sequence[Mapping[str, str]]  # what launch/path.py found
    decisions: Sequence[Mapping[str, Any]]  # of the starter since the run began, the oldest first; {error} of failures
    tasks: Sequence[Mapping[str, Any]]  # that the starter started since then
    outages: Sequence[Mapping[str, Any]]  # as logs.outages() reads them
    messages: int  # in the queue
    has_seen_event: bool
    has_written: bool  # whether a worker has written of this run
    left: Sequence[str]  # the objects that have not arrived
    is_over: bool  # the time: what is only likely counts, too
    elapsed: float  # since the run began
    rate: float  # between two runs of the starter
    began: float
    now: float


def broken_links(facts: Facts) -> list[Break]:
    """Each reason of the first link that is broken, in the order in which a change passes them."""
    for breaks_of in LINKS:
        found = list(breaks_of(facts))
        if found:
            return found
    return []


def broken(link: str, why: str, command: str) -> Break:
    return Break(link, re.sub("[\t\n]", " ", why).rstrip(" "), command)


def breaks_by_faults(faults: Sequence[Mapping[str, str]], link: str) -> list[Break]:
    return [broken(link, f"{one['fault']}: {one['cure']}", one["look"]) for one in faults if one["link"] == link]


# --- each link --------------------------------------------------------------------------------------------------------


def of_event(facts: Facts) -> Iterator[Break]:
    found = breaks_by_faults(facts.faults, NO_EVENT)
    yield from found
    if not found and facts.is_over and not facts.has_seen_event and not facts.has_written:
        names = facts.names
        late = "after a first deployment, S3 takes up to five minutes"
        cure = "otherwise check the queue's policy and the prefix of the notification or rule"
        why = f"the objects are in s3://{names.source}, but no message reached {names.queue}: {late}; {cure}"
        yield broken(NO_EVENT, why, f"aws s3api get-bucket-notification-configuration --bucket {names.source}")


def of_outage(facts: Facts) -> Iterator[Break]:
    """The newest one, if it goes on in a task that runs, or if a worker ended in it since the run began."""
    outage = max(facts.outages, key=lambda one: str(one["at"]), default=None)
    if outage is None:
        return
    at, command = moment(outage["at"]) or 0, f"./sync.sh{facts.names.via} status"

    running = {task["id"] for task in facts.tasks if task["status"] == "RUNNING"}
    goes_on = outage["event"] == "began" and outage["stream"].rpartition("/")[2] in running
    if goes_on and (facts.is_over or at <= facts.now - OUTAGE_SECONDS):
        yield broken(NO_COPY, f"since {outage['at']} no key can be synced: {outage['reason']}", command)

    if outage["event"] == "ended" and at >= facts.began:
        said = f"for {outage['seconds']} s no key could be synced, and the worker ended: {outage['reason']}"
        yield broken(NO_COPY, said, command)


def of_starter(facts: Facts) -> Iterator[Break]:
    names = facts.names
    found = breaks_by_faults(facts.faults, NO_STARTER)
    yield from found

    error = error_of_starter(facts)
    if not found and error:
        found = [broken(NO_STARTER, f"the function {names.starter} fails: {error}", log_of_starter(names))]
        yield from found

    is_silent = not facts.decisions and (facts.is_over or facts.elapsed > facts.rate + SILENCE_SECONDS)
    if not found and is_silent:
        said = f"{names.starter} has not run for {facts.elapsed:.0f} s: check its target and permission"
        targets = f"aws events list-targets-by-rule --rule {names.rule}"
        policy = f"aws lambda get-policy --function-name {names.starter}"
        yield broken(NO_STARTER, f"the rule is enabled, but {said}", f"{targets}; {policy}")


def error_of_starter(facts: Facts) -> str:
    """The newest failure, if the last two runs failed; once the time is over, if the last one did. An error right after
    a decision is of a run that did decide: why that came to nothing is the task's link."""
    runs: list[Mapping[str, Any]] = []
    before: Mapping[str, Any] = {"error": ""}
    for one in facts.decisions:
        if "error" not in one or "error" in before:
            runs.append(one)
        before = one

    failed = 0
    while failed < len(runs) and "error" in runs[-1 - failed]:
        failed += 1
    if failed < (1 if facts.is_over else 2):
        return ""
    return re.split("[\r\n]", runs[-1]["error"])[0]


def of_task(facts: Facts) -> Iterator[Break]:
    names = facts.names
    look = f"aws ecs describe-tasks --cluster {names.cluster} --tasks "
    bad = None if facts.has_written else task_that_ended_badly(facts)
    refusal = refusal_of_task(facts)
    starting = [task["id"] for task in facts.tasks if task["status"] in STARTING]
    status = {task["id"]: task["status"] for task in facts.tasks}

    if bad:
        yield broken(NO_TASK, f"task {bad['id']} {why_of_task(bad)}", look + bad["id"])
    elif refusal:
        yield broken(NO_TASK, f"ECS did not start a worker: {refusal}", log_of_starter(names))
    elif facts.is_over and starting:
        yield broken(NO_TASK, f"task {starting[0]} is still {status[starting[0]]}", look + starting[0])
    elif facts.is_over and not facts.has_written and not facts.tasks:
        said = "messages are waiting, but the starter has not started a worker"
        yield broken(NO_TASK, said, log_of_starter(names))


def task_that_ended_badly(facts: Facts) -> Mapping[str, Any] | None:
    """The oldest that did not start, or else that ended with an error."""
    stopped = [
        task
        for task in facts.tasks
        if task["status"] == "STOPPED" and (task["created"] or 0) >= facts.began and task["code"] != "SpotInterruption"
    ]
    stopped.sort(key=lambda task: float(task["created"] or 0))
    never_ran = [task for task in stopped if task["started"] is None]
    failed = [task for task in stopped if task["started"] is not None and task["exit"]]
    return next(iter([*never_ran, *failed]), None)


def why_of_task(task: Mapping[str, Any]) -> str:
    how = "stopped before it started" if task["started"] is None else f"ended with exit code {task['exit']}"
    more = f" ({task['container_reason']})" if task["container_reason"] else ""
    return f"{how}: {task['reason'] or 'no reason is known'}{more}"


def refusal_of_task(facts: Facts) -> str:
    """Why the last run of the starter could not start a worker."""
    decided = [one for one in facts.decisions if "failures" in one]
    if not decided or decided[-1]["running"] != 0 or decided[-1]["started"]:
        return ""
    failures = [str(one) for one in decided[-1]["failures"] or [] if facts.is_over or SHORTAGE not in one]
    return next(iter(failures), "")


def of_copy(facts: Facts) -> Iterator[Break]:
    """Failures of a key are named by themselves; here is what is left when the time is over."""
    if not facts.is_over:
        return
    command, left = f"./sync.sh{facts.names.via} logs worker", " ".join(facts.left)
    if facts.messages == 0:
        yield broken(NO_EVENT, f"the queue is empty, and no message named: {left}", command)
    else:
        said = f"messages are waiting or in flight, and these did not arrive in time: {left}"
        yield broken(NO_COPY, said, command)


def log_of_starter(names: Names) -> str:
    return f"./sync.sh{names.via} logs starter"


LINKS: tuple[Callable[[Facts], Iterator[Break]], ...] = (of_event, of_outage, of_starter, of_task, of_copy)


# --- failures of keys -------------------------------------------------------------------------------------------------


def counting_failures(failures: Sequence[Mapping[str, Any]], since: float) -> dict[str, str]:
    """Key -> reason of the failures that count, the newest of each key: the last attempt, or the second and later ones.
    The cause of a first one may be a role that IAM does not know everywhere yet."""
    found = {}
    for one in failures:
        number, _, most = one["attempt"].rpartition("=")[2].partition("/")
        is_late = (moment(one["at"]) or 0) // 1 >= since
        if is_late and (int(number) >= 2 or number == most):
            found[one["key"]] = one["reason"]
    return found


def breaks_by_failures(reasons: Mapping[str, str], via: str) -> list[Break]:
    """Each reason once, with a key that has it. `reasons`: of each key."""
    keys: dict[str, list[str]] = {}
    for key, reason in sorted(reasons.items()):
        keys.setdefault(reason, []).append(key)
    command = f"./sync.sh{via} redrive --list"
    return [
        Break(NO_COPY, f"{found[0]}{f' and {len(found) - 1} more' if found[1:] else ''}: {reason}", command)
        for reason, found in sorted(keys.items())
    ]
