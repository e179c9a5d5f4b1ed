"""The account on paper, as the verbs of sync.sh meet it: logs, metrics, tasks that end, and objects on both sides.

What is put into the source is in the destination at once. A log has the summary of a task, a dead-letter queue one
message, of which a look takes ten at most, and a query no rows.
"""

import json
from pathlib import Path
from typing import Any

from account import MIRROR, SOURCE
from cost import STORED
from paper_account import HERE, MADE_AT, Given, PaperAccount, Refused

from mirror.model import log_lines

ETAG = "0" * 32
CARRIED = ("CacheControl", "Metadata")
PARKED = {"Records": [{"s3": {"object": {"key": "models/parked"}}}]}
# What a task that measures has counted.
MEASURED = STORED | {"destination_bytes": 100 * 10**9, "kept_30_bytes": 40 * 10**9, "seconds": 61.5}


def measured(end: str = "complete", status: int = 0) -> str:
    """The last line of its log."""
    numbers = " ".join(f"{name}={number}" for name, number in MEASURED.items())
    return f"2026-11-25T01:02:03.456Z INFO {log_lines.MEASURED % (end, status, numbers)}"


class Operated(PaperAccount):
    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, dict[str, Any]] = {}
        self.parked = [json.dumps(PARKED)]  # the bodies of messages in the dead-letter queue
        self.taken: list[str] = []  # those that were received
        self.hidden = 0  # messages that somebody else has received

    # --- logs and metrics -------------------------------------------------------------------------------------------

    def logs_start_query(self, _given: Given) -> Any:
        return {"queryId": "q"}

    def logs_get_query_results(self, _given: Given) -> Any:
        return {"status": "Complete", "results": []}

    def logs_filter_log_events(self, given: Given) -> Any:
        if "logStreamNames" not in given:
            return {"events": []}
        event = {"eventId": "1", "timestamp": 1, "logStreamName": given["logStreamNames"][0], "message": measured()}
        return {"events": [event]}

    def cloudwatch_get_metric_statistics(self, _given: Given) -> Any:
        return {"Datapoints": []}

    def cloudwatch_get_metric_data(self, _given: Given) -> Any:
        return {"MetricDataResults": []}

    # --- queues, tasks and the function -----------------------------------------------------------------------------

    def sqs_get_queue_attributes(self, given: Given) -> Any:
        found = super().sqs_get_queue_attributes(given)
        if found:
            found["Attributes"]["CreatedTimestamp"] = "1600000000"
            found["Attributes"] |= dict.fromkeys((name for name in found["Attributes"] if "ApproximateN" in name), "0")
            if given["QueueUrl"].endswith("-dlq"):
                found["Attributes"]["ApproximateNumberOfMessages"] = str(len(self.parked))
                found["Attributes"]["ApproximateNumberOfMessagesNotVisible"] = str(len(self.taken) + self.hidden)
        return found or {"Attributes": {"CreatedTimestamp": "1600000000"}}

    def sqs_receive_message(self, _given: Given) -> Any:
        found, self.parked = self.parked[:10], self.parked[10:]
        self.taken += found
        common = {"MessageId": "m", "ReceiptHandle": "r", "Attributes": {"SentTimestamp": "1700000000000"}}
        return {"Messages": [{"Body": one} | common for one in found]}

    def sqs_change_message_visibility_batch(self, given: Given) -> Any:
        self.parked += [self.taken.pop(0) for one in given["Entries"] if one["VisibilityTimeout"] == 0]
        return {"Successful": [{"Id": one["Id"]} for one in given["Entries"]], "Failed": []}

    def sqs_start_message_move_task(self, _given: Given) -> Any:
        return {"TaskHandle": "h"}

    def sqs_list_message_move_tasks(self, _given: Given) -> Any:
        return {"Results": [{"Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": 1}]}

    def sqs_purge_queue(self, _given: Given) -> Any:
        """Those in flight, too (SQS API reference, PurgeQueue)."""
        self.parked, self.hidden = [], 0

    def ecs_list_tasks(self, given: Given) -> Any:
        found = super().ecs_list_tasks(given)["taskArns"]
        by = {task["taskArn"]: task.get("startedBy") for task in self.of_kind("running")}
        return {"taskArns": [arn for arn in found if given.get("startedBy") in (None, by[arn])]}

    def ecs_run_task(self, given: Given) -> Any:
        arn = f"arn:aws:ecs:{HERE}:task/{given['cluster']}/t2"
        worker = {"name": "worker", "exitCode": 0}
        task = {"taskArn": arn, "lastStatus": "STOPPED", "desiredStatus": "STOPPED", "containers": [worker]}
        self.kept["running t2"] = task
        return {"tasks": [task], "failures": []}

    def lambda_invoke(self, _given: Given) -> Any:
        return {"StatusCode": 200, "Payload": b"{}"}

    def iam_list_attached_role_policies(self, given: Given) -> Any:
        arns = self.get(f"role {given['RoleName']}", "NoSuchEntity").get("attached", [])
        return {"AttachedPolicies": [{"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in arns]}

    def iam_detach_role_policy(self, given: Given) -> Any:
        self.kept[f"role {given['RoleName']}"]["attached"].remove(given["PolicyArn"])

    # --- both buckets -----------------------------------------------------------------------------------------------

    def s3_put_object(self, given: Given) -> Any:
        carried = {name: value for name, value in given.items() if name.startswith("Content") or name in CARRIED}
        self.objects[given["Key"]] = carried | {"Body": Path(given["Body"]).read_bytes()}
        return {"ETag": f'"{ETAG}"', "VersionId": "v"}

    def s3_copy_object(self, given: Given) -> Any:
        refuse_another(given)
        self.objects[given["Key"]] |= {"ContentType": given["ContentType"], "Metadata": given["Metadata"]}
        return {"CopyObjectResult": {"ETag": f'"{ETAG}"'}}

    def s3_delete_object(self, given: Given) -> Any:
        self.objects.pop(given["Key"])

    def s3_delete_objects(self, given: Given) -> Any:
        for one in given["Delete"]["Objects"]:
            self.objects.pop(one["Key"], None)

    def listed(self, given: Given) -> list[dict[str, Any]]:
        found = {key: one for key, one in self.objects.items() if key.startswith(given.get("Prefix", ""))}
        common = {"ETag": f'"{ETAG}"', "LastModified": MADE_AT}
        return [{"Key": key, "Size": len(one["Body"]), **common} for key, one in found.items()]

    def s3_list_objects_v2(self, given: Given) -> Any:
        return {"Contents": self.listed(given)}

    def s3_list_object_versions(self, given: Given) -> Any:
        return {"Versions": [{"Key": given["Prefix"] + "v", "VersionId": "v"}]}

    def s3_head_object(self, given: Given) -> Any:
        if given["Key"] not in self.objects:
            raise Refused("403" if (given["Bucket"], given["Key"]) == (SOURCE, "models/parked") else "404")
        return {"ContentLength": 1}

    def s3_get_object(self, given: Given) -> Any:
        found = self.objects[given["Key"]]
        if given["Bucket"] == MIRROR:
            identity = f"{ETAG} {MADE_AT[:19]}Z {len(found['Body'])} "
            found = found | {"Metadata": found.get("Metadata", {}) | {"sync-source": identity}}
        return {"ETag": f'"{ETAG}"'} | found

    def s3_create_multipart_upload(self, _given: Given) -> Any:
        return {"UploadId": "u"}

    def s3_upload_part_copy(self, given: Given) -> Any:
        refuse_another(given)
        return {"CopyPartResult": {"ETag": f'"{ETAG}"'}}

    def s3_complete_multipart_upload(self, given: Given) -> Any:
        self.objects[given["Key"]] = {"Body": b"large"}
        return {"ETag": f'"{ETAG}-2"'}

    def s3_list_multipart_uploads(self, given: Given) -> Any:
        return {"Uploads": [{"Key": f"{given['Prefix']}large.bin", "UploadId": "u"}]}

    def s3_abort_multipart_upload(self, _given: Given) -> Any:
        return None


def refuse_another(given: Given) -> None:
    """No ETag of verify is a condition that holds."""
    if "CopySourceIfMatch" in given:
        raise Refused("PreconditionFailed")
