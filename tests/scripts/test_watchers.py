"""The watchers: what the guard says of alarms, metric filters and the topic of their mails.

The oracle does not know the rules: it fires each alarm, and sees whether a mail arrives.
"""

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from account import APP
from asked_for import USUAL_ALARMS
from documents import Scripts, scripts_of_module, unfolded
from observers import AN_HOUR_LATER, Guarded, Seen, guarded, operated
from operated import Operated, Verbs, stamp, verbs
from paper_account import HERE, Refused

from launch.guard import CONFIRM_SECONDS
from mirror.model.log_lines import AUDITED

__all__ = ["verbs"]
Kept = dict[str, Any]
MAIL = "you@example.com"
# What each deployment is to have, of its alarms those beside the usual ones.
DEPLOYMENTS = {
    "without mails": ({"EVENT_SOURCE": "sqs"}, ()),
    "all of it": (
        {"ALARM_EMAIL": MAIL, "AUDIT_DAYS": "7", "METRICS": "true", "EVENT_SOURCE": "eventbridge"},
        ("audit", "late", "events"),
    ),
    "mails alone": ({"ALARM_EMAIL": MAIL}, ()),
}
WORKERS, STARTER = f"/ecs/{APP}-task", f"/aws/lambda/{APP}-starter"
FILTERS = {"outage": (WORKERS,), "audit": (WORKERS, STARTER)}
TOPIC, TOPIC_ARN = f"topic {APP}-alarms", f"arn:aws:sns:{HERE}:{APP}-alarms"
ANOTHER_MAIL = (
    f"aws sns subscribe --topic-arn {TOPIC_ARN} --protocol email --notification-endpoint ADDRESS sends another"
)
PAGER = f"arn:aws:sns:{HERE}:pager"

scripts = scripts_of_module()


@pytest.fixture(scope="module")
def deployments(scripts: Scripts) -> dict[str, Kept]:
    return {name: scripts.with_deployment(**settings).kept for name, (settings, _) in DEPLOYMENTS.items()}


def alarms_of(name: str) -> list[str]:
    return [*USUAL_ALARMS, *DEPLOYMENTS[name][1]]


# --- what people do to them -------------------------------------------------------------------------------------------


def red_actions(alarm: str) -> str:
    return "InsufficientDataActions" if alarm == "starter-silent" else "AlarmActions"


def changes(kept: Kept, name: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """All that may be done to the watchers of that deployment: what it is, and how."""
    for alarm in alarms_of(name):
        its = kept[f"alarm {APP}-{alarm}"]
        yield f"{alarm} is gone", lambda alarm=alarm: kept.pop(f"alarm {APP}-{alarm}", None)
        yield f"{alarm} is disabled", lambda its=its: its.update(ActionsEnabled=False)
        others = {"ActionsEnabled": False, red_actions(alarm): [PAGER]}
        yield f"{alarm} is disabled, with an action of others", lambda its=its, others=others: its.update(others)
        for kind in ("AlarmActions", "InsufficientDataActions"):
            yield f"{alarm} has no {kind}", lambda its=its, kind=kind: its.update({kind: []})
            yield f"{alarm} has {kind} of others", lambda its=its, kind=kind: its.update({kind: [PAGER]})
            more = lambda its=its, kind=kind: its.update({kind: [*its.get(kind, []), PAGER]})  # noqa: E731
            yield f"{alarm} has more {kind}", more
        for group in FILTERS.get(alarm, ()):
            pattern = f"filter {APP}-{alarm} of {group}"
            yield f"{alarm} has no filter in {group}", lambda pattern=pattern: kept.pop(pattern, None)
    if TOPIC in kept:
        yield from changes_of_mails(kept)


def changes_of_mails(kept: Kept) -> Iterator[tuple[str, Callable[[], Any]]]:
    subscriptions = kept[TOPIC]["subscriptions"]
    (ours,) = subscriptions
    phone = {"Protocol": "sms", "Endpoint": "+15550100", "SubscriptionArn": f"{TOPIC_ARN}:phone"}
    yield "the topic is gone", lambda: kept.pop(TOPIC, None)
    yield "nobody is subscribed", subscriptions.clear
    yield "a phone is subscribed", lambda: subscriptions.append(phone)
    yield "another mail is", lambda: subscriptions.append(ours | {"Endpoint": "other@example.com"})
    yield "our mail is not confirmed", lambda: ours.update(SubscriptionArn="PendingConfirmation")
    yield "our mail is deleted", lambda: ours.update(SubscriptionArn="Deleted")
    yield "our mail is another", lambda: ours.update(Endpoint="other@example.com")


# --- the oracle: each alarm fires -------------------------------------------------------------------------------------


def reaches(kept: Kept, action: str) -> bool:
    """Whether somebody whom the deployment is to notify, or whom somebody else has chosen, gets a message."""
    if action != TOPIC_ARN:
        return True
    subscriptions = kept.get(TOPIC, {"subscriptions": []})["subscriptions"]
    return any(one["Endpoint"] == MAIL and one["SubscriptionArn"].startswith("arn:") for one in subscriptions)


def is_told(kept: Kept, alarm: str) -> bool:
    its = kept.get(f"alarm {APP}-{alarm}")
    sees = all(f"filter {APP}-{alarm} of {group}" in kept for group in FILTERS.get(alarm, ()))
    if not its or not sees or not its["ActionsEnabled"]:
        return False
    return any(reaches(kept, action) for action in its.get(red_actions(alarm), []))


def mail_arrives(kept: Kept) -> bool:
    return reaches(kept, TOPIC_ARN)


def waits_for_us(kept: Kept) -> bool:
    """Whether the address only has to be confirmed, which no deployment does."""
    subscriptions = kept.get(TOPIC, {"subscriptions": []})["subscriptions"]
    return any((one["Endpoint"], one["SubscriptionArn"]) == (MAIL, "PendingConfirmation") for one in subscriptions)


def is_whole(kept: Kept, alarm: str) -> bool:
    """Without ALARM_EMAIL: the alarm is there and sees, and what somebody has it do is done."""
    its = kept.get(f"alarm {APP}-{alarm}")
    sees = all(f"filter {APP}-{alarm} of {group}" in kept for group in FILTERS.get(alarm, ()))
    return bool(its and sees and (its["ActionsEnabled"] or not its.get(red_actions(alarm))))


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_guard_speaks_if_and_only_if_an_alarm_would_tell_nobody(deployments: dict[str, Kept], name: str) -> None:
    """And it names each such alarm, or the topic."""
    has_mails, spoken = "ALARM_EMAIL" in DEPLOYMENTS[name][0], 0
    for seed in range(600):
        rng, kept = random.Random(seed), copy.deepcopy(deployments[name])
        possible = list(changes(kept, name))
        chosen = rng.sample(possible, rng.choice((0, 1, 1, 1, 2, 3)))
        for _, change in chosen:
            change()
        said = guarded(kept).run()
        told = is_told if has_mails else is_whole
        silent = [alarm for alarm in alarms_of(name) if not told(kept, alarm)]
        named = [alarm for alarm in silent if any(alarm in line for line in said)]
        of_topic = [line for line in said if f"the topic {APP}-alarms" in line or f"no topic {APP}-alarms" in line]
        context = seed, [what for what, _ in chosen], said
        assert bool(of_topic) == (has_mails and not mail_arrives(kept)), context
        assert named == silent or of_topic, context
        assert [line.endswith(": ./deploy.sh") for line in of_topic] == [not waits_for_us(kept)] * len(of_topic), (
            context
        )
        if has_mails and waits_for_us(kept):
            assert all(line.endswith(ANOTHER_MAIL) for line in of_topic), context
        assert said == [] or silent or of_topic, context
        spoken += bool(said)
    assert 90 < spoken < 550


# --- when it looks ----------------------------------------------------------------------------------------------------


def minutes(found: Guarded, count: int) -> list[list[str]]:
    """What the runs of this many minutes fail with."""
    runs = []
    for _ in range(count):
        runs.append(found.run())
        found.at += 60
    return runs


def test_it_looks_once_an_hour_while_all_is_well(deployments: dict[str, Kept]) -> None:
    found = guarded(deployments["all of it"])
    assert minutes(found, 181) == [[]] * 181
    asked = [call.operation for call in found.calls]
    watching = ("DescribeAlarms", "ListSubscriptionsByTopic", "GetFunctionConfiguration")
    assert [asked.count(name) for name in watching] == [4, 4, 4]
    assert asked.count("DescribeMetricFilters") == 8
    assert {call.service for call in found.calls if call.is_write} == set()


def test_each_run_says_what_is_wrong_until_it_is_right_again(deployments: dict[str, Kept]) -> None:
    found = guarded(copy.deepcopy(deployments["mails alone"]))
    gone = found.account.kept.pop(f"alarm {APP}-behind")
    runs = minutes(found, 30)
    found.account.kept[f"alarm {APP}-behind"] = gone
    said = [f"alarms are gone (1 of {len(USUAL_ALARMS)}): behind: ./deploy.sh"]
    assert [*runs, *minutes(found, 30)] == [said] * 30 + [[]] * 30
    assert found.pauses == 1


def test_what_is_missing_for_a_moment_is_not_said(deployments: dict[str, Kept]) -> None:
    found = guarded(copy.deepcopy(deployments["mails alone"]))
    gone = found.account.kept.pop(f"alarm {APP}-behind")
    found.during_pause = lambda: found.account.kept.update({f"alarm {APP}-behind": gone})
    assert (found.run(), found.pauses) == ([], 1)
    assert found.at - AN_HOUR_LATER == CONFIRM_SECONDS


def test_who_has_just_been_asked_to_confirm_has_an_hour_for_it(deployments: dict[str, Kept]) -> None:
    """From the deployment on: the function was changed an hour ago less ten minutes."""
    found = guarded(copy.deepcopy(deployments["mails alone"]))
    found.account.kept[TOPIC]["subscriptions"][0]["SubscriptionArn"] = "PendingConfirmation"
    found.at -= 3000
    runs = minutes(found, 120)
    assert [bool(said) for said in runs] == [False] * 60 + [True] * 60
    assert runs[-1][0].startswith(f"the address of ALARM_EMAIL gets no mail of the topic {APP}-alarms")


@pytest.mark.parametrize(("code", "is_denied"), [("AccessDenied", True), ("Throttling", False)])
def test_what_it_may_not_read_is_no_fault_and_is_said_once(
    deployments: dict[str, Kept], capsys: pytest.CaptureFixture[str], code: str, is_denied: bool
) -> None:
    """As with the role of an older release. What gets no answer is asked for again in the next run, and without the
    function's age nothing is judged."""
    reads = ["DescribeAlarms", "ListSubscriptionsByTopic", "GetFunctionConfiguration", "DescribeMetricFilters"]
    reads = reads if is_denied else ["GetFunctionConfiguration"]
    kept = copy.deepcopy(deployments["mails alone"])
    del kept[f"alarm {APP}-behind"], kept[f"filter {APP}-outage of {WORKERS}"]
    kept[TOPIC]["subscriptions"].clear()
    found = guarded(kept)
    found.account.refusals = [(name, Refused(code, f"no {name}")) for name in reads for _ in range(100)]
    assert minutes(found, 20) == [[]] * 20
    printed = capsys.readouterr().out
    assert [printed.count(f"no {name}") for name in reads] == [1] * len(reads)
    assert printed.count("not checked, which is no fault: An error occurred") == len(reads)
    assert [call.operation for call in found.calls].count("GetFunctionConfiguration") == (1 if is_denied else 20)


def test_a_right_that_is_missing_hides_nothing_else(deployments: dict[str, Kept]) -> None:
    kept = copy.deepcopy(deployments["all of it"])
    del kept[f"alarm {APP}-behind"], kept[f"filter {APP}-outage of {WORKERS}"]
    kept[TOPIC]["subscriptions"].clear()
    words = {"DescribeAlarms": "behind", "DescribeMetricFilters": "outage", "ListSubscriptionsByTopic": "ALARM_EMAIL"}
    for denied in words:
        found = guarded(kept)
        found.account.refusals = [(denied, Refused("AccessDenied", "no"))] * 9
        said = " ".join(found.run())
        assert [name for name, word in words.items() if word not in said] == [denied]


# --- what status says -------------------------------------------------------------------------------------------------

READS = ("DescribeAlarms", "DescribeMetricFilters", "ListSubscriptionsByTopic")


def calm(account: Operated, error: str = "") -> None:
    """Yesterday's audit has found nothing, and the starter's last run has failed with this, or has not failed."""
    account.write(f"{stamp(86_400)} INFO {AUDITED % ('complete', 0, 0, 'foreign=0 seconds=1.0')}", ago=86_400)
    account.decide()
    if error:
        account.fail(f"[ERROR] RuntimeError: {error}\n")


def shown(verbs: Verbs, kept: Kept, *denied: str, status: int = 0) -> str:
    """The row of ./sync.sh status on alarms, with what belongs to it."""
    account = verbs.account = operated(kept, *denied)
    account.parked = []
    calm(account)
    output = unfolded(verbs.run_words("status", status=status).output)
    word, _, rest = output.partition("\n")
    assert word == ("failing" if status else "idle"), output
    return rest.partition("\nalarms")[2].partition("\nfailures")[0].strip()


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_status_says_what_the_guard_says(verbs: Verbs, deployments: dict[str, Kept], name: str) -> None:
    """Of many changes at once, some harmless."""
    for seed in range(3):
        kept = copy.deepcopy(deployments[name])
        possible = list(changes(kept, name))
        for _, change in random.Random(seed).sample(possible, len(possible) // 4):
            change()
        said = guarded(kept).run()
        seen = Seen(verbs, operated(kept), calm)
        assert [why for link, why in seen.faults if link in ("no alarm", "no mail")] == said
        assert sorted(seen.reasons) == sorted(said) != []


def test_the_row_counts_the_alarms_and_says_who_gets_their_mails(verbs: Verbs, deployments: dict[str, Kept]) -> None:
    kept = copy.deepcopy(deployments["all of it"])
    every = len(alarms_of("all of it"))
    states = {"behind": "ALARM", "outage": "OK", "starter-silent": "INSUFFICIENT_DATA", "late": "INSUFFICIENT_DATA"}
    for alarm, state in states.items():
        kept[f"alarm {APP}-{alarm}"]["StateValue"] = state
    row = shown(verbs, kept)
    assert row == f"{every} of {every} exist and are enabled, all write to {MAIL}; red: behind, starter-silent"
    kept[f"alarm {APP}-starter-silent"]["StateReason"] = "Unchecked: Initial alarm creation"
    kept[f"alarm {APP}-behind"]["StateValue"] = "OK"
    waiting = {"Protocol": "email", "Endpoint": "new@example.com", "SubscriptionArn": "PendingConfirmation"}
    kept[TOPIC]["subscriptions"].append(waiting)
    row = shown(verbs, kept)
    both = f"{MAIL}, new@example.com, not confirmed: new@example.com"
    assert row == f"{every} of {every} exist and are enabled, all write to {both}; red: none"
    kept[f"alarm {APP}-behind"]["AlarmActions"] = [PAGER]
    kept[f"alarm {APP}-audit"]["ActionsEnabled"] = False
    del kept[f"alarm {APP}-late"]
    row = shown(verbs, kept, status=1)
    most = every - 2
    assert row.startswith(f"{every - 1} of {every} exist, {most} of them enabled, {most} write to {MAIL}, new@")
    exist = f"{len(USUAL_ALARMS)} of {len(USUAL_ALARMS)} exist"
    assert shown(verbs, deployments["without mails"]) == f"{exist} and are enabled, none writes a mail; red: none"


def test_who_may_not_read_them_is_told_so_and_the_word_stays(verbs: Verbs, deployments: dict[str, Kept]) -> None:
    """As with the policy for readers of 1.3.0. What the guard said before is not taken for fixed."""
    kept = copy.deepcopy(deployments["all of it"])
    assert shown(verbs, kept, *READS).startswith("not known: An error occurred (AccessDeniedException) when calling")
    row = shown(verbs, kept, *READS[1:]).splitlines()
    every = len(alarms_of("all of it"))
    assert row[0] == f"{every} of {every} exist and are enabled, who gets their mails is not known; red: none"
    assert [line.partition(": An error")[0] for line in row[1:]] == [
        "  their topic: not known",
        "  their metric filters: not known",
    ]

    whole = deployments["all of it"]
    for gone, denied in ((f"alarm {APP}-behind", READS[0]), (TOPIC, READS[2])):
        kept = {name: one for name, one in whole.items() if name != gone}
        (said,) = guarded(kept).run()
        seen = Seen(verbs, operated(kept, denied), lambda account, said=said: calm(account, said))
        assert [said in reason for reason in seen.reasons] == [True]
        seen = Seen(verbs, operated(copy.deepcopy(whole)), lambda account, said=said: calm(account, said))
        assert (seen.reasons, seen.alarms["found"]) == ([], 8)
