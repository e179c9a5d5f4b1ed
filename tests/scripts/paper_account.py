"""An AWS account on paper: it keeps what it is sent, and answers with it in the words of AWS.

It knows the calls of deploy.sh and cleanup.sh, and what these have to expect of them: the error that says "there is
none", the refusal to make a thing twice, and that AWS prints a document in a way of its own. operated.py and
starter_worlds.py add what goes on in it. Scripts ask it by the `aws` of documents.py, Python by the Client here.
"""

import base64
import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from account import MIRROR, REGION
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.paginate import Paginator
from call import Call, operations, paginators, service_model, violations_of

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
EVERYTHING = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}  # what a new security group lets out
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


class Refused(Exception):
    """An error of AWS, by its code."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code


class Interrupted(Exception):
    """Ctrl-C during a call: the CLI ends with 130."""


Given = dict[str, Any]
Answer = Callable[["PaperAccount", Given], Any]
ANSWERS: dict[tuple[str, str], Answer] = {}


def fixed(answer: Any) -> Answer:
    return lambda _account, _given: answer


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


def named(kind: str, text: str) -> str:
    """The key of what a name, a URL or an ARN means."""
    if text.startswith("https://"):
        text = text.rpartition("/")[2]
    if text.startswith("arn:"):
        text = re.sub(
            r"^(task-definition|task/[^/]*|cluster|repository|rule|function|alarm)[:/]", "", text.split(":", 5)[5]
        )
    return f"{kind} {text}"


# --- what many services do alike ----------------------------------------------------------------------------------

NO_QUEUE, NO_ROLE = "AWS.SimpleQueueService.NonExistentQueue", "NoSuchEntity"
NO_REPOSITORY = "RepositoryNotFoundException"
MISSING = "ResourceNotFoundException"

# Service -> the call that tags, and the one that answers tags; the kind, the parameter that names the resource, the one
# with the tags, and the error if there is none. Some services answer tags as a map.
TAGGING = {
    "cloudwatch": ("TagResource", "ListTagsForResource", "alarm", "ResourceARN", "Tags", MISSING),
    "ecr": ("TagResource", "ListTagsForResource", "repository", "resourceArn", "tags", NO_REPOSITORY),
    "events": ("TagResource", "ListTagsForResource", "rule", "ResourceARN", "Tags", MISSING),
    "iam": ("TagRole", "ListRoleTags", "role", "RoleName", "Tags", NO_ROLE),
    "lambda": ("TagResource", "ListTags", "function", "Resource", "Tags", MISSING),
    "logs": ("TagLogGroup", "ListTagsLogGroup", "log-group", "logGroupName", "tags", MISSING),
    "sns": ("TagResource", "ListTagsForResource", "topic", "ResourceArn", "Tags", "ResourceNotFound"),
    "sqs": ("TagQueue", "ListQueueTags", "queue", "QueueUrl", "Tags", NO_QUEUE),
}
TAGS_AS_MAP = ("lambda", "logs", "sqs")
# Call -> kind, the parameter that names the resource, and the error if there is none.
DROPPING = {
    ("ec2", "DeleteSecurityGroup"): ("security-group", "GroupId", "InvalidGroup.NotFound"),
    ("lambda", "DeleteFunction"): ("function", "FunctionName", MISSING),
    ("s3", "DeleteBucketLifecycle"): ("lifecycle", "Bucket", "NoSuchLifecycleConfiguration"),
    ("s3", "DeleteBucketPolicy"): ("bucket-policy", "Bucket", "NoSuchBucketPolicy"),
    ("sns", "DeleteTopic"): ("topic", "TopicArn", "NotFound"),
    ("sqs", "DeleteQueue"): ("queue", "QueueUrl", NO_QUEUE),
}
# Call -> kind, the parameter that names it, and the one whose value is kept as it is, instead of the one before.
PUTTING = {
    ("cloudwatch", "PutDashboard"): ("dashboard", "DashboardName", "DashboardBody"),
    ("s3", "PutBucketPolicy"): ("bucket-policy", "Bucket", "Policy"),
}


def tagging(kind: str, name: str, tags: str, code: str) -> Answer:
    return lambda account, given: account.get(named(kind, given[name]), code)["tags"].update(pairs(given[tags]))


def reading_tags(kind: str, name: str, tags: str, code: str, as_map: bool) -> Answer:
    return lambda account, given: {
        tags: (dict if as_map else upper)(account.get(named(kind, given[name]), code)["tags"])
    }


def dropping(kind: str, name: str, code: str) -> Answer:
    return lambda account, given: account.drop(named(kind, given[name]), code)


def putting(kind: str, name: str, part: str) -> Answer:
    return lambda account, given: account.kept.update({f"{kind} {given[name]}": given[part]})


for service, (tag, show, *row) in TAGGING.items():
    ANSWERS[service, tag] = tagging(*row)
    ANSWERS[service, show] = reading_tags(*row, as_map=service in TAGS_AS_MAP)
ANSWERS |= {call: dropping(*row) for call, row in DROPPING.items()}
ANSWERS |= {call: putting(*row) for call, row in PUTTING.items()}


ANSWERS["sts", "GetCallerIdentity"] = fixed(
    {"Account": NUMBER, "Arn": f"arn:aws:iam::{NUMBER}:user/someone", "UserId": "U"}
)
ANSWERS["s3", "GetBucketLocation"] = fixed({"LocationConstraint": None if REGION == "us-east-1" else REGION})
ANSWERS["s3", "ListDirectoryBuckets"] = fixed({"Buckets": [{"Name": MIRROR}]})
ANSWERS["service-quotas", "GetServiceQuota"] = fixed({"Quota": {"QuotaCode": "L-36FBB829", "Value": 64.0}})


def filtered(given: dict[str, Any], found: list[dict[str, Any]], **names: str) -> list[dict[str, Any]]:
    """Those that the filters leave; tags and the names of filters that are given here are known."""

    def value(item: dict[str, Any], name: str) -> Any:
        if name.startswith("tag:"):
            return pairs(item.get("Tags")).get(name.removeprefix("tag:"))
        return item[names[name.replace("-", "_")]]

    for rule in given.get("Filters", []):
        found = [item for item in found if value(item, rule["Name"]) in rule["Values"]]
    return found


def tags_of(given: dict[str, Any], kind: str) -> list[dict[str, str]]:
    return [tag for part in given.get("TagSpecifications", []) if part["ResourceType"] == kind for tag in part["Tags"]]


def queue_url(name: str) -> str:
    return f"https://sqs.{REGION}.amazonaws.com/{NUMBER}/{name}"


def rule_arn(name: str) -> str:
    return f"arn:aws:events:{HERE}:rule/{name}"


def shown_rule(rule: dict[str, Any]) -> dict[str, Any]:
    shown = without(rule, "targets", "tags") | {"Arn": rule_arn(rule["Name"]), "EventBusName": "default"}
    return shown | ({"EventPattern": reworded(rule["EventPattern"])} if "EventPattern" in rule else {})


class PaperAccount:
    """`kept` has each document by the kind and the name of its resource, such as "queue NAME".

    A method is named after the service and the operation that it answers; the other operations are in ANSWERS.
    """

    status_of_refusals = 254  # of the CLI

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.subnets, self.route_tables = SUBNETS, ROUTE_TABLES
        self.vpcs = [{"VpcId": VPC, "is": "true"}, {"VpcId": "vpc-other", "is": "false"}]
        self.refusals: list[tuple[str, Refused]] = []  # the first of an operation is what its next call answers
        self.before: dict[str, list[Callable[[], Any]]] = {}  # the first of an operation happens before its next call
        self.kept["role-of-ecs AWSServiceRoleForECS"] = {}

    def authorize(self, call: Call) -> None:
        """Raise Refused for what the caller may not do: here nothing."""

    def pass_time(self, seconds: float | str) -> None:
        """A script sleeps."""

    def waited_for(self, function: str) -> None:
        """A script has waited for a change of the function."""

    def answer(self, call: Call) -> Any:
        """A copy, because what is kept changes."""
        return copy.deepcopy(self.found(call._replace(parameters=copy.deepcopy(call.parameters))))

    def found(self, call: Call) -> Any:
        if happens := self.before.get(call.operation):
            happens.pop(0)()
        for number, (operation, refused) in enumerate(self.refusals):
            if operation == call.operation:
                del self.refusals[number]
                raise refused
        if method := getattr(self, f"{call.service}_{xform_name(call.operation)}", None):
            return method(call.parameters)
        return ANSWERS[call.service, call.operation](self, call.parameters)

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

    def docker(self, words: list[str]) -> str:
        if words[0] == "push":
            tag = words[1].rpartition(":")[2]
            self.kept[f"image {tag}"] = {"imageDigest": f"sha256:{'0' * 64}", "imageTags": [tag]}
        if words[:2] == ["buildx", "imagetools"]:
            return f"sha256:{'b' * 64}\n"
        return {"buildx": "github.com/docker/buildx v0.13.1\n", "version": "26.1.5\n"}.get(words[0], "")

    # --- S3 -----------------------------------------------------------------------------------------------------------

    def find_bucket(self, given: Given) -> None:
        """One is there, unless somebody has deleted it."""
        if f"gone {given['Bucket']}" in self.kept:
            raise Refused("NoSuchBucket", "The specified bucket does not exist")

    def s3_get_bucket_location(self, given: Given) -> Any:
        self.find_bucket(given)
        return ANSWERS["s3", "GetBucketLocation"](self, given)

    def s3_list_directory_buckets(self, given: Given) -> Any:
        found = ANSWERS["s3", "ListDirectoryBuckets"](self, given)
        return {"Buckets": [one for one in found["Buckets"] if f"gone {one['Name']}" not in self.kept]}

    def s3_get_bucket_notification_configuration(self, given: Given) -> Any:
        """S3 answers events and filter names in its own order and case, and nothing at all if there is nothing."""
        self.find_bucket(given)
        found = copy.deepcopy(self.kept.get(f"notifications {given['Bucket']}", {}))
        for queue in found.get("QueueConfigurations", []):
            queue["Events"].reverse()
            for rule in queue.get("Filter", {}).get("Key", {}).get("FilterRules", []):
                rule["Name"] = rule["Name"].capitalize()
        found.get("QueueConfigurations", []).reverse()
        return found or None

    def s3_put_bucket_notification_configuration(self, given: Given) -> Any:
        """S3 looks at the queues, unless it is not to (S3 API reference, PutBucketNotificationConfiguration)."""
        found = given["NotificationConfiguration"]
        queues = [named("queue", one["QueueArn"]) for one in found.get("QueueConfigurations", [])]
        if not given.get("SkipDestinationValidation") and not self.kept.keys() >= set(queues):
            raise Refused("InvalidArgument", "Unable to validate the following destination configurations")
        self.kept[f"notifications {given['Bucket']}"] = found

    def s3_get_bucket_policy(self, given: Given) -> Any:
        return {"Policy": reworded(self.get(f"bucket-policy {given['Bucket']}", "NoSuchBucketPolicy"))}

    def s3_get_bucket_lifecycle_configuration(self, given: Given) -> Any:
        return {"Rules": self.get(f"lifecycle {given['Bucket']}", "NoSuchLifecycleConfiguration")}

    def s3_list_objects_v2(self, given: Given) -> Any:
        """What is kept are pages."""
        pages = self.kept.get(f"objects {given['Bucket']}", [[]])
        number = int(given.get("ContinuationToken", "0"))
        answer = {"Contents": pages[number], "IsTruncated": number + 1 < len(pages)}
        return answer | ({"NextContinuationToken": str(number + 1)} if answer["IsTruncated"] else {})

    def s3_list_bucket_metrics_configurations(self, given: Given) -> Any:
        names = self.kept.get(f"request-metrics {given['Bucket']}", {})
        found = [{"Id": name, "Filter": {"Prefix": prefix}} for name, prefix in names.items()]
        return {"IsTruncated": False, "MetricsConfigurationList": found}

    def s3_put_bucket_metrics_configuration(self, given: Given) -> Any:
        prefix = given["MetricsConfiguration"]["Filter"]["Prefix"]
        self.kept.setdefault(f"request-metrics {given['Bucket']}", {})[given["Id"]] = prefix

    def s3_delete_bucket_metrics_configuration(self, given: Given) -> Any:
        if given["Id"] not in self.kept.get(f"request-metrics {given['Bucket']}", {}):
            raise Refused("NoSuchConfiguration")
        del self.kept[f"request-metrics {given['Bucket']}"][given["Id"]]

    def s3_put_bucket_lifecycle_configuration(self, given: Given) -> Any:
        """At least one rule, and no ID twice (S3 API reference, LifecycleRule)."""
        rules = given["LifecycleConfiguration"]["Rules"]
        if not rules or len({rule["ID"] for rule in rules}) < len(rules):
            raise Refused("InvalidArgument" if rules else "MalformedXML")
        self.kept[f"lifecycle {given['Bucket']}"] = rules

    # --- SQS ----------------------------------------------------------------------------------------------------------

    def sqs_get_queue_url(self, given: Given) -> Any:
        self.get(f"queue {given['QueueName']}", NO_QUEUE)
        return {"QueueUrl": queue_url(given["QueueName"])}

    def sqs_create_queue(self, given: Given) -> Any:
        document = {"Attributes": given["Attributes"], "tags": pairs(given.get("tags"))}
        self.make(f"queue {given['QueueName']}", document, "QueueNameExists")
        return self.sqs_get_queue_url(given)

    def sqs_get_queue_attributes(self, given: Given) -> Any:
        """With what SQS adds, of those that are asked for; the JSON in them in its own way."""
        attributes = dict(self.get(named("queue", given["QueueUrl"]), NO_QUEUE)["Attributes"])
        for name in {"Policy", "RedrivePolicy", "RedriveAllowPolicy"} & attributes.keys():
            attributes[name] = reworded(attributes[name])
        counts = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        attributes = {"MaximumMessageSize": "1048576"} | attributes | dict.fromkeys(counts, "1")
        asked = given.get("AttributeNames", [])
        found = {name: value for name, value in attributes.items() if name in asked or "All" in asked}
        return {"Attributes": found} if found else None

    def sqs_set_queue_attributes(self, given: Given) -> Any:
        attributes = self.get(named("queue", given["QueueUrl"]), NO_QUEUE)["Attributes"]
        attributes |= given["Attributes"]
        for name in ("KmsMasterKeyId", "RedrivePolicy", "RedriveAllowPolicy"):
            if not attributes.get(name):
                attributes.pop(name, None)

    # --- IAM ----------------------------------------------------------------------------------------------------------

    def iam_get_role(self, given: Given) -> Any:
        role = self.get(f"role {given['RoleName']}", NO_ROLE)
        arn = f"arn:aws:iam::{NUMBER}:role{role['path']}{given['RoleName']}"
        boundary = {"PermissionsBoundaryType": "PermissionsBoundaryPolicy", "PermissionsBoundaryArn": role["boundary"]}
        more = {"PermissionsBoundary": boundary} if role["boundary"] else {}
        return {
            "Role": {
                "RoleName": given["RoleName"],
                "RoleId": "AROA0123456789ABCDEF",
                "Path": role["path"],
                "Arn": arn,
                "CreateDate": role["made"],
                "AssumeRolePolicyDocument": reworded(role["trust"]),
                "Tags": upper(role["tags"]),
            }
            | more
        }

    def iam_create_role(self, given: Given) -> Any:
        role = {"trust": given["AssumeRolePolicyDocument"], "tags": pairs(given.get("Tags")), "policies": {}}
        role |= {"path": given.get("Path", "/"), "boundary": given.get("PermissionsBoundary", "")}
        self.make(f"role {given['RoleName']}", role | {"made": MADE_AT}, "EntityAlreadyExists")
        return self.iam_get_role(given)

    def iam_get_policy(self, given: Given) -> Any:
        """All policies exist but for one."""
        if given["PolicyArn"].endswith("/none"):
            raise Refused("NoSuchEntity", f"Policy {given['PolicyArn']} was not found.")
        return {"Policy": {"Arn": given["PolicyArn"]}}

    def iam_put_role_permissions_boundary(self, given: Given) -> Any:
        self.get(f"role {given['RoleName']}", NO_ROLE)["boundary"] = given["PermissionsBoundary"]

    def iam_update_assume_role_policy(self, given: Given) -> Any:
        self.get(f"role {given['RoleName']}", NO_ROLE)["trust"] = given["PolicyDocument"]

    def iam_get_role_policy(self, given: Given) -> Any:
        policies = self.get(f"role {given['RoleName']}", NO_ROLE)["policies"]
        if given["PolicyName"] not in policies:
            raise Refused(NO_ROLE)
        return given | {"PolicyDocument": reworded(policies[given["PolicyName"]])}

    def iam_put_role_policy(self, given: Given) -> Any:
        policies = self.get(f"role {given['RoleName']}", NO_ROLE)["policies"]
        policies[given["PolicyName"]] = given["PolicyDocument"]

    def iam_list_role_policies(self, given: Given) -> Any:
        return {"PolicyNames": list(self.get(f"role {given['RoleName']}", NO_ROLE)["policies"])}

    def iam_list_attached_role_policies(self, given: Given) -> Any:
        arns = self.get(f"role {given['RoleName']}", NO_ROLE).get("attached", [])
        return {"AttachedPolicies": [{"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in arns]}

    def iam_detach_role_policy(self, given: Given) -> Any:
        self.kept[f"role {given['RoleName']}"]["attached"].remove(given["PolicyArn"])

    def iam_delete_role_policy(self, given: Given) -> Any:
        del self.get(f"role {given['RoleName']}", NO_ROLE)["policies"][given["PolicyName"]]

    def iam_delete_role(self, given: Given) -> Any:
        role = self.get(f"role {given['RoleName']}", NO_ROLE)
        if role["policies"] or role.get("attached"):
            raise Refused("DeleteConflict")
        self.drop(f"role {given['RoleName']}")

    def iam_list_roles(self, given: Given) -> Any:
        assert given["PathPrefix"] == "/aws-service-role/ecs.amazonaws.com/"
        found = [
            {
                "RoleName": "AWSServiceRoleForECS",
                "RoleId": "AROA0123456789ABCDEF",
                "Path": given["PathPrefix"],
                "Arn": f"arn:aws:iam::{NUMBER}:role{given['PathPrefix']}AWSServiceRoleForECS",
                "CreateDate": MADE_AT,
            }
            for _ in self.of_kind("role-of-ecs")
        ]
        return {"Roles": found}

    def iam_create_service_linked_role(self, given: Given) -> Any:
        assert given["AWSServiceName"] == "ecs.amazonaws.com"
        self.make("role-of-ecs AWSServiceRoleForECS", {}, "InvalidInput")

    # --- CloudWatch Logs ----------------------------------------------------------------------------------------------

    def logs_describe_log_groups(self, given: Given) -> Any:
        found = [without(group, "tags") for group in self.of_kind("log-group")]
        return {
            "logGroups": [group for group in found if group["logGroupName"].startswith(given["logGroupNamePrefix"])]
        }

    def logs_create_log_group(self, given: Given) -> Any:
        document = {"logGroupName": given["logGroupName"], "tags": given.get("tags", {})}
        self.make(f"log-group {given['logGroupName']}", document)

    def logs_delete_log_group(self, given: Given) -> Any:
        """Its filters go with it."""
        self.drop(f"log-group {given['logGroupName']}")
        end = f" of {given['logGroupName']}"
        for name in [name for name in self.kept if name.startswith("filter ") and name.endswith(end)]:
            del self.kept[name]

    def logs_put_retention_policy(self, given: Given) -> Any:
        self.get(f"log-group {given['logGroupName']}")["retentionInDays"] = given["retentionInDays"]

    def logs_describe_metric_filters(self, given: Given) -> Any:
        self.get(f"log-group {given['logGroupName']}")
        found = (item for item in self.of_kind("filter") if item["logGroupName"] == given["logGroupName"])
        return {"metricFilters": [item for item in found if item["filterName"].startswith(given["filterNamePrefix"])]}

    def logs_put_metric_filter(self, given: Given) -> Any:
        self.get(f"log-group {given['logGroupName']}")
        self.kept[f"filter {given['filterName']} of {given['logGroupName']}"] = given

    def logs_delete_metric_filter(self, given: Given) -> Any:
        self.drop(f"filter {given['filterName']} of {given['logGroupName']}")

    # --- ECR ----------------------------------------------------------------------------------------------------------

    def ecr_describe_repositories(self, given: Given) -> Any:
        (name,) = given["repositoryNames"]
        return {"repositories": [without(self.get(f"repository {name}", NO_REPOSITORY), "tags", "lifecycle")]}

    def ecr_create_repository(self, given: Given) -> Any:
        document = without(given, "tags") | {"tags": pairs(given.get("tags"))}
        self.make(f"repository {given['repositoryName']}", document, "RepositoryAlreadyExistsException")

    def ecr_put_image_scanning_configuration(self, given: Given) -> Any:
        repository = self.get(f"repository {given['repositoryName']}", NO_REPOSITORY)
        repository["imageScanningConfiguration"] = given["imageScanningConfiguration"]

    def ecr_get_lifecycle_policy(self, given: Given) -> Any:
        repository = self.get(f"repository {given['repositoryName']}", NO_REPOSITORY)
        if "lifecycle" not in repository:
            raise Refused("LifecyclePolicyNotFoundException")
        return {"lifecyclePolicyText": reworded(repository["lifecycle"])}

    def ecr_put_lifecycle_policy(self, given: Given) -> Any:
        repository = self.get(f"repository {given['repositoryName']}", NO_REPOSITORY)
        repository["lifecycle"] = given["lifecyclePolicyText"]

    def ecr_describe_images(self, given: Given) -> Any:
        self.get(f"repository {given['repositoryName']}", NO_REPOSITORY)
        if "imageIds" not in given:
            return {"imageDetails": list(self.of_kind("image"))}
        return {
            "imageDetails": [self.get(f"image {i['imageTag']}", "ImageNotFoundException") for i in given["imageIds"]]
        }

    def ecr_delete_repository(self, given: Given) -> Any:
        if not given.get("force"):
            raise Refused("RepositoryNotEmptyException")
        self.drop(f"repository {given['repositoryName']}", NO_REPOSITORY)
        self.kept = {name: kept for name, kept in self.kept.items() if not name.startswith("image ")}

    # --- ECS ----------------------------------------------------------------------------------------------------------

    def ecs_describe_clusters(self, given: Given) -> Any:
        """A cluster is being made at the first look; tags are shown to those who ask for them."""
        found = []
        for name in given["clusters"]:
            cluster = self.kept.get(f"cluster {name}", {"status": "INACTIVE"})
            shown = without(cluster, "tags") | {"clusterName": name}
            found.append(
                shown | ({"tags": lower(cluster.get("tags", {}))} if "TAGS" in given.get("include", []) else {})
            )
            cluster["status"] = cluster["status"].replace("PROVISIONING", "ACTIVE")
        return {"clusters": found}

    def ecs_create_cluster(self, given: Given) -> Any:
        self.get("role-of-ecs AWSServiceRoleForECS", "InvalidParameterException")
        document = without(given, "tags") | {"tags": pairs(given.get("tags")), "status": "PROVISIONING"}
        self.kept[f"cluster {given['clusterName']}"] = document
        return {"cluster": {"clusterName": given["clusterName"], "status": "PROVISIONING"}}

    def ecs_put_cluster_capacity_providers(self, given: Given) -> Any:
        cluster = self.get(f"cluster {given['cluster']}", "ClusterNotFoundException")
        cluster["capacityProviders"] = given["capacityProviders"]

    def ecs_delete_cluster(self, given: Given) -> Any:
        if any(task["lastStatus"] != "STOPPED" for task in self.of_kind("running")):
            raise Refused("ClusterContainsTasksException")
        self.drop(f"cluster {given['cluster']}", "ClusterNotFoundException")

    def ecs_register_task_definition(self, given: Given) -> Any:
        numbers = [int(one.rpartition(":")[2]) for one in self.kept if one.startswith(f"task {given['family']}:")]
        number = 1 + max(numbers, default=0)
        name = f"{given['family']}:{number}"
        arn = f"arn:aws:ecs:{HERE}:task-definition/{name}"
        document = without(given, "tags") | {
            "taskDefinitionArn": arn,
            "tags": pairs(given.get("tags")),
            "status": "ACTIVE",
        }
        self.kept[f"task {name}"] = document
        return {"taskDefinition": without(document, "tags")}

    def ecs_list_task_definitions(self, given: Given) -> Any:
        """Of each family that begins so, in the order of revisions unless it is asked otherwise."""
        found = [task for task in self.of_kind("task") if task["status"] == given.get("status", "ACTIVE")]
        arns = [task["taskDefinitionArn"] for task in found if task["family"].startswith(given["familyPrefix"])]
        arns.sort(key=lambda arn: int(arn.rpartition(":")[2]), reverse=given.get("sort") == "DESC")
        return {"taskDefinitionArns": arns}

    def ecs_describe_task_definition(self, given: Given) -> Any:
        """With defaults of ECS, and variables in another order."""
        task = without(self.get(named("task", given["taskDefinition"]), "ClientException"), "tags")
        containers = [
            container | {"cpu": 0, "portMappings": [], "environment": container.get("environment", [])[::-1]}
            for container in task["containerDefinitions"]
        ]
        return {"taskDefinition": {"volumes": []} | task | {"containerDefinitions": containers}}

    def ecs_deregister_task_definition(self, given: Given) -> Any:
        self.get(named("task", given["taskDefinition"]), "ClientException")["status"] = "INACTIVE"

    def ecs_delete_task_definitions(self, given: Given) -> Any:
        """Ten in a call, and only those that were deregistered."""
        if len(given["taskDefinitions"]) > 10:
            raise Refused("InvalidParameterException")
        failures = []
        for arn in given["taskDefinitions"]:
            name = named("task", arn)
            if self.get(name, "ClientException")["status"] == "INACTIVE":
                self.drop(name)
            else:
                failures.append({"arn": arn, "reason": "ACTIVE"})
        return {"failures": failures}

    def ecs_tag_resource(self, given: Given) -> Any:
        kind = "cluster" if ":cluster/" in given["resourceArn"] else "task"
        self.get(named(kind, given["resourceArn"]))["tags"] |= pairs(given["tags"])

    def ecs_list_tasks(self, given: Given) -> Any:
        self.get(f"cluster {given['cluster']}", "ClusterNotFoundException")
        found = [
            task for task in self.of_kind("running") if task["desiredStatus"] == given.get("desiredStatus", "RUNNING")
        ]
        return {"taskArns": [task["taskArn"] for task in found]}

    def ecs_describe_tasks(self, given: Given) -> Any:
        if len(given["tasks"]) > 100:
            raise Refused("InvalidParameterException", "tasks can have at most 100 items.")
        known = [self.kept.get(named("running", arn)) for arn in given["tasks"]]
        missing = [arn for arn, task in zip(given["tasks"], known, strict=True) if not task]
        return {"tasks": [*filter(None, known)], "failures": [{"arn": arn, "reason": "MISSING"} for arn in missing]}

    def ecs_stop_task(self, given: Given) -> Any:
        """It has stopped when somebody looks again."""
        task = self.get(f"running {given['task']}", "InvalidParameterException")
        before = dict(task)
        task.update(lastStatus="STOPPED", desiredStatus="STOPPED")
        return {"task": before}

    # --- EC2 ----------------------------------------------------------------------------------------------------------

    def ec2_describe_vpcs(self, given: Given) -> Any:
        return {"Vpcs": [{"VpcId": vpc["VpcId"]} for vpc in filtered(given, self.vpcs, is_default="is")]}

    def ec2_describe_subnets(self, given: Given) -> Any:
        found = filtered(given, self.subnets, vpc_id="VpcId")
        return {"Subnets": [item for item in found if item["SubnetId"] in given.get("SubnetIds", [item["SubnetId"]])]}

    def ec2_describe_route_tables(self, given: Given) -> Any:
        return {"RouteTables": filtered(given, self.route_tables, vpc_id="VpcId")}

    def ec2_describe_security_groups(self, given: Given) -> Any:
        found = list(self.of_kind("security-group"))
        return {"SecurityGroups": filtered(given, found, vpc_id="VpcId", group_name="GroupName")}

    def ec2_create_security_group(self, given: Given) -> Any:
        document = {name: given[name] for name in ("GroupName", "VpcId", "Description")}
        document |= {"GroupId": "sg-ours", "Tags": tags_of(given, "security-group")}
        document |= {"IpPermissions": [], "IpPermissionsEgress": [EVERYTHING]}
        self.make("security-group sg-ours", document, "InvalidGroup.Duplicate")
        return {"GroupId": "sg-ours"}

    def ec2_authorize_security_group_egress(self, given: Given) -> Any:
        group = self.get(f"security-group {given['GroupId']}", "InvalidGroup.NotFound")
        group["IpPermissionsEgress"] += given["IpPermissions"]

    def ec2_describe_vpc_endpoints(self, given: Given) -> Any:
        return {"VpcEndpoints": filtered(given, list(self.of_kind("endpoint")), vpc_id="VpcId")}

    def ec2_create_vpc_endpoint(self, given: Given) -> Any:
        """A route table takes one endpoint per service, and keeps the one that goes until it is gone."""
        for other in self.of_kind("endpoint"):
            shared = set(other["RouteTableIds"]) & set(given["RouteTableIds"])
            if (other["VpcId"], other["ServiceName"]) == (given["VpcId"], given["ServiceName"]) and shared:
                raise Refused("RouteAlreadyExists", f"route table {min(shared)} already has a route of this service")
        name = f"vpce-{given['ServiceName'].rpartition('.')[2]}"
        while f"endpoint {name}" in self.kept:
            name += "-2"
        document = {part: given[part] for part in ("VpcId", "ServiceName", "VpcEndpointType", "RouteTableIds")}
        document |= {"VpcEndpointId": name, "State": "Available", "Tags": tags_of(given, "vpc-endpoint")}
        self.make(f"endpoint {name}", document, "RouteAlreadyExists")

    def ec2_modify_vpc_endpoint(self, given: Given) -> Any:
        endpoint = self.get(f"endpoint {given['VpcEndpointId']}", "InvalidVpcEndpointId.NotFound")
        endpoint["RouteTableIds"] += given["AddRouteTableIds"]

    def ec2_delete_vpc_endpoints(self, given: Given) -> Any:
        for name in given["VpcEndpointIds"]:
            self.drop(f"endpoint {name}", "InvalidVpcEndpointId.NotFound")
        return {"Unsuccessful": []}

    def ec2_create_tags(self, given: Given) -> Any:
        for name in given["Resources"]:
            kind = "security-group" if name.startswith("sg-") else "endpoint"
            document = self.get(f"{kind} {name}", "InvalidID")
            document["Tags"] = upper(pairs(document["Tags"]) | pairs(given["Tags"]))

    # --- Lambda -------------------------------------------------------------------------------------------------------

    def lambda_get_function_configuration(self, given: Given) -> Any:
        kept = self.get(f"function {given['FunctionName']}")
        shown = without(kept, "tags", "statements", "concurrency", "invoke")
        return shown | {"State": "Active", "RevisionId": hashlib.sha256(repr(shown).encode()).hexdigest()}

    def lambda_get_function(self, given: Given) -> Any:
        tags = self.get(f"function {given['FunctionName']}")["tags"]
        return {"Configuration": self.lambda_get_function_configuration(given), "Tags": tags}

    def lambda_create_function(self, given: Given) -> Any:
        name = given["FunctionName"]
        document = without(given, "Code", "Tags") | {
            "CodeSha256": code_of(given["Code"]["ZipFile"]),
            "FunctionArn": f"arn:aws:lambda:{HERE}:function:{name}",
            "LastModified": "2026-01-02T03:05:05.000+0000",
            "tags": given.get("Tags", {}),
            "statements": {},
        }
        self.make(f"function {name}", document, "ResourceConflictException")

    def lambda_update_function_code(self, given: Given) -> Any:
        function = self.get(f"function {given['FunctionName']}")
        function["CodeSha256"] = code_of(given["ZipFile"])
        function["Architectures"] = given.get("Architectures", ["x86_64"])

    def lambda_update_function_configuration(self, given: Given) -> Any:
        if given.get("RevisionId") not in (None, self.lambda_get_function_configuration(given)["RevisionId"]):
            raise Refused("PreconditionFailedException")
        function = self.get(f"function {given['FunctionName']}")
        function.update(without(given, "RevisionId"))
        if "Layers" in given:
            function["Layers"] = [{"Arn": arn} for arn in given["Layers"]]
        if "VpcConfig" in given:
            function["VpcConfig"]["VpcId"] = VPC if given["VpcConfig"]["SubnetIds"] else ""
        is_taken_away = {"KMSKeyArn": "", "DeadLetterConfig": {"TargetArn": ""}}
        for name in [name for name, nothing in is_taken_away.items() if given.get(name) == nothing]:
            del function[name]

    def lambda_get_function_event_invoke_config(self, given: Given) -> Any:
        function = self.get(f"function {given['FunctionName']}")
        if "invoke" not in function:
            raise Refused("ResourceNotFoundException")
        return function["invoke"]

    def lambda_put_function_event_invoke_config(self, given: Given) -> Any:
        self.get(f"function {given['FunctionName']}")["invoke"] = without(given, "FunctionName")

    def lambda_get_function_concurrency(self, given: Given) -> Any:
        function = self.get(f"function {given['FunctionName']}")
        return {"ReservedConcurrentExecutions": function["concurrency"]} if "concurrency" in function else None

    def lambda_put_function_concurrency(self, given: Given) -> Any:
        self.get(f"function {given['FunctionName']}")["concurrency"] = given["ReservedConcurrentExecutions"]

    def lambda_delete_function_concurrency(self, given: Given) -> Any:
        self.get(f"function {given['FunctionName']}").pop("concurrency", None)

    def lambda_get_account_settings(self, _given: Given) -> Any:
        left = self.kept.get("limit unreserved", 1000)
        return {"AccountLimit": {"ConcurrentExecutions": left, "UnreservedConcurrentExecutions": left}}

    def lambda_get_policy(self, given: Given) -> Any:
        statements = self.get(f"function {given['FunctionName']}")["statements"]
        if not statements:
            raise Refused("ResourceNotFoundException")
        return {"Policy": json.dumps({"Version": "2012-10-17", "Statement": list(statements.values())})}

    def lambda_add_permission(self, given: Given) -> Any:
        function = self.get(f"function {given['FunctionName']}")
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

    def lambda_remove_permission(self, given: Given) -> Any:
        del self.get(f"function {given['FunctionName']}")["statements"][given["StatementId"]]

    # --- EventBridge --------------------------------------------------------------------------------------------------

    def events_describe_rule(self, given: Given) -> Any:
        return shown_rule(self.get(f"rule {given['Name']}"))

    def events_list_rules(self, _given: Given) -> Any:
        return {"Rules": [without(shown_rule(rule), "CreatedBy") for rule in self.of_kind("rule")]}

    def events_put_rule(self, given: Given) -> Any:
        """What is not given goes; tags are taken only for a new rule."""
        before = self.kept.get(f"rule {given['Name']}", {"targets": {}, "tags": pairs(given.get("Tags"))})
        kept = without(given, "Tags") | {"targets": before["targets"], "tags": before["tags"]}
        self.kept[f"rule {given['Name']}"] = kept
        return {"RuleArn": rule_arn(given["Name"])}

    def events_delete_rule(self, given: Given) -> Any:
        if self.get(f"rule {given['Name']}")["targets"]:
            raise Refused("ValidationException", "Rule can't be deleted since it has targets.")
        self.drop(f"rule {given['Name']}")

    def events_list_targets_by_rule(self, given: Given) -> Any:
        return {"Targets": list(self.get(f"rule {given['Rule']}")["targets"].values())}

    def events_put_targets(self, given: Given) -> Any:
        self.get(f"rule {given['Rule']}")["targets"] |= {target["Id"]: target for target in given["Targets"]}
        return {"FailedEntryCount": 0, "FailedEntries": []}

    def events_remove_targets(self, given: Given) -> Any:
        for name in given["Ids"]:
            del self.get(f"rule {given['Rule']}")["targets"][name]
        return {"FailedEntryCount": 0, "FailedEntries": []}

    # --- SNS ----------------------------------------------------------------------------------------------------------

    def sns_create_topic(self, given: Given) -> Any:
        self.make(f"topic {given['Name']}", {"tags": pairs(given.get("Tags")), "subscriptions": []})
        return {"TopicArn": f"arn:aws:sns:{HERE}:{given['Name']}"}

    def sns_list_subscriptions_by_topic(self, given: Given) -> Any:
        return {"Subscriptions": self.get(named("topic", given["TopicArn"]), "NotFound")["subscriptions"]}

    def sns_subscribe(self, given: Given) -> Any:
        subscriptions = self.get(named("topic", given["TopicArn"]), "NotFound")["subscriptions"]
        arn = f"{given['TopicArn']}:{len(subscriptions)}"
        subscriptions.append(given | {"SubscriptionArn": arn})
        return {"SubscriptionArn": "pending confirmation"}

    def sns_unsubscribe(self, given: Given) -> Any:
        topic = self.get(f"topic {given['SubscriptionArn'].split(':')[-2]}", "NotFound")
        kept = [item for item in topic["subscriptions"] if item["SubscriptionArn"] != given["SubscriptionArn"]]
        topic["subscriptions"] = kept

    # --- CloudWatch ---------------------------------------------------------------------------------------------------

    def cloudwatch_describe_alarms(self, given: Given) -> Any:
        found = [self.kept.get(f"alarm {name}") for name in given["AlarmNames"]]
        return {"MetricAlarms": [without(alarm, "tags") for alarm in found if alarm], "CompositeAlarms": []}

    def cloudwatch_put_metric_alarm(self, given: Given) -> Any:
        """Tags are taken only for a new alarm (for the periods see the CloudWatch API reference, PutMetricAlarm)."""
        name, period = given["AlarmName"], given.get("Period", 60)
        if period % 60 or period * given["EvaluationPeriods"] > (86_400 if period < 3600 else 604_800):
            raise Refused("ValidationError", f"{given['EvaluationPeriods']} periods of {period} s")
        before = self.kept.get(f"alarm {name}", {"tags": pairs(given.get("Tags"))})
        arn = f"arn:aws:cloudwatch:{HERE}:alarm:{name}"
        self.kept[f"alarm {name}"] = without(given, "Tags") | {"AlarmArn": arn, "tags": before["tags"]}

    def cloudwatch_delete_alarms(self, given: Given) -> Any:
        for name in given["AlarmNames"]:
            self.drop(f"alarm {name}", "ResourceNotFound")

    def cloudwatch_get_dashboard(self, given: Given) -> Any:
        return {"DashboardBody": reworded(self.get(f"dashboard {given['DashboardName']}", "ResourceNotFound"))}

    def cloudwatch_delete_dashboards(self, given: Given) -> Any:
        for name in given["DashboardNames"]:
            self.drop(f"dashboard {name}", "ResourceNotFound")


# --- in Python ------------------------------------------------------------------------------------------------------

VALID = set[str]()  # requests that agree with the model of their service


class Client:
    """The account as botocore's client of a service shows it. Each call has to agree with the model, and to be allowed;
    it is noted in `calls`."""

    def __init__(self, account: PaperAccount, service: str, calls: list[Call] | None = None) -> None:
        self.account, self.service, self.calls = account, service, [] if calls is None else calls

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = operations(self.service)[name]
        return lambda **given: self.answer(Call(self.service, operation, given))

    def get_paginator(self, name: str) -> Paginator:
        operation = operations(self.service)[name]
        config, model = paginators(self.service).get_paginator(operation), service_model(self.service)
        return Paginator(getattr(self, name), config, model.operation_model(operation))

    def answer(self, call: Call) -> Any:
        self.calls.append(call)
        sample = {name: value[:1] if name == "tasks" else value for name, value in call.parameters.items()}
        if (shown := f"{call.service} {call.operation} {sample}") not in VALID:
            assert violations_of(call._replace(parameters=sample)) == []
            VALID.add(shown)
        try:
            self.account.authorize(call)
            return self.account.answer(call) or {}
        except Refused as refused:
            raise ClientError({"Error": {"Code": refused.code, "Message": str(refused)}}, call.operation) from None
