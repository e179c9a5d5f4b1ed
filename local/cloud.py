"""Run ministack 1.5.33, an AWS stand-in in one process, with what this project's chain needs and ministack lacks.

    GATEWAY_PORT=4566 AUTH=true python local/cloud.py

A function under `@replaces(module, name)` stands in for that function of ministack and gets it as its first argument.
ministack's own settings apply (GATEWAY_PORT, AUTH, ...). Settings of this file, from the environment too:

    LOCAL_WORKER  path of worker.py: a task is this program as a plain process, for a machine without a Docker engine
    LOCAL_TICK    seconds between two firings of every rate() rule (default: what the rule says)
    COPY_MAX      bytes one CopyObject or UploadPartCopy may copy (default: 5 GiB, as S3)
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import uuid
from importlib.metadata import version
from types import SimpleNamespace
from typing import NamedTuple
from urllib.parse import unquote
from xml.sax.saxutils import escape

from ministack import app
from ministack.core import iam_evaluator, sigv4
from ministack.core.responses import get_account_id, get_region, json_response
from ministack.core.router import extract_access_key_id
from ministack.services import cloudwatch, ecs, eventbridge, lambda_svc, s3, sqs, sts

MINISTACK = "1.5.33"
if version("ministack") != MINISTACK:
    sys.exit(f"cloud.py replaces internals of ministack {MINISTACK}, but {version('ministack')} is installed")

PORT = os.environ.get("GATEWAY_PORT", "4566")
COPY_MAX = int(os.environ.get("COPY_MAX", 5 * 1024**3))
MIN_PART = 5 * 1024**2


def replaces(module, name):
    """Put the decorated function where module.name was; AttributeError if ministack has no such function."""
    original = getattr(module, name)

    def put(function):
        replacement = functools.wraps(original)(functools.partial(function, original))
        setattr(module, name, replacement)
        return replacement

    return put


# --- S3: both kinds of bucket ------------------------------------------------------------------------------------

# S3 User Guide, "Differences for directory buckets": subresources and headers that are not implemented there.
NO_SUBRESOURCE = {
    *("accelerate", "acl", "annotation", "cors", "legal-hold", "location", "logging", "notification", "object-lock"),
    *("ownershipControls", "replication", "requestPayment", "restore", "retention", "tagging", "versioning"),
    *("versions", "website"),
}
NO_HEADER = {"x-amz-tagging", "x-amz-acl", "x-amz-website-redirect-location", "x-amz-object-lock-mode"}


class Request(NamedTuple):
    """What ministack hands to its S3 dispatcher; header names are lower case, query values are lists."""

    method: str
    bucket: str
    key: str
    headers: dict
    body: bytes
    query: dict


def is_directory(bucket):
    """Tell a directory bucket by the suffix that S3 reserves for them."""
    return bucket.endswith("--x-s3")


def stored(bucket, key):
    """Return ministack's record of the current object, or None."""
    return s3._buckets.get(bucket, {}).get("objects", {}).get(key)


@replaces(s3, "_dispatch")
def answer_s3(original, *request):
    """Answer one S3 request: what S3 refuses first, then what ministack says, corrected."""
    r = Request(*request)
    if is_directory(r.bucket) and r.method == "GET" and "session" in r.query:
        return create_session(r)
    for refusal_of in (unsupported, bad_copy, bad_completion):
        if refusal := refusal_of(r):
            return refusal
    response = original(*request)
    return hide_missing_key(r, response) if r.bucket else list_one_kind(r, response)


def create_session(r):
    """CreateSession: five-minute credentials of the caller, for a bucket that may not exist yet.

    With an endpoint of its own the AWS CLI asks for a session even before CreateBucket.
    """
    caller = iam_evaluator.resolve_caller_identity(extract_access_key_id(r.headers))
    if not caller:
        return s3._error("AccessDenied", "Access Denied", 403, r.bucket)
    key_id, secret, token, expires = temporary_credentials(caller["userArn"], caller["userId"], 300)
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><CreateSessionResult><Credentials>'
        f"<AccessKeyId>{key_id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>"
        f"<SessionToken>{token}</SessionToken>"
        f"<Expiration>{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(expires))}</Expiration>"
        "</Credentials></CreateSessionResult>"
    )
    return 200, {"Content-Type": "application/xml"}, body.encode()


def temporary_credentials(arn, user_id, seconds):
    """Make credentials that ministack accepts for this principal; expiration in seconds since the epoch."""
    key_id, secret, token = f"ASIA{secrets.token_hex(8).upper()}", secrets.token_hex(20), secrets.token_hex(64)
    expires = time.time() + seconds
    session = {"SecretAccessKey": secret, "SessionToken": token, "Expiration": expires}
    sts.register_session(key_id, {"Arn": arn, "UserId": user_id, **session})
    return key_id, secret, token, expires


def unsupported(r):
    """What a directory bucket does not have (S3 User Guide, "Differences for directory buckets")."""
    if not is_directory(r.bucket):
        return None
    if NO_SUBRESOURCE & r.query.keys() or any(r.headers.get(name) for name in NO_HEADER):
        return s3._error("NotImplemented", "A directory bucket does not implement this.", 501, r.bucket)
    prefix = r.query.get("prefix", [""])[0]
    if r.method == "GET" and not r.key and prefix and not prefix.endswith("/"):
        return s3._error("InvalidArgument", "A directory bucket lists only prefixes that end in /.", 400, r.bucket)
    return None


def bad_copy(r):
    """Size limit, tags and the destination's conditions (S3 API Reference, CopyObject and UploadPartCopy)."""
    if r.method != "PUT" or "x-amz-copy-source" not in r.headers:
        return None
    bucket, _, key = unquote(r.headers["x-amz-copy-source"].partition("?")[0]).lstrip("/").partition("/")
    source = stored(bucket, key)
    if source is None:
        return None
    first, _, last = r.headers.get("x-amz-copy-source-range", "").removeprefix("bytes=").partition("-")
    if (int(last) - int(first) + 1 if last else source["size"]) > COPY_MAX:
        limit = "The specified copy source is larger than the maximum allowable size for a copy source"
        return s3._error("InvalidRequest", f"{limit}: {COPY_MAX}", 400)
    if "partNumber" in r.query:
        return None
    tags = s3._object_tags.get((bucket, key, source.get("version_id")))
    if is_directory(r.bucket) and tags and r.headers.get("x-amz-tagging-directive", "COPY").upper() == "COPY":
        return s3._error("NotImplemented", "A directory bucket does not implement object tags.", 501, r.key)
    return s3._check_put_preconditions(r.headers, stored(r.bucket, r.key))


def bad_completion(r):
    """Part order and the smallest part (S3 API Reference, CompleteMultipartUpload)."""
    if r.method != "POST" or "uploadId" not in r.query:
        return None
    numbers = [int(n) for n in re.findall(rb"<PartNumber>(\d+)</PartNumber>", r.body)]
    consecutive = list(range(1, len(numbers) + 1))
    if numbers != (consecutive if is_directory(r.bucket) else sorted(set(numbers))):
        return s3._error("InvalidPartOrder", "The list of parts was not in the right order.", 400, r.key)
    parts = s3._multipart_uploads.get(r.query["uploadId"][0], {}).get("parts", {})
    if any(parts[n]["size"] < MIN_PART for n in numbers[:-1] if n in parts):
        return s3._error("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size", 400, r.key)
    return None


def hide_missing_key(r, response):
    """A missing key is 403 for a caller who may not list the bucket (S3 API Reference, HeadObject)."""
    status, headers, _ = response
    if not app.AUTH or status != 404 or r.method not in ("GET", "HEAD") or not r.key:
        return response
    if is_directory(r.bucket) or r.bucket not in s3._buckets:
        return response
    caller, bucket = extract_access_key_id(r.headers, r.query), f"arn:aws:s3:::{r.bucket}"
    if not iam_evaluator.enforce(caller, "s3:ListBucket", "s3", get_region(), resource_arn=bucket):
        return response
    return (403, headers, b"") if r.method == "HEAD" else s3._error("AccessDenied", "Access Denied", 403, r.key)


def list_one_kind(r, response):
    """ListBuckets has no directory buckets, ListDirectoryBuckets (signed for s3express) has only those."""
    status, headers, body = response
    wanted = "/s3express/" in r.headers.get("authorization", "")
    for bucket in re.findall(rb"<Bucket>.*?</Bucket>", body, re.DOTALL):
        if (b"--x-s3</Name>" in bucket) != wanted:
            body = body.replace(bucket, b"")
    return status, headers, body


# --- IAM: what AWS authorizes where ministack asks for something else ---------------------------------------------

# Service Authorization Reference, "Amazon S3 Express": every other operation is authorized as CreateSession.
EXPRESS_ACTIONS = {
    *("CreateBucket", "DeleteBucket", "PutBucketPolicy", "GetBucketPolicy", "DeleteBucketPolicy"),
    *("PutEncryptionConfiguration", "GetEncryptionConfiguration"),
    *("PutLifecycleConfiguration", "GetLifecycleConfiguration"),
}


# A batch is authorized as the action on one message (SQS Developer Guide, "Amazon SQS API permissions").
@replaces(iam_evaluator, "enforce")
def enforce(original, access_key_id, action, service, region, resource_arn="*", service_context=None):
    """Return what the first refused check of the request answers, or None if all are allowed."""
    checks = [(action, resource_arn, service_context)]
    if bucket := re.match(r"arn:aws:s3:::([^/]+--x-s3)(?:/|$)", resource_arn or ""):
        checks = [express_check(action.partition(":")[2], bucket[1], region)]
    elif service == "sqs":
        checks = [(action.removesuffix("Batch"), resource_arn, service_context)]
    elif service == "ecs" and ":cluster/" in resource_arn:
        checks = [(action, resource_arn, {"ecs:cluster": resource_arn})]
        if action == "ecs:RunTask" and (request := iam_evaluator._signed_request.get()):
            checks = run_task_checks(resource_arn, json.loads(request.body).get("taskDefinition", ""))
    denials = (original(access_key_id, a, service, region, resource_arn=r, service_context=c) for a, r, c in checks)
    return next(filter(None, denials), None)


def express_check(operation, bucket, region):
    """One check, on the bucket: a directory bucket has no permissions per object."""
    action = operation if operation in EXPRESS_ACTIONS else "CreateSession"
    return f"s3express:{action}", f"arn:aws:s3express:{region}:{get_account_id()}:bucket/{bucket}", None


def run_task_checks(cluster_arn, reference):
    """RunTask on the task definition, in that cluster, and PassRole on its roles (Service Authorization Reference)."""
    definition = ecs._task_defs.get(ecs._resolve_td_key(reference)) or {}
    checks = [("ecs:RunTask", definition.get("taskDefinitionArn", "*"), {"ecs:cluster": cluster_arn})]
    roles = [definition[field] for field in ("taskRoleArn", "executionRoleArn") if definition.get(field)]
    passed_to = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
    return checks + [("iam:PassRole", role, passed_to) for role in roles]


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


# --- ECS: a Fargate task on this machine --------------------------------------------------------------------------

ECR_HOST = re.compile(r"^\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/")


@replaces(ecs, "_start_task_worker")
def start_task(original, task, definition, overrides, engine):
    """Start on the host's network, where ministack is 127.0.0.1, the image coming from ministack's own registry."""
    region = {"name": "AWS_REGION", "value": get_region()}, {"name": "AWS_DEFAULT_REGION", "value": get_region()}
    containers = [
        {
            **container,
            "image": ECR_HOST.sub(f"127.0.0.1:{PORT}/", container["image"]),
            "environment": [*region, *container.get("environment", [])],
        }
        for container in definition["containerDefinitions"]
    ]
    return original(task, {**definition, "networkMode": "host", "containerDefinitions": containers}, overrides, engine)


@replaces(ecs, "_register_metadata")
def lend_task_role(original, task_arn, cluster_arn, definition, container, launch_type, env, *network):
    """Give the task a session of its task role, as the credentials endpoint of Fargate does."""
    token = original(task_arn, cluster_arn, definition, container, launch_type, env, *network)
    role, task_id = definition.get("taskRoleArn", "").rpartition("/")[2], task_arn.rpartition("/")[2]
    if role:
        arn = f"arn:aws:sts::{get_account_id()}:assumed-role/{role}/{task_id}"
        key_id, secret, session_token, _ = temporary_credentials(arn, f"{role}:{task_id}", 12 * 3600)
        env |= {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": session_token}
    return token


@replaces(ecs, "_build_run_kwargs")
def limit_container(original, container, definition, *rest):
    """Add what the task definition asks for and ministack leaves out; run on this machine's architecture."""
    options = original(container, definition, *rest)
    options.pop("platform", None)
    options["labels"]["stop-timeout"] = str(container.get("stopTimeout", 30))
    options["init"] = bool(container.get("linuxParameters", {}).get("initProcessEnabled"))
    options["read_only"] = bool(container.get("readonlyRootFilesystem"))
    for field, option in (("entryPoint", "entrypoint"), ("user", "user"), ("workingDirectory", "working_dir")):
        if container.get(field):
            options[option] = container[field]
    if definition.get("memory"):
        options["mem_limit"] = f"{definition['memory']}m"
    if definition.get("cpu"):
        options["nano_cpus"] = int(min(int(definition["cpu"]) / 1024, os.cpu_count() or 1) * 10**9)
    limits = container.get("ulimits", [])
    options["ulimits"] = [{"Name": u["name"], "Soft": u["softLimit"], "Hard": u["hardLimit"]} for u in limits]
    return options


@replaces(ecs, "_stop_task")
def stop_task(original, data):
    """StopTask answers at once; SIGTERM, then SIGKILL after stopTimeout (ECS API Reference, StopTask)."""
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    task = cluster and ecs._resolve_task(data.get("task", ""), cluster)
    if not task or not task.get("_docker_ids"):
        return original(data)
    reason = data.get("reason", "Task stopped by user")
    task.update(desiredStatus="STOPPED", stopCode="UserInitiated", stoppedReason=reason, stoppingAt=ecs._iso())
    engine = ecs._get_docker()
    for container_id in task["_docker_ids"]:
        container = engine.containers.get(container_id)
        seconds = int(container.labels["stop-timeout"])
        threading.Thread(target=container.stop, kwargs={"timeout": seconds}, daemon=True).start()
    return json_response({"task": ecs._sanitize(task)})


ecs._ACTION_MAP["StopTask"] = stop_task


@replaces(ecs, "_task_is_active")
def task_is_active(original, task_arn, task):
    """A task that was told to stop is watched until its containers are gone, so that their exit codes are known."""
    stopping = task.get("desiredStatus") == "STOPPED" and task.get("lastStatus") == "RUNNING"
    return original(task_arn, task) or (stopping and ecs._tasks.get(task_arn) is task)


@replaces(ecs, "_mark_task_stopped")
def mark_task_stopped(original, task_arn, task, reason, stop_code, exit_code=None):
    """Keep the reason StopTask gave when the watcher finds the containers gone."""
    if task.get("stopCode"):
        reason, stop_code = task["stoppedReason"], task["stopCode"]
    return original(task_arn, task, reason, stop_code, exit_code=exit_code)


# --- ECS without a Docker engine: the part of docker-py that ministack calls, with processes as containers --------


class ProcessContainer:
    """worker.py as a process that looks like a container."""

    def __init__(self, environment, labels, arguments):
        """Start it with the environment and the command of the task and nothing else of ours."""
        env = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **environment}
        self.process = subprocess.Popen(
            [sys.executable, os.environ["LOCAL_WORKER"], *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a killed container takes all of its processes along
        )
        self.id, self.labels, self.attrs = f"process-{self.process.pid}", labels, {}

    @property
    def status(self):
        return "running" if self.process.poll() is None else "exited"

    def reload(self):
        pass

    def logs(self, **_):
        return self.process.stdout

    def wait(self):
        code = self.process.wait()
        return {"StatusCode": code if code >= 0 else 128 - code}

    def stop(self, timeout):
        self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.remove()

    def remove(self, **_):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(self.process.pid, signal.SIGKILL)


def process_engine():
    """Return an engine whose containers are processes."""
    started = {}

    def run(_image, *, environment, labels, command=None, **_):
        container = ProcessContainer(environment, labels, command or [])
        return started.setdefault(container.id, container)

    atexit.register(lambda: [container.remove() for container in started.values()])
    return SimpleNamespace(containers=SimpleNamespace(run=run, get=started.__getitem__))


# --- SQS: redrive of a dead-letter queue --------------------------------------------------------------------------

moves = []


def queue_of(arn):
    """Return ministack's record of the queue or raise the error SQS answers with."""
    queue = sqs._queue_by_arn(arn)
    if queue is None:
        raise sqs._Err("ResourceNotFoundException", f"The resource that you specified doesn't exist: {arn}", 404)
    return queue


def start_message_move_task(data, _url):
    """Move every visible message to the given queue, or back to where it came from, as a new message."""
    source = queue_of(data["SourceArn"])
    moved = sqs._collect_msgs(source, len(source["messages"]), 0)
    for message in moved:
        origin = message["sys"].get("DeadLetterQueueSourceArn", "")
        queue_of(data.get("DestinationArn") or origin)["messages"].append(message)
        source["messages"].remove(message)
        message["sys"].pop("DeadLetterQueueSourceArn", None)
        message.update(receive_count=0, receipt_handle=None, first_receive_at=None, visible_at=time.time())
    moves.insert(0, {**data, "TaskHandle": str(uuid.uuid4()), "Status": "COMPLETED"})
    counts = {"ApproximateNumberOfMessagesMoved": len(moved), "ApproximateNumberOfMessagesToMove": len(moved)}
    moves[0] |= {**counts, "StartedTimestamp": int(time.time() * 1000)}
    return {"TaskHandle": moves[0]["TaskHandle"]}


def list_message_move_tasks(data, _url):
    """Return the latest moves out of a queue, one unless more are asked for."""
    return {"Results": [m for m in moves if m["SourceArn"] == data["SourceArn"]][: data.get("MaxResults", 1)]}


def list_dead_letter_source_queues(_data, url):
    """Return the queues whose dead-letter queue this is."""
    arn = sqs._get_q(url)["attributes"]["QueueArn"]
    policies = {u: json.loads(q["attributes"].get("RedrivePolicy", "{}")) for u, q in sqs._queues.items()}
    return {
        "queueUrls": [
            sqs._externalize_url(u) for u, policy in policies.items() if policy.get("deadLetterTargetArn") == arn
        ]
    }


sqs._HANDLERS |= {
    "StartMessageMoveTask": start_message_move_task,
    "ListMessageMoveTasks": list_message_move_tasks,
    "ListDeadLetterSourceQueues": list_dead_letter_source_queues,
}


# --- EventBridge --------------------------------------------------------------------------------------------------


@replaces(eventbridge, "_parse_rate_seconds")
def rate_seconds(original, expression):
    """Return a rate() expression's interval, or LOCAL_TICK in its place; None for another kind of expression."""
    seconds = original(expression)
    return float(os.environ.get("LOCAL_TICK") or seconds) if seconds else None


# --- CloudWatch ---------------------------------------------------------------------------------------------------


@replaces(cloudwatch, "_describe_alarms")
def describe_alarms(original, params, data, is_cbor, is_json=False):
    """Describe all of an alarm in the Query protocol too, which older versions of the AWS CLI speak."""
    if is_cbor or is_json:
        return original(params, data, is_cbor, is_json)
    names = [cloudwatch._p(params, name) for name in params if name.startswith("AlarmNames.member.")]
    _, _, body = original(params, {"AlarmNames": names}, False, True)
    return cloudwatch._xml(200, "DescribeAlarmsResponse", as_xml({"DescribeAlarmsResult": json.loads(body)}))


def as_xml(value):
    """Write a value as the Query protocol does."""
    if isinstance(value, dict):
        return "".join(f"<{name}>{as_xml(item)}</{name}>" for name, item in value.items() if item is not None)
    if isinstance(value, list):
        return "".join(f"<member>{as_xml(item)}</member>" for item in value)
    return escape(json.dumps(value) if isinstance(value, bool) else str(value))


@replaces(lambda_svc, "_emit_lambda_metrics")
def publish_nothing(*_, **__):
    """Leave it to measure_run: ministack measures only what an Invoke request runs, not what a rule does."""


@replaces(lambda_svc, "_execute_function")
def measure_run(original, function, event):
    """Publish what Lambda tells CloudWatch of each run."""
    name, result = function["config"]["FunctionName"], original(function, event)
    for metric, value in {"Invocations": 1, "Errors": int(bool(result.get("error")))}.items():
        cloudwatch.record_metric("AWS/Lambda", metric, value, dimensions={"FunctionName": name})
    return result


@replaces(lambda_svc, "_emit_lambda_logs")
def begin_with_error(original, function, request_id, text, error, *rest, **options):
    """Write of a run that failed what Lambda writes: "[ERROR] TYPE: MESSAGE" before the traceback."""
    before, word, trace = text.partition("Traceback (most recent call last)")
    if error and word:
        text = f"{before}[ERROR] {trace.rstrip().splitlines()[-1]}\n{word}{trace}"
    return original(function, request_id, text, error, *rest, **options)


@replaces(eventbridge, "_tick_scheduled_rules")
def publish_queue_metrics(original):
    """Publish what SQS tells CloudWatch of each queue, every second instead of every minute."""
    now = time.time()
    for (_, _, url), queue in sqs._queues.all_items():
        messages = list(queue["messages"])
        visible = sum(message["visible_at"] <= now for message in messages)
        ages = [now - message["sent_at"] for message in messages]
        measured = {
            "ApproximateNumberOfMessagesVisible": visible,
            "ApproximateNumberOfMessagesNotVisible": len(messages) - visible,
            "ApproximateAgeOfOldestMessage": max(ages, default=0),
        }
        for name, value in measured.items():
            cloudwatch.record_metric("AWS/SQS", name, value, dimensions={"QueueName": url.rpartition("/")[2]})
    return original()


# --- Service Quotas -----------------------------------------------------------------------------------------------


async def get_service_quota(_method, _path, _headers, body, _query):
    """Return the 6 vCPUs that a new account has for Fargate and for Fargate Spot, whatever quota is asked for."""
    return json_response({"Quota": {**json.loads(body), "Value": 6.0}})


app.SERVICE_HANDLERS["servicequotas"] = get_service_quota


def main():
    """Serve on loopback only, without the listeners that this chain does not use."""
    os.environ.update(BIND_HOST="127.0.0.1", IOT_MTLS_ENABLED="0", SFTP_ENABLED="0")
    eventbridge._SCHEDULER_TICK_INTERVAL = 1
    if os.environ.get("LOCAL_WORKER"):
        print("no Docker engine: a task is worker.py as a process", flush=True)
        ecs._docker = process_engine()
    app.main()


if __name__ == "__main__":
    main()
