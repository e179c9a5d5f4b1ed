"""What the policies of the queue and of the function let others do: the rules that the path of events (launch/path.py)
and deploy.sh share, which runs this file with the operator's Python, 3.7 or newer. All of it is pure."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

SENDERS = {"s3-events": "s3.amazonaws.com", "eventbridge": "events.amazonaws.com"}
# Of the queue: what the senders do with it, and what the starter and the workers do.
SEND = "sqs:sendmessage"
NEEDED = (SEND, "sqs:receivemessage", "sqs:deletemessage", "sqs:changemessagevisibility", "sqs:getqueueattributes")
DIGITS = 6


def digest(document: Any) -> str:
    """A few characters for a document of any size, as all variables of a function together have 4 KB."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:DIGITS]


def digest_without_sid(statement: Mapping[str, Any]) -> str:
    """Of what a statement says, whatever it is called."""
    return digest({**statement, "Sid": ""})


def statements_in(policy: Any) -> list[Any]:
    found = (policy or {}).get("Statement", [])
    return [found] if isinstance(found, dict) else list(found)  # a single one may stand alone


def statements_of(document: Any) -> list[Any]:
    """`document`: an answer with a policy, which is JSON in a string."""
    policy = ((document or {}).get("Attributes") or document or {}).get("Policy")
    return statements_in(json.loads(policy)) if policy else []


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# --- the queue --------------------------------------------------------------------------------------------------------


def matches(pattern: str, text: str) -> bool:
    """As IAM compares: a star stands for any characters, a question mark for one."""
    wild = {"*": ".*", "?": "."}
    return re.fullmatch("".join(wild.get(sign) or re.escape(sign) for sign in pattern), text, re.DOTALL) is not None


def is_about(statement: Mapping[str, Any], action: str) -> bool:
    name = "NotAction" if "NotAction" in statement else "Action"
    is_named = any(matches(one.lower(), action) for one in as_list(statement.get(name, [])))
    return is_named != (name == "NotAction")


def names_of(principal: Any) -> set[str]:
    found = principal.values() if isinstance(principal, dict) else [principal]
    return {name for names in found for name in as_list(names)}


def is_for(statement: Mapping[str, Any], who: Iterable[str]) -> bool:
    if "NotPrincipal" in statement:
        return not names_of(statement["NotPrincipal"]).issuperset(who)
    return not names_of(statement.get("Principal")).isdisjoint({"*", *who})


def denies(statement: Mapping[str, Any], who: Iterable[str], actions: Iterable[str]) -> bool:
    """Whether it denies one of these one of the actions. A denial with a condition, such as on encryption, is not
    judged."""
    is_denial = statement["Effect"] == "Deny" and not statement.get("Condition")
    return is_denial and is_for(statement, who) and any(is_about(statement, action) for action in actions)


def whole_policy(have: Any, ours: Mapping[str, Any], own: Iterable[str]) -> dict[str, Any]:
    """The policy that the queue is to have: our statements among those of others that do no harm, and these alone.

    `have`: the policy that it has, or None; `ours`: our statements; `own`: what else than the senders may not be
    denied what it needs.
    """
    wanted, found = ours["Statement"], statements_in(have)
    alike = {digest_without_sid(statement) for statement in wanted}
    named = [one for one in found if one.get("Sid") in SENDERS or digest_without_sid(one) in alike]
    who = [*SENDERS.values(), *own]
    theirs = [one for one in found if one not in named and not denies(one, who, NEEDED)]

    whole = [*wanted, *theirs]
    is_whole = sorted(whole, key=digest) == sorted(found, key=digest)
    policy = {**(have or {}), "Version": ours["Version"], "Statement": found if is_whole else whole}
    return {"policy": policy, "theirs": theirs}


# --- the function -----------------------------------------------------------------------------------------------------


def covers(test: str, pattern: str, arn: str) -> bool:
    """Whether a condition is known to hold for this ARN. ArnEquals and ArnLike are alike, and compare each of its six
    parts (IAM User Guide, "ARN condition operators")."""
    operator = test.lower().replace("ifexists", "")
    if operator in ("arnequals", "arnlike"):
        parts, wanted = pattern.split(":", 5), arn.split(":", 5)
        return len(parts) == len(wanted) and all(map(matches, parts, wanted))
    if operator == "stringlike":
        return matches(pattern, arn)
    return operator == "stringequals" and pattern == arn


def lets_run(statement: Mapping[str, Any], rule: str) -> bool:
    """Whether a statement of a function's policy lets the rule with this ARN run it, whatever its Sid."""
    if statement["Effect"] != "Allow" or statement.get("Action") != "lambda:InvokeFunction":
        return False
    if statement.get("Principal") != {"Service": SENDERS["eventbridge"]}:
        return False

    for test, values in statement.get("Condition", {}).items():
        for key, patterns in values.items():
            is_of_source = key.lower() == "aws:sourcearn"
            if is_of_source and not any(covers(test, pattern, rule) for pattern in as_list(patterns)):
                return False
    return True


def main() -> None:
    """Reads JSON, prints whether the function lets a rule run it."""
    given = json.load(sys.stdin)
    print(json.dumps(any(lets_run(one, given["rule"]) for one in statements_of(given["permissions"]))))


if __name__ == "__main__":
    main()
