"""The prices: those of lib/prices.json, and above them those of a user's file in the same format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from operate.failure import wrong_usage

OURS = Path(__file__).resolve().parent.parent / "lib/prices.json"
PARTS = ("prices", "free_a_month")
MOST = 10**12  # of anything: no sum is too large to be printed


def read_prices(file: str) -> dict[str, Any]:
    """Ours; with a file, its own stand above them, and `given` says how many these are."""
    ours: dict[str, Any] = json.loads(OURS.read_text(encoding="utf-8"))
    if not file:
        return ours

    theirs = read_theirs(file)
    found = list(problems(ours, theirs))
    if found:
        raise wrong_usage(f"cost: the prices in {file} do not match lib/prices.json: {'; '.join(found)}")
    parts = {part: {**ours[part], **(theirs.get(part) or {})} for part in PARTS}
    return {**ours, **theirs, **parts, "given": len(theirs.get("prices") or {})}


def read_theirs(file: str) -> Any:
    path = Path(file)
    if not path.exists() or path.is_dir():
        raise wrong_usage(f"cost: the prices cannot be read: there is no file {file}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise wrong_usage(f"cost: the prices cannot be read: {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise wrong_usage(f"cost: the prices in {file} are not JSON: they are not UTF-8: {error.reason}") from None

    try:
        values = list(values_in(text))
    except ValueError as error:
        raise wrong_usage(f"cost: the prices in {file} are not JSON: {error}") from None
    if len(values) != 1:
        raise wrong_usage(f"cost: the prices in {file} are not JSON: it has {len(values)} values instead of one")
    return values[0]


def values_in(text: str) -> Iterator[Any]:
    """JSON values, one after the other. Raises ValueError for what is none."""
    decoder = json.JSONDecoder(parse_constant=no_constant)
    text = text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:].lstrip()


def no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def problems(ours: dict[str, Any], theirs: Any) -> Iterator[str]:
    """What is wrong with a user's file."""
    if not isinstance(theirs, dict):
        yield "it is not an object with the same fields"
        return

    for name in sorted(theirs.keys() - ours.keys()):
        yield f"{name} is not a field of it"
    for part in PARTS:
        given = theirs.get(part)
        if given is not None:
            yield from problems_of_part(part, ours[part], given)


def problems_of_part(part: str, ours: dict[str, float], given: Any) -> Iterator[str]:
    if not isinstance(given, dict):
        yield f"{part} is not an object"
        return

    for name in sorted(given.keys() - ours.keys()):
        yield f"{name} is not a name in its {part}"
    for name, value in given.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= MOST:
            shown = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            yield f"{name} is not a number such as 0.01: {shown}"
