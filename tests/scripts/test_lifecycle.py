"""KEEP_DAYS on the destination, on an account on paper: our rules among those of others, and what is said of them."""

import json
import math
import os
import random
import re
from typing import Any

import pytest
from account import APP, MIRROR
from asked_for import abort, keeping, without_covered
from call import Call
from documents import Ran, Scripts, scripts_of_module
from paper_account import HERE, PaperAccount, Refused

Rules = list[dict[str, Any]]
ABORT = abort()
THEIR_RULE = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
LIFECYCLE, POLICY = f"lifecycle {MIRROR}", f"bucket-policy {MIRROR}"
ROW, PUT = f"bucket lifecycle {MIRROR}", "PutBucketLifecycleConfiguration"
PLAIN = {"IMAGE_URI": "worker:1", "KEEP_DAYS": "", "PREFIX_FILTER": "", "DST_BUCKET_OWNER": ""}
REMOVE_OLD = "./sync.sh reconcile --remove-unwanted"
# On the lifecycle and on the settings of the workers, in the order of deploy.sh.
STEPS = ("ensure_loosened_lifecycle", "ensure_task_definition", "ensure_lifecycle")

scripts = scripts_of_module()


@pytest.fixture
def account(scripts: Scripts) -> PaperAccount:
    scripts.account = PaperAccount()
    return scripts.account


def deploy(scripts: Scripts, status: int | None = 0, **settings: str) -> Ran:
    return scripts.step(*STEPS, status=status, **PLAIN | settings)


def lines(ran: Ran) -> list[tuple[str, str]]:
    """(resource, state) of each line of a run."""
    return re.findall(r"^\[\d+/\d+\] (.+?): (.+)$", ran.output, re.MULTILINE)


def shown(text: str, start: str) -> Any:
    """The JSON in a text that begins so."""
    return json.JSONDecoder().raw_decode(text[text.index(start) :])[0]


# --- any change, beside anything of others --------------------------------------------------------------------------

PREFIXES = ("", "a", "a/", "a/x/", "a/x/,a/y/", "b & c/,a/", "a/x/,d,a/")
KEYS = ("a/x/1", "a/y/1", "a1", "b & c/1", "d")
EDITED = ABORT | {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 5}}
SIZED = THEIR_RULE | {"ID": f"{APP}-keepsakes", "Filter": {"And": {"Prefix": "a/", "ObjectSizeGreaterThan": 5}}}


def rules_of(settings: dict[str, str]) -> Rules:
    prefixes, days = without_covered(set(settings["PREFIX_FILTER"].split(","))), settings["KEEP_DAYS"]
    return keeping(prefixes, int(days)) if days else []


def is_kept(rule: dict[str, Any]) -> bool:
    """Whether it is one of KEEP_DAYS."""
    return bool(re.fullmatch(rf"{APP}-keep(-\d+)?", rule["ID"]))


def others(rules: Rules) -> Rules:
    return [rule for rule in rules if not is_kept(rule)]


def days(rules: Rules, key: str) -> float:
    """After how many days ours delete the key."""
    acting = [rule for rule in rules if is_kept(rule) and rule["Status"] == "Enabled"]
    found = [rule["Expiration"]["Days"] for rule in acting if key.startswith(rule["Filter"]["Prefix"])]
    return min(found, default=math.inf)


def meanwhile(writes: list[Call], rules: Rules) -> Rules | None:
    """The rules at the moment when the workers get other settings."""
    for call in writes:
        if call.operation == "RegisterTaskDefinition":
            return rules
        if call.operation == PUT:
            rules = call.parameters["LifecycleConfiguration"]["Rules"]
    return None


def found_by_second(draw: random.Random, rules: Rules) -> Rules:
    """What a first deployment has made, and others have changed since."""
    theirs = draw.sample([draw.choice([ABORT, EDITED]), THEIR_RULE, SIZED], draw.randrange(4))
    ours = [rule for rule in rules if is_kept(rule)]
    if ours and draw.random() < 0.3:
        ours[0] = ours[0] | {"Status": "Disabled"}
    elif ours and draw.random() < 0.7:
        ours[0] = ours[0] | {"ID": f"{APP}-keep-7"}
    return draw.sample(theirs + ours, len(theirs + ours))


# Fewer days, fewer keys, more keys, none any more, and for the first time.
SEEDS = range(60) if os.environ.get("NIGHTLY") == "1" else (0, 3, 4, 5, 11)


@pytest.mark.parametrize("seed", SEEDS)
def test_ours_change_with_the_settings_and_those_of_others_stay(
    scripts: Scripts, account: PaperAccount, seed: int
) -> None:
    """Until the workers have the new settings, nothing goes that the old or the new ones keep."""
    draw, kept = random.Random(seed), account.kept
    choices = [{"PREFIX_FILTER": prefix, "KEEP_DAYS": days} for prefix in PREFIXES for days in ("", "3", "9", "9")]
    old, new = draw.choices(choices, k=2)
    new = draw.choice([old, new, new])
    print(old, new)
    deploy(scripts, **old)
    assert kept[LIFECYCLE] == [ABORT, *rules_of(old)]
    before = kept[LIFECYCLE] = found_by_second(draw, kept[LIFECYCLE])
    if not before:
        del kept[LIFECYCLE]

    planned = deploy(scripts, DRY_RUN="true", **new)
    assert planned.writes == []
    ran = deploy(scripts, **new)
    assert [(row, re.sub("^would (change|create)", r"\1d", state)) for row, state in lines(planned)] == lines(ran)
    assert planned.errors == ran.errors
    after = kept[LIFECYCLE]
    is_foreign = before != [] and not any(APP in rule["ID"] and rule != SIZED for rule in before)
    assert others(after) == (others(before) or [ABORT])
    kept_rules = sorted((rule for rule in after if is_kept(rule)), key=lambda rule: rule["ID"])
    assert kept_rules == ([] if is_foreign else rules_of(new))
    between = meanwhile(ran.writes, before)
    if between is not None:
        wanted = {key: max(days(before, key), days(rules_of(new), key)) for key in KEYS}
        assert {key: days(between, key) for key in KEYS} == wanted

    is_longer = old["KEEP_DAYS"] and not 0 < int(new["KEEP_DAYS"] or 0) <= int(old["KEEP_DAYS"])
    kept_before, keeps = old["KEEP_DAYS"], new["KEEP_DAYS"]
    back = f"KEEP_DAYS={kept_before} is no longer set: ./sync.sh reconcile brings back older objects"
    if keeps:
        back = f"KEEP_DAYS={keeps} was {kept_before}: ./sync.sh reconcile brings back the objects between the two ages"
    assert re.findall("^ +(.* brings back .*)$", ran.errors, re.MULTILINE) == [back] * bool(is_longer)
    is_told = not is_foreign and rules_of(new) and lines(ran)[-1][1] != "exists"
    assert ("lifecycle deletes everything in" in ran.errors) == bool(is_told)
    again = deploy(scripts, **new)
    assert ([state for _, state in lines(again)], again.writes) == (["exists", "exists"], [])

    cleaned = scripts.clean_up(status=None)
    rest = [rule for rule in others(after) if rule != ABORT]
    stays = f"stays: the lifecycle of {MIRROR}, because it has rules of others too"
    is_mixed = others(after) == after and any(rule["ID"] == ABORT["ID"] for rule in after)
    assert (cleaned.status, stays in cleaned.errors) == (0, bool(rest) and is_mixed)
    left = after if others(after) == after else rest
    assert kept.get(LIFECYCLE) == (left if rest else None)
    assert (POLICY in kept) == bool(rest)  # theirs need it


# --- what cannot be done, and what is shown for it ------------------------------------------------------------------


SHOWN: dict[str, tuple[Rules, str, dict[str, str], int, str]] = {
    "a lifecycle of somebody else": ([THEIR_RULE], "", {}, 0, ", or until that lifecycle also has the rules ["),
    "rules that S3 refuses": ([ABORT], "InvalidRequest", {}, 1, "KEEP_DAYS=7 makes the rules ["),
    "a bucket of another account": (
        [], "", {"DST_BUCKET_OWNER": "999999999999"}, 0,
        "S3 accepts it only from the bucket's own account. 999999999999 has to set the rules [",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_rules_that_cannot_be_set_are_shown_and_taken_for_ours_once_somebody_sets_them(
    scripts: Scripts, account: PaperAccount, name: str
) -> None:
    there, code, settings, status, why = SHOWN[name]
    kept = account.kept
    for days in ("", "7"):
        kept |= {LIFECYCLE: there} if there else {}
        account.refusals = [(PUT, Refused(code, "The prefix is not valid"))] if code else []
        ran = deploy(scripts, None, KEEP_DAYS=days, PREFIX_FILTER="a/", **settings)
        said = ran.output + ran.errors
        assert (REMOVE_OLD in said) == ("KEEP_DAYS" in said) == bool(days)
        assert (why in said, kept.get(LIFECYCLE, [])) == (bool(days), there)
        assert not (days and settings) or lines(ran)[-1][1] == "left to its owner, see the end"
        assert not settings or not [call for call in ran.calls if call.parameters.get("Bucket") == MIRROR]
    assert (ran.status, "The prefix is not valid" in said) == (status, bool(code))
    account.refusals.clear()
    kept[LIFECYCLE] = [*there, *shown(said, '[{"ID"')]
    deploy(scripts, KEEP_DAYS="7", PREFIX_FILTER="a/")
    assert kept[LIFECYCLE] == [*there, *keeping(["a/"], 7)]
    assert POLICY in kept
    ran = deploy(scripts, **settings)
    assert (f"999999999999 has to remove the rules {APP}-keep" in ran.output) == bool(settings)


def test_a_policy_of_somebody_else_stays_and_the_statement_that_it_needs_is_shown(
    scripts: Scripts, account: PaperAccount
) -> None:
    theirs = account.kept[POLICY] = '{"Version": "2012-10-17", "Statement": []}'
    ran = deploy(scripts, KEEP_DAYS="7")
    assert account.kept[POLICY] == theirs
    assert "objects older than KEEP_DAYS=7 days deleted" in ran.errors
    (statement,) = shown(ran.errors, '{"Version"')["Statement"]
    assert statement["Principal"] == {"Service": "lifecycle.s3.amazonaws.com"}


HOUSEKEEPING = ("GetBucketLifecycleConfiguration", PUT, "GetBucketPolicy", "PutBucketPolicy")


@pytest.mark.parametrize("operation", HOUSEKEEPING)
def test_what_may_not_be_done_is_left_with_the_statement_that_allows_it(
    scripts: Scripts, account: PaperAccount, operation: str
) -> None:
    deploy(scripts, KEEP_DAYS="7")
    if operation != PUT:  # of the lifecycle alone, the plan takes for done what comes before the new task definition
        del account.kept[POLICY]
    account.refusals = [(operation, Refused("AccessDenied", f"no right for {operation}"))] * 9
    ran = deploy(scripts, KEEP_DAYS="30")
    account.refusals.clear()
    assert lines(ran)[-1] == (ROW, "left to you, see the end")
    _, told = ran.output.split("\nNot done, because your credentials do not allow it:\n")
    assert told.count("- bucket lifecycle") == 1
    assert f"no right for {operation}" in told
    assert REMOVE_OLD in told
    assert f"- bucket lifecycle {MIRROR}, with the policy for it. Without them, " in told
    statement = shown(told, '{"Effect"')
    assert "s3express:PutLifecycleConfiguration" in statement["Action"]
    assert statement["Resource"] == f"arn:aws:s3express:{HERE}:bucket/{MIRROR}"
    is_put = operation in ("GetBucketPolicy", "PutBucketPolicy")
    assert account.kept[LIFECYCLE] == [ABORT, *keeping([""], 30 if is_put else 7)]
    assert "Not done" not in deploy(scripts, KEEP_DAYS="30").output
    assert (account.kept[LIFECYCLE], POLICY in account.kept) == ([ABORT, *keeping([""], 30)], True)
