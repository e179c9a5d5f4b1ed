"""An AWS account on paper: it keeps what it is sent, and answers with it in the words of AWS.

It knows the calls of deploy.sh and cleanup.sh alone, and what these have to expect of them: the error that says "there
is none", the refusal to make a thing twice, and that AWS prints a document in a way of its own.
"""

import base64
import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from account import MIRROR, REGION, SOURCE
from recorder import Call

NUMBER = "123456789012"
HERE = f"{REGION}:{NUMBER}"
VPC = "vpc-1"
MADE_AT = "2026-01-02T03:04:05+00:00"
# STARTER_COPIES -> "BYTES SHA256 REMARK", as the archive of the function is packed.
CONTENTS = {"false": b"starter", "true": b"starter-with-libraries"}


def code_of(archive: bytes) -> str:
    return base64.b64encode(hashlib.sha256(archive).digest()).decode()


ARCHIVES = {
    copies: f"{archive.decode()} {code_of(archive)}{' compiled' if copies == 'true' else ''}"
    for copies, archive in CONTENTS.items()
}
# One has its own route table, one has no public address, and Fargate has no ARM64 in the zone of the last.
SUBNETS = [
    {"SubnetId": f"subnet-{n}", "VpcId": VPC, "AvailabilityZoneId": f"use1-az{zone}", "MapPublicIpOnLaunch": public}
    for n, zone, public in ((2, 2, True), (1, 1, True), (4, 4, False), (3, 3, True))
]
ROUTE_TABLES = [
    {"RouteTableId": "rtb-main", "VpcId": VPC, "Associations": [{"Main": True}]},
    {"RouteTableId": "rtb-2", "VpcId": VPC, "Associations": [{"Main": False, "SubnetId": "subnet-2"}]},
    {"RouteTableId": "rtb-4", "VpcId": VPC, "Associations": [{"Main": False, "SubnetId": "subnet-4"}]},
]


class Refused(Exception):  # noqa: N818
    """An error of AWS, by its code."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code


Answer = Callable[["PaperAccount", dict[str, Any]], Any]
ANSWERS: dict[tuple[str, str], Answer] = {}


def answers(service: str, *operations: str) -> Callable[[Answer], Answer]:
    def registered(answer: Answer) -> Answer:
        ANSWERS.update({(service, operation): answer for operation in operations})
        return answer

    return registered


def fixed(answer: Any) -> Answer:
    return lambda _account, _given: answer


class PaperAccount:
    """`kept` has each document by the kind and the name of its resource, such as "queue NAME"."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.refusals: dict[str, Refused] = {}  # operation -> what it answers
        self.kept["role-of-ecs AWSServiceRoleForECS"] = {}

    def answer(self, call: Call) -> Any:
        if call.operation in self.refusals:
            raise self.refusals[call.operation]
        return copy.deepcopy(ANSWERS[call.service, call.operation](self, copy.deepcopy(call.parameters)))

    def get(self, name: str, code: str = "ResourceNotFoundException") -> Any:
        if name not in self.kept:
            raise Refused(code)
        return self.kept[name]

    def make(self, name: str, document: Any, code: str = "ResourceAlreadyExistsException") -> Any:
        if name in self.kept:
            raise Refused(code)
        self.kept[name] = document
        return document

    def drop(self, name: str, code: str = "ResourceNotFoundException") -> None:
        self.get(name, code)
        del self.kept[name]

    def of_kind(self, kind: str) -> Iterator[Any]:
        return (document for name, document in self.kept.items() if name.startswith(f"{kind} "))

    def tag(self, name: str, tags: dict[str, str], code: str = "ResourceNotFoundException") -> None:
        self.get(name, code)["tags"] |= tags

    def docker(self, words: list[str]) -> str:
        if words[0] == "push":
            tag = words[1].rpartition(":")[2]
            self.kept[f"image {tag}"] = {"imageDigest": f"sha256:{'0' * 64}", "imageTags": [tag]}
        return {"buildx": "github.com/docker/buildx v0.13.1\n", "version": "26.1.5\n"}.get(words[0], "")


def pairs(tags: Any) -> dict[str, str]:
    """Tags as AWS is given them in any of its notations."""
    if isinstance(tags, dict):
        return dict(tags)
    return {tag.get("Key", tag.get("key")): tag.get("Value", tag.get("value")) for tag in tags or []}


def upper(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def lower(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def reworded(text: str) -> str:
    """The same JSON in another order and with other spaces."""

    def turned(value: Any) -> Any:
        return {key: turned(item) for key, item in reversed(value.items())} if isinstance(value, dict) else value

    return json.dumps(turned(json.loads(text)), indent=1)


def without(given: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in names}


def named(kind: str, arn: str) -> str:
    """The key of what an ARN means."""
    return f"{kind} {arn.split(':')[-1].rpartition('/')[2]}"


ANSWERS["sts", "GetCallerIdentity"] = fixed(
    {"Account": NUMBER, "Arn": f"arn:aws:iam::{NUMBER}:user/someone", "UserId": "U"}
)
ANSWERS["service-quotas", "GetServiceQuota"] = fixed({"Quota": {"QuotaCode": "L-36FBB829", "Value": 64.0}})

# --- S3 -----------------------------------------------------------------------------------------------------------

ANSWERS["s3", "GetBucketLocation"] = fixed({"LocationConstraint": None if REGION == "us-east-1" else REGION})
ANSWERS["s3", "ListDirectoryBuckets"] = fixed({"Buckets": [{"Name": MIRROR}]})


@answers("s3", "GetBucketNotificationConfiguration")
def get_notifications(account: PaperAccount, given: dict[str, Any]) -> Any:
    """S3 answers events and filter names in its own order and case, and nothing at all if there is nothing."""
    assert given["Bucket"] == SOURCE
    found = copy.deepcopy(account.kept.get(f"notifications {SOURCE}", {}))
    for queue in found.get("QueueConfigurations", []):
        queue["Events"].reverse()
        for rule in queue.get("Filter", {}).get("Key", {}).get("FilterRules", []):
            rule["Name"] = rule["Name"].capitalize()
    found.get("QueueConfigurations", []).reverse()
    return found or None


@answers("s3", "PutBucketNotificationConfiguration")
def put_notifications(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.kept[f"notifications {given['Bucket']}"] = given["NotificationConfiguration"]


@answers("s3", "GetBucketPolicy")
def get_bucket_policy(account: PaperAccount, given: dict[str, Any]) -> Any:
    return {"Policy": reworded(account.get(f"bucket-policy {given['Bucket']}", "NoSuchBucketPolicy"))}


@answers("s3", "PutBucketPolicy")
def put_bucket_policy(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.kept[f"bucket-policy {given['Bucket']}"] = given["Policy"]


@answers("s3", "DeleteBucketPolicy")
def delete_bucket_policy(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.drop(f"bucket-policy {given['Bucket']}", "NoSuchBucketPolicy")


@answers("s3", "GetBucketLifecycleConfiguration")
def get_lifecycle(account: PaperAccount, given: dict[str, Any]) -> Any:
    return {"Rules": account.get(f"lifecycle {given['Bucket']}", "NoSuchLifecycleConfiguration")}


@answers("s3", "PutBucketLifecycleConfiguration")
def put_lifecycle(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.kept[f"lifecycle {given['Bucket']}"] = given["LifecycleConfiguration"]["Rules"]


@answers("s3", "DeleteBucketLifecycle")
def delete_lifecycle(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.drop(f"lifecycle {given['Bucket']}", "NoSuchLifecycleConfiguration")


# --- SQS ----------------------------------------------------------------------------------------------------------

NO_QUEUE = "AWS.SimpleQueueService.NonExistentQueue"


def queue_of(given: dict[str, Any]) -> str:
    return f"queue {given['QueueUrl'].rpartition('/')[2]}"


@answers("sqs", "GetQueueUrl")
def get_queue_url(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.get(f"queue {given['QueueName']}", NO_QUEUE)
    return {"QueueUrl": f"https://sqs.{REGION}.amazonaws.com/{NUMBER}/{given['QueueName']}"}


@answers("sqs", "CreateQueue")
def create_queue(account: PaperAccount, given: dict[str, Any]) -> Any:
    document = {"Attributes": given["Attributes"], "tags": pairs(given.get("tags"))}
    account.make(f"queue {given['QueueName']}", document, "QueueNameExists")
    return get_queue_url(account, given)


@answers("sqs", "GetQueueAttributes")
def get_queue_attributes(account: PaperAccount, given: dict[str, Any]) -> Any:
    """With what SQS adds, of those that are asked for; the JSON in them in its own way."""
    attributes = dict(account.get(queue_of(given), NO_QUEUE)["Attributes"])
    for name in {"Policy", "RedrivePolicy"} & attributes.keys():
        attributes[name] = reworded(attributes[name])
    counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
    attributes |= {"MaximumMessageSize": "1048576", **dict.fromkeys(counts, "1")}
    asked = given.get("AttributeNames", [])
    found = {name: value for name, value in attributes.items() if name in asked or "All" in asked}
    return {"Attributes": found} if found else None


@answers("sqs", "SetQueueAttributes")
def set_queue_attributes(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.get(queue_of(given), NO_QUEUE)["Attributes"] |= given["Attributes"]


@answers("sqs", "TagQueue")
def tag_queue(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.tag(queue_of(given), given["Tags"], NO_QUEUE)


@answers("sqs", "ListQueueTags")
def list_queue_tags(account: PaperAccount, given: dict[str, Any]) -> Any:
    tags = account.get(queue_of(given), NO_QUEUE)["tags"]
    return {"Tags": tags} if tags else None


@answers("sqs", "DeleteQueue")
def delete_queue(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.drop(queue_of(given), NO_QUEUE)


# --- IAM ----------------------------------------------------------------------------------------------------------


@answers("iam", "GetRole")
def get_role(account: PaperAccount, given: dict[str, Any]) -> Any:
    role = account.get(f"role {given['RoleName']}", "NoSuchEntity")
    arn = f"arn:aws:iam::{NUMBER}:role/{given['RoleName']}"
    return {
        "Role": {
            "RoleName": given["RoleName"],
            "RoleId": "AROA0123456789ABCDEF",
            "Path": "/",
            "Arn": arn,
            "CreateDate": role["made"],
            "AssumeRolePolicyDocument": reworded(role["trust"]),
            "Tags": upper(role["tags"]),
        }
    }


@answers("iam", "CreateRole")
def create_role(account: PaperAccount, given: dict[str, Any]) -> Any:
    role = {"trust": given["AssumeRolePolicyDocument"], "tags": pairs(given.get("Tags")), "policies": {}}
    account.make(f"role {given['RoleName']}", role | {"made": MADE_AT}, "EntityAlreadyExists")
    return get_role(account, given)


@answers("iam", "UpdateAssumeRolePolicy")
def update_trust(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.get(f"role {given['RoleName']}", "NoSuchEntity")["trust"] = given["PolicyDocument"]


@answers("iam", "GetRolePolicy")
def get_role_policy(account: PaperAccount, given: dict[str, Any]) -> Any:
    policies = account.get(f"role {given['RoleName']}", "NoSuchEntity")["policies"]
    if given["PolicyName"] not in policies:
        raise Refused("NoSuchEntity")
    return given | {"PolicyDocument": reworded(policies[given["PolicyName"]])}


@answers("iam", "PutRolePolicy")
def put_role_policy(account: PaperAccount, given: dict[str, Any]) -> Any:
    policies = account.get(f"role {given['RoleName']}", "NoSuchEntity")["policies"]
    policies[given["PolicyName"]] = given["PolicyDocument"]


@answers("iam", "ListRolePolicies")
def list_role_policies(account: PaperAccount, given: dict[str, Any]) -> Any:
    return {"PolicyNames": list(account.get(f"role {given['RoleName']}", "NoSuchEntity")["policies"])}


@answers("iam", "ListAttachedRolePolicies")
def list_attached_policies(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.get(f"role {given['RoleName']}", "NoSuchEntity")
    return {"AttachedPolicies": []}


@answers("iam", "DeleteRolePolicy")
def delete_role_policy(account: PaperAccount, given: dict[str, Any]) -> Any:
    del account.get(f"role {given['RoleName']}", "NoSuchEntity")["policies"][given["PolicyName"]]


@answers("iam", "DeleteRole")
def delete_role(account: PaperAccount, given: dict[str, Any]) -> Any:
    if account.get(f"role {given['RoleName']}", "NoSuchEntity")["policies"]:
        raise Refused("DeleteConflict")
    account.drop(f"role {given['RoleName']}")


@answers("iam", "TagRole")
def tag_role(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.tag(f"role {given['RoleName']}", pairs(given["Tags"]), "NoSuchEntity")


@answers("iam", "ListRoles")
def list_roles(account: PaperAccount, given: dict[str, Any]) -> Any:
    assert given["PathPrefix"] == "/aws-service-role/ecs.amazonaws.com/"
    found = [
        {
            "RoleName": "AWSServiceRoleForECS",
            "RoleId": "AROA0123456789ABCDEF",
            "Path": given["PathPrefix"],
            "Arn": f"arn:aws:iam::{NUMBER}:role{given['PathPrefix']}AWSServiceRoleForECS",
            "CreateDate": MADE_AT,
        }
        for _ in account.of_kind("role-of-ecs")
    ]
    return {"Roles": found}


@answers("iam", "CreateServiceLinkedRole")
def create_service_linked_role(account: PaperAccount, given: dict[str, Any]) -> Any:
    assert given["AWSServiceName"] == "ecs.amazonaws.com"
    account.make("role-of-ecs AWSServiceRoleForECS", {}, "InvalidInput")


# --- CloudWatch Logs ----------------------------------------------------------------------------------------------


@answers("logs", "DescribeLogGroups")
def describe_log_groups(account: PaperAccount, given: dict[str, Any]) -> Any:
    found = [without(group, "tags") for group in account.of_kind("log-group")]
    return {"logGroups": [group for group in found if group["logGroupName"].startswith(given["logGroupNamePrefix"])]}


@answers("logs", "CreateLogGroup")
def create_log_group(account: PaperAccount, given: dict[str, Any]) -> Any:
    document = {"logGroupName": given["logGroupName"], "tags": given.get("tags", {})}
    account.make(f"log-group {given['logGroupName']}", document)


@answers("logs", "PutRetentionPolicy")
def put_retention(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.get(f"log-group {given['logGroupName']}")["retentionInDays"] = given["retentionInDays"]


@answers("logs", "TagLogGroup")
def tag_log_group(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.tag(f"log-group {given['logGroupName']}", given["tags"])


@answers("logs", "ListTagsLogGroup")
def list_log_group_tags(account: PaperAccount, given: dict[str, Any]) -> Any:
    return {"tags": account.get(f"log-group {given['logGroupName']}")["tags"]}


@answers("logs", "DeleteLogGroup")
def delete_log_group(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.drop(f"log-group {given['logGroupName']}")


@answers("logs", "DescribeMetricFilters")
def describe_metric_filters(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.get(f"log-group {given['logGroupName']}")
    found = (item for item in account.of_kind("filter") if item["logGroupName"] == given["logGroupName"])
    return {"metricFilters": [item for item in found if item["filterName"].startswith(given["filterNamePrefix"])]}


@answers("logs", "PutMetricFilter")
def put_metric_filter(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.get(f"log-group {given['logGroupName']}")
    account.kept[f"filter {given['filterName']} of {given['logGroupName']}"] = given


@answers("logs", "DeleteMetricFilter")
def delete_metric_filter(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.drop(f"filter {given['filterName']} of {given['logGroupName']}")


# --- ECR ----------------------------------------------------------------------------------------------------------

NO_REPOSITORY = "RepositoryNotFoundException"


@answers("ecr", "DescribeRepositories")
def describe_repositories(account: PaperAccount, given: dict[str, Any]) -> Any:
    (name,) = given["repositoryNames"]
    return {"repositories": [without(account.get(f"repository {name}", NO_REPOSITORY), "tags", "lifecycle")]}


@answers("ecr", "CreateRepository")
def create_repository(account: PaperAccount, given: dict[str, Any]) -> Any:
    document = without(given, "tags") | {"tags": pairs(given.get("tags"))}
    account.make(f"repository {given['repositoryName']}", document, "RepositoryAlreadyExistsException")


@answers("ecr", "PutImageScanningConfiguration")
def put_scanning(account: PaperAccount, given: dict[str, Any]) -> Any:
    repository = account.get(f"repository {given['repositoryName']}", NO_REPOSITORY)
    repository["imageScanningConfiguration"] = given["imageScanningConfiguration"]


@answers("ecr", "GetLifecyclePolicy")
def get_lifecycle_policy(account: PaperAccount, given: dict[str, Any]) -> Any:
    repository = account.get(f"repository {given['repositoryName']}", NO_REPOSITORY)
    if "lifecycle" not in repository:
        raise Refused("LifecyclePolicyNotFoundException")
    return {"lifecyclePolicyText": reworded(repository["lifecycle"])}


@answers("ecr", "PutLifecyclePolicy")
def put_lifecycle_policy(account: PaperAccount, given: dict[str, Any]) -> Any:
    repository = account.get(f"repository {given['repositoryName']}", NO_REPOSITORY)
    repository["lifecycle"] = given["lifecyclePolicyText"]


@answers("ecr", "DescribeImages")
def describe_images(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.get(f"repository {given['repositoryName']}", NO_REPOSITORY)
    return {"imageDetails": [account.get(f"image {i['imageTag']}", "ImageNotFoundException") for i in given["imageIds"]]}


@answers("ecr", "TagResource")
def tag_repository(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.tag(named("repository", given["resourceArn"]), pairs(given["tags"]), NO_REPOSITORY)


@answers("ecr", "ListTagsForResource")
def list_repository_tags(account: PaperAccount, given: dict[str, Any]) -> Any:
    return {"tags": upper(account.get(named("repository", given["resourceArn"]), NO_REPOSITORY)["tags"])}


@answers("ecr", "DeleteRepository")
def delete_repository(account: PaperAccount, given: dict[str, Any]) -> Any:
    if not given.get("force"):
        raise Refused("RepositoryNotEmptyException")
    account.drop(f"repository {given['repositoryName']}", NO_REPOSITORY)
    account.kept = {name: kept for name, kept in account.kept.items() if not name.startswith("image ")}


# --- ECS ----------------------------------------------------------------------------------------------------------


@answers("ecs", "DescribeClusters")
def describe_clusters(account: PaperAccount, given: dict[str, Any]) -> Any:
    """A cluster is being made at the first look; tags are shown to those who ask for them."""
    found = []
    for name in given["clusters"]:
        cluster = account.kept.get(f"cluster {name}", {"status": "INACTIVE"})
        shown = without(cluster, "tags") | {"clusterName": name}
        found.append(shown | ({"tags": lower(cluster.get("tags", {}))} if "TAGS" in given.get("include", []) else {}))
        cluster["status"] = cluster["status"].replace("PROVISIONING", "ACTIVE")
    return {"clusters": found}


@answers("ecs", "CreateCluster")
def create_cluster(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.get("role-of-ecs AWSServiceRoleForECS", "InvalidParameterException")
    document = without(given, "tags") | {"tags": pairs(given.get("tags")), "status": "PROVISIONING"}
    account.kept[f"cluster {given['clusterName']}"] = document


@answers("ecs", "PutClusterCapacityProviders")
def put_capacity_providers(account: PaperAccount, given: dict[str, Any]) -> Any:
    cluster = account.get(f"cluster {given['cluster']}", "ClusterNotFoundException")
    cluster["capacityProviders"] = given["capacityProviders"]


@answers("ecs", "DeleteCluster")
def delete_cluster(account: PaperAccount, given: dict[str, Any]) -> Any:
    if any(task["lastStatus"] != "STOPPED" for task in account.of_kind("running")):
        raise Refused("ClusterContainsTasksException")
    account.drop(f"cluster {given['cluster']}", "ClusterNotFoundException")


@answers("ecs", "RegisterTaskDefinition")
def register_task_definition(account: PaperAccount, given: dict[str, Any]) -> Any:
    number = 1 + sum(item["family"] == given["family"] for item in account.of_kind("task"))
    name = f"{given['family']}:{number}"
    arn = f"arn:aws:ecs:{HERE}:task-definition/{name}"
    document = without(given, "tags") | {"taskDefinitionArn": arn, "tags": pairs(given.get("tags")), "status": "ACTIVE"}
    account.kept[f"task {name}"] = document


@answers("ecs", "ListTaskDefinitions")
def list_task_definitions(account: PaperAccount, given: dict[str, Any]) -> Any:
    """Of each family that begins so, by the number of the revision; in ascending order unless it is asked otherwise."""
    found = [task for task in account.of_kind("task") if task["status"] == given.get("status", "ACTIVE")]
    arns = [task["taskDefinitionArn"] for task in found if task["family"].startswith(given["familyPrefix"])]
    arns.sort(key=lambda arn: int(arn.rpartition(":")[2]), reverse=given.get("sort") == "DESC")
    return {"taskDefinitionArns": arns}


@answers("ecs", "DescribeTaskDefinition")
def describe_task_definition(account: PaperAccount, given: dict[str, Any]) -> Any:
    """With defaults of ECS, and variables in another order."""
    task = without(account.get(f"task {given['taskDefinition'].split('/')[-1]}", "ClientException"), "tags")
    containers = [
        container | {"cpu": 0, "portMappings": [], "environment": container["environment"][::-1]}
        for container in task["containerDefinitions"]
    ]
    return {"taskDefinition": task | {"containerDefinitions": containers, "volumes": []}}


@answers("ecs", "DeregisterTaskDefinition")
def deregister_task_definition(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.get(f"task {given['taskDefinition'].split('/')[-1]}", "ClientException")["status"] = "INACTIVE"


@answers("ecs", "DeleteTaskDefinitions")
def delete_task_definitions(account: PaperAccount, given: dict[str, Any]) -> Any:
    """Ten in a call, and only those that were deregistered."""
    if len(given["taskDefinitions"]) > 10:
        raise Refused("InvalidParameterException")
    failures = []
    for arn in given["taskDefinitions"]:
        name = f"task {arn.split('/')[-1]}"
        if account.get(name, "ClientException")["status"] == "INACTIVE":
            account.drop(name)
        else:
            failures.append({"arn": arn, "reason": "ACTIVE"})
    return {"failures": failures}


@answers("ecs", "TagResource")
def tag_ecs(account: PaperAccount, given: dict[str, Any]) -> Any:
    arn = given["resourceArn"]
    account.tag(f"{'cluster' if ':cluster/' in arn else 'task'} {arn.split('/')[-1]}", pairs(given["tags"]))


@answers("ecs", "ListTasks")
def list_tasks(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.get(f"cluster {given['cluster']}", "ClusterNotFoundException")
    found = [task for task in account.of_kind("running") if task["desiredStatus"] == given.get("desiredStatus", "RUNNING")]
    return {"taskArns": [task["taskArn"] for task in found]}


@answers("ecs", "DescribeTasks")
def describe_tasks(account: PaperAccount, given: dict[str, Any]) -> Any:
    if len(given["tasks"]) > 100:
        raise Refused("InvalidParameterException", "tasks can have at most 100 items.")
    return {"tasks": [account.kept[named("running", arn)] for arn in given["tasks"]], "failures": []}


@answers("ecs", "StopTask")
def stop_task(account: PaperAccount, given: dict[str, Any]) -> Any:
    """It has stopped when somebody looks again."""
    name = f"running {given['task'].rpartition('/')[2]}"
    account.get(name, "InvalidParameterException").update(lastStatus="STOPPED", desiredStatus="STOPPED")


# --- EC2 ----------------------------------------------------------------------------------------------------------


def filtered(given: dict[str, Any], found: list[dict[str, Any]], **names: str) -> list[dict[str, Any]]:
    """Those that the filters leave; tags and the names of filters that are given here are known."""

    def value(item: dict[str, Any], name: str) -> Any:
        if name.startswith("tag:"):
            return pairs(item.get("Tags")).get(name.removeprefix("tag:"))
        return item[names[name.replace("-", "_")]]

    for rule in given.get("Filters", []):
        found = [item for item in found if value(item, rule["Name"]) in rule["Values"]]
    return found


@answers("ec2", "DescribeVpcs")
def describe_vpcs(_account: PaperAccount, given: dict[str, Any]) -> Any:
    vpcs = [{"VpcId": VPC, "is": "true"}, {"VpcId": "vpc-other", "is": "false"}]
    return {"Vpcs": [{"VpcId": vpc["VpcId"]} for vpc in filtered(given, vpcs, is_default="is")]}


@answers("ec2", "DescribeSubnets")
def describe_subnets(_account: PaperAccount, given: dict[str, Any]) -> Any:
    found = filtered(given, SUBNETS, vpc_id="VpcId")
    return {"Subnets": [item for item in found if item["SubnetId"] in given.get("SubnetIds", [item["SubnetId"]])]}


@answers("ec2", "DescribeRouteTables")
def describe_route_tables(_account: PaperAccount, given: dict[str, Any]) -> Any:
    return {"RouteTables": filtered(given, ROUTE_TABLES, vpc_id="VpcId")}


@answers("ec2", "DescribeSecurityGroups")
def describe_security_groups(account: PaperAccount, given: dict[str, Any]) -> Any:
    found = list(account.of_kind("security-group"))
    return {"SecurityGroups": filtered(given, found, vpc_id="VpcId", group_name="GroupName")}


def tags_of(given: dict[str, Any], kind: str) -> list[dict[str, str]]:
    return [tag for part in given.get("TagSpecifications", []) if part["ResourceType"] == kind for tag in part["Tags"]]


@answers("ec2", "CreateSecurityGroup")
def create_security_group(account: PaperAccount, given: dict[str, Any]) -> Any:
    document = {name: given[name] for name in ("GroupName", "VpcId", "Description")}
    document |= {"GroupId": "sg-ours", "Tags": tags_of(given, "security-group")}
    account.make("security-group sg-ours", document, "InvalidGroup.Duplicate")
    return {"GroupId": "sg-ours"}


@answers("ec2", "DeleteSecurityGroup")
def delete_security_group(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.drop(f"security-group {given['GroupId']}", "InvalidGroup.NotFound")


@answers("ec2", "DescribeVpcEndpoints")
def describe_endpoints(account: PaperAccount, given: dict[str, Any]) -> Any:
    return {"VpcEndpoints": filtered(given, list(account.of_kind("endpoint")), vpc_id="VpcId")}


@answers("ec2", "CreateVpcEndpoint")
def create_endpoint(account: PaperAccount, given: dict[str, Any]) -> Any:
    name = f"vpce-{given['ServiceName'].rpartition('.')[2]}"
    document = {part: given[part] for part in ("VpcId", "ServiceName", "VpcEndpointType", "RouteTableIds")}
    document |= {"VpcEndpointId": name, "State": "Available", "Tags": tags_of(given, "vpc-endpoint")}
    account.make(f"endpoint {name}", document, "RouteAlreadyExists")


@answers("ec2", "ModifyVpcEndpoint")
def modify_endpoint(account: PaperAccount, given: dict[str, Any]) -> Any:
    endpoint = account.get(f"endpoint {given['VpcEndpointId']}", "InvalidVpcEndpointId.NotFound")
    endpoint["RouteTableIds"] += given["AddRouteTableIds"]


@answers("ec2", "DeleteVpcEndpoints")
def delete_endpoints(account: PaperAccount, given: dict[str, Any]) -> Any:
    for name in given["VpcEndpointIds"]:
        account.drop(f"endpoint {name}", "InvalidVpcEndpointId.NotFound")
    return {"Unsuccessful": []}


@answers("ec2", "CreateTags")
def create_tags(account: PaperAccount, given: dict[str, Any]) -> Any:
    for name in given["Resources"]:
        kind = "security-group" if name.startswith("sg-") else "endpoint"
        document = account.get(f"{kind} {name}", "InvalidID")
        document["Tags"] = upper(pairs(document["Tags"]) | pairs(given["Tags"]))


# --- Lambda -------------------------------------------------------------------------------------------------------


@answers("lambda", "GetFunctionConfiguration")
def get_function_configuration(account: PaperAccount, given: dict[str, Any]) -> Any:
    kept = account.get(f"function {given['FunctionName']}")
    return without(kept, "tags", "statements", "concurrency", "invoke") | {"State": "Active"}


@answers("lambda", "GetFunction")
def get_function(account: PaperAccount, given: dict[str, Any]) -> Any:
    tags = account.get(f"function {given['FunctionName']}")["tags"]
    return {"Configuration": get_function_configuration(account, given), "Tags": tags}


@answers("lambda", "CreateFunction")
def create_function(account: PaperAccount, given: dict[str, Any]) -> Any:
    name = given["FunctionName"]
    document = without(given, "Code", "Tags") | {
        "CodeSha256": code_of(given["Code"]["ZipFile"]),
        "FunctionArn": f"arn:aws:lambda:{HERE}:function:{name}",
        "LastModified": "2026-01-02T03:05:05.000+0000",
        "tags": given.get("Tags", {}),
        "statements": {},
    }
    account.make(f"function {name}", document, "ResourceConflictException")


@answers("lambda", "UpdateFunctionCode")
def update_function_code(account: PaperAccount, given: dict[str, Any]) -> Any:
    function = account.get(f"function {given['FunctionName']}")
    function["CodeSha256"] = code_of(given["ZipFile"])
    function["Architectures"] = given.get("Architectures", ["x86_64"])


@answers("lambda", "UpdateFunctionConfiguration")
def update_function_configuration(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.get(f"function {given['FunctionName']}").update(given)


@answers("lambda", "DeleteFunction")
def delete_function(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.drop(f"function {given['FunctionName']}")


@answers("lambda", "GetFunctionEventInvokeConfig")
def get_invoke_config(account: PaperAccount, given: dict[str, Any]) -> Any:
    function = account.get(f"function {given['FunctionName']}")
    if "invoke" not in function:
        raise Refused("ResourceNotFoundException")
    return function["invoke"]


@answers("lambda", "PutFunctionEventInvokeConfig")
def put_invoke_config(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.get(f"function {given['FunctionName']}")["invoke"] = without(given, "FunctionName")


@answers("lambda", "GetFunctionConcurrency")
def get_concurrency(account: PaperAccount, given: dict[str, Any]) -> Any:
    function = account.get(f"function {given['FunctionName']}")
    return {"ReservedConcurrentExecutions": function["concurrency"]} if "concurrency" in function else None


@answers("lambda", "PutFunctionConcurrency")
def put_concurrency(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.get(f"function {given['FunctionName']}")["concurrency"] = given["ReservedConcurrentExecutions"]


@answers("lambda", "GetAccountSettings")
def get_account_settings(account: PaperAccount, _given: dict[str, Any]) -> Any:
    left = account.kept.get("limit unreserved", 1000)
    return {"AccountLimit": {"ConcurrentExecutions": left, "UnreservedConcurrentExecutions": left}}


@answers("lambda", "GetPolicy")
def get_function_policy(account: PaperAccount, given: dict[str, Any]) -> Any:
    statements = account.get(f"function {given['FunctionName']}")["statements"]
    if not statements:
        raise Refused("ResourceNotFoundException")
    return {"Policy": json.dumps({"Version": "2012-10-17", "Statement": list(statements.values())})}


@answers("lambda", "AddPermission")
def add_permission(account: PaperAccount, given: dict[str, Any]) -> Any:
    function = account.get(f"function {given['FunctionName']}")
    if given["StatementId"] in function["statements"]:
        raise Refused("ResourceConflictException", "The statement id provided already exists")
    function["statements"][given["StatementId"]] = {
        "Sid": given["StatementId"],
        "Effect": "Allow",
        "Principal": {"Service": given["Principal"]},
        "Action": given["Action"],
        "Resource": function["FunctionArn"],
        "Condition": {"ArnLike": {"AWS:SourceArn": given.get("SourceArn")}},
    }


@answers("lambda", "RemovePermission")
def remove_permission(account: PaperAccount, given: dict[str, Any]) -> Any:
    del account.get(f"function {given['FunctionName']}")["statements"][given["StatementId"]]


@answers("lambda", "ListTags")
def list_function_tags(account: PaperAccount, given: dict[str, Any]) -> Any:
    return {"Tags": account.get(named("function", given["Resource"]))["tags"]}


@answers("lambda", "TagResource")
def tag_function(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.tag(named("function", given["Resource"]), given["Tags"])


# --- EventBridge --------------------------------------------------------------------------------------------------


def rule_arn(name: str) -> str:
    return f"arn:aws:events:{HERE}:rule/{name}"


def shown_rule(rule: dict[str, Any]) -> dict[str, Any]:
    shown = without(rule, "targets", "tags") | {"Arn": rule_arn(rule["Name"]), "EventBusName": "default"}
    return shown | ({"EventPattern": reworded(rule["EventPattern"])} if "EventPattern" in rule else {})


@answers("events", "DescribeRule")
def describe_rule(account: PaperAccount, given: dict[str, Any]) -> Any:
    return shown_rule(account.get(f"rule {given['Name']}"))


@answers("events", "ListRules")
def list_rules(account: PaperAccount, _given: dict[str, Any]) -> Any:
    return {"Rules": [without(shown_rule(rule), "CreatedBy") for rule in account.of_kind("rule")]}


@answers("events", "PutRule")
def put_rule(account: PaperAccount, given: dict[str, Any]) -> Any:
    """What is not given goes; tags are taken only for a new rule."""
    before = account.kept.get(f"rule {given['Name']}", {"targets": {}, "tags": pairs(given.get("Tags"))})
    kept = without(given, "Tags") | {"targets": before["targets"], "tags": before["tags"]}
    account.kept[f"rule {given['Name']}"] = kept
    return {"RuleArn": rule_arn(given["Name"])}


@answers("events", "DeleteRule")
def delete_rule(account: PaperAccount, given: dict[str, Any]) -> Any:
    if account.get(f"rule {given['Name']}")["targets"]:
        raise Refused("ValidationException", "Rule can't be deleted since it has targets.")
    account.drop(f"rule {given['Name']}")


@answers("events", "ListTargetsByRule")
def list_targets(account: PaperAccount, given: dict[str, Any]) -> Any:
    return {"Targets": list(account.get(f"rule {given['Rule']}")["targets"].values())}


@answers("events", "PutTargets")
def put_targets(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.get(f"rule {given['Rule']}")["targets"] |= {target["Id"]: target for target in given["Targets"]}
    return {"FailedEntryCount": 0, "FailedEntries": []}


@answers("events", "RemoveTargets")
def remove_targets(account: PaperAccount, given: dict[str, Any]) -> Any:
    for name in given["Ids"]:
        del account.get(f"rule {given['Rule']}")["targets"][name]
    return {"FailedEntryCount": 0, "FailedEntries": []}


@answers("events", "TagResource")
def tag_rule(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.tag(named("rule", given["ResourceARN"]), pairs(given["Tags"]))


@answers("events", "ListTagsForResource")
def list_rule_tags(account: PaperAccount, given: dict[str, Any]) -> Any:
    return {"Tags": upper(account.get(named("rule", given["ResourceARN"]))["tags"])}


# --- SNS ----------------------------------------------------------------------------------------------------------


@answers("sns", "CreateTopic")
def create_topic(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.make(f"topic {given['Name']}", {"tags": pairs(given.get("Tags")), "subscriptions": []})
    return {"TopicArn": f"arn:aws:sns:{HERE}:{given['Name']}"}


@answers("sns", "ListSubscriptionsByTopic")
def list_subscriptions(account: PaperAccount, given: dict[str, Any]) -> Any:
    return {"Subscriptions": account.get(named("topic", given["TopicArn"]), "NotFound")["subscriptions"]}


@answers("sns", "Subscribe")
def subscribe(account: PaperAccount, given: dict[str, Any]) -> Any:
    subscriptions = account.get(named("topic", given["TopicArn"]), "NotFound")["subscriptions"]
    arn = f"{given['TopicArn']}:{len(subscriptions)}"
    subscriptions.append(given | {"SubscriptionArn": arn})
    return {"SubscriptionArn": "pending confirmation"}


@answers("sns", "Unsubscribe")
def unsubscribe(account: PaperAccount, given: dict[str, Any]) -> Any:
    topic = account.get(f"topic {given['SubscriptionArn'].split(':')[-2]}", "NotFound")
    kept = [item for item in topic["subscriptions"] if item["SubscriptionArn"] != given["SubscriptionArn"]]
    topic["subscriptions"] = kept


@answers("sns", "ListTagsForResource")
def list_topic_tags(account: PaperAccount, given: dict[str, Any]) -> Any:
    return {"Tags": upper(account.get(named("topic", given["ResourceArn"]), "ResourceNotFound")["tags"])}


@answers("sns", "TagResource")
def tag_topic(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.tag(named("topic", given["ResourceArn"]), pairs(given["Tags"]), "ResourceNotFound")


@answers("sns", "DeleteTopic")
def delete_topic(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.drop(named("topic", given["TopicArn"]), "NotFound")


# --- CloudWatch ---------------------------------------------------------------------------------------------------


@answers("cloudwatch", "DescribeAlarms")
def describe_alarms(account: PaperAccount, given: dict[str, Any]) -> Any:
    found = [account.kept.get(f"alarm {name}") for name in given["AlarmNames"]]
    return {"MetricAlarms": [without(alarm, "tags") for alarm in found if alarm], "CompositeAlarms": []}


@answers("cloudwatch", "PutMetricAlarm")
def put_metric_alarm(account: PaperAccount, given: dict[str, Any]) -> Any:
    """Tags are taken only for a new alarm."""
    name = given["AlarmName"]
    before = account.kept.get(f"alarm {name}", {"tags": pairs(given.get("Tags"))})
    arn = f"arn:aws:cloudwatch:{HERE}:alarm:{name}"
    account.kept[f"alarm {name}"] = without(given, "Tags") | {"AlarmArn": arn, "tags": before["tags"]}


@answers("cloudwatch", "DeleteAlarms")
def delete_alarms(account: PaperAccount, given: dict[str, Any]) -> Any:
    for name in given["AlarmNames"]:
        account.drop(f"alarm {name}", "ResourceNotFound")


@answers("cloudwatch", "TagResource")
def tag_alarm(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.tag(named("alarm", given["ResourceARN"]), pairs(given["Tags"]))


@answers("cloudwatch", "ListTagsForResource")
def list_alarm_tags(account: PaperAccount, given: dict[str, Any]) -> Any:
    return {"Tags": upper(account.get(named("alarm", given["ResourceARN"]))["tags"])}


@answers("cloudwatch", "GetDashboard")
def get_dashboard(account: PaperAccount, given: dict[str, Any]) -> Any:
    return {"DashboardBody": reworded(account.get(f"dashboard {given['DashboardName']}", "ResourceNotFound"))}


@answers("cloudwatch", "PutDashboard")
def put_dashboard(account: PaperAccount, given: dict[str, Any]) -> Any:
    account.kept[f"dashboard {given['DashboardName']}"] = given["DashboardBody"]
    return {"DashboardValidationMessages": []}


@answers("cloudwatch", "DeleteDashboards")
def delete_dashboards(account: PaperAccount, given: dict[str, Any]) -> Any:
    for name in given["DashboardNames"]:
        account.drop(f"dashboard {name}", "ResourceNotFound")
