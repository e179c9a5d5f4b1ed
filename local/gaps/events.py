"""EventBridge: a schedule that a test or a demonstration need not wait for, targets that refuse a rule, and S3's events
as S3 writes them (S3 User Guide, "EventBridge event message structure")."""

from __future__ import annotations

import json
import os
import uuid
from contextvars import ContextVar

from ministack import app
from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudwatch, eventbridge, lambda_svc, s3, sqs

from gaps import replaces

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


# --- S3's events -----------------------------------------------------------------------------------------------------

# What ministack knows of the event and leaves out: version_id, restore_event_data.
known = ContextVar("known")


@replaces(s3, "_fire_s3_event")
def fire(original, *event, **options):
    """Keep what complete() needs for the event."""
    known.set(options)
    return original(*event, **options)


@replaces(eventbridge, "_dispatch_event")
def dispatch(original, event, view=None):
    """Hand on S3's events completed, all others as they are."""
    return original(complete(event), view) if event["Source"] == "aws.s3" and view is None else original(event, view)


def complete(event):
    """Return an event of S3 with its version, without what S3 leaves out, and with its time in whole seconds."""
    detail, options = json.loads(event["Detail"]), known.get()
    told = detail["object"]
    if options.get("version_id"):
        told["version-id"] = options["version_id"]
    if event["DetailType"] == "Object Deleted":
        del told["size"], told["etag"]  # a delete marker has one on AWS, a deleted object has none
    if not options.get("sequencer"):
        del told["sequencer"]
    if restored := options.get("restore_event_data"):
        detail["restore-expiry-time"] = restored["lifecycleRestorationExpiryTime"]
        detail["source-storage-class"] = restored["lifecycleRestoreStorageClass"]
        detail["requester"] = "s3.amazonaws.com"
        del detail["source-ip-address"]
    time = event["Time"].partition(".")[0].rstrip("Z") + "Z"
    return {**event, "EventId": str(uuid.uuid4()), "Time": time, "Detail": json.dumps(detail)}
