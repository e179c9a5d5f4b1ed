"""What AWS authorizes when a call is made: actions, each on a resource, with the keys of the request for conditions.

Source: Service Authorization Reference; for directory buckets S3 User Guide, "Authorizing Regional endpoint API
operations with IAM" and "Authorizing Zonal endpoint API operations with CreateSession". What a call needs beside its
own action is in its API reference, and, for a move of messages, in the Amazon SQS Developer Guide.
"""

import fnmatch
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

from account import APP, REGION
from call import READ, Call
from policies_and_patterns import as_list, fits, is_for


class Need(NamedTuple):
    action: str
    resource: str
    context: dict[str, str] = {}  # noqa: RUF012 - nobody changes it


class Grant(NamedTuple):
    """One action on one pattern of resources that a statement of a policy allows."""

    statement: int
    action: str
    resource: str


def grants(policy: dict[str, Any]) -> set[Grant]:
    return {
        Grant(number, action, resource)
        for number, statement in enumerate(policy["Statement"])
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
        if is_for(action, resource)
    }


def allowing(policy: dict[str, Any], need: Need) -> set[Grant]:
    """The grants that allow it. A key that the request does not have fits no condition."""
    return {
        grant
        for grant in grants(policy)
        if grant.action == need.action
        and fnmatch.fnmatchcase(need.resource, grant.resource)
        and all(
            fits_context(operator, wanted, need.context.get(key))
            for operator, keys in policy["Statement"][grant.statement].get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    }


def fits_context(operator: str, wanted: Any, have: str | None) -> bool:
    """Whether what the request says of a key fits; one that it does not have only fits Null."""
    if operator == "Null":
        return wanted == ("true" if have is None else "false")
    return have is not None and any(fits(operator, one, have) for one in as_list(wanted))


# --- the action of a call, and what it is on ------------------------------------------------------------------------

PREFIXES = {"service-quotas": "servicequotas"}
NAMES = {
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "lambda:Invoke": "lambda:InvokeFunction",
}
# These are on no resource.
GLOBAL = {
    *("cloudwatch:GetMetricData", "cloudwatch:GetMetricStatistics", "ecr:GetAuthorizationToken"),
    *("ecs:DeregisterTaskDefinition", "ecs:DescribeTaskDefinition", "ecs:ListTaskDefinitions", "ecs:ListTasks"),
    *("events:ListRules", "iam:ListRoles", "lambda:GetAccountSettings", "logs:DescribeLogGroups"),
    *("logs:GetQueryResults", "servicequotas:GetServiceQuota", "sns:Unsubscribe"),
}
# Service -> (parameter, the resource of each of its values), the first that a call has. A value may be an ARN itself.
RESOURCES = {
    "cloudwatch": (
        *((name, "cloudwatch:{here}:alarm:{}") for name in ("AlarmName", "AlarmNames", "ResourceARN")),
        *((name, "cloudwatch::{number}:dashboard/{}") for name in ("DashboardName", "DashboardNames")),
    ),
    "ecr": tuple((name, "ecr:{here}:repository/{}") for name in ("repositoryName", "repositoryNames", "resourceArn")),
    "ecs": (
        *((name, "ecs:{here}:task/{cluster}/{}") for name in ("tasks", "task")),
        *((name, "ecs:{here}:task-definition/{}:1") for name in ("taskDefinition", "taskDefinitions", "family")),
        *((name, "ecs:{here}:cluster/{}") for name in ("clusterName", "clusters", "cluster", "resourceArn")),
    ),
    "events": tuple((name, "events:{here}:rule/{}") for name in ("Name", "Rule", "ResourceARN")),
    "iam": (("RoleName", "iam::{number}:role{path}{}"), ("PolicyArn", "")),
    "lambda": tuple((name, "lambda:{here}:function:{}") for name in ("FunctionName", "Resource")),
    "logs": tuple((name, "logs:{here}:log-group:{}:log-stream:") for name in ("logGroupName", "logGroupNames")),
    "sns": tuple((name, "sns:{here}:{}") for name in ("Name", "TopicArn", "ResourceArn")),
    "sqs": tuple((name, "sqs:{here}:{}") for name in ("QueueName", "QueueUrl", "SourceArn")),
}
TAGGING = {"iam": "iam:TagRole", "logs": "logs:TagLogGroup", "sqs": "sqs:TagQueue"}
OWNER_OF_VPC = "333333333333"  # who shares it (AWS RAM)
# Parameters that name resources of EC2.
IN_NETWORK = (
    *("VpcId", "RouteTableIds", "AddRouteTableIds", "GroupId"),
    *("VpcEndpointId", "VpcEndpointIds", "Resources"),
)
PUSHING = ("BatchCheckLayerAvailability", "BatchGetImage", "CompleteLayerUpload", "InitiateLayerUpload", "PutImage")

S3_ACTIONS = {
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
    **dict.fromkeys(("CopyObject", "CreateMultipartUpload", "UploadPartCopy", "CompleteMultipartUpload"), "PutObject"),
}
# All else on a directory bucket is done in a session.
EXPRESS_ACTIONS = {
    **{name: name for name in ("GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy")},
    "ListDirectoryBuckets": "ListAllMyDirectoryBuckets",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "ListBucketMetricsConfigurations": "GetMetricsConfiguration",
    "PutBucketMetricsConfiguration": "PutMetricsConfiguration",
    "DeleteBucketMetricsConfiguration": "PutMetricsConfiguration",
}


class Authorizing:
    """`kept` is what there is, as in paper_account.py: the tags, paths and boundaries that the keys and ARNs are of."""

    def __init__(self, number: str, kept: dict[str, Any]) -> None:
        self.number, self.here, self.kept = number, f"{REGION}:{number}", kept

    def needs(self, call: Call) -> Iterator[Need]:
        """All of them have to be allowed."""
        operation, given = call.operation.split()[0], call.parameters
        if call.service == "sts":  # needs no right
            return
        if call.service in ("s3", "ec2", "docker"):
            yield from getattr(self, call.service)(operation, given)
            return
        action = f"{PREFIXES.get(call.service, call.service)}:{operation}"
        action = NAMES.get(action, action)
        resources = ["*"] if action in GLOBAL else list(self.resources(call.service, operation, given))
        context = self.context(operation, given)
        yield from (Need(action, resource, context) for resource in resources)
        if (given.get("tags") or given.get("Tags")) and not operation.startswith("Tag"):
            yield from (Need(TAGGING.get(call.service, f"{call.service}:TagResource"), one) for one in resources)
            if call.service == "logs":  # one of the two; its ARN is that of the group alone
                yield Need("logs:TagResource", f"arn:aws:logs:{self.here}:log-group:{given['logGroupName']}")
        yield from self.beside(call.service, operation, given)

    def resources(self, service: str, operation: str, given: dict[str, Any]) -> Iterator[str]:
        if operation == "DescribeAlarms":  # whichever it asks for
            yield f"arn:aws:cloudwatch:{self.here}:alarm:*"
        elif operation == "PutEvents":
            yield f"arn:aws:events:{self.here}:event-bus/default"
        elif operation == "CreateServiceLinkedRole":
            yield f"arn:aws:iam::{self.number}:role/aws-service-role/{given['AWSServiceName']}/AWSServiceRoleForECS"
        else:
            parameter, form = next(row for row in RESOURCES[service] if row[0] in given)
            for value in as_list(given[parameter]):
                yield self.arn(form, value, given)

    def arn(self, form: str, value: str, given: dict[str, Any]) -> str:
        if value.startswith("arn:"):
            return value
        if "://" in value:
            value = value.rpartition("/")[2]
        # Of a role that does not exist, IAM knows no path.
        path = given.get("Path") or self.kept.get(f"role {value}", {}).get("path", "/")
        names = {"here": self.here, "number": self.number, "cluster": given.get("cluster"), "path": path}
        return f"arn:aws:{form}".format(value, **names)

    def context(self, operation: str, given: dict[str, Any]) -> dict[str, str]:
        found = {}
        if "cluster" in given:
            found["ecs:cluster"] = f"arn:aws:ecs:{self.here}:cluster/{given['cluster']}"
        if "AWSServiceName" in given:
            found["iam:AWSServiceName"] = given["AWSServiceName"]
        if "RoleName" in given:
            kept = self.kept.get(f"role {given['RoleName']}", {}).get("boundary")
            boundary = given.get("PermissionsBoundary") or (kept if operation != "CreateRole" else "")
            found |= {"iam:PermissionsBoundary": boundary} if boundary else {}
        return found

    def beside(self, service: str, operation: str, given: dict[str, Any]) -> Iterator[Need]:
        """What a call needs beside its own action."""
        if service == "lambda" and "Role" in given:
            yield Need("iam:PassRole", given["Role"], {"iam:PassedToService": "lambda.amazonaws.com"})
        if service == "ecs" and operation in ("RegisterTaskDefinition", "RunTask"):
            for role in self.roles_of(given):
                yield Need("iam:PassRole", role, {"iam:PassedToService": "ecs-tasks.amazonaws.com"})
        if given.get("propagateTags", "NONE") != "NONE":
            tasks = f"arn:aws:ecs:{self.here}:task/{given['cluster']}/new"
            yield Need("ecs:TagResource", tasks, {"ecs:CreateAction": "RunTask"})
        if operation == "StartMessageMoveTask":
            for name in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes"):
                yield Need(f"sqs:{name}", given["SourceArn"])
            yield Need("sqs:SendMessage", given["DestinationArn"])

    def roles_of(self, given: dict[str, Any]) -> list[str]:
        """Both roles of the tasks."""
        if "taskRoleArn" in given:
            return [given["taskRoleArn"], given["executionRoleArn"]]
        return [self.arn("iam::{number}:role{path}{}", f"{APP}-{role}-role", {}) for role in ("task", "exec")]

    # --- services with a way of their own ---------------------------------------------------------------------------

    def docker(self, operation: str, given: dict[str, Any]) -> Iterator[Need]:
        """A push to ECR (Amazon ECR User Guide, "IAM permissions for pushing an image")."""
        if operation == "push":
            name = given["words"][1].partition("/")[2].partition(":")[0]
            for action in (*PUSHING, "UploadLayerPart"):
                yield Need(f"ecr:{action}", f"arn:aws:ecr:{self.here}:repository/{name}")

    def ec2(self, operation: str, given: dict[str, Any]) -> Iterator[Need]:
        if operation.startswith("Describe"):
            yield Need(f"ec2:{operation}", "*")
            return
        made = {"CreateSecurityGroup": "security-group", "CreateVpcEndpoint": "vpc-endpoint"}.get(operation)
        if made:
            new = f"arn:aws:ec2:{self.here}:{made}/new"
            yield Need(f"ec2:{operation}", new)
            yield Need("ec2:CreateTags", new, {"ec2:CreateAction": operation})
        for name in (one for part in IN_NETWORK for one in as_list(given.get(part, []))):
            yield self.in_network(operation, name)

    def in_network(self, operation: str, name: str) -> Need:
        kinds = {"vpc": "vpc", "rtb": "route-table", "sg": "security-group", "vpce": "vpc-endpoint"}
        kind = kinds[name.partition("-")[0]]
        document = self.kept.get(f"{kind} {name}", self.kept.get(f"endpoint {name}", {}))
        tags = {f"aws:ResourceTag/{tag['Key']}": tag["Value"] for tag in document.get("Tags", [])}
        here = f"{REGION}:{OWNER_OF_VPC}" if kind == "vpc" else self.here
        return Need(f"ec2:{operation}", f"arn:aws:ec2:{here}:{kind}/{name}", tags)

    def s3(self, operation: str, given: dict[str, Any]) -> Iterator[Need]:
        bucket = given.get("Bucket", "")
        if operation == "ListDirectoryBuckets":
            yield Need(f"s3express:{EXPRESS_ACTIONS[operation]}", "*")
        elif bucket.endswith("--x-s3"):
            yield from self.express(operation, f"arn:aws:s3express:{self.here}:bucket/{bucket}", bucket)
        else:
            yield from self.general(operation, f"arn:aws:s3:::{bucket}", bucket, given)
        if "CopySource" in given:
            source = unquote(given["CopySource"]).lstrip("/")
            yield Need("s3:GetObject", f"arn:aws:s3:::{source}")
            yield from self.keys(source.partition("/")[0], "Decrypt")

    def express(self, operation: str, resource: str, bucket: str) -> Iterator[Need]:
        if operation in EXPRESS_ACTIONS:
            yield Need(f"s3express:{EXPRESS_ACTIONS[operation]}", resource)
            return
        mode = "ReadOnly" if READ.match(operation) else "ReadWrite"  # or more, if that is allowed
        yield Need("s3express:CreateSession", resource, {"s3express:SessionMode": mode})
        yield from self.keys(bucket, "GenerateDataKey", "Decrypt")

    def general(self, operation: str, resource: str, bucket: str, given: dict[str, Any]) -> Iterator[Need]:
        if operation == "DeleteObjects":
            for one in given["Delete"]["Objects"]:
                yield Need(f"s3:DeleteObject{'Version' if 'VersionId' in one else ''}", f"{resource}/{one['Key']}")
            return
        action = S3_ACTIONS.get(operation, operation)
        on = f"{resource}/{given['Key']}" if "Key" in given else resource
        yield Need(f"s3:{action}", on)
        if "Tagging" in given:
            yield Need("s3:PutObjectTagging", on)
        if operation == "CopyObject" and given.get("TaggingDirective", "COPY") == "COPY":
            yield from (Need(f"s3:{one}", on) for one in ("GetObjectTagging", "PutObjectTagging"))
        if action in ("GetObject", "PutObject"):
            yield from self.keys(bucket, *(["Decrypt"] if action == "GetObject" else ["GenerateDataKey", "Decrypt"]))

    def keys(self, bucket: str, *actions: str) -> Iterator[Need]:
        """Of a bucket whose objects are encrypted with keys of KMS, each with one of them."""
        if f"key {bucket}" in self.kept:
            for key in as_list(self.kept[f"key {bucket}"]):
                yield from (Need(f"kms:{action}", key) for action in actions)
