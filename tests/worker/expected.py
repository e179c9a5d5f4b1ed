"""The model of the commands that read many keys: what each has to find in two buckets that were drawn."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from drawn import AGAIN, DAY, DELETE, DESTINATION, LATE, LOOK, SOURCE, START, Drawn, Pair, Version

from mirror.readers.reconcile import ReconcileArguments
from mirror.readers.wait import WaitArguments

MOMENTS = LOOK, AGAIN, DELETE, LATE
DIFFERENCES = "missing", "stale", "corrupt", "ghost", "foreign", "unreadable", "archived"
CORRUPT = "corrupt: the checksums differ; reconcile --deep has it copied again"
GHOST = "only in the destination: its deletion is waited for"
QUEUED = "missing", "stale", "corrupt", "ghost"


# A key


def keys_of(drawn: Drawn, prefix: str = "") -> list[str]:
    return [key for key in drawn.before if key.startswith(drawn.prefixes) and key.startswith(prefix)]


def is_excluded(drawn: Drawn, key: str) -> bool:
    exclude = drawn.environment["EXCLUDE"]
    return ("tmp" in exclude and key.endswith(".tmp")) or ("_t" in exclude and "/_t/" in key)


def is_old(version: Version | None, days: int) -> bool:
    return bool(version and days and version.modified // DAY + days < START // DAY)


def fits(source: Version | None, copy: Version | None) -> bool:
    """As far as listings show."""
    return bool(source and copy and copy.size == source.size and copy.modified >= source.modified)


def is_copy(source: Version, copy: Version | None) -> bool:
    return copy is not None and (copy.copy_of == source.name if copy.copy_of else fits(source, copy))


def same_bytes(source: Version | None, copy: Version | None) -> bool | None:
    """None: no checksum of the whole object, by the same algorithm, is on both sides."""
    one, other = (version.checksum if version else "" for version in (source, copy))
    are_whole = one and other and "-" not in one + other
    if not are_whole or ("crc32" in one) != ("crc32" in other):
        return None
    return one == other


def category(drawn: Drawn, key: str, pair: Pair, deep: bool = False) -> str:
    """The row of the report; "" for what is equal, for what has expired without a copy, and for what is nowhere."""
    source, copy = pair
    if is_excluded(drawn, key):
        return "unwanted" if copy else ""
    if source is None:
        return "" if copy is None else "ghost" if copy.copy_of else "foreign"
    if is_old(source, drawn.days):
        return "" if copy is None else "unwanted" if is_copy(source, copy) or not copy.copy_of else "stale"
    same = same_bytes(source, copy) if deep else None
    is_unnamed = deep and not same and not source.is_opaque and copy is not None and not copy.copy_of
    if is_copy(source, copy) and not is_unnamed and same is not False:
        return ""
    if source.is_archived or copy is None:
        return "archived" if source.is_archived else "missing"
    return "corrupt" if copy.copy_of == source.name else "stale"


def at(drawn: Drawn, key: str, moment: str) -> Pair:
    """What both buckets have after that moment."""
    when, after = drawn.changes.get(key, (LATE, drawn.before[key]))
    return after if MOMENTS.index(when) <= MOMENTS.index(moment) else drawn.before[key]


def is_foreign(drawn: Drawn, key: str, moment: str) -> bool:
    source, copy = at(drawn, key, moment)
    leaves_out = source is None or is_excluded(drawn, key) or is_old(source, drawn.days)
    return leaves_out and copy is not None and not copy.copy_of


def reads_source(drawn: Drawn, key: str, moment: str) -> bool:
    """Whether a look needs it: not of what is excluded, if the destination says that it is a copy."""
    copy = at(drawn, key, moment)[1]
    return not is_excluded(drawn, key) or (copy is not None and not copy.copy_of)


def look(drawn: Drawn, key: str, moment: str, deep: bool = False) -> str:
    denied = drawn.denied.get(key)
    if denied == DESTINATION or (denied == SOURCE and reads_source(drawn, key, moment)):
        return "unreadable"
    return category(drawn, key, at(drawn, key, moment), deep)


def is_deleted(drawn: Drawn, row: str, pair: Pair) -> bool:
    """By a worker that is asked for it."""
    return row == "ghost" or (row == "stale" and is_old(pair[0], drawn.days))


# reconcile


@dataclass
class Compared:
    rows: dict[str, str] = field(default_factory=dict)  # by key, of what differs or is unwanted
    figures: Counter[str] = field(default_factory=Counter)
    queued: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    unremoved: set[str] = field(default_factory=set)  # because that was denied
    looks: int = 0  # HeadObject, in a calm world
    doomed: int = 0  # what --max-delete counts
    status: int = 0


def is_looked_at(drawn: Drawn, key: str, options: ReconcileArguments) -> bool:
    source, copy = drawn.before[key]
    if is_excluded(drawn, key):
        return copy is not None and options.remove_unwanted
    if source and copy:
        is_unwanted = options.remove_unwanted and is_old(source, drawn.days)
        return options.deep or is_unwanted or not fits(source, copy)
    exact = options.dry_run or options.audit or bool(source and source.storage_class)
    return copy is not None or (exact and not is_old(source, drawn.days))


def row_of(drawn: Drawn, key: str, options: ReconcileArguments, found: Compared) -> str:
    """What counts; of an audit what a second look shows, but for what only the destination has."""
    source, copy = drawn.before[key]
    if not is_looked_at(drawn, key, options):
        old = is_old(source, drawn.days)
        if is_excluded(drawn, key) or (old and copy):
            return "unwanted" if copy else ""
        return "" if old or copy else "missing"
    row = "missing"
    for moment in (LOOK, LATE) if options.audit else (LOOK,):
        if row not in ("", "unwanted", "foreign"):
            row, pair = look(drawn, key, moment, options.deep), at(drawn, key, moment)
            found.looks += 1 + reads_source(drawn, key, moment)
            is_checked = options.deep and all(pair) and row not in ("unreadable", "unwanted")
            found.figures["unchecked" if same_bytes(*pair) is None else "checked"] += is_checked
    return row


def compared(drawn: Drawn, options: ReconcileArguments) -> Compared:
    found, leaving = Compared(), set[str]()
    asked = {"unwanted"} if options.remove_unwanted else set[str]()
    asked |= {"foreign"} if options.remove_foreign else set()
    for key in keys_of(drawn, options.prefix):
        source, copy = drawn.before[key]
        if source and not is_excluded(drawn, key):
            found.figures["compared"] += 1
            found.figures["expired"] += copy is None and is_old(source, drawn.days)
        if row := row_of(drawn, key, options, found) if source or copy else "":
            found.rows[key] = row
        if row in asked:
            stays = is_looked_at(drawn, key, options) and is_foreign(drawn, key, LOOK) and not options.remove_foreign
            found.figures["kept"] += stays
            leaving |= set() if stays else {key}
    if not options.dry_run:
        act(drawn, options, found, leaving)
    found.figures += Counter(found.rows.values())
    found.figures["unreadable"] += len(found.unremoved)
    settled = {"archived"} if options.dry_run else {"archived", *QUEUED}
    settled |= {"foreign"} if options.audit or (options.remove_foreign and not options.dry_run) else set()
    found.status = found.status or int(any(found.figures[row] for row in DIFFERENCES if row not in settled))
    return found


def act(drawn: Drawn, options: ReconcileArguments, found: Compared, leaving: set[str]) -> None:
    moment = LATE if options.audit else LOOK
    deletes = {key for key, row in found.rows.items() if is_deleted(drawn, row, at(drawn, key, moment))}
    found.queued = {key for key, row in found.rows.items() if row in QUEUED} - deletes
    found.doomed = len(deletes) + len(leaving)
    if found.doomed > options.max_delete:
        found.status = 3
        return
    found.queued |= deletes
    for key in leaving:
        row, seen = look(drawn, key, AGAIN), at(drawn, key, AGAIN)
        found.looks += 1 + reads_source(drawn, key, AGAIN)
        is_asked = options.remove_unwanted if row == "unwanted" else row == "foreign" and options.remove_foreign
        goes = is_asked and (options.remove_foreign or not is_foreign(drawn, key, AGAIN))
        if row == "unreadable" or (goes and key in drawn.kept):
            found.unremoved.add(key)
        elif goes and at(drawn, key, DELETE)[1] == seen[1]:
            found.removed.add(key)
            left = at(drawn, key, DELETE)[0], None
            if key in drawn.unanswered and (row := category(drawn, key, left)):  # the next look shows that it has come
                found.rows[key] = row
                found.figures["removed"] -= 1
                found.queued |= {key} if row in QUEUED else set()
        else:  # it has changed meanwhile
            found.rows[key] = "" if goes else row
            found.figures["kept"] += not goes and is_foreign(drawn, key, AGAIN)
            found.queued |= {key} if row in QUEUED else set()
            deletes |= {key} if is_deleted(drawn, row, seen) else set()
    found.rows = {key: row for key, row in found.rows.items() if row}
    found.figures += Counter(queued=len(found.queued), to_delete=len(deletes), removed=len(found.removed))


# wait


@dataclass
class Waited:
    figures: Counter[str] = field(default_factory=Counter)
    lacking: dict[str, str] = field(default_factory=dict)  # key -> why


def waited(drawn: Drawn, options: WaitArguments, settled: float = DAY) -> Waited:
    """What a wait ends with that lasts for longer than all changes."""
    found, rolls_back = Waited(), drawn.is_versioned and drawn.environment["ROLLBACKS"] == "true"
    for key in keys_of(drawn, options.prefix):
        source, copy = drawn.before[key]
        if is_excluded(drawn, key):
            continue
        if source is None:
            wait_for_ghost(drawn, key, options, found)
        elif is_old(source, drawn.days):
            found.figures["expired"] += 1
        else:
            doubt = 905 if START - source.modified < settled else -1
            doubt = math.inf if options.deep or "-" in source.name or rolls_back else doubt
            is_here = copy is not None and fits(source, copy) and copy.modified - source.modified > doubt
            seen = has_arrived(drawn, key, source, options.deep)
            is_here = is_here or bool(seen)
            found.figures += Counter(
                {"keys": 1, "bytes": source.size, "here": is_here, "here_bytes": is_here * source.size}
            )
            if seen in ("checked", "unchecked"):
                found.figures[seen] += 1
            if not is_here:
                is_archived = is_called_archived(drawn, key)
                found.figures["archived"] += is_archived
                is_corrupt = options.deep and category(drawn, key, drawn.now[key], deep=True) == "corrupt"
                why = "archived: restore it" if is_archived else CORRUPT if is_corrupt else "waiting"
                found.lacking[key] = "trouble" if key in drawn.denied else why
    found.figures["lacking"] = len(found.lacking)
    return found


def is_called_archived(drawn: Drawn, key: str) -> bool:
    """As the latest look at the source showed: one at both sides, or one because the copy is young enough; or as it was
    listed."""
    listed, copy = drawn.before[key]
    assert listed
    is_young = copy is not None and copy.modified >= listed.modified
    seen = drawn.now[key][0] or (at(drawn, key, LOOK)[0] if is_young else None)
    return listed.storage_class == "GLACIER" if seen is None or key in drawn.denied else seen.is_archived


def has_arrived(drawn: Drawn, key: str, listed: Version | None, deep: bool = False) -> str:
    """In the version that was listed or a newer one, or both sides have been equal, or it is waited for no longer.

    "" if not; otherwise what the checksums of both sides say of it: "checked", "unchecked" or, if there are not two
    sides to compare, "here".
    """
    for pair in () if key in drawn.denied else (at(drawn, key, LOOK), at(drawn, key, LATE)):
        source, copy = pair
        if source is not None and is_old(source, drawn.days):
            return "here"
        seen = "here" if None in pair or not deep else "unchecked" if same_bytes(*pair) is None else "checked"
        is_equal = is_copy(source, copy) if source and not deep else not category(drawn, key, pair, deep)
        if is_equal and (source or copy is None):
            return seen
        if listed is None and not (copy and copy.copy_of):
            return "here"
        named = drawn.versions.get(copy.copy_of) if copy else None
        is_newer = named is not None and named.modified > START + 500
        is_of_another = source is None or not deep or (named is not None and not is_copy(source, copy))
        if listed is not None and (is_copy(listed, copy) or is_newer) and is_of_another:
            return "here" if seen == "here" else "unchecked"
    return ""


def wait_for_ghost(drawn: Drawn, key: str, options: WaitArguments, found: Waited) -> None:
    if drawn.before[key][1] is None or not options.exact:
        found.figures["only_in_destination"] += drawn.before[key][1] is not None
        return
    row = look(drawn, key, LOOK, options.deep)
    found.figures["only_in_destination"] += row in ("ghost", "foreign")
    found.figures["of_unknown_origin"] += row == "foreign"
    if row in ("", "unwanted", "foreign"):
        return
    if has_arrived(drawn, key, None, options.deep):
        pairs = at(drawn, key, LOOK), at(drawn, key, LATE)
        first = next((copy for _, copy in pairs if copy is None or not copy.copy_of), None)
        found.figures["of_unknown_origin"] += first is not None
    else:
        found.lacking[key] = "trouble" if key in drawn.denied else GHOST


# measure


def measured(drawn: Drawn) -> Counter[str]:
    figures: Counter[str] = Counter()
    for key in keys_of(drawn):
        source, copy = drawn.before[key]
        wanted, excluded = (None, copy) if is_excluded(drawn, key) else (source, None)
        kinds = {f"kept_{days}": None if is_old(wanted, days) else wanted for days in (7, 30, 90)}
        kinds |= {"source": wanted, "destination": copy, "excluded": excluded}
        kinds["aged"] = copy if not excluded and is_old(copy, drawn.days) else None
        for kind, found in kinds.items():
            figures += Counter({f"{kind}_objects": found is not None, f"{kind}_bytes": found.size if found else 0})
    return figures
