"""An account on paper whose AWS is at its worst: what no stand-in shows, each trouble by its name, drawn from a seed.

What a call does in the end stays as in paper_account.py. The troubles come before that, and in how answers are dressed.
The AWS CLI asks for all pages itself, but for the calls of which botocore has no paginator: only those have short ones.
"""

import copy
import random
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from call import READ, Call, service_model
from operated import Operated
from paper_account import HERE, NO_QUEUE, NO_ROLE, Given, Interrupted, Refused, queue_url, without


class Hostility(NamedTuple):
    """The dial: each trouble can be on or off.

    settling: what is made or goes needs a while: gateway endpoints are pending or deleting (Amazon EC2 API reference,
      VpcEndpoint, State), a cluster is PROVISIONING or DEPROVISIONING, a task STOPPING, a function Pending or its
      LastUpdateStatus InProgress (Lambda Developer Guide, "Lambda function states"), a subscription
      PendingConfirmation, a revision DELETE_IN_PROGRESS, interfaces keep a security group (DependencyViolation), and
      tasks that have ended a cluster (ClusterContainsTasksException).
    recent: a queue that was deleted keeps its URL and its name for 60 s (Amazon SQS API reference, DeleteQueue).
    new_roles: IAM, Lambda, ECS, S3 and SQS do not see at first what was made a moment ago (IAM User Guide, "Changes
      that I make are not always immediately visible"; reports from the field of the errors).
    lagging: the first read after a write of IAM, EventBridge or SQS shows what was there before.
    busy: each write is refused once by the error that botocore's model has for a change that is in progress.
    throttled: each call is refused once, after the CLI has tried it as often as it does.
    denied: what a deployment can do without may not be read.
    crowded: others have 17 of everything, under names that begin with ours, and the default VPC 17 subnets more.
    shuffled: members of objects, and of lists whose order means nothing, come in another order; pages are short.
    sparse: lists that are empty are missing, as they may be wherever botocore's model does not require them.
    old_cli: version 1 of the CLI, which ends with 255, and writes the times of JSON services as numbers.
    """

    settling: bool = False
    recent: bool = False
    new_roles: bool = False
    lagging: bool = False
    busy: bool = False
    throttled: bool = False
    denied: bool = False
    crowded: bool = False
    shuffled: bool = False
    sparse: bool = False
    old_cli: bool = False

    def __str__(self) -> str:
        return ", ".join(name for name, is_on in self._asdict().items() if is_on) or "none"


# The error of a rate that is too high: some services have one of their own (their API references, "Common errors").
THROTTLED = {
    "ec2": "RequestLimitExceeded",
    "iam": "Throttling",
    "cloudwatch": "Throttling",
    "sns": "Throttling",
    "sts": "Throttling",
    "s3": "SlowDown",
    "lambda": "TooManyRequestsException",
    "sqs": "RequestThrottled",
    "service-quotas": "TooManyRequestsException",
}
IN_PROGRESS = re.compile("Concurrent|UpdateInProgress|OperationAborted|^ConflictException|^ResourceConflict$")
OPTIONAL = {
    ("iam", "GetPolicy"): "AccessDenied",
    ("lambda", "ListTags"): "AccessDeniedException",
    ("s3", "GetBucketLifecycleConfiguration"): "AccessDenied",
    ("s3", "GetBucketPolicy"): "AccessDenied",
    ("s3", "ListBucketMetricsConfigurations"): "AccessDenied",
    ("service-quotas", "GetServiceQuota"): "AccessDeniedException",
}
LAGGING = {"iam": ("role",), "events": ("rule",), "sqs": ("queue",)}
IN_ORDER = {"taskDefinitionArns"}  # as it was asked for
SECONDS = 500.0  # that an endpoint takes


class Hostile(Operated):
    """`clock`: seconds, which a pause of a script moves on; `gone` has what was deleted a moment ago, until when.

    `left_until_interrupted`: the writes until Ctrl-C, when the last one has been made, or before it.
    """

    left_until_interrupted = -1
    is_confirmed = False  # the address of the alarms
    is_made = True

    def __init__(self, hostility: Hostility, seed: int) -> None:
        super().__init__()
        self.hostility, self.random = hostility, random.Random(seed)
        self.clock = 0.0
        self.gone: dict[str, float] = {}
        self.new: set[str] = set()  # roles that this run made
        self.left: dict[str, int] = {}  # how often something is refused before it is not
        self.stale: dict[str, dict[str, Any]] = {}  # service -> what its next read shows in place of what is kept
        self.refused: set[str] = set()  # "OPERATION CODE REASON" of writes

    def calm(self) -> None:
        """Nothing is refused any more; what settles still does."""
        off = ("new_roles", "lagging", "busy", "throttled", "denied")
        self.hostility = self.hostility._replace(**dict.fromkeys(off, False))
        self.stale.clear()

    def pass_time(self, seconds: float | str) -> None:
        self.clock += float(seconds)
        for name in [name for name, until in self.gone.items() if until <= self.clock]:
            del self.gone[name]
            if name in self.kept and name.startswith("endpoint ") and self.kept[name]["State"] == "deleting":
                del self.kept[name]
        for endpoint in self.of_kind("endpoint"):
            if endpoint["State"] == "pending" and endpoint["until"] <= self.clock:
                endpoint["State"] = "available"

    # --- before an answer -----------------------------------------------------------------------------------------

    def answer(self, call: Call) -> Any:
        if READ.match(call.operation):
            return self.answer_in_full(call)
        try:
            return self.answer_to_write(call)
        except Refused as refused:
            self.refused.add(f"{call.operation} {refused.code} {refused}")
            raise

    def answer_to_write(self, call: Call) -> Any:
        if self.left_until_interrupted < 0:
            return self.answer_in_full(call)
        if self.left_until_interrupted == 0:  # what runs beside it
            raise Interrupted
        self.left_until_interrupted -= 1
        answer = self.answer_in_full(call) if self.left_until_interrupted or self.is_made else None
        if not self.left_until_interrupted:
            raise Interrupted
        return answer

    def answer_in_full(self, call: Call) -> Any:
        self.refuse(call)
        if call.service in self.stale and READ.match(call.operation):
            return self.dressed(call, self.stale_answer(call))
        before = copy.deepcopy(self.lagging(call.service)) if self.hostility.lagging else {}
        answer = super().answer(call)
        after = self.lagging(call.service) if self.hostility.lagging else {}
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        if changed:
            self.stale[call.service] = {name: before.get(name) for name in changed}
        return self.dressed(call, answer)

    def lagging(self, service: str) -> dict[str, Any]:
        kinds = LAGGING.get(service, ())
        return {name: kept for name, kept in self.kept.items() if name.partition(" ")[0] in kinds}

    def stale_answer(self, call: Call) -> Any:
        now, was = self.kept, self.stale.pop(call.service)
        self.kept = {name: kept for name, kept in (now | was).items() if kept is not None}
        try:
            return super().answer(call)
        finally:
            self.kept = now

    def few(self, what: str, times: int) -> bool:
        """Whether this is one of the first times that this is asked."""
        self.left[what] = self.left.get(what, times) - 1
        return self.left[what] >= 0

    def refuse(self, call: Call) -> None:
        dial, name = self.hostility, f"{call.service} {call.operation}"
        if dial.denied and (call.service, call.operation) in OPTIONAL:
            raise Refused(OPTIONAL[call.service, call.operation], f"you are not authorized to perform: {name}")
        if dial.throttled and self.few(f"throttled {name}", 1):
            code = THROTTLED.get(call.service, "ThrottlingException")
            raise Refused(code, "Rate exceeded")
        if dial.busy and not READ.match(call.operation) and (code := in_progress(call)) and self.few(f"busy {name}", 1):
            raise Refused(*code)
        for what, times, code, reason in self.unseen(call.operation, call.parameters) if dial.new_roles else ():
            if self.few(what, times):
                raise Refused(code, reason)

    def iam_create_role(self, given: Given) -> Any:
        self.new.add(given["RoleName"])
        return super().iam_create_role(given)

    def unseen(self, operation: str, given: Given) -> Iterator[tuple[str, int, str, str]]:
        """(what is not seen yet, how often, the error, its reason): of a role that is not new, the words are final."""
        match operation:
            case "PutRolePolicy":
                role = given["RoleName"]
                yield f"new {role}", 1, NO_ROLE, f"The role with name {role} cannot be found."
            case "DeleteRole":
                reason = "Cannot delete entity, must delete policies first."
                yield f"policies of {given['RoleName']}", 1, "DeleteConflict", reason
            case "CreateFunction":
                role, code = given["Role"], "InvalidParameterValueException"
                yield f"assumed {role}", 2, code, "The role defined cannot be assumed by Lambda."
                reason = "KMS Message: ARN does not refer to a valid principal"
                yield f"key for {role}", self.is_new(role), code, f"the KMS key is invalid for CreateGrant. {reason}"
                yield self.not_passed(role)
            case "RegisterTaskDefinition":
                yield from map(self.not_passed, (given["taskRoleArn"], given["executionRoleArn"]))
            case "CreateCluster":
                yield "role of ECS", 1, "InvalidParameterException", "Unable to assume the service linked role."
            case "PutBucketNotificationConfiguration" if given["NotificationConfiguration"].get("QueueConfigurations"):
                reason = "Unable to validate the following destination configurations"
                yield "queue policy", 1, "InvalidArgument", reason
            case "CreateQueue" if "RedrivePolicy" in given["Attributes"]:
                reason = "Value for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist."
                yield "dead letters", 1, "InvalidParameterValue", reason

    def not_passed(self, role: str) -> tuple[str, int, str, str]:
        words = f"User: u is not authorized to perform: iam:PassRole on resource: {role}"
        return f"passed {role}", self.is_new(role), "AccessDeniedException", words

    def is_new(self, role: str) -> bool:
        return role.rpartition("/")[2] in self.new

    # --- what settles -----------------------------------------------------------------------------------------------

    def ec2_create_vpc_endpoint(self, given: Given) -> Any:
        super().ec2_create_vpc_endpoint(given)
        made = list(self.of_kind("endpoint"))[-1]
        made["State"] = "available"
        if self.hostility.settling:
            made |= {"State": "pending", "until": self.clock + SECONDS}

    def ec2_delete_vpc_endpoints(self, given: Given) -> Any:
        if not self.hostility.settling:
            return super().ec2_delete_vpc_endpoints(given)
        for name in given["VpcEndpointIds"]:
            self.get(f"endpoint {name}", "InvalidVpcEndpointId.NotFound")["State"] = "deleting"
            self.gone[f"endpoint {name}"] = self.clock + SECONDS
        return {"Unsuccessful": []}

    def ec2_describe_vpc_endpoints(self, given: Given) -> Any:
        found = super().ec2_describe_vpc_endpoints(given)["VpcEndpoints"]
        return {"VpcEndpoints": [{part: one[part] for part in one if part != "until"} for one in found]}

    def ec2_delete_security_group(self, given: Given) -> Any:
        if self.hostility.settling and self.few("interfaces", 2):
            raise Refused("DependencyViolation", f"resource {given['GroupId']} has a dependent object")
        self.drop(f"security-group {given['GroupId']}", "InvalidGroup.NotFound")

    def ecs_describe_clusters(self, given: Given) -> Any:
        """One that never was is a failure; one that was deleted is INACTIVE, for a while (ECS API, DeleteCluster)."""
        known = [name for name in given["clusters"] if f"cluster {name}" in self.kept]
        answer = super().ecs_describe_clusters(given | {"clusters": known}) | {"failures": []}
        for name in set(given["clusters"]) - set(known):
            if f"cluster {name}" not in self.gone:
                answer["failures"].append({"arn": f"arn:aws:ecs:{HERE}:cluster/{name}", "reason": "MISSING"})
                continue
            is_going = self.hostility.settling and self.few(f"going {name}", 1)
            status = "DEPROVISIONING" if is_going else "INACTIVE"
            answer["clusters"].append({"clusterName": name, "status": status})
        return answer

    def ecs_delete_cluster(self, given: Given) -> Any:
        if self.hostility.settling and self.few("tasks of the cluster", 1):
            raise Refused("ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active.")
        super().ecs_delete_cluster(given)
        self.gone[f"cluster {given['cluster']}"] = self.clock + 3600

    def ecs_stop_task(self, given: Given) -> Any:
        """One that is stopping already goes on to do so."""
        name = f"running {given['task']}"
        if self.hostility.settling and self.kept[name]["desiredStatus"] == "STOPPED":
            return {"task": dict(self.kept[name])}
        answer = super().ecs_stop_task(given)
        if self.hostility.settling:
            self.kept[name]["lastStatus"] = "STOPPING"
            self.left[f"stopping {given['task']}"] = 2
        return answer

    def ecs_describe_tasks(self, given: Given) -> Any:
        answer = copy.deepcopy(super().ecs_describe_tasks(given))
        for task in self.of_kind("running"):
            name = task["taskArn"].rpartition("/")[2]
            if task["lastStatus"] == "STOPPING" and not self.few(f"stopping {name}", 0):
                task["lastStatus"] = "STOPPED"
        return answer

    def ecs_delete_task_definitions(self, given: Given) -> Any:
        """A revision is DELETE_IN_PROGRESS until no task runs it, and no list for a status has it then."""
        return super().ecs_delete_task_definitions(given) | {"taskDefinitions": []}

    def lambda_create_function(self, given: Given) -> Any:
        super().lambda_create_function(given)
        return self.changed(given)

    def lambda_update_function_code(self, given: Given) -> Any:
        self.refuse_while_changing(given)
        super().lambda_update_function_code(given)
        return self.changed(given)

    def lambda_update_function_configuration(self, given: Given) -> Any:
        self.refuse_while_changing(given)
        super().lambda_update_function_configuration(given)
        return self.changed(given)

    def lambda_get_function(self, given: Given) -> Any:
        """Who may not list tags sees none (Lambda API reference, GetFunction)."""
        answer = super().lambda_get_function(given)
        return without(answer, "Tags") if self.hostility.denied else answer

    def changed(self, given: Given) -> Any:
        if self.hostility.settling:
            self.left[f"function {given['FunctionName']}"] = 2
        return self.lambda_get_function_configuration(given)

    def refuse_while_changing(self, given: Given) -> None:
        name = f"function {given['FunctionName']}"
        if name in self.kept and self.few(name, 0):
            reason = f"An update is in progress for resource: arn:aws:lambda:{HERE}:{name.replace(' ', ':')}"
            raise Refused("ResourceConflictException", f"The operation cannot be performed at this time. {reason}")

    def waited_for(self, function: str) -> None:
        self.left.pop(f"function {function}", None)

    def lambda_get_function_configuration(self, given: Given) -> Any:
        shown = super().lambda_get_function_configuration(given)
        changes = self.left.get(f"function {given['FunctionName']}", 0) > 0
        return shown | {"LastUpdateStatus": "InProgress" if changes else "Successful"}

    def sns_list_subscriptions_by_topic(self, given: Given) -> Any:
        found = copy.deepcopy(super().sns_list_subscriptions_by_topic(given)["Subscriptions"])
        for one in found if self.hostility.settling and not self.is_confirmed else ():
            one["SubscriptionArn"] = "PendingConfirmation"
        return {"Subscriptions": found}

    # --- a queue that was deleted -----------------------------------------------------------------------------------

    def sqs_delete_queue(self, given: Given) -> Any:
        name = given["QueueUrl"].rpartition("/")[2]
        self.drop(f"queue {name}", NO_QUEUE)
        self.gone[f"queue {name}"] = self.clock + 60

    def sqs_get_queue_url(self, given: Given) -> Any:
        name = f"queue {given['QueueName']}"
        if self.hostility.recent and name in self.gone and name not in self.kept:
            return {"QueueUrl": queue_url(given["QueueName"])}
        return super().sqs_get_queue_url(given)

    def sqs_create_queue(self, given: Given) -> Any:
        if self.hostility.recent and f"queue {given['QueueName']}" in self.gone:
            reason = "You must wait 60 seconds after deleting a queue before you can create another with the same name."
            raise Refused("AWS.SimpleQueueService.QueueDeletedRecently", reason)
        return super().sqs_create_queue(given)

    # --- how an answer is dressed -----------------------------------------------------------------------------------

    def ecr_describe_images(self, given: Given) -> Any:
        pushed = 1796000000.5 if self.hostility.old_cli else "2026-11-29T00:53:20.500000+00:00"
        answer = super().ecr_describe_images(given)
        return {"imageDetails": [image | {"imagePushedAt": pushed} for image in answer["imageDetails"]]}

    def s3_list_bucket_metrics_configurations(self, given: Given) -> Any:
        """Botocore has no paginator for it: pages, the first of them empty."""
        answer = super().s3_list_bucket_metrics_configurations(given)
        if not self.hostility.shuffled:
            return answer
        page, found = int(given.get("ContinuationToken", "0")), answer["MetricsConfigurationList"]
        more = {"IsTruncated": True, "NextContinuationToken": str(page + 1)} if page < len(found) else {}
        return {"IsTruncated": False, "MetricsConfigurationList": found[page - 1 : page] if page else []} | more

    def dressed(self, call: Call, answer: Any) -> Any:
        is_text = service_model(call.service).metadata["protocol"] in ("json", "rest-json") and call.service != "sqs"
        return self.of_value("", answer, keeps_empty=is_text)

    def of_value(self, name: str, value: Any, keeps_empty: bool = False) -> Any:
        dial = self.hostility
        if isinstance(value, dict):
            items = list(value.items())
            if dial.shuffled:
                self.random.shuffle(items)
            kept = {key: self.of_value(key, item) for key, item in items}
            drops = dial.sparse and not keeps_empty
            return {key: item for key, item in kept.items() if not (drops and item == [])}
        if isinstance(value, list):
            found = [self.of_value(name, item) for item in value]
            if dial.shuffled and name not in IN_ORDER:
                self.random.shuffle(found)
            return found
        return value


def in_progress(call: Call) -> tuple[str, str] | None:
    """The error of another change at the same time, if the service's model has one for this call."""
    if call.service == "lambda":
        return None  # see refuse_while_changing
    if call.service == "s3":
        return "OperationAborted", "A conflicting conditional operation is currently in progress against this resource."
    if call.service == "docker":
        return None
    shapes = [shape for shape in call.model.error_shapes if IN_PROGRESS.search(shape.name)]
    return (shapes[0].error_code or shapes[0].name, "another change is in progress") if shapes else None
