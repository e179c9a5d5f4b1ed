"""A task that the starter started, as ECS describes it, and what that says about workers and about capacity."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

QUOTA = "limit on the number of vCPUs"  # of the account, for Spot or on demand; as a failure or as an error
SHORTAGE = "Capacity is unavailable at this time"  # re:Post, "Fargate RunTask: capacity is unavailable"
INTERRUPTED = ("SpotInterruption", "TerminationNotice")  # stopCode of Spot, and its older name
# The reasons that StopTask is given, and that stoppedReason shows from then on.
GAVE_UP = "the starter found no Spot capacity in time"
SURPLUS = "more workers stay than MIN_WORKERS"
REPLACED = "a worker of the newer task definition stays in its place"
ON_SPOT = "a worker on Spot stays in its place"
PAUSED = "the sync is paused"
STAY = {"name": "EMPTY_POLLS_BEFORE_EXIT", "value": "0"}  # the variable of a worker that never ends by itself
SPOT_SECONDS = 300  # after which a shortage of Spot is answered with on-demand capacity
AT_ONCE_SECONDS = 60  # a worker that fails sooner after its start has failed at once
OUTAGE_STATUS = 3  # exit status of a worker that could sync no key at all (mirror/loop.py)


class Task(NamedTuple):
    """What matters about a task that the starter started. Times are Unix seconds."""

    arn: str
    created: float
    started: float | None = None
    ended: float | None = None
    wanted: bool = True  # ECS means to keep it running
    gone: bool = False  # nothing of it runs any more
    spot: bool = True
    pulling: bool = False  # it has a machine: the image is being pulled, or was
    stop_code: str = ""
    reason: str = ""
    exit_code: int | None = None
    stays: bool = False  # it was started to stay, whatever the queue says
    revision: str = ""  # ARN of its task definition

    @property
    def failed(self) -> bool:
        """It stopped without having started (no such image), ended with another exit status than 0 (a wrong setting, a
        queue that cannot be read, memory), or ended in an outage.

        Neither a shortage of capacity nor a stop by somebody is such a failure. A task that starts and ends again has
        startedAt and, beside a stop code, an exit code (ECS developer guide, "Stopped tasks error codes").
        """
        if self.exit_code == OUTAGE_STATUS:
            return True
        if self.wanted or self.stop_code in ("", "UserInitiated", *INTERRUPTED) or SHORTAGE in self.reason:
            return False
        return self.started is None or self.exit_code not in (None, 0)

    @property
    def seconds(self) -> float:
        """For how long it ran, of one that has ended."""
        return (self.ended or self.started or 0.0) - self.started if self.started is not None else 0.0

    @property
    def is_taken_at_once(self) -> bool:
        """Spot took it back before it had done any work to speak of."""
        is_taken = self.spot and self.stop_code in INTERRUPTED
        return is_taken and self.started is not None and self.seconds < AT_ONCE_SECONDS

    def has_got_going(self, now: float) -> bool:
        """It has run for longer than one does that fails at once."""
        return self.started is not None and now - self.started >= AT_ONCE_SECONDS

    def worked(self, now: float, seconds: float) -> bool:
        """It started, and did not fail: it ran for that long, or ended by itself because nothing was left to do."""
        if self.started is None or self.failed:
            return False
        done = self.stop_code == "EssentialContainerExited" and self.exit_code == 0
        return done or (self.ended or now) - self.started >= seconds

    def waits_for_spot(self, now: float) -> bool:
        """It is PROVISIONING or PENDING for too long. One that pulls its image has its capacity."""
        unstarted = self.wanted and self.started is None and not self.pulling
        return unstarted and self.spot and now - self.created >= SPOT_SECONDS

    def lacked_spot(self, now: float) -> bool:
        """It is a sign of a shortage of Spot (ECS developer guide, "Amazon ECS Fargate Spot": the three forms), or
        Spot took it back as soon as it had started."""
        if self.started is not None:
            return self.is_taken_at_once
        if not self.spot:
            return False
        stopped = self.stop_code in INTERRUPTED or GAVE_UP in self.reason or SHORTAGE in self.reason
        return stopped or self.waits_for_spot(now)


def is_shortage(reason: str) -> bool:
    """Whether a task was not started because others use the capacity, which passes by itself."""
    return SHORTAGE in reason or QUOTA in reason


def why_stopped(found: Mapping[str, Any], container: Mapping[str, Any]) -> str:
    """What ECS says of the task, and of its container: only there it says that it ran out of memory."""
    reasons = [found.get("stoppedReason", ""), container.get("reason", "")]
    return ": ".join(dict.fromkeys(filter(None, reasons)))


def read_task(found: Mapping[str, Any], seen: float) -> Task:
    """Reads a task of DescribeTasks. `seen`: when it was first seen, for one without createdAt, which it may not have
    before it is PENDING (ECS API reference, Task)."""
    times = {name: value.timestamp() for name, value in found.items() if isinstance(value, datetime)}
    ends = [times[name] for name in ("executionStoppedAt", "stoppingAt", "stoppedAt") if name in times]  # not its drain
    overrides = found.get("overrides", {}).get("containerOverrides", [])
    containers = [container for container in found.get("containers", []) if container.get("name") == "worker"]
    container = containers[0] if containers else {}
    return Task(
        arn=found["taskArn"],
        created=times.get("createdAt", seen),
        started=times.get("startedAt"),
        ended=min(ends, default=None),
        wanted=found.get("desiredStatus") == "RUNNING",
        gone=found.get("lastStatus") == "STOPPED",
        spot=found.get("capacityProviderName") == "FARGATE_SPOT",
        pulling="pullStartedAt" in times,
        stop_code=found.get("stopCode", ""),
        reason=why_stopped(found, container),
        exit_code=container.get("exitCode"),
        stays=any(STAY in container.get("environment", []) for container in overrides),
        revision=found.get("taskDefinitionArn", ""),
    )
