"""The rows of ./sync.sh status, below the word. All of it is pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from launch.watchers import in_text
from operate.health import Names, Parts, all_messages, order_of, unsaid
from operate.text import amount, quoted, row
from operate.times import DAY, epoch

MEBIBYTE = 1_048_576


def rows(parts: Parts, unread: Mapping[str, str], names: Names, reasons: Sequence[str], now: float) -> Iterator[str]:
    """`reasons`: what is said above them."""
    via = names.via
    for name in ("source", "destination"):
        yield row(name, bucket(parts[name], unread.get(name)))

    yield from row_of_version(parts, unread, via)
    yield row("events", events(parts["events"], via))
    yield from rows_of_options(parts, unread)
    yield row("queue", queue(parts["queue"], unread))
    yield row("dead letters", known("dead_letters", unread) or dead_letters(parts["dead_letters"]))
    yield row("workers", known("workers", unread) or workers(parts["workers"]))
    yield from (row(name, not_known(unread[name])) for name in ("function", "rule", "permissions") if name in unread)
    yield row("starter", known("starter", unread) or starter(parts["starter"]))
    yield row("lag", known("lag", unread) or lag(parts["lag"]))
    yield from rows_of_markers(parts, unread)
    yield from rows_of_outage(parts, unread, reasons)
    yield from row_of_audit(parts, unread, via)
    yield from row_of_reads(parts, unread, via, now)
    yield from rows_of_alarms(parts, unread)
    yield row("failures", known("failures", unread) or failures(parts["failures"]))
    yield from (failure(one) for one in parts["failures"]["newest"])


def not_known(error: str) -> str:
    return f"not known: {error}"


def known(name: str, unread: Mapping[str, str]) -> str:
    """Nothing if it is."""
    return not_known(unread[name]) if name in unread else ""


# --- each row ---------------------------------------------------------------------------------------------------------


def bucket(part: Mapping[str, str], why: str | None) -> str:
    said = not_known(why) if why else part["error"] or "answers"
    return f"s3://{part['name']}  {said}"


def row_of_version(parts: Parts, unread: Mapping[str, str], via: str) -> Iterator[str]:
    version = parts.get("version")
    if "version" in unread:
        yield row("version", not_known(unread["version"]))
    elif version and not version["error"]:  # a function that is gone has no release
        deployed, checkout = version["deployed"], version["checkout"]
        if order_of(deployed) < order_of(checkout):
            more = f" is deployed, older than this checkout ({checkout}): run ./deploy.sh{via}"
        else:
            more = "" if deployed == checkout else f" is deployed, newer than this checkout ({checkout})"
        yield row("version", f"{deployed}{more}")


def events(part: Mapping[str, Any], via: str) -> str:
    at_once = ", which also starts the starter at once" if part.get("at_once") else ""
    return {
        "sqs": "sqs: a notification of the bucket",
        "eventbridge": f"eventbridge: a rule{at_once}",
        "both": f"both (the source is being changed: run ./deploy.sh{via} again)",
        "none": f"none: run ./deploy.sh{via}",
        "unknown": f"unknown: {part.get('error')}",
    }[part["source"]]


def rows_of_options(parts: Parts, unread: Mapping[str, str]) -> Iterator[str]:
    options = parts.get("options")
    if "function" in unread or not options:
        return
    chosen, wanted = [*chosen_options(options)], [*wanted_keys(options)]
    if chosen:
        yield row("options", ", ".join(chosen))
    if wanted:
        yield row("wanted", "; ".join(wanted))


def chosen_options(options: Mapping[str, Any]) -> Iterator[str]:
    if options["starter_copies"]:
        yield f"the starter copies objects up to {size(options['starter_max_size'])} itself"
    if options["min_workers"]:
        are = "is" if options["min_workers"] == 1 else "are"
        yield f"{amount(options['min_workers'], 'worker')} {are} kept running"
    if options.get("copy_last"):
        yield f"{options['copy_last']} are copied last"
    if options.get("tables"):
        yield f"{options['tables']} tables are copied in order"
    if options.get("announce"):
        yield f"events announce {options['announce']}"


def wanted_keys(options: Mapping[str, Any]) -> Iterator[str]:
    if options.get("prefixes"):
        yield f"{len(options['prefixes'])} prefixes: {', '.join(options['prefixes'])}"
    if options.get("exclude"):
        yield f"nothing like {', '.join(options['exclude'])}"
    if options.get("keep_days") is not None:
        yield f"what changed within {amount(options['keep_days'], 'day')}"


def size(count: int) -> str:
    return f"{count} bytes" if count % MEBIBYTE else f"{count // MEBIBYTE} MiB"


def queue(part: Mapping[str, Any] | None, unread: Mapping[str, str]) -> str:
    if "queue" in unread:
        return not_known(unread["queue"])
    if part is None:
        return "gone"
    text = f"{part['visible']} waiting, {part['in_flight']} in flight, {part['delayed']} delayed"
    if not all_messages(part):
        return text
    if "oldest" in unread:
        return f"{text}; the age of the oldest is {not_known(unread['oldest'])}"
    return text if part.get("oldest_seconds") is None else f"{text}, the oldest for {part['oldest_seconds']} s"


def dead_letters(part: Mapping[str, int] | None) -> str:
    if part is None:
        return "gone"
    everything = all_messages(part)
    hidden = everything - part["visible"]
    more = f", {hidden} of them in flight: somebody is looking at them" if hidden > 0 else ""
    return f"{everything}{more}"


def workers(part: Iterable[Mapping[str, Any]]) -> str:
    counted = Counter(f"{worker['capacity']} {worker['status']}" for worker in part)
    return ", ".join(f"{count} {what}" for what, count in sorted(counted.items())) or "none"


def starter(part: Mapping[str, Any] | None) -> str:
    if part is None:
        return "no run in the last hour"
    decision = part["decision"]
    if decision is None:
        fixed = f"which has been fixed since: {'; '.join(unsaid(part['error'], []))}"
        return f"{part['at']}: failed, {fixed if part.get('fixed') else 'as said above'}"

    saw = amount(decision["visible"] + decision["in_flight"], "message")
    running = amount(decision["running"], "worker")
    started = ", ".join(f"{count} {what}" for what, count in decision["started"].items()) or "none"
    text = f"saw {saw} and {running}, wanted {decision['wanted']}, started {started}"
    if decision.get("copied"):
        text += f", {', '.join(copied_itself(decision['copied']))}"
    if decision.get("trial"):
        text += f": {decision['trial']}"
    return f"{part['seconds_ago']} s ago: {text}"


def copied_itself(copied: Mapping[str, Any]) -> Iterator[str]:
    """What the function did with messages."""
    yield f"{', '.join(counts(copied, 'copied', 'deleted')) or 'copied nothing'} itself"
    yield from counts(copied, "failed", "handed_back")
    if copied.get("error"):
        yield f"could not copy: {copied['error']}"


def counts(found: Mapping[str, int], *names: str) -> list[str]:
    return [f"{name.replace('_', ' ')} {found[name]}" for name in names if found.get(name)]


def lag(part: Mapping[str, Any]) -> str:
    if not part["count"]:
        return "nothing synced in the last hour"
    return f"from event to copy p50 {part['p50']} s, p99 {part['p99']} s of the newest {amount(part['count'], 'key')}"


def rows_of_markers(parts: Parts, unread: Mapping[str, str]) -> Iterator[str]:
    markers = parts.get("markers")
    if "markers" in unread:
        yield row("markers", not_known(unread["markers"]))
    elif markers:
        waits = "waits" if markers["count"] == 1 else "wait"
        yield row("markers", f"{markers['count']} {waits}, {key_waiting(markers['newest'])}")
        yield from (f"  {key_waiting(one)}" for one in markers["others"])


def key_waiting(wait: Mapping[str, Any]) -> str:
    return f"at {wait['at']} {quoted(wait['key'])} {waiting(wait)}"


def waiting(wait: Mapping[str, Any]) -> str:
    """What a key waits for."""
    since = f", since {wait['since']}" if wait.get("since") else ""
    example = f"such as {quoted(wait['example'])}: {wait['why']}"
    return f"for {amount(wait['keys'], 'key')} under {quoted(wait['prefix'])}, {example}{since}"


def rows_of_outage(parts: Parts, unread: Mapping[str, str], reasons: Sequence[str]) -> Iterator[str]:
    outage = parts["outage"]
    if "outages" in unread:
        yield row("outage", not_known(unread["outages"]))
        return
    if outage is None:
        yield row("outage", "none in the last hour")
        return

    seconds, reason = outage.get("seconds"), why(outage, reasons)
    state = {
        "goes on": "it goes on",
        "over": f"over after {seconds} s",
        "ended": f"after {seconds} s the worker ended (exit status 3)",
        "cut short": "its worker was stopped before the end",
        "handed over": "the starter handed its messages to a worker",
    }[outage["state"]]
    yield row("outage", f"since {outage['since']}, {state}{reason}")
    if outage["state"] != "over":
        soon = "" if outage["state"] == "goes on" else ", the next one within 15 minutes"
        yield f"  nothing is lost: fix the reason, and the workers resume by themselves{soon}"


def why(outage: Mapping[str, Any], reasons: Sequence[str]) -> str:
    """Once. Of an outage that is over, what to do about it is of no use any more."""
    reason = outage["reason"]
    if not reason or any(reason in one for one in reasons):
        return ""
    return f": {re.split(' (?:message|advice)=', reason)[0] if outage['state'] == 'over' else reason}"


def row_of_audit(parts: Parts, unread: Mapping[str, str], via: str) -> Iterator[str]:
    audit = parts.get("audit")
    if "audit" in unread:
        yield row("audit", not_known(unread["audit"]))
    elif audit:
        last = audit["last"]
        said = f"{last['at']}, {age(last['seconds_ago'])}: {audited(last, via)}" if last else "none in the log"
        coming = "after the pause" if parts.get("paused") else audit["next"]
        yield row("audit", f"{said}; the next one {coming}")


def age(seconds: int) -> str:
    return f"{seconds // 3600} h ago" if seconds < DAY else f"{seconds // DAY} days ago"


def audited(last: Mapping[str, Any], via: str) -> str:
    if last["end"] == "stopped":
        text = f"it was stopped (exit status {last['status']}), its log says why"
    elif last["found"] == 0:
        text = "both buckets equal"
    else:
        end = "put on the queue" if last["status"] == 0 else "not all of them fixed"
        text = f"{last['found']} differences, {end}"
    if last["foreign"]:
        text += f", and {amount(last['foreign'], 'foreign object')}, which ./sync.sh{via} reconcile --dry-run names"
    return text


def rows_of_alarms(parts: Parts, unread: Mapping[str, str]) -> Iterator[str]:
    alarms = parts.get("alarms")
    if "alarms" in unread:
        yield row("alarms", not_known(unread["alarms"]))
    elif alarms:
        yield row("alarms", in_text(alarms))
        for name in ("topic", "metric_filters"):
            if name in unread:
                yield f"  their {name.replace('_', ' ')}: {not_known(unread[name])}"


def row_of_reads(parts: Parts, unread: Mapping[str, str], via: str, now: float) -> Iterator[str]:
    reads = parts.get("reads")
    if "reads" in unread:
        yield row("reads", not_known(unread["reads"]))
    elif reads:
        on = f"are on until {reads['until']}"
        if epoch(reads["until"]) < now:
            on = f"were for the time until {reads['until']}, and are still charged"
        command = f"./sync.sh{via} cost --reads 1 --stop"
        folders = amount(reads["folders"], "folder")
        yield row("reads", f"request metrics of {folders} {on}: {command} turns them off")


def failures(part: Mapping[str, Any]) -> str:
    """With how many of their keys need no look any more."""
    synced = part.get("synced", 0)
    has = "has" if synced == 1 else "have"
    more = f"; {amount(synced, 'key')} of these {has} been synced since" if synced else ""
    return f"{part['count']} in the last hour{more}"


def failure(one: Mapping[str, Any]) -> str:
    times = f"at {one['at']}" if one["times"] == 1 else f"{one['times']} times, the last at {one['at']}"
    return f"  {quoted(one['key'])} failed {times}: {one['reason']}"
