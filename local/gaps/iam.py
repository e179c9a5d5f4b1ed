"""IAM: what AWS authorizes where ministack asks for something else, and credentials of a role or a session."""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
import time

from ministack.core import iam_actions, iam_evaluator, sigv4
from ministack.core.responses import get_account_id
from ministack.services import ecs, sts

from gaps import replaces

# Service Authorization Reference, "Amazon S3 Express": every other operation is authorized as CreateSession.
EXPRESS_ACTIONS = {
    *("CreateBucket", "DeleteBucket", "PutBucketPolicy", "GetBucketPolicy", "DeleteBucketPolicy"),
    *("PutEncryptionConfiguration", "GetEncryptionConfiguration"),
    *("PutLifecycleConfiguration", "GetLifecycleConfiguration"),
}


@replaces(iam_evaluator, "_fnmatch_compile")
def compile_pattern(original, pattern, ignore_case):
    """Let * and ? stand for a newline, too: a key of S3 may have one."""
    found = original(pattern, ignore_case)
    return re.compile(found.pattern, found.flags | re.DOTALL)


# A batch is authorized as the action on one message (SQS Developer Guide, "Amazon SQS API permissions").
@replaces(iam_evaluator, "enforce")
def enforce(original, access_key_id, action, service, region, resource_arn="*", service_context=None):
    """Return what the first refused check of the request answers, or None if all are allowed."""
    checks = [(action, resource_arn, service_context)]
    if bucket := re.match(r"arn:aws:s3:::([^/]+--x-s3)(?:/|$)", resource_arn or ""):
        checks = [express_check(action.partition(":")[2], bucket[1], region)]
    elif service == "sqs":
        checks = [(action.removesuffix("Batch"), resource_arn, service_context)]
    elif service == "events" and (request := iam_evaluator._signed_request.get()):
        checks = [(action, rule_arn(resource_arn, json.loads(request.body), region), service_context)]
    elif service == "ecs" and ":cluster/" in resource_arn:
        checks = [(action, resource_arn, {"ecs:cluster": resource_arn})]
        if action == "ecs:RunTask" and (request := iam_evaluator._signed_request.get()):
            checks = run_task_checks(resource_arn, json.loads(request.body))
        if action in ("ecs:DescribeTasks", "ecs:StopTask") and (request := iam_evaluator._signed_request.get()):
            checks = task_checks(action, resource_arn, json.loads(request.body))
    for asked, resource, context in checks:
        denied = original(access_key_id, asked, service, region, resource_arn=resource, service_context=context)
        if denied:
            return named_denial(denied, asked, resource) if service == "ecs" else denied
    return None


def named_denial(denied, action, resource):
    """The denial of an action that is not the call's own names it, and what it was for, as AWS does."""
    if not isinstance(denied, iam_evaluator.EvalResult):
        return denied
    is_explicit = denied.decision == "Deny"
    message = iam_actions.identity_denial_message(action, denied.principal_arn, resource, is_explicit)
    return iam_evaluator.AuthError("AccessDeniedException", message)


def express_check(operation, bucket, region):
    """One check, on the bucket: a directory bucket has no permissions per object."""
    action = operation if operation in EXPRESS_ACTIONS else "CreateSession"
    return f"s3express:{action}", f"arn:aws:s3express:{region}:{get_account_id()}:bucket/{bucket}", None


def rule_arn(found, request, region):
    """Return the ARN of a rule on the default bus, or else `found` (Service Authorization Reference, EventBridge)."""
    name = request.get("Rule") or request.get("Name")
    if not name or request.get("EventBusName", "default") != "default":
        return found
    return f"arn:aws:events:{region}:{get_account_id()}:rule/{name}"


def task_checks(action, cluster_arn, request):
    """On each task; the cluster is in the task's ARN (Service Authorization Reference)."""
    tasks = list(request.get("tasks", []))
    if request.get("task"):
        tasks.append(request["task"])

    folder = cluster_arn.replace(":cluster/", ":task/")
    ids = [task.rpartition("/")[2] for task in tasks]
    return [(action, f"{folder}/{task_id}", {"ecs:cluster": cluster_arn}) for task_id in ids]


def run_task_checks(cluster_arn, request):
    """RunTask on the task definition, in that cluster, and PassRole on its roles (Service Authorization Reference).

    A task that is to have tags is authorized as TagResource, too (ECS Developer Guide, "Grant permission to tag
    resources on creation").
    """
    definition = ecs._task_defs.get(ecs._resolve_td_key(request.get("taskDefinition", ""))) or {}
    checks = [("ecs:RunTask", definition.get("taskDefinitionArn", "*"), {"ecs:cluster": cluster_arn})]
    roles = [definition[field] for field in ("taskRoleArn", "executionRoleArn") if definition.get(field)]
    passed_to = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
    checks += [("iam:PassRole", role, passed_to) for role in roles]
    if request.get("tags") or request.get("propagateTags", "NONE") != "NONE":
        tasks = f"{cluster_arn.replace(':cluster/', ':task/')}/*"
        checks.append(("ecs:TagResource", tasks, {"ecs:createaction": "RunTask", "ecs:cluster": cluster_arn}))
    return checks


@replaces(iam_evaluator, "authenticate")
def authenticate(original, access_key_id, account_id):
    """Take the session token from the header that S3 Express uses for it."""
    request = iam_evaluator._signed_request.get()
    if request and "x-amz-s3session-token" in request.headers:
        request.headers["x-amz-security-token"] = request.headers["x-amz-s3session-token"]
    return original(access_key_id, account_id)


@replaces(sigv4, "header_signing_documents")
def header_signing_documents(original, signature, *request, **options):
    """Encode the path of an s3express request once, as for s3; the string to sign keeps the service's name."""
    if signature.service != "s3express":
        return original(signature, *request, **options)
    canonical, _ = original(dataclasses.replace(signature, service="s3"), *request, **options)
    scope = (signature.date_stamp, signature.region, signature.service)
    return canonical, sigv4.build_string_to_sign(signature.amz_date, *scope, canonical)


def temporary_credentials(arn, user_id, seconds):
    """Make credentials that ministack accepts for this principal; expiration in seconds since the epoch."""
    key_id = f"ASIA{secrets.token_hex(8).upper()}"
    secret, token = secrets.token_hex(20), secrets.token_hex(64)
    expires = time.time() + seconds
    session = {"SecretAccessKey": secret, "SessionToken": token, "Expiration": expires}
    sts.register_session(key_id, {"Arn": arn, "UserId": user_id, **session})
    return key_id, secret, token, expires
