"""Delta Lake's files: what a key is by its name, what a commit names, and in which order a log has to be copied.

All of it is pure. The rules are those of PROTOCOL.md in https://github.com/delta-io/delta.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from urllib.parse import unquote

from mirror.model.selection import items_of, pattern_for

COMMIT = "commit"
CHECKPOINT = "checkpoint"
OF_VERSION = "of a version"  # a checksum or a compacted log
POINTER = "pointer"

LOG = "_delta_log/"
LOG_KEY = re.compile(
    r"(?P<table>(?:.*/)?)_delta_log/(?:(?P<pointer>_last_checkpoint)"
    r"|(?P<version>\d{20})\.(?:(?P<commit>json)|crc|checkpoint\.(?:parquet|(?P<part>\d{10})\.(?P<parts>\d{10})\.parquet"
    r"|(?P<uuid>[0-9a-fA-F-]{36})\.(?:json|parquet))|(?P<last>\d{20})\.compacted\.json))",
    re.DOTALL | re.ASCII,
)
NAMES = tuple(
    name.replace("V", "0" * 20).replace("P", "0" * 10).replace("U", "00000000-0000-0000-0000-000000000000")
    for name in (
        "V.json",
        "V.checkpoint.parquet",
        "_last_checkpoint",
        "V.crc",
        "V.checkpoint.P.P.parquet",
        "V.checkpoint.U.json",
        "V.checkpoint.U.parquet",
        "V.V.compacted.json",
    )
)
LOG_EXAMPLES = tuple(f"table/{LOG}{name}" for name in NAMES[:3])  # without which no reader finds a table
CLASS = re.compile(r"\[!?\]?[^\]]*\]")  # in a glob
HEX = re.compile("[0-9a-fA-F]")
ACTIONS = {"add", "cdc", "commitInfo", "domainMetadata", "metaData", "protocol", "remove", "txn"}
NAMING = ("add", "cdc")  # the actions that name a file which a reader may need
ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/|/")
NAME_LENGTH = 20  # of a UUID in Z85, at the end of the name of a deletion vector
LONGEST_KEY = 1024  # bytes (S3 User Guide, "Naming Amazon S3 objects")
MANY_COMMITS = 200  # before a checkpoint: to compare the whole table takes less time than to read so many


class LogFile(NamedTuple):
    """A file of a table's log."""

    key: str
    table: str  # the folder, with its last "/"
    kind: str
    version: int = -1  # of a compacted log the last one
    part: int = 1  # of a checkpoint in several parts
    parts: int = 1
    has_sidecars: bool = False  # a checkpoint that may name files in _sidecars/


def log_file(key: str) -> LogFile | None:
    """None if the key is no file of a log, or one that readers do not look for by its name, such as a sidecar."""
    found = LOG in key and LOG_KEY.fullmatch(key)
    if not found:
        return None
    table = found["table"]
    if found["pointer"]:
        return LogFile(key, table, POINTER)
    version = int(found["last"] or found["version"])
    if found["commit"]:
        return LogFile(key, table, COMMIT, version)
    if ".checkpoint." not in key[len(table) :]:
        return LogFile(key, table, OF_VERSION, version)
    part, parts = int(found["part"] or 1), int(found["parts"] or 1)
    return LogFile(key, table, CHECKPOINT, version, part, parts, has_sidecars=bool(found["uuid"]))


def is_in_log(folder: str) -> bool:
    return f"/{LOG}" in f"/{folder}"


def may_be_in_log(pattern: str) -> bool:
    """Whether a pattern of COPY_LAST can be for a file of a log, in any folder.

    One with "/" in it is for the whole key, so that an end of it may be for the end of a key. Any two hexadecimal
    digits count as the same, and a class of characters as any of them."""

    def alike(text: str) -> str:
        return HEX.sub("0", text)

    glob = alike(CLASS.sub("?", pattern))
    if "/" not in glob:
        return any(fnmatchcase(alike(name), glob) for name in NAMES)
    glob = f"/{glob}"
    ends = [glob[start:] for start, character in enumerate(glob) if character in "/*?"]
    return any(fnmatchcase(alike(f"/{LOG}{name}"), end) for name in NAMES for end in ends)


def problems_of_tables(values: Mapping[str, Any]) -> list[str]:
    """What the other settings, as check() returns them, would cut out of a table. Nothing may be."""
    if not values["TABLES"]:
        return []

    problems, tables = [], f"with TABLES={values['TABLES']}"
    if values["KEEP_DAYS"]:
        problems.append(
            f"KEEP_DAYS={values['KEEP_DAYS']} {tables}: leave KEEP_DAYS empty, because a table needs its files at any"
            " age"
        )
    patterns = items_of(values["EXCLUDE"])
    cut = next(filter(None, (pattern_for(key, patterns) for key in LOG_EXAMPLES)), None)
    if cut:
        problems.append(f"EXCLUDE={values['EXCLUDE']} {tables}: remove {cut}, which matches files of a table's log")
    cut = next((item for item in items_of(values["COPY_LAST"]) if may_be_in_log(item.strip())), None)
    if cut is not None:
        problems.append(
            f"COPY_LAST={values['COPY_LAST']} {tables}: remove {cut}, which can match files of a table's log"
        )
    return problems


def commit_key(table: str, version: int) -> str:
    return f"{table}{LOG}{version:020}.json"


# --- What a commit names ----------------------------------------------------------------------------------------------


def names_of(commit: bytes, table: str) -> set[str] | None:
    """The keys of the files that a commit adds. None if they cannot be known: the commit is no such JSON, or has an
    action that is not known here. An absolute path is left out: it leads out of the mirror."""
    keys: set[str] = set()
    try:
        for line in commit.decode().split("\n"):
            action = json.loads(line) if line.strip() else {}
            if not action.keys() <= ACTIONS:
                return None
            for added in (action[name] for name in NAMING if action.get(name)):
                keys.update(table + path for path in paths_of(added))
        return keys if all(len(key.encode()) <= LONGEST_KEY for key in keys) else None
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None


def paths_of(added: dict[str, Any]) -> Iterator[str]:
    """Relative to the table. A path is URL-encoded; the name of a deletion vector ends in a UUID in Z85."""
    path = added["path"]
    if not path:
        raise ValueError("a file has no name")
    if not ABSOLUTE.match(path):
        yield unquote(path, errors="strict")
    vector = added.get("deletionVector")
    if vector and vector["storageType"] == "u":
        name = vector["pathOrInlineDv"]
        folder = name[:-NAME_LENGTH]
        identifier = uuid.UUID(bytes=base64.z85decode(name[-NAME_LENGTH:]))
        yield f"{folder}/deletion_vector_{identifier}.bin" if folder else f"deletion_vector_{identifier}.bin"
    elif vector and vector["storageType"] not in ("i", "p"):  # inside the commit, and absolute
        raise ValueError("a deletion vector is stored in a way that is not known here")


def version_of_pointer(pointer: bytes) -> int | None:
    """The version that _last_checkpoint names. None if it is no such JSON."""
    try:
        version = json.loads(pointer)["version"]
    except (KeyError, RecursionError, TypeError, ValueError):
        return None
    return version if isinstance(version, int) and 0 <= version < 10**20 else None


# --- What has to be copied, and in which order ------------------------------------------------------------------------


class Plan(NamedTuple):
    """First the table is compared, if need be, and then the base is copied; the commits; what comes after them."""

    problem: str = ""  # why nothing can be copied
    base: tuple[str, ...] = ()  # a checkpoint, which names the whole table, so that is compared before
    commits: tuple[str, ...] = ()  # one after the other, each after the files that it names
    after: tuple[str, ...] = ()  # the newest checkpoint, then the pointer


def plan_for(log: Collection[LogFile], missing: Collection[str]) -> Plan:
    """`log`: what the source holds. `missing`: what of that the destination does not have, or has otherwise.

    A reader needs the newest checkpoint, or the commit 0, and each commit after that. So the destination may get
    commits after a checkpoint that it has, or from 0 on. If it has no such checkpoint, it gets the newest one first.
    The commit of that version comes next: Delta's readers do not open a log of a checkpoint and no commit.
    """
    if not missing:
        return Plan()
    commits = {file.version: file.key for file in log if file.kind == COMMIT}
    checkpoints = complete_checkpoints(log)
    newest = max(commits, default=max(checkpoints, default=-1))
    first = next(version for version in itertools.count(newest, -1) if version - 1 not in commits)

    useful = {version: keys for version, keys in checkpoints.items() if version >= first - 1}
    last = max(useful, default=-1)
    absent = set(missing)
    starts = [version for version, keys in useful.items() if absent.isdisjoint(keys)]
    if first == 0:
        starts.append(-1)
    begins = max(starts, default=None)

    base: tuple[str, ...] = ()
    lacking = sorted(version for version, key in commits.items() if key in missing)
    if begins is None or sum(begins < version < last for version in lacking) > MANY_COMMITS:
        if not useful:
            before = commits.get(first, LOG)
            return Plan(f"the source's log has a gap before {before} and no checkpoint after it, or EXCLUDE has them")
        begins, base = last, useful[last]

    chain = [commits[version] for version in lacking if version >= begins]
    pointers = [file.key for file in log if file.kind == POINTER]
    after = [key for key in (*useful.get(last, ()), *pointers) if key in missing and key not in base]
    return Plan(base=tuple(key for key in base if key in missing), commits=tuple(chain), after=tuple(after))


def complete_checkpoints(log: Iterable[LogFile]) -> dict[int, tuple[str, ...]]:
    """Version -> the keys of a checkpoint of it, of which every part is there."""
    found: dict[tuple[int, int], dict[int, str]] = defaultdict(dict)
    for file in log:
        if file.kind == CHECKPOINT:
            found[file.version, file.parts][file.part] = file.key

    complete: dict[int, tuple[str, ...]] = {}
    for version, parts in sorted(found, reverse=True):
        keys = found[version, parts]
        if len(keys) == parts:
            complete[version] = tuple(keys.values())
    return complete


def is_anew(log: Collection[LogFile], mirrored: Collection[LogFile], others: Collection[str]) -> bool:
    """Whether the table was deleted and made again since: the destination has a commit whose bytes are others,
    or one of a later version. `others`: the keys of the former. `mirrored` has to be listed before `log`, and without
    the later files that are foreign."""
    newest = max((file.version for file in log if file.kind == COMMIT), default=None)
    if newest is None:
        return False
    return any(file.kind == COMMIT and (file.version > newest or file.key in others) for file in mirrored)


def later_than(log: Collection[LogFile], mirrored: Iterable[LogFile]) -> list[LogFile]:
    """What the mirror has of versions that the log does not have, the commits first."""
    newest = max((file.version for file in log if file.kind == COMMIT), default=-1)
    later = [file for file in mirrored if file.version > newest]
    return sorted(later, key=lambda file: file.kind != COMMIT)


def in_order_of_removal(files: Iterable[LogFile]) -> list[str]:
    """Nothing may name what is gone; and without its first commit an old log is no table any more."""
    order = (POINTER, CHECKPOINT, OF_VERSION, COMMIT)
    return [file.key for file in sorted(files, key=lambda file: (order.index(file.kind), file.version, file.key))]
