"""What the settings ask for: each document that AWS is to have of a deployment, however it came about.

Both sides are brought into one form: policies as sets of what they grant to whom, JSON in a text as what it says.
"""

import json
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any
from unittest.mock import ANY
from urllib.parse import quote_plus

from account import APP, MIRROR, PROJECT, REGION, SOURCE
from paper_account import CONTENTS, EVERYTHING, HERE, NUMBER, VPC, PaperAccount, code_of
from policies_and_patterns import grants

import mirror.settings
from mirror.model.checks import TABLE
from mirror.model.log_lines import AUDITED

Kept = dict[str, Any]
Documents = dict[str, Any]
LINES = [line.split() for line in (PROJECT / "mirror/model/settings.table").read_text().splitlines() if line[0] != "#"]
SHIPPED = {row[0]: "" if row[3][0] in "-(" else row[3] for row in LINES} | {"REGION": REGION, "SRC_BUCKET": SOURCE}
SHIPPED |= {"DST_BUCKET": MIRROR, "SRC_BUCKET_OWNER": NUMBER, "DST_BUCKET_OWNER": NUMBER}

# 14 days, which is all that SQS has: a message's time in the first queue counts in the second. A receive waits 20 s,
# the longest; otherwise an answer without messages means little.
BOTH_QUEUES = {"MessageRetentionPeriod": "1209600", "ReceiveMessageWaitTimeSeconds": "20"}
BOTH_QUEUES |= {"SqsManagedSseEnabled": "true", "DelaySeconds": "0"}
OUTAGE_LINE = "2026-01-01T00:00:00.000Z ERROR outage: 9 keys fail alike, nothing is begun until"
AUDIT_LINE = f"2026-01-01T00:00:00.000Z ERROR {AUDITED % ('complete', 0, 3, 'listed=3')}"
OTHER_LINES = [AUDIT_LINE.replace("ERROR", "INFO"), "2026-01-01T00:00:00.000Z INFO outage over after 12 s"]
OTHER_LINES += ['2026-01-01T00:00:00.000Z INFO synced key="x ERROR outage: ERROR audited" action=copied']
EVENTS = ["Object Created", "Object Deleted", "Object Restore Completed"]
# LifecycleExpiration: what a lifecycle deletes is no ObjectRemoved. ObjectRestore: what was archived can be copied now.
NOTIFIED = {"s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*", "s3:ObjectRestore:Completed"}
LOGS = ("logs:CreateLogStream", "logs:PutLogEvents")  # not CreateLogGroup: a late run would make it again
PULL = ("ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage")
# What each query of the dashboard shows, in a part that only it has.
QUERIES = {
    "Copies, deletes and failures a minute": "count(deleted) as deletes, count(failed) as failures by bin(1m)",
    "Bytes a minute": "stats sum(size) as bytes",
    "Lag from event to copy (s)": "pct(lag, 99) as p99",
    "Workers": "count_distinct(@logStream) as workers",
    "Last failures": "sort @timestamp desc | limit 20",
}
HELP = (PROJECT / "docs/troubleshooting.md").read_text()
FOR_STATUS = ("COPY_LAST", "TABLES", "ANNOUNCE", "EXCLUDE", "KEEP_DAYS", "PREFIX_FILTER", "METRICS")


# What others have added, which does no harm and stays: a statement in the policy of the queue, such as an organization
# asks for, an action of an alarm, a target of the starter's rule, and where Lambda reports runs that succeed.
TLS_ONLY = {"Sid": "tls", "Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*"}
TLS_ONLY |= {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}
THEIR_TOPIC = f"arn:aws:sns:{HERE}:theirs"
THEIR_TARGET = {"Id": "theirs", "Arn": THEIR_TOPIC}
NO_VPC = {"SubnetIds": [], "SecurityGroupIds": [], "VpcId": ""}


def on(resource: str, *actions: str) -> set[tuple[str, ...]]:
    return {(action, resource) for action in actions}


def without_covered(prefixes: set[str]) -> list[str]:
    return sorted(one for one in prefixes if not any(one.startswith(other) for other in prefixes - {one}))


def items(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


class Asked:
    """A deployment in an account with these settings; a setting that is not named has its shipped value."""

    def __init__(self, account: PaperAccount, settings: dict[str, str]) -> None:
        self.account = account
        self.settings = SHIPPED | {name: value for name, value in settings.items() if value}
        self.app = self.settings["APP_NAME"]
        self.queue, self.dlq = (f"arn:aws:sqs:{HERE}:{self.app}-{end}" for end in ("q", "dlq"))
        self.starter = f"arn:aws:lambda:{HERE}:function:{self.app}-starter"
        self.cluster = f"arn:aws:ecs:{HERE}:cluster/{self.app}-cluster"
        self.worker_log, self.starter_log = f"/ecs/{self.app}-task", f"/aws/lambda/{self.app}-starter"
        self.rule, self.event_rule = f"{self.app}-starter-rule", f"{self.app}-event-rule"
        self.copies, self.metrics = self.is_on("STARTER_COPIES"), self.is_on("METRICS")
        self.rate = int(self.settings["LAMBDA_POLL_RATE"])

    def is_on(self, name: str) -> bool:
        return self.settings[name] == "true"

    @cached_property
    def by_rule(self) -> bool:
        return self.settings["EVENT_SOURCE"] == "eventbridge"

    @cached_property
    def reserves(self) -> bool:
        """An account keeps 100 executions unreserved, and a new one has 10 in all."""
        return self.account.kept.get("limit unreserved", 1000) > 100

    @cached_property
    def prefixes(self) -> list[str]:
        return without_covered(set(self.settings["PREFIX_FILTER"].split(",")))

    def role(self, name: str) -> str:
        return f"arn:aws:iam::{NUMBER}:role{self.settings['ROLE_PATH']}{self.app}-{name}-role"

    @cached_property
    def subnets(self) -> list[str]:
        """At most 16 (ECS API reference, AwsVpcConfiguration); Fargate has no ARM64 in use1-az3."""
        chosen = items(self.settings["SUBNETS"])
        may = [
            one["SubnetId"]
            for one in self.account.subnets
            if (one["SubnetId"] in chosen if chosen else one["MapPublicIpOnLaunch"])
            and (self.settings["TASK_ARCH"] == "X86_64" or one["AvailabilityZoneId"] != "use1-az3")
        ]
        return sorted(may)[:16]

    @cached_property
    def documents(self) -> Documents:
        """Name -> document, as `as_compared` has it."""
        found: Documents = {}
        for part in (self.queues, self.logs, self.roles, self.tasks, self.events, self.alarms, self.destination):
            found |= dict(part())
        return found

    # --- queues and logs --------------------------------------------------------------------------------------------

    def queues(self) -> Iterator[tuple[str, Any]]:
        """Only the source of events may send: the bucket, because bucket names come back to others once they are given
        up, and its account (S3 User Guide, "Granting permissions to publish event notification messages")."""
        owner = self.settings["SRC_BUCKET_OWNER"]
        sender = ("events.amazonaws.com", f"ArnEquals aws:SourceArn=arn:aws:events:{HERE}:rule/{self.event_rule}")
        if not self.by_rule:
            bucket = f"ArnLike aws:SourceArn=arn:aws:s3:*:*:{SOURCE}"
            sender = ("s3.amazonaws.com", bucket, f"StringEquals aws:SourceAccount={owner}")
        yield f"queue {self.app}-dlq", BOTH_QUEUES
        redrive = {"deadLetterTargetArn": self.dlq, "maxReceiveCount": int(self.settings["MAX_RECEIVES"])}
        may_send = {(sender[0], "sqs:SendMessage", self.queue, *sender[1:])}
        own = {"VisibilityTimeout": self.settings["VISIBILITY_TIMEOUT"], "RedrivePolicy": redrive, "Policy": may_send}
        yield f"queue {self.app}-q", BOTH_QUEUES | own

    def logs(self) -> Iterator[tuple[str, Any]]:
        """Lambda writes to /aws/lambda/ and the function's name, ECS to the group of the task definition. A filter
        counts 1 for a line, and nothing without one, which would cost."""
        for group in (self.worker_log, self.starter_log):
            yield f"log-group {group}", int(self.settings["LOG_RETENTION_DAYS"])
        yield f"filter {self.app}-outage of {self.worker_log}", ([OUTAGE_LINE], f"{self.app}/Outages", "1")
        if self.settings["AUDIT_DAYS"]:
            yield f"filter {self.app}-audit of {self.worker_log}", ([AUDIT_LINE], f"{self.app}/Audits", "1")
            problem = '{ $.audit.problem = "*" }'
            yield f"filter {self.app}-audit of {self.starter_log}", (problem, f"{self.app}/Audits", "1")

    # --- roles ------------------------------------------------------------------------------------------------------

    def roles(self) -> Iterator[tuple[str, Any]]:
        """Against a confused deputy, only ECS of this account and Region takes a role of tasks; Lambda sends no such
        key when it takes a role. What the worker and the starter may do is seen when they do it (test_policies.py)."""
        tasks = f"ArnLike aws:SourceArn=arn:aws:ecs:{HERE}:*", f"StringEquals aws:SourceAccount={NUMBER}"
        by_ecs = {("ecs-tasks.amazonaws.com", "sts:AssumeRole", "", *tasks)}
        by_lambda = {("lambda.amazonaws.com", "sts:AssumeRole", "")}
        for name in ("starter", "task", "exec"):
            trust = by_lambda if name == "starter" else by_ecs
            kept = self.account.kept.get(f"role {self.app}-{name}-role", {})  # without the setting, what it has stays
            boundary = self.settings["ROLE_BOUNDARY_ARN"] or kept.get("boundary")
            rights = {self.app: self.rights_of_ecs() if name == "exec" else ANY}
            yield f"role {self.app}-{name}-role", (trust, rights, self.settings["ROLE_PATH"], boundary)

    def rights_of_ecs(self) -> set[tuple[str, ...]]:
        """GetAuthorizationToken takes no other resource; an image outside of ECR needs no right."""
        found = on(f"arn:aws:logs:{HERE}:log-group:{self.worker_log}:*", *LOGS)
        image = self.settings["IMAGE_URI"] or f"{NUMBER}.dkr.ecr.{REGION}.amazonaws.com/{self.app}:tag"
        in_ecr = re.match(r"(\d+)\.dkr\.ecr\.([\w-]+)\.amazonaws\.com/([^:]+)", image)
        if in_ecr:
            found |= on(f"arn:aws:ecr:{in_ecr[2]}:{in_ecr[1]}:repository/{in_ecr[3]}", *PULL)
            found |= on("*", "ecr:GetAuthorizationToken")
        return found

    # --- what runs --------------------------------------------------------------------------------------------------

    @cached_property
    def of_worker(self) -> dict[str, str]:
        """Variables of a worker: what is not set is left to it."""
        names = [setting.name for setting in mirror.settings.SETTINGS]
        url = f"https://sqs.{REGION}.amazonaws.com/{NUMBER}/{self.app}-q"
        processes = self.settings["PROCESSES"] or str(max(1, int(self.settings["TASK_CPU"]) // 1024))
        given = self.settings | {"QUEUE_URL": url, "PROCESSES": processes}
        left = {"ANNOUNCE": "none", "ROLLBACKS": "true"} | ({} if self.metrics else dict.fromkeys(OF_METRICS))
        return {
            name: given[name] for name in names if given[name] and left.get(name, "is given") not in (given[name], None)
        }

    @cached_property
    def of_starter(self) -> dict[str, str]:
        """Variables of the function: one that does not copy has of the worker's only what status asks for."""
        left = () if self.copies else ("STARTER_COPIES", "STARTER_MAX_SIZE")
        left += ("MIN_WORKERS",) if self.settings["MIN_WORKERS"] == "0" else ()
        names = {setting.name for setting in TABLE if setting.reader in ("starter", "both")}
        own = {name: self.settings[name] for name in names.difference(left)} | {
            **{name: self.of_worker[name] for name in ("QUEUE_URL", "PROCESSES")},
            "CLUSTER": f"{self.app}-cluster",
            "TASK_DEFINITION": f"{self.app}-task",
            "SUBNETS": ",".join(self.subnets),
            "SECURITY_GROUPS": ",".join(self.groups),
            "STARTED_BY": f"{self.app}-starter",
            "LAMBDA_POLL_RATE": str(self.rate),
            "AUDIT_STARTED_BY": f"{self.app}-audit" if self.settings["AUDIT_DAYS"] else "",
            "TAG_TASKS": "true" if self.settings["TAGS"] else "",
        }
        no_use = ("S3_CLIENT", "TASK_MEMORY")
        for name, value in self.of_worker.items():
            if name not in no_use if self.copies else name in FOR_STATUS:
                own.setdefault(name, value)
        return {name: value for name, value in own.items() if value}

    @cached_property
    def groups(self) -> list[str]:
        """Another VPC may have one of this name."""
        groups = self.account.of_kind("security-group")
        return [one["GroupId"] for one in groups if (one["GroupName"], one["VpcId"]) == (f"{self.app}-sg", VPC)]

    def tasks(self) -> Iterator[tuple[str, Any]]:
        """Container Insights may be an account's default, and costs. Fargate: awsvpc alone; its stopTimeout is 30 s
        unless 120, the most, are asked for; in a log's mode other than non-blocking the worker stands still."""
        insights = [{"name": "containerInsights", "value": "disabled"}]
        yield f"cluster {self.app}-cluster", (["FARGATE", "FARGATE_SPOT"], insights, "ACTIVE")
        yield from ((f"security-group {group}", ([], [EVERYTHING])) for group in self.groups)
        if not self.settings["IMAGE_URI"]:
            selection = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 5}
            rule = ("keep the last 5 images", selection, {"type": "expire"})
            yield f"repository {self.app}", ("IMMUTABLE", {"scanOnPush": True}, [rule])
        options = {"awslogs-group": self.worker_log, "awslogs-region": REGION, "awslogs-stream-prefix": "worker"}
        container = {
            "name": "worker",
            "image": self.settings["IMAGE_URI"]
            or f"{NUMBER}.dkr.ecr.{REGION}.amazonaws.com/{self.app}:one that is there",
            "essential": True,
            "environment": self.of_worker,
            "stopTimeout": 120,
            "readonlyRootFilesystem": True,
            "linuxParameters": {"initProcessEnabled": True},
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": options | {"mode": "non-blocking", "max-buffer-size": "25m"},
            },
        }
        architecture = {"cpuArchitecture": self.settings["TASK_ARCH"], "operatingSystemFamily": "LINUX"}
        yield f"task {self.app}-task", {
            "family": f"{self.app}-task", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"],
            "cpu": self.settings["TASK_CPU"], "memory": self.settings["TASK_MEMORY"],
            "taskRoleArn": self.role("task"), "executionRoleArn": self.role("exec"),
            "runtimePlatform": architecture, "containerDefinitions": [container],
        }  # fmt: skip
        yield f"function {self.app}-starter", self.function()

    def function(self) -> dict[str, Any]:
        """Lambda's own defaults would be x86_64 and 3 s. A start that failed is tried by the next minute's event; one
        that Lambda replays is for a stale count. Two at once could both see no worker, so without reserved concurrency
        events start none."""
        names = (self.rule, *[self.event_rule] * (self.by_rule and self.reserves))
        rules = [f"arn:aws:events:{HERE}:rule/{name}" for name in names]
        return {
            "Role": self.role("starter"), "Runtime": "python3.13", "Handler": "starter.handler",
            "MemorySize": 512 if self.copies else 128, "Timeout": 60, "Architectures": ["arm64"],
            "Environment": self.of_starter,
            "CodeSha256": code_of(CONTENTS["true" if self.copies else "false"]),
            "invoke": {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60},
            "concurrency": 1 if self.reserves else None,
            "statements": {
                ("events.amazonaws.com", "lambda:InvokeFunction", self.starter, f"ArnLike AWS:SourceArn={rule}")
                for rule in rules
            },
        }  # fmt: skip

    # --- events -----------------------------------------------------------------------------------------------------

    def events(self) -> Iterator[tuple[str, Any]]:
        """1 minute is singular, all others are plural. S3 writes keys in its own events, and so in its filters, encoded
        like a form; in those of EventBridge a key is as it is, and a rule takes no prefixes and exclusions at once."""
        rate = "rate(1 minute)" if self.rate == 1 else f"rate({self.rate} minutes)"
        says = "Looks at the queue and starts workers"
        yield f"rule {self.rule}", (rate, None, "ENABLED", says, {"starter": {"Id": "starter", "Arn": self.starter}})
        numbered = (
            (self.app if number == 1 else f"{self.app}-{number}", p) for number, p in enumerate(self.prefixes, 1)
        )
        ours = {(name, frozenset(NOTIFIED), quote_plus(prefix, safe="/")) for name, prefix in numbered}
        yield f"notifications {SOURCE}", set() if self.by_rule else ours
        if self.by_rule:
            detail: dict[str, Any] = {"bucket": {"name": [SOURCE]}}
            if self.prefixes != [""]:
                detail["object"] = {"key": [{"prefix": prefix} for prefix in self.prefixes]}
            elif self.settings["EXCLUDE"]:
                detail["object"] = {"key": [{"anything-but": {"wildcard": items(self.settings["EXCLUDE"])}}]}
            pattern = {"source": ["aws.s3"], "detail-type": EVENTS, "detail": detail}
            says = "Sends the events of the source bucket to the queue, and starts the starter"
            targets = {"queue": {"Id": "queue", "Arn": self.queue}}
            # The rule that fires every minute makes up for a start that fails.
            new = {"RetryPolicy": {"MaximumEventAgeInSeconds": 60}}
            targets |= {"starter": {"Id": "starter", "Arn": self.starter, **new}} if self.reserves else {}
            yield f"rule {self.event_rule}", (None, pattern, "ENABLED", says, targets)

    def destination(self) -> Iterator[tuple[str, Any]]:
        """S3 User Guide, "Working with S3 Lifecycle for directory buckets": a session that may only read aborts and
        expires nothing."""
        if self.settings["DST_BUCKET_OWNER"] != NUMBER:
            return
        session = ("s3express:CreateSession", f"arn:aws:s3express:{HERE}:bucket/{MIRROR}")
        only = "StringEquals s3express:SessionMode=ReadWrite"
        yield f"bucket-policy {MIRROR}", {("lifecycle.s3.amazonaws.com", *session, only)}
        days = self.settings["KEEP_DAYS"]
        kept = keeping(self.prefixes, int(days), self.app) if days else []
        yield f"lifecycle {MIRROR}", [abort(self.app), *kept]

    # --- alarms and the dashboard -----------------------------------------------------------------------------------

    def alarms(self) -> Iterator[tuple[str, Any]]:
        mail, topic = self.settings["ALARM_EMAIL"], f"arn:aws:sns:{HERE}:{self.app}-alarms"
        if mail:
            yield f"topic {self.app}-alarms", [mail]
        for name, (metric, dimension, statistic, threshold, periods) in self.watched():
            is_low = name == "starter-silent"  # what does not run reports nothing, and an idle queue neither
            watches = "LessThanThreshold" if is_low else "GreaterThanThreshold", "missing" if is_low else "notBreaching"
            tells = (True, *[topic] * bool(mail)), [topic] * bool(is_low and mail)
            yield f"alarm {self.app}-{name}", (metric, dimension, statistic, threshold, periods, watches, tells)
        if self.settings["DASHBOARD"] == "true":
            yield f"dashboard {self.app}", dict(self.widgets())

    def watched(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Name -> metric, dimension, statistic, threshold, then the seconds of a period, periods, and how many of them
        are too much; see test_alarms.py."""
        queue, starter = f"QueueName={self.app}", f"FunctionName={self.app}-starter"
        failing = (300, self.rate // 5 + 2, 2) if self.rate <= 60 else (60 * self.rate, 1, 1)
        silence = 60 * ((self.rate * 3 + 4) // 5)
        late = int(self.settings["ALARM_AGE_SECONDS"])
        if late == 3600:  # a start may take ten minutes; five too many are not seen in three periods
            late = max(late, 60 * (self.rate + 10 - 5))
        yield "dead-letters", ("AWS/SQS/ApproximateNumberOfMessagesVisible", f"{queue}-dlq", "Maximum", 0, (300, 1, 1))
        yield "behind", ("AWS/SQS/ApproximateAgeOfOldestMessage", f"{queue}-q", "Maximum", late, (300, 3, 3))
        yield "starter-fails", ("AWS/Lambda/Errors", starter, "Sum", 0, failing)
        yield "starter-silent", ("AWS/Lambda/Invocations", starter, "Sum", 1, (silence, 3, 3))
        yield "outage", (f"{self.app}/Outages", "", "Sum", 0, (300, 6, 1))
        if self.by_rule:
            rule = f"RuleName={self.event_rule}"
            yield "events", ("AWS/Events/FailedInvocations", rule, "Sum", 0, (300, 1, 1))
        if self.settings["AUDIT_DAYS"]:
            yield "audit", (f"{self.app}/Audits", "", "Sum", 0, (300, 1, 1))
        if self.metrics:  # the share of 3 late keys among 2000, in percent
            yield "late", (f"{self.app}/LateKeys of Keys: 0.15", "", "Sum", 0.1, (300, 6, 1))

    def widgets(self) -> Iterator[tuple[str, Any]]:
        """Title -> what it shows: (statistic, metrics), or (log groups, the part of QUERIES)."""
        queue, starter = ("QueueName", f"{self.app}-q"), ("FunctionName", f"{self.app}-starter")
        rule, visible = ("RuleName", self.event_rule), "ApproximateNumberOfMessagesVisible"

        def of(service: str, dimension: tuple[str, str], *names: str) -> set[tuple[str, ...]]:
            return {(f"AWS/{service}", name, *dimension) for name in names}

        in_work = "ApproximateNumberOfMessagesNotVisible"
        yield "Messages in the queue", ("Maximum", of("SQS", queue, visible, in_work))
        yield "Age of the oldest message (s)", ("Maximum", of("SQS", queue, "ApproximateAgeOfOldestMessage"))
        yield "Dead letters", ("Maximum", of("SQS", ("QueueName", f"{self.app}-dlq"), visible))
        yield "Starter: runs and errors", ("Sum", of("Lambda", starter, "Invocations", "Errors"))
        if self.by_rule:
            calls = of("Events", rule, "Invocations", "FailedInvocations")
            yield "Event rule: calls of its targets", ("Sum", calls)
            waits = of("Lambda", starter, "Throttles", "AsyncEventsDropped")
            yield "Starter: runs that had to wait, and dropped ones", ("Sum", waits)
        if self.copies:
            yield "Starter: longest run (ms)", ("Maximum", of("Lambda", starter, "Duration"))
        own = {
            "keys a minute": ("Sum", "CopiedKeys", "DeletedKeys", "FailedKeys"),
            "bytes a minute": ("Sum", "CopiedBytes"),
        }
        own |= {"lag from event to copy (s)": ("p50", "Lag")}
        own |= {"keys that are late, or held by an outage or as markers": ("Sum", "LateKeys", "HeldKeys")}
        if self.metrics:
            for title, (statistic, *names) in own.items():
                yield f"Metrics: {title}", (statistic, {(self.app, name) for name in names})
        for title, part in QUERIES.items():
            groups = [self.worker_log, *([self.starter_log] if self.copies and title != "Workers" else [])]
            yield title, (groups, part)


# What the dashboard calls a metric; the titles say of what it is.
LABELS = {
    "ApproximateNumberOfMessagesVisible": {"waiting", "parked"},
    "ApproximateNumberOfMessagesNotVisible": {"in-work"},
    "ApproximateAgeOfOldestMessage": {"age"},
    "Invocations": {"runs", "calls"},
    "Errors": {"errors"},
    "FailedInvocations": {"failed"},
    "Throttles": {"waited"},
    "AsyncEventsDropped": {"dropped"},
    "Duration": {"longest"},
    "CopiedKeys": {"copied"},
    "DeletedKeys": {"deleted"},
    "FailedKeys": {"failed"},
    "CopiedBytes": {"copied"},
    "Lag": {"p50", "p99"},
    "LateKeys": {"late"},
    "HeldKeys": {"held"},
}
OF_METRICS = ("METRICS", "ALARM_LAG_SECONDS", "APP_NAME")


def abort(app: str = APP) -> dict[str, Any]:
    uploads = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}
    return {"ID": f"{app}-abort-incomplete-uploads", "Status": "Enabled", "Filter": {"Prefix": ""}} | uploads


def keeping(prefixes: list[str], days: int, app: str = APP) -> list[dict[str, Any]]:
    """The rules of KEEP_DAYS."""
    rule = {"Status": "Enabled", "Expiration": {"Days": days}}
    rules = []
    for number, prefix in enumerate(prefixes, 1):
        name = f"{app}-keep" if number == 1 else f"{app}-keep-{number}"
        rules.append({"ID": name, "Filter": {"Prefix": prefix}} | rule)
    return rules


# --- what an account keeps, in the same form ------------------------------------------------------------------------


def to_whom(policy: str) -> set[tuple[str, ...]]:
    """What a policy of a resource grants, after the one service that it grants it to."""
    found = set()
    for statement in json.loads(policy)["Statement"]:
        if statement == TLS_ONLY:
            continue
        (kind, service), *others = statement["Principal"].items()
        assert (kind, others) == ("Service", []) and isinstance(service, str), statement
        alone = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        found |= {(service, *grant) for grant in grants(alone)}
    return found


HARMFUL_OF_FUNCTION = ("VpcConfig", "Layers", "FileSystemConfigs", "KMSKeyArn", "DeadLetterConfig", "LoggingConfig")
HARMFUL_OF_FUNCTION += ("DestinationConfig",)


class Compared:
    """Of what there is of an app, the document of a name in the form of Asked; AWS's own additions do not count."""

    def __init__(self, kept: Kept, app: str) -> None:
        self.kept, self.app = kept, app

    def kept_of(self, name: str) -> Any:
        return self.newest_task() if name.startswith("task ") else self.kept.get(name, {})

    def __getitem__(self, name: str) -> Any:
        kind, found = name.partition(" ")[0], self.kept_of(name)
        if not found and kind != "notifications":
            return None
        return getattr(self, kind.replace("-", "_"))(found)

    def newest_task(self) -> Any:
        tasks = [one for name, one in self.kept.items() if name.startswith(f"task {self.app}-task:")]
        return max(tasks, key=lambda one: int(one["taskDefinitionArn"].rpartition(":")[2]), default={})

    def queue(self, found: Any) -> Any:
        """Without a size that events need, and that is set where somebody had set another one."""
        read = {"Policy": to_whom, "RedrivePolicy": json.loads}
        allows_all = ("RedriveAllowPolicy", '{"redrivePermission":"allowAll"}')
        attributes = found["Attributes"].items() - {("MaximumMessageSize", "262144"), allows_all}
        return {name: read.get(name, str)(value) for name, value in attributes}

    def log_group(self, found: Any) -> Any:
        return found.get("retentionInDays")

    def filter(self, found: Any) -> Any:
        (into,) = found["metricTransformations"]
        pattern, metric = found["filterPattern"], f"{into['metricNamespace']}/{into['metricName']}"
        if pattern.startswith("%"):
            pattern = [line for line in (OUTAGE_LINE, AUDIT_LINE, *OTHER_LINES) if re.search(pattern.strip("%"), line)]
        more = {"dimensions": into["dimensions"]} if into.get("dimensions") else {}
        return pattern, metric, into["metricValue"], *more.items()

    def role(self, found: Any) -> Any:
        policies = {name: grants(policy) for name, policy in found["policies"].items()}
        return to_whom(found["trust"]), policies, found["path"], found["boundary"]

    def cluster(self, found: Any) -> Any:
        return sorted(found["capacityProviders"]), found["settings"], found["status"]

    def security_group(self, found: Any) -> Any:
        return found["IpPermissions"], found["IpPermissionsEgress"]

    def repository(self, found: Any) -> Any:
        rules = [
            (rule["description"], rule["selection"], rule["action"]) for rule in json.loads(found["lifecycle"])["rules"]
        ]
        return found["imageTagMutability"], found["imageScanningConfiguration"], rules

    def task(self, found: Any) -> Any:
        (container,) = found["containerDefinitions"]
        image, _, tag = container["image"].rpartition(":")
        if f"image {tag}" in self.kept:
            image = f"{image}:one that is there"
        environment = {one["name"]: one["value"] for one in container["environment"]}
        shown = {n: v for n, v in container.items() if n != "dockerLabels"}
        shown |= {"image": image if f"image {tag}" in self.kept else container["image"], "environment": environment}
        rest = {n: v for n, v in found.items() if n not in ("taskDefinitionArn", "tags", "status")}
        return rest | {"containerDefinitions": [shown]}

    def function(self, found: Any) -> Any:
        """Without what the guard goes by, which test_path.py and test_watchers.py are about."""
        names = ("Role", "Runtime", "Handler", "MemorySize", "Timeout", "Architectures", "CodeSha256", "invoke")
        given = found["Environment"]["Variables"]
        variables = {name: value for name, value in given.items() if name not in ("GUARD", "ALARMS_TO")}
        statements = json.dumps({"Statement": list(found["statements"].values())})
        shown = {name: found.get(name) for name in (*names, "concurrency")}
        shown["invoke"] = {name: value for name, value in shown["invoke"].items() if name != "DestinationConfig"}
        to_theirs = {"OnSuccess": {"Destination": THEIR_TOPIC}}
        nothing = (None, [], NO_VPC, {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{self.app}-starter"}, to_theirs)
        parts = found | {"DestinationConfig": found["invoke"].get("DestinationConfig")}
        harmful = {name: parts[name] for name in HARMFUL_OF_FUNCTION if parts.get(name) not in nothing}
        return shown | harmful | {"Environment": variables, "statements": to_whom(statements)}

    def rule(self, found: Any) -> Any:
        pattern = json.loads(found["EventPattern"]) if "EventPattern" in found else None
        targets = {name: target for name, target in found["targets"].items() if target != THEIR_TARGET}
        return found.get("ScheduleExpression"), pattern, found["State"], found["Description"], targets

    def notifications(self, found: Any) -> Any:
        """Ours, by their queue."""
        shown = set()
        for one in found.get("QueueConfigurations", []):
            filters = {
                rule["Name"].lower(): rule["Value"]
                for rule in one.get("Filter", {}).get("Key", {}).get("FilterRules", [])
            }
            assert filters.keys() <= {"prefix"} or "suffix" in filters
            if one["QueueArn"].endswith(f":{self.app}-q"):
                shown.add((one["Id"], frozenset(one["Events"]), filters.get("prefix", "")))
        return shown

    def bucket_policy(self, found: Any) -> Any:
        return to_whom(found)

    def lifecycle(self, found: Any) -> Any:
        return [rule for rule in found if rule["ID"].startswith(self.app)]

    def topic(self, found: Any) -> Any:
        """Those of other kinds are someone's own."""
        return [one["Endpoint"] for one in found["subscriptions"] if one["Protocol"] == "email"]

    def alarm(self, found: Any) -> Any:
        """Its mail has no more than the description: which deployment, why, what to do, and where more is."""
        which = rf"{APP}: {self.app} in {REGION} copies {SOURCE} to {MIRROR}\. Why: .+ What to do: .*\./sync\.sh .+"
        others = r"\./sync\.sh status also shows which other alarms are red\."
        more = re.fullmatch(rf"{which} {others} More: docs/troubleshooting\.md#(.+)", found["AlarmDescription"])
        assert more and f"\n### {more[1]}\n" in HELP, found["AlarmDescription"]
        if found["AlarmName"] == f"{self.app}-starter-silent":
            minutes = f"has not run for {found['Period'] // 12} to {found['Period'] // 10} minutes"
            assert minutes in found["AlarmDescription"]
        dimension = "".join(f"{one['Name']}={one['Value']}" for one in found.get("Dimensions", []))
        if "Metrics" in found:
            metric, statistic, seconds = self.share(found["Metrics"])
        else:
            metric, statistic, seconds = (
                f"{found['Namespace']}/{found['MetricName']}",
                found["Statistic"],
                found["Period"],
            )
        periods = seconds, found["EvaluationPeriods"], found["DatapointsToAlarm"]
        watches = found["ComparisonOperator"], found["TreatMissingData"]
        actions = [
            [one for one in found.get(name, []) if one.endswith(f":{self.app}-alarms")]
            for name in ("AlarmActions", "InsufficientDataActions")
        ]
        tells = (found["ActionsEnabled"], *actions[0]), actions[1]
        unit = found.get("Unit", "")
        return f"{metric}{unit}", dimension, statistic, found["Threshold"], periods, watches, tells

    def share(self, metrics: Any) -> tuple[str, str, int]:
        """CloudWatch API reference, PutMetricAlarm: one of the metrics returns data."""
        keys, late, share = sorted(metrics, key=lambda one: one["Id"])
        assert [one["ReturnData"] for one in (keys, late, share)] == [False, False, True]
        stats = {(one["MetricStat"]["Stat"], one["MetricStat"]["Period"]) for one in (keys, late)}
        ((statistic, seconds),) = stats
        names = [one["MetricStat"]["Metric"] for one in (late, keys)]
        assert names[0]["Namespace"] == names[1]["Namespace"]
        value = eval(share["Expression"], {late["Id"]: 3, keys["Id"]: 2000})
        return (
            f"{names[0]['Namespace']}/{names[0]['MetricName']} of {names[1]['MetricName']}: {value}",
            statistic,
            seconds,
        )

    def dashboard(self, found: Any) -> Any:
        shown = {}
        for widget in json.loads(found)["widgets"]:
            properties = widget["properties"]
            assert properties["region"] == REGION
            assert widget["x"] + widget["width"] <= 24
            title = properties["title"]
            if widget["type"] == "metric":
                shown[title] = properties["stat"], {tuple(metric[:-1]) for metric in properties["metrics"]}
                for _, name, *_, line in properties["metrics"]:
                    assert line["label"] in LABELS[name]
                    assert name != "Lag" or line.get("stat", properties["stat"]) == line["label"]
            else:
                groups = re.findall("SOURCE '([^']+)' \\| ", properties["query"])
                shown[title] = groups, QUERIES[title] if QUERIES[title] in properties["query"] else properties["query"]
        return shown


# The alarms of each deployment.
USUAL_ALARMS = [name for name, _ in Asked(PaperAccount(), {}).watched()]
