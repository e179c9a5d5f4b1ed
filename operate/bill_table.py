"""A bill (operate/bill.py) as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from operate.bill import digits, money
from operate.text import print_lines

INDENT = 2  # of what follows the first line of a sentence
QUANTITY_COLUMN = 51  # of what follows the first line of a row
SOURCES = {"rule": "calculated"}


def print_bill(bill: Mapping[str, Any]) -> None:
    print_lines(sentences(bill), INDENT)
    print_lines(rows(bill), QUANTITY_COLUMN)
    print_lines([f"the sync before the free tier: {sources(bill)}"], INDENT)
    print_lines(levers(bill), QUANTITY_COLUMN)


def sentences(bill: Mapping[str, Any]) -> Iterator[str]:
    prices = bill["prices"]
    yield f"prices of {prices['region']} of {prices['as_of']} in {prices['currency']} without tax"
    given = prices.get("given")
    if given is None:
        yield "your own: --prices FILE, in the format of lib/prices.json"
    else:
        yield f"{given} of them {'is' if given == 1 else 'are'} yours"
    yield from bill["notes"]


def rows(bill: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield line("item", "quantity", "unit price", f"{bill['prices']['currency']}/month", "from")
    yield from map(row, bill["rows"])
    yield line("sync, if the free tier is used up", usd=money(bill["before_free_usd"]))
    yield line("free tier, if it is unused", usd=money(bill["free_usd"]))
    yield line("sync, a month", usd=money(bill["sync_usd"]))
    yield row(bill["storage"])
    yield line("total, a month", usd=money(bill["total_usd"]))


def row(one: Mapping[str, Any]) -> str:
    source = one["from"].removeprefix("by the ")
    return line(one["item"], amount(one["quantity"]), unit_price(one["price"]), money(one["usd"]), source)


def line(item: str, quantity: str = "", price: str = "", usd: str = "", source: str = "") -> str:
    return f"{item:<33}{quantity:>11}{price:>16}{usd:>10}  {source}"


def amount(quantity: float) -> str:
    return digits(quantity, 0 if float(quantity).is_integer() or quantity >= 1000 else 2)


def unit_price(price: float) -> str:
    if price == 0 or price >= 0.0001:
        return needed_digits(price)
    return f"{needed_digits(price * 10**6)}/million"


def needed_digits(number: float) -> str:
    return digits(number, 8).rstrip("0").rstrip(".")


def sources(bill: Mapping[str, Any]) -> str:
    """What the sum rests on."""
    parts = ((SOURCES.get(source, source), usd) for source, usd in bill["rests_on"].items() if usd > 0)
    return ", ".join(f"{money(usd)} {source}" for source, usd in parts)


def levers(bill: Mapping[str, Any]) -> Iterator[str]:
    if bill["levers"]:
        yield ""
        yield f"levers, {bill['prices']['currency']} a month saved:"
    for one in bill["levers"]:
        yield f"  {one['lever']:<38}{money(one['usd']):>9}  {one['why']}"


def print_modes(estimate: Mapping[str, Any]) -> None:
    """What the sync would cost with other settings."""
    lines = ["", f"sync by mode, {estimate['prices']['currency']} a month after the free tier:"]
    lines += [f"  {mode['settings']:<46}{money(mode['usd']):>10}" for mode in estimate["modes"]]
    print_lines(lines, INDENT)
