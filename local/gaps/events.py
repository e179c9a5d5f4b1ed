"""EventBridge: a schedule that a test or a demonstration need not wait for, and targets that refuse a rule."""

from __future__ import annotations

import os

from ministack import app
from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudwatch, eventbridge, lambda_svc, sqs

from gaps.replace import replaces

SERVICE = "events.amazonaws.com"

# Seconds between two looks at the schedules.
eventbridge._SCHEDULER_TICK_INTERVAL = 1


@replaces(eventbridge, "_parse_rate_seconds")
def rate_seconds(original, expression):
    """Return a rate() expression's interval, or LOCAL_TICK in its place; None for another kind of expression."""
    seconds = original(expression)
    return float(os.environ.get("LOCAL_TICK") or seconds) if seconds else None


@replaces(eventbridge, "_invoke_target")
def invoke_target(original, target, event, rule, view=None):
    """Deliver if the target's policy lets the rule in; else the event is lost to it.

    No target waits for another: a queue takes the message at once, a function's events wait in a queue of their own.
    """
    allowed = may_deliver(target["Arn"], rule["Arn"])
    targets = eventbridge._targets.get(eventbridge._rule_key(rule["Name"], rule["EventBusName"]), [])
    metrics = {"TriggeredRules": target in targets[:1], "Invocations": True, "FailedInvocations": not allowed}
    for metric in (name for name, counts in metrics.items() if counts):
        cloudwatch.record_metric("AWS/Events", metric, 1, "Count", {"RuleName": rule["Name"]})
    if allowed:
        original(target, event, rule, view)


def may_deliver(target, rule):
    """Tell whether the queue or the function is there and lets this rule in."""
    service = target.split(":")[2]
    if service == "sqs":
        return bool(sqs._queue_by_arn(target)) and sqs.queue_policy_allows(target, SERVICE, rule, get_account_id())
    if service == "lambda":
        function, _, _ = lambda_svc._get_func_record_for_ref(target)
        return bool(function) and (not app.AUTH or function_allows(function["policy"], target, rule))
    return True


def function_allows(policy, function, rule):
    """Tell whether the function's policy lets EventBridge invoke it for this rule, as SQS is asked for a queue."""
    source = {"aws:sourcearn": rule, "aws:sourceaccount": get_account_id()}
    action = "lambda:InvokeFunction"
    context = EvalContext("*", "Service", "", action, function, get_region(), service_context=source)
    return evaluate_resource_policy(policy, context, service=SERVICE).decision == "Allow"
