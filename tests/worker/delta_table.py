"""Writes a Delta table in a folder, and opens copies of it; run by the interpreter of a venv with deltalake.

Reads a command on each line, [name, argument...], and answers each with a line of JSON.
"""

import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zlib import crc32

import pyarrow
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

PARTITIONS = ("x y", "b/c%", "\u4e2d")
WRITERS = 4  # at the same time, of which each retries what it loses
chance = random.Random(1)
rows = iter(range(10**9))


def more_rows() -> pyarrow.Table:
    ids = [next(rows) for _ in range(6)]
    return pyarrow.table({"id": ids, "p": [PARTITIONS[number % 3] for number in ids], "v": [0] * 6})


def append(folder: str, tries_left: int = WRITERS) -> None:
    """Again if another writer has just cleaned the part of the log that this one was about to read."""
    try:
        write_deltalake(folder, more_rows(), mode="append", partition_by=["p"])
    except (DeltaError, FileNotFoundError):
        if not tries_left:
            raise
        append(folder, tries_left - 1)


def change(folder: str) -> str:
    """Makes one change, or some at the same time."""
    table = DeltaTable(folder)
    what = chance.choice(["append", "appends", "appends", "merge", "delete", "compact", "checkpoint", "vacuum"])
    if what == "append":
        append(folder)
    elif what == "appends":
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(append, [folder] * WRITERS))
    elif what == "merge":
        source = pyarrow.table({"id": [chance.randrange(60)], "p": [PARTITIONS[0]], "v": [chance.randrange(100)]})
        merge = table.merge(source, "t.id = s.id", source_alias="s", target_alias="t")
        merge.when_matched_update({"v": "s.v"}).when_not_matched_insert_all().execute()
    elif what == "delete":
        table.delete(f"id % 17 = {chance.randrange(17)}")
    elif what == "compact":
        table.optimize.compact()
    elif what == "checkpoint":
        table.create_checkpoint()
        table.cleanup_metadata()
    else:
        table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    return what


def make(folder: str) -> None:
    write_deltalake(
        folder,
        more_rows(),
        partition_by=["p"],
        configuration={"delta.logRetentionDuration": "interval 0 days", "delta.enableExpiredLogCleanup": "true"},
    )


def content(folder: str, version: int | None = None) -> list[Any]:
    """Its version, its files, and a sum of its rows; the files that are missing, of which the sum is not known then."""
    table = DeltaTable(folder, version=version)
    files = [uri.removeprefix("file://") for uri in table.file_uris()]
    missing = [file.removeprefix(folder) for file in files if not Path(file).exists()]
    total = [] if missing else sorted(map(str, table.to_pyarrow_table().to_pylist()))
    return [table.version(), missing, len(total), crc32("".join(total).encode())]


def answer(name: str, *arguments: Any) -> Any:
    try:
        return {"make": make, "change": change, "content": content}[name](*arguments)
    except (DeltaError, OSError) as error:
        return f"error: {type(error).__name__}: {str(error)[:300]}"


for line in sys.stdin:
    print(json.dumps(answer(*json.loads(line))), flush=True)
