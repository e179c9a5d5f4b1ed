"""The log, and those of its lines that are an interface: the dashboard and the verbs read them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping

log = logging.getLogger("worker")  # of all of mirror/

SYNCED = "synced key=%s action=%s size=%d seconds=%.3f%s"  # the last is LAG or nothing
LAG = " lag=%.3f"
FAILED = "failed key=%s attempt=%d/%d %s"  # after the level ERROR; the last says why
# An outage begins; a key could be synced again, so it is over; it has lasted too long, so the worker ends.
OUTAGE = "outage: %d keys fail alike, nothing is begun until one can be synced again: %s"  # after the level ERROR
OUTAGE_OVER = "outage over after %d s"
OUTAGE_ENDS = "outage for %d s, the worker ends: %s"  # after the level ERROR
SUMMARY = "summary copied=%d deleted=%d skipped=%d failed=%d handed_back=%d bytes=%d seconds=%.1f objects/s=%.1f"
SUMMARY_OF_EVENTS = " announced=%d unannounced=%d"  # after it, unless ANNOUNCE is none
SUMMARY_OF_LOAD = " busy=%d cpu=%.2f"  # at its end: answers of S3 such as 503, and CPU seconds of all processes
UNANNOUNCED = "could not announce %d keys: %s"  # after the level ERROR; the last says why
SUMMED_UP = ("copied", "deleted", "skipped", "failed", "handed_back", "bytes")
# A marker (COPY_LAST) or a file of a table (TABLES) waits: for how many keys under which prefix, one of them and why,
# and since when it waits.
WAITS = "marker key=%s waits for %d keys under %s, such as %s: %s since=%s"  # after INFO; WARNING if for long
REMOVED_FIRST = "removed first key=%s as the source has %s"  # IT_NO_LONGER or ANOTHER
IT_NO_LONGER, ANOTHER = "it no longer", "another in its place"
# After the level WARNING; the last says what holds for readers.
FOREIGN_STAYS = "foreign key=%s stays, because it does not say that the sync wrote it: %s"
# A large object is copied in parts; some of them are copied, in the end all.
PARTS_BEGUN = "Using multipart copy for large file key=%s size=%d parts=%d part_size=%d resumed=%d"
PARTS_COPIED = "Progress: %d/%d parts (%d%%) key=%s"
PROGRESS = "progress %s"  # of a reconcile, a wait or a measure on the way
REMOVED = "removed key=%s as the destination is not to hold it"  # by reconcile itself
DIFFERENCE = "difference number=%d what=%s key=%s"  # by reconcile --report
RECONCILED = "reconciled end=%s status=%d %s"  # the last line of a reconcile
# Before that line, of an audit; after the level ERROR if it found a difference or did not finish.
AUDITED = "audited end=%s status=%d found=%d %s"
LACKING = "lacking key=%s why=%s"  # a key that a wait ended without
UNCONDITIONAL = "the destination refuses conditional writes, going on without: %s"  # the last says which, and why
WAITED = "waited end=%s status=%d %s"  # the last line of a wait
MEASURED = "measured end=%s status=%d %s"  # the last line of a measure


# What begins a line, or what a terminal or a viewer acts on instead of showing it: control characters, also those
# beyond ASCII, separators of lines and paragraphs, changes of the direction of text; and what is no text in UTF-8.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def quoted(text: str) -> str:
    """A key, or another text from outside, for a log line. Quotes and invisible characters are escaped."""
    return visible(json.dumps(text, ensure_ascii=False))


def visible(text: str) -> str:
    """The text on one line, with invisible characters as JSON escapes them."""
    if text.isprintable():
        return text
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def amount(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def summary(counts: Mapping[str, int], seconds: float, cpu: float, announces: bool) -> str:
    """The line at the end of a task: what was done, how fast, and what it took."""
    seconds = max(seconds, 0.001)
    numbers = [counts.get(name, 0) for name in SUMMED_UP]
    synced = sum(numbers[:3])
    line = SUMMARY % (*numbers, seconds, synced / seconds)
    if announces:
        line += SUMMARY_OF_EVENTS % (counts.get("announced", 0), counts.get("unannounced", 0))
    return line + SUMMARY_OF_LOAD % (counts.get("busy", 0), cpu)
