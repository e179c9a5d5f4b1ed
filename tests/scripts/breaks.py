"""Judges the table of broken_links.py on an account on paper: who sees each row, and whether ./deploy.sh repairs it.

.venv/bin/python tests/scripts/breaks.py        prints the table
"""

import copy
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

from broken_links import BROKEN, FUNCTION, IN_EVENT_RUNS, MODES, Broken, Kept
from documents import Ran, Scripts, sourced_scripts
from guarded import Guarded
from operated import Operated, Verbs, operating
from paper_account import PaperAccount
from status_parts import judged


class Seen:
    """What status sees of an account, and so verify, which looks at the same path; `parts` are others of the status."""

    def __init__(self, verbs: Verbs, account: Operated, parts: dict[str, Any] | None = None, **settings: str) -> None:
        verbs.account, account.parked = account, []
        account.decide()
        done = verbs.sync("status --json", None, **settings)
        found = done.json
        del found["state"], found["reasons"]
        self.parts, self.errors, self.status = found, done.errors, judged(found | (parts or {}))
        self.verify = [(one["link"], f"{one['fault']}: {one['cure']}", one["look"]) for one in found["faults"]]

    def events(self) -> tuple[str, bool, list[str]]:
        events = self.parts["events"]
        return events["source"], events["at_once"], events["problems"]


def operated(kept: Kept, *refused: str) -> Operated:
    """An account that holds this and refuses these calls."""
    found = Operated()
    found.kept = kept
    for call in refused:
        found.deny(call, "AccessDeniedException")
    return found


def deployed(scripts: Scripts) -> dict[str, Kept]:
    found = {}
    for mode, settings in MODES.items():
        scripts.account = PaperAccount()
        scripts.deploy(**settings)
        found[mode] = scripts.account.kept
    return found


# --- several breaks at once, for one deployment to repair -------------------------------------------------------------

Place = tuple[str, ...]


def changed(before: Any, after: Any, at: Place = ()) -> Iterator[Place]:
    """Where the two differ."""
    if isinstance(before, dict) and isinstance(after, dict) and len(at) < 3:
        for name in before.keys() | after.keys():
            yield from changed(before.get(name), after.get(name), (*at, name))
    elif before != after:
        yield at


def broken_at(kept: Kept, broken: Broken) -> set[Place]:
    after = copy.deepcopy(kept)
    broken.breaks(after)
    return {place for place in changed(kept, after) if not place[0].startswith("limit ")}


def batches(deployments: dict[str, Kept]) -> list[list[str]]:
    """The rows of the table that break different things of one deployment are together. Those that deploy.sh refuses to
    repair are alone."""
    found: list[tuple[str, set[Place], list[str]]] = []
    for name, row in BROKEN.items():
        places = broken_at(deployments[row.mode], row)
        places.add(("plan", row.plan[0]) if row.plan[1] == "create" else ("plan", *row.plan))
        for mode, taken, names in found:
            meet = any(one[: len(two)] == two[: len(one)] for one in places for two in taken)
            if mode == row.mode and row.plan[0] and BROKEN[names[0]].plan[0] and not meet:
                taken |= places
                names.append(name)
                break
        else:
            found.append((row.mode, places, [name]))
    return [names for _, _, names in found]


class Judged(NamedTuple):
    """A row: whether each of them saw it as the table says; "-" if the table says that it cannot."""

    name: str
    status: str = ""
    guard: str = ""
    verify: str = ""
    plan: str = ""
    repaired: str = ""
    silent: str = ""

    def fails(self) -> bool:
        return "NO" in self


def yes(is_so: bool) -> str:
    return "yes" if is_so else "NO"


def guard_of(kept: Kept) -> Guarded:
    account = PaperAccount()
    account.kept = kept
    return Guarded(account, kept[FUNCTION])


def said_by_guard(kept: Kept, row: Broken) -> list[str]:
    """Two runs say the same. A function that is gone says nothing."""
    if FUNCTION not in kept:
        return []
    found = guard_of(kept)
    runs = [found.run(is_scheduled=row.guard != IN_EVENT_RUNS) for _ in range(2)]
    return runs[0] if runs[0] == runs[1] else [*runs[0], "and then", *runs[1]]


def judge_looks(verbs: Verbs, kept: Kept, row: Broken) -> dict[str, str]:
    said = f"{row.fault}: {row.cure}" if row.link else row.fault
    before = Seen(verbs, operated(kept), dict(row.parts))
    status = [reason for reason in before.status["reasons"] if reason.startswith(said)]
    verify = [(link, why) for link, why, look in before.verify if look.startswith("aws ")]
    guard = said_by_guard(kept, row)
    is_said = guard == ([said] if row.guard in ("yes", IN_EVENT_RUNS) else [])
    problems = [row.fault] if row.link in ("no event", "no start at once") else []
    is_alone = len(before.status["reasons"]) == len(status) == 1 and before.events()[2] == problems
    return {
        "status": yes(is_alone) if row.link else f"{yes(is_alone)} (later)",
        "verify": yes(verify == [(row.link, said)]) if row.link else yes(verify == []).replace("yes", "-"),
        "guard": row.guard if is_said else "NO",
    }


def is_planned(ran: Ran, row: Broken) -> bool:
    kind, what = row.plan
    plan = json.loads(ran.output)["resources"]
    return any(
        one["kind"] == kind and (one["action"] == what or any(what in name for name in one.get("differs", [])))
        for one in plan
    )


def same(one: Any, two: Any) -> bool:
    """JSON in a text may be written in another way."""
    if isinstance(one, str) and isinstance(two, str) and one[:1] == two[:1] == "{":
        return bool(json.loads(one) == json.loads(two))
    return bool(one == two)


def value(kept: Any, path: Place) -> Any:
    for name in path:
        kept = (kept or {}).get(name)
    return kept


def is_repaired(whole: Kept, now: Kept, row: Broken) -> bool:
    """Whether everything is as it was. What a queue had by default may be set by now, and nothing is reserved in an
    account that is too small."""
    for place in broken_at(whole, row):
        wanted = None if place[-1] == "concurrency" else value(whole, place)
        if not same(value(now, place), wanted) and place[-1] != "MaximumMessageSize":
            return False
    return True


def judge(scripts: Scripts, verbs: Verbs, deployments: dict[str, Kept], names: list[str]) -> list[Judged]:
    """Each row is looked at alone; then one deployment repairs all of them, and everybody looks once more."""
    mode = BROKEN[names[0]].mode
    whole, found, together = deployments[mode], {}, copy.deepcopy(deployments[mode])
    for name in names:
        alone = copy.deepcopy(whole)
        BROKEN[name].breaks(alone)
        BROKEN[name].breaks(together)
        found[name] = judge_looks(verbs, alone, BROKEN[name])
    if not BROKEN[names[0]].plan[0]:
        return [Judged(name, plan="refused", repaired="by hand first", silent="-", **found[name]) for name in names]
    scripts.account = PaperAccount()
    scripts.account.kept = together
    ran = scripts.run("PLAN_FORMAT=json; deploy_all", **MODES[mode])
    said = [f"{BROKEN[name].fault}: {BROKEN[name].cure}" for name in names if BROKEN[name].link]
    failed = {"at": "", "seconds_ago": 1, "decision": None, "error": f"[ERROR] RuntimeError: {'; '.join(said)}\n"}
    after = Seen(verbs, operated(together), {"starter": failed})
    runs = [guard_of(together).run(is_scheduled=is_scheduled) for is_scheduled in (True, False)]
    is_silent = after.status["reasons"] == after.verify == [] and runs == [[], []]
    return [
        Judged(
            name,
            plan=yes(is_planned(ran, BROKEN[name])),
            repaired=yes(is_repaired(whole, together, BROKEN[name])),
            silent=yes(is_silent),
            **found[name],
        )
        for name in names
    ]


def lost(row: Broken) -> str:
    """What one ./deploy.sh does not bring back, by what everybody advises."""
    if not row.link:
        return "nothing"
    return "events or messages: ./sync.sh reconcile" if "reconcile" in row.cure else "nothing"


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        sourced_scripts(Path(folder), "sync.sh") as scripts,
        operating(Path(folder)) as verbs,
    ):
        deployments = deployed(scripts)
        rows = [row for names in batches(deployments) for row in judge(scripts, verbs, deployments, names)]
    width = max(len(row.name) for row in rows)
    form = f"{{:<{width}}}  {{:<11}} {{:<15}} {{:<7}} {{:<8}} {{:<13}} {{:<7}} {{}}"
    print(form.format("break", "status", "guard", "verify", "plan", "repaired", "silent", "lost"))
    for row in sorted(rows, key=lambda row: list(BROKEN).index(row.name)):
        print(form.format(*row[:2], row.guard, row.verify, row.plan, row.repaired, row.silent, lost(BROKEN[row.name])))
    failed = sum(row.fails() for row in rows)
    print(f"{len(rows)} rows, {failed} rows fail")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
