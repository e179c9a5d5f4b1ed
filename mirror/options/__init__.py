"""The options of a worker: COPY_LAST, TABLES, ANNOUNCE, METRICS."""

from __future__ import annotations

from collections.abc import Callable

from mirror.aws.boto3_clients import Boto3Events
from mirror.log_writer import writer
from mirror.options.announcer import Announcer
from mirror.options.markers import Markers
from mirror.options.metrics import Metrics
from mirror.options.tables import Tables
from mirror.options.waiting import Waits
from mirror.protocol.buckets import Buckets
from mirror.protocol.sync import Syncer
from mirror.queue.option import Option, methods


def options_for(
    buckets: Buckets,
    events: Boto3Events | None = None,
    show: Callable[[str], None] = writer.put,
    waits: Waits | None = None,
) -> list[Option]:
    """Those that are set, for one process. `events`: the client that ANNOUNCE needs. `show`: writes a bare line into
    the log."""
    settings = buckets.settings
    waits = waits or Waits(buckets)
    options = list[Option]()
    if settings.copy_last:
        options.append(Markers(waits))
    if settings.tables:
        options.append(Tables(waits, Syncer(buckets, before_write=methods(options, Option.before_write))))
    if events and settings.announces:
        options.append(Announcer(settings, events, buckets.now))
    if settings.metrics == "true":
        options.append(Metrics(settings, show, buckets.wall))
    return options
