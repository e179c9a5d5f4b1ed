"""What ./sync.sh cost --reads reports: which folders of the destination are read, and what the others cost.

What is listed is a line for each object, SIZE<tab>TIME<tab>KEY. What a key has after a line break is left out.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from operate.bill import GB, HOURS_A_MONTH, Prices, digits, money, rounded, saves, without_points
from operate.parts import Metrics
from operate.text import COLUMNS, visible
from operate.times import DAY, iso

METRICS = 13  # that S3 has of each folder
OLD_DAYS = 30  # of KEEP_DAYS as a lever
HOUR = 3600


# --- what is stored ---------------------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """Of a folder: `old_bytes` were written more than a month ago."""

    bytes: int = 0
    objects: int = 0
    old_bytes: int = 0


def objects_in(lines: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    for line in lines:
        size, _, rest = line.rstrip("\n").partition("\t")
        if size.isdigit():
            at, _, key = rest.partition("\t")
            yield int(size), at, key


def largest_folders(lines: Iterable[str], count: int) -> list[str]:
    """The top folders with most bytes."""
    sizes: Counter[str] = Counter()
    for size, _, key in objects_in(lines):
        top, slash, _ = key.partition("/")
        if slash:
            sizes[top + slash] += size
    return sorted(sizes, key=lambda folder: (sizes[folder], folder), reverse=True)[:count]


def stored_by(lines: Iterable[str], folders: Iterable[str], now: float) -> dict[str, Stored]:
    """Of each folder, and with an empty name of all."""
    month_ago = iso(now - OLD_DAYS * DAY).rstrip("Z")
    found = {folder: [0, 0, 0] for folder in ("", *folders)}
    for size, at, key in objects_in(lines):
        old_size = size if at[: len(month_ago)] < month_ago else 0
        for folder, counts in found.items():
            if key.startswith(folder):
                counts[0] += size
                counts[1] += 1
                counts[2] += old_size
    return {folder: Stored(*counts) for folder, counts in found.items()}


# --- the report -------------------------------------------------------------------------------------------------------


class Read(NamedTuple):
    """Of a folder, since its metrics are on."""

    gets: float
    bytes: float


def price_of(prices: Prices, folders: int, days: int) -> float:
    """What request metrics cost at most, because a metric costs only in hours in which it has data."""
    return float(folders * METRICS * prices["prices"]["metric_month"] * days * 24 / HOURS_A_MONTH)


def report(
    prices: Prices, filters: Sequence[Metrics], read: Sequence[Read], stored: Mapping[str, Stored], now: float
) -> dict[str, Any]:
    """`filters` are the request metrics that are on, and `read` is what each of them has counted."""
    price = prices["prices"]["express_storage_gb_month"]
    began = min(one.began for one in filters)
    over = until(filters)
    rows = [row(one, counted, stored, price, now) for one, counted in zip(filters, read)]
    # What costs and is not read comes first.
    rows.sort(key=lambda one: (-one["saves_usd"], -one["usd"], one["folder"]))
    return {
        "since": iso(began),
        "until": iso(over),
        "rows": rows,
        "is_over": over <= now,
        "hours": (now - began) / HOUR,
        "levers": levers(rows, stored[""], price),
    }


def until(filters: Iterable[Metrics]) -> int:
    return max(one.began + one.days * DAY for one in filters)


def row(one: Metrics, read: Read, stored: Mapping[str, Stored], price: float, now: float) -> dict[str, Any]:
    found = stored[one.folder]
    usd = found.bytes / GB * price
    has_figures = now - one.began >= HOUR
    is_lever = read.gets == 0 and has_figures and saves(usd)
    return {
        "folder": one.folder,
        "stored_gb": found.bytes / GB,
        "objects": found.objects,
        "read_gb": read.bytes / GB,
        "gets": read.gets,
        "usd": usd,
        "lever": f"EXCLUDE={pattern_of(one.folder)}" if is_lever else None,
        "saves_usd": usd if is_lever else 0,
    }


def pattern_of(folder: str) -> str:
    """EXCLUDE is a list of patterns of whole keys: its signs are escaped."""
    return with_commas(re.sub(r"[*?\[]", r"[\g<0>]", folder)) + "*"


def with_commas(text: str) -> str:
    """In a list that is separated by commas."""
    return text.replace(",", "\\,")


def levers(rows: Sequence[Mapping[str, Any]], all_of_it: Stored, price: float) -> list[dict[str, Any]]:
    read = list(outermost([one for one in rows if one["gets"] > 0]))
    prefixes = ",".join(sorted(with_commas(one["folder"]) for one in read))
    kept_gb = sum(one["stored_gb"] for one in read)
    not_read = (all_of_it.bytes / GB - kept_gb) * price if read else 0
    only_read = "only what was read; also drops what is in none of these folders"
    old = all_of_it.old_bytes / GB * price
    found = (
        (f"PREFIX_FILTER={prefixes}", not_read, only_read),
        (f"KEEP_DAYS={OLD_DAYS}", old, "by the time of the copies"),
    )
    return [{"lever": lever, "saves_usd": usd, "why": why} for lever, usd, why in found if saves(usd)]


def outermost(rows: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Folders inside of others would count twice."""
    folders = {one["folder"] for one in rows}
    for one in rows:
        if not any(other != one["folder"] and one["folder"].startswith(other) for other in folders):
            yield one


# --- how it is shown --------------------------------------------------------------------------------------------------


def for_json(found: Mapping[str, Any]) -> Any:
    rows = [{**one, **in_cents(one, "stored_gb", "read_gb", "usd", "saves_usd")} for one in found["rows"]]
    saved = [{**one, **in_cents(one, "saves_usd")} for one in found["levers"]]
    return without_points({**found, "rows": rows, "hours": rounded(found["hours"], 1), "levers": saved})


def in_cents(one: Mapping[str, Any], *names: str) -> dict[str, float]:
    return {name: rounded(one[name], 2) for name in names}


def table(found: Mapping[str, Any]) -> Iterator[str]:
    """In 80 columns, unless a folder or a setting is longer by itself: it is to be copied, so it is not broken."""
    yield f"reads since {found['since']}, {digits(found['hours'], 1)} hours"
    if found["hours"] < 1:
        yield "the first figures come after about 15 minutes"

    yield ""
    yield from beside(columns("GB stored", "GB read", "GETs", "USD/month"), "folder")
    for one in found["rows"]:
        numbers = digits(one["stored_gb"], 2), digits(one["read_gb"], 2), digits(one["gets"], 0), money(one["usd"])
        yield from beside(columns(*numbers), json.dumps(one["folder"], ensure_ascii=False))
        if one["lever"]:
            yield from beside(f"  not read, saves {money(one['saves_usd'])}:", one["lever"])

    if found["levers"]:
        yield ""
        yield "levers for all of it, USD a month saved:"
    for one in found["levers"]:
        yield from beside(f"  {money(one['saves_usd']):>9}", one["lever"])
        yield f"    {one['why']}"


def columns(stored: str, read: str, gets: str, usd: str) -> str:
    return f"{stored:>12}{read:>12}{gets:>11}{usd:>11}"


def beside(line: str, last: str) -> Iterator[str]:
    last = f"  {visible(last)}"
    if len(line + last) <= COLUMNS:
        yield line + last
    else:
        yield line
        yield last
