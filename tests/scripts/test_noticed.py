"""No break stays unnoticed: each of broken_links.py, who says it by itself, after how long, and who shows it.

.venv/bin/python -m pytest -s tests/scripts/test_noticed.py prints the table.
"""

import copy
import json
from collections import defaultdict
from collections.abc import Iterator

import pytest
from account import APP
from broken_links import BESIDE, BROKEN, EVENT_RUNS, FUNCTION, MODES, NO_RUN, TOPIC, Broken, Kept
from documents import Scripts, scripts_of_module
from noticed import ALARMS, DYING, GUARD, MINUTE, OUTAGE, ROWS, RUNS_FAIL, SHOWN, SILENT, Values, minutes_of
from observers import Seen, guarded, operated
from operated import Verbs, verbs
from paper_account import PaperAccount
from test_losing_worlds import EXAMPLES

MAIL = {"ALARM_EMAIL": "you@example.com"}
ALL = BROKEN | BESIDE
# What no run of the starter looks at by itself, because it does not run or fails, or its workers say it.
WAYS = {
    "the queue is gone": RUNS_FAIL,
    "the starter may do nothing": RUNS_FAIL,
    "the function may not run at all": SILENT,
    "the image is gone": DYING,
    "the tasks have no way out": DYING,
    "the destination bucket is gone": OUTAGE,
    "the tasks may not open the destination": OUTAGE,
    "a boundary does not let the tasks open the destination": OUTAGE,
}
HOURS = 3

__all__ = ["verbs"]
scripts = scripts_of_module()


@pytest.fixture(scope="module")
def deployments(scripts: Scripts) -> dict[str, Kept]:
    return {mode: scripts.with_deployment(**settings, **MAIL).kept for mode, settings in MODES.items()}


def can_mail(kept: Kept, alarm: str) -> bool:
    its = kept.get(f"alarm {APP}-{alarm}", {"ActionsEnabled": False})
    kind = "InsufficientDataActions" if alarm == "starter-silent" else "AlarmActions"
    mails = [one["SubscriptionArn"] for one in kept.get(TOPIC, {"subscriptions": []})["subscriptions"]]
    return bool(its["ActionsEnabled"] and its[kind] and [arn for arn in mails if arn.startswith("arn:")])


def runs_of(name: str, row: Broken, kept: Kept) -> Iterator[tuple[int, bool]]:
    """(second, whether it fails) of the starter's runs of some hours: the guard looks at the first one, and just after
    that the link breaks. A bucket with EventBridge is busy."""
    found, begin, way = guarded(kept), guarded(kept).at, WAYS.get(name, "")
    is_stopped = way == SILENT or (row.link in ("no starter", "wrong schedule") and row.guard != EVENT_RUNS)
    for minute in range(HOURS * 60):
        if minute == 1:
            row.breaks(kept)
        if minute and is_stopped:
            continue
        found.at = begin + minute * MINUTE
        said = found.run(is_scheduled=not minute or row.guard != EVENT_RUNS) if FUNCTION in kept else []
        yield minute * MINUTE, bool(said) or (minute > 0 and way == RUNS_FAIL)


def told(name: str, row: Broken, whole: Kept) -> tuple[str, float]:
    """The first alarm that mails, after how many minutes."""
    kept, way = copy.deepcopy(whole), WAYS.get(name, "")
    if way in (OUTAGE, DYING):
        row.breaks(kept)
        return (ALARMS[way], minutes_of(way)) if can_mail(kept, ALARMS[way]) else ("", 0)
    runs = list(runs_of(name, row, kept))
    found = {
        "starter-fails": [(float(at), float(fails)) for at, fails in runs],
        "starter-silent": [(float(at), 1.0) for at, _ in runs],
    }
    mails = [
        (at, alarm)
        for alarm, values in found.items()
        for at in Values(alarm, values).red_at(HOURS * 3600)
        if can_mail(kept, alarm)
    ]
    at, alarm = min(mails, default=(0, ""))
    return alarm, at / MINUTE


def is_said_by_guard(name: str, row: Broken) -> bool:
    return row.guard != NO_RUN and name not in WAYS


@pytest.mark.parametrize("mode", MODES)
def test_each_break_is_noticed_within_the_time_that_the_page_says(deployments: dict[str, Kept], mode: str) -> None:
    """By a mail, or at least by who looks at it: test_path.py and the tests below show that status and the plan do."""
    shown, latest = [], defaultdict[str, float](float)
    for name, row in ALL.items():
        if row.mode != mode:
            continue
        alarm, minutes = told(name, row, deployments[mode])
        print(f"{name:60} {alarm or '-':15} {minutes or '-':>5} {row.fault}")
        if not alarm:
            shown.append(name)
            continue
        way = WAYS.get(name) or (SILENT if alarm == "starter-silent" else GUARD)
        assert alarm == ALARMS[way]
        latest[way] = max(latest[way], minutes)
        assert minutes <= minutes_of(way), name
    for way, minutes in latest.items():
        assert minutes > minutes_of(way) - 8, way
    assert shown == [name for name in NO_MAIL if ALL[name].mode == mode]


# No mail says these: they harm nothing yet, or are about the mail itself.
NO_MAIL = (
    "the dead-letter queue is gone",
    "the dead-letter queue forgets after a minute",
    "the dead-letter queue has a redrive policy",
    "the dead-letter queue is for another queue",
    "the guard is off",
    "nobody is subscribed",
    "the topic is gone",
    "the address is not confirmed",
    "the alarm that the guard needs is gone",
)


def test_workers_that_die_are_noticed_within_the_time_that_their_worlds_have() -> None:
    """Each example is played there."""
    told = [example.told for example in EXAMPLES.values() if example.alarm == ALARMS[DYING]]
    assert max(told) == minutes_of(DYING) * MINUTE


def test_the_words_of_the_page_are_those_that_are_said() -> None:
    faults = [row.fault for row in ALL.values()]
    for words in ROWS:
        assert any(words.removesuffix(" ...") in fault for fault in faults), words
    assert {SHOWN, *WAYS.values(), GUARD} == set(ROWS.values())


# What hides others, from the plan as well; of the last two, the starter's last run shows one.
ALONE = (
    "the alarm that the guard needs is gone",
    "the topic is gone",
    "the address is not confirmed",
    "the source bucket is gone",
    "the destination bucket is gone",
    "the starter may do nothing",
    "the image is gone",
)
TOGETHER = tuple(name for name in BESIDE if name not in ALONE)
each_alone_or_together = pytest.mark.parametrize("names", [TOGETHER, *((name,) for name in ALONE)], ids=" and ".join)


@each_alone_or_together
def test_status_says_what_is_broken_beside_the_path(
    verbs: Verbs, deployments: dict[str, Kept], names: tuple[str, ...]
) -> None:
    """At once: the guard need not have looked yet."""
    kept = copy.deepcopy(deployments["sqs"])
    for name in names:
        BESIDE[name].breaks(kept)
    seen = Seen(verbs, operated(kept), BESIDE[names[0]].shows)  # what goes on in it
    assert [name for name in names if not any(BESIDE[name].fault in reason for reason in seen.reasons)] == []


@each_alone_or_together
def test_the_plan_names_what_is_broken_beside_the_path(
    scripts: Scripts, deployments: dict[str, Kept], names: tuple[str, ...]
) -> None:
    """But for an address that waits for its confirmation, which status shows."""
    scripts.account = PaperAccount()
    scripts.account.kept = copy.deepcopy(deployments["sqs"])
    for name in names:
        BESIDE[name].breaks(scripts.account.kept)
    is_refused = BESIDE[names[0]].plan[0] == "refused"
    ran = scripts.run("PLAN_FORMAT=json DRY_RUN=true; deploy_all", 2 if is_refused else 0, **MODES["sqs"], **MAIL)
    if is_refused:
        assert BESIDE[names[0]].plan[1] in ran.errors
        return
    plan = [one for one in json.loads(ran.output)["resources"] if one["action"] != "none"]
    for name in names:
        kind, what = BESIDE[name].plan
        rows = [one for one in plan if one["kind"] == kind]
        is_there = any(one["action"] == what or any(what in part for part in one.get("differs", ())) for one in rows)
        assert is_there == bool(kind), (name, plan)
