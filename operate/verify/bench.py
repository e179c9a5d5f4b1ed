"""What ./sync.sh verify --bench does beside the rounds: many small objects, put during a pause so that the speed of the
CLI is not measured, the pages of both listings, and the figures, most of which the workers' log has."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

from operate import pausing, text
from operate.failure import Failure
from operate.parts import need_function, read_function, variables_of
from operate.times import iso
from operate.verify import speed
from operate.verify.cases import LARGE
from operate.verify.chain import NO_COPY, Break
from operate.verify.remove import remove_folder
from operate.verify.state import LOOK_SECONDS, Jobs, Plan, Seen, Side, all_at_once, note_breaks
from operate.verify.watch import events_of, lines_of, read_lines, read_queue

SMALL_OBJECTS = int(os.environ.get("VERIFY_SMALL_OBJECTS") or 3000)  # the local cloud has fewer
SIZE = 1024  # bytes of each
GROUP = 500  # objects that one aws s3 cp uploads
PAGE = min((SMALL_OBJECTS + 2) // 3, 1000)  # keys, 1,000 at most, so that each listing has three
EVENT_LOOKS = 10  # in which the queue is given time to have all events
SUMMARY_SECONDS = 150  # in which workers that find nothing more end
ARRIVAL_SECONDS = 240  # after the starter's next run


def folder_of(folder: str) -> str:
    return f"{folder}bench/"


def first_key(folder: str) -> str:
    return f"{folder_of(folder)}0/small-0"


def run_round(plan: Plan, seen: Seen, _beside: Jobs) -> None:
    begin_pause(plan, seen)
    events_in = put_small_objects(plan, seen)
    end_pause(plan, seen)
    await_small(plan, seen, SMALL_OBJECTS, "put")
    with text.progress("verify: listing pages"):
        pages = {"source": time_pages(plan, plan.source), "destination": time_pages(plan, plan.destination)}

    remove_folder(plan, plan.source)
    if not seen.is_broken:
        await_small(plan, seen, 0, "remove")
    read_lines(plan, seen)
    seen.measured = speed.Measured(
        folder=folder_of(plan.folder),
        large=plan.key(LARGE),
        objects=SMALL_OBJECTS,
        size=SIZE,
        events_in=events_in,
        page=PAGE,
        pages=pages,
    )
    with text.progress("verify: waiting for the last lines of the workers"):
        await_summaries(plan, seen)


# --- the pause --------------------------------------------------------------------------------------------------------


def begin_pause(plan: Plan, seen: Seen) -> None:
    """A pause that somebody else made since this run began is theirs."""
    now = time.time()
    seen.pause = iso(now)
    since = pausing.begin_pause(plan.deployment, now)
    if since != seen.pause:
        seen.pause = ""
        raise Failure(f"somebody has paused the sync since {since}, and it stays so: the rest was not measured")
    text.say("verify: the sync is paused")
    pausing.end_work(plan.deployment, time.time(), "workers")


def end_pause(plan: Plan, seen: Seen) -> None:
    if not seen.pause:
        return
    if paused_since(plan) == seen.pause:
        pausing.end_pause(plan.deployment)
    seen.pause = ""
    text.say("verify: the sync goes on")


def paused_since(plan: Plan) -> str:
    function = need_function(read_function(plan.cloud, plan.deployment), plan.deployment)
    return variables_of(function).get("PAUSED_SINCE", "")


# --- small objects ----------------------------------------------------------------------------------------------------


def put_small_objects(plan: Plan, seen: Seen) -> int | None:
    """Returns how many seconds later the queue had all events, if that is known."""
    groups = range(0, SMALL_OBJECTS, GROUP)
    for group, first in enumerate(groups):
        folder = plan.files / "bench" / str(group)
        folder.mkdir(parents=True)
        for number in range(min(GROUP, SMALL_OBJECTS - first)):
            (folder / f"small-{number}").write_bytes(os.urandom(SIZE))

    with text.progress(f"verify: uploading {SMALL_OBJECTS} small objects"):
        all_at_once(*(partial(put_group, plan, group) for group in range(len(groups))))
    return await_events(plan, seen)


def put_group(plan: Plan, group: int) -> None:
    folder = plan.files / "bench" / str(group)
    to = f"s3://{plan.source.bucket}/{folder_of(plan.folder)}{group}/"
    plan.cloud.need("s3", "cp", "--recursive", "--only-show-errors", str(folder), to)


def await_events(plan: Plan, seen: Seen) -> int | None:
    """If a worker began before all events are in the queue, their delay would be measured as its speed. After some
    looks it is."""
    began = time.monotonic()
    for look in range(EVENT_LOOKS):
        if look:
            plan.cloud.wait(LOOK_SECONDS)
        read_queue(plan, seen)
        if seen.queue["visible"] + seen.queue["delayed"] >= SMALL_OBJECTS:
            return int(time.monotonic() - began) + 1
    return None


def await_small(plan: Plan, seen: Seen, want: int, what: str) -> None:
    """Until the destination has so many."""
    patience = 60 * int(plan.deployment.settings["LAMBDA_POLL_RATE"]) + ARRIVAL_SECONDS
    deadline, shown = time.monotonic() + patience, ""
    while True:
        have = len(plan.destination.list(folder_of(plan.folder)))
        said = f"{what}: {have} small objects in the destination"
        if said != shown:
            text.say_for_now(f"verify: {seen.elapsed:.0f} s: {said}")
        shown = said
        if have == want:
            return
        if time.monotonic() >= deadline:
            break
        plan.cloud.wait(LOOK_SECONDS)

    seen.is_broken = True
    why = f"{what}: the destination has {have} small objects instead of {want} after {patience} s"
    note_breaks(seen, [Break(NO_COPY, why, f"./sync.sh{plan.deployment.via} logs worker")])


# --- pages of the listings, and what the log says ---------------------------------------------------------------------


def time_pages(plan: Plan, side: Side) -> list[float]:
    """The seconds of each page, by the CLI's log: the CLI itself takes longer to start than S3 takes for a page.
    Nothing else of that log is kept, because it has the credentials of the session."""
    options = side.options("--page-size", str(PAGE), "--prefix", folder_of(plan.folder))
    debug = plan.cloud.debug("s3api", "list-objects-v2", *options)
    if debug is None:
        raise Failure(f"s3://{side.bucket} could not be listed: run this again")
    return speed.page_seconds(debug.split("\n"))


def await_summaries(plan: Plan, seen: Seen) -> None:
    """The summaries of workers that have ended since the run began: until those that worked on small objects have
    ended. Workers of MIN_WORKERS do not, so their CPU time stays unknown."""
    stays = bool(variables_of(plan.function).get("MIN_WORKERS"))
    deadline = time.monotonic() + (0 if stays else SUMMARY_SECONDS)
    while True:
        found = events_of(plan, [plan.deployment.worker_log_group], seen.began, '"summary copied"')
        seen.summaries = speed.summaries_of(lines_of(found))
        if not figures(seen)["running"] or time.monotonic() >= deadline:
            return
        plan.cloud.wait(LOOK_SECONDS)


def figures(seen: Seen) -> Any:
    """What was measured, or None."""
    return speed.figures(seen.measured, seen.lines, seen.summaries) if seen.measured else None
