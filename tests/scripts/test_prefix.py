"""A PREFIX_FILTER with a space and other alphabets: what is under it arrives in the queue, and IAM takes the policy."""

import json
from urllib.parse import unquote_plus

from account import SOURCE, Account
from deployment import assert_conforming, one_cli, one_cloud, states

PREFIX = "caf\u00e9 models/\u6a21\u578b/"


def keys_in_queue(account: Account) -> set[str]:
    sqs, found = account.client("sqs"), set()
    queue = account.starter_environment()["QUEUE_URL"]
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            found |= {record["s3"]["object"]["key"] for record in json.loads(message["Body"]).get("Records", [])}
    return found


@one_cloud
@one_cli
def test_events_of_keys_under_the_prefix_arrive(account: Account) -> None:
    parts = ("ensure_dlq", "ensure_source_queue", "ensure_*_role", "ensure_task_definition", "ensure_function")
    told = f"may read s3://{SOURCE}/caf\u00e9 models/*, because an IAM policy cannot"
    _, errors = account.steps(*parts, "ensure_security_group", "ensure_notification", PREFIX_FILTER=PREFIX)
    assert errors.count(told) == 1
    assert_conforming(account)
    granted = account.role_policy("task-role")["Statement"][1]
    assert granted["Resource"] == f"arn:aws:s3:::{SOURCE}/caf\u00e9 models/*"
    assert account.worker_environment()["PREFIX_FILTER"] == PREFIX
    for key in (f"{PREFIX}a b", "caf\u00e9 models/other", "other"):
        account.client("s3").put_object(Bucket=SOURCE, Key=key, Body=b"x")
    assert {unquote_plus(key) for key in keys_in_queue(account)} == {f"{PREFIX}a b"}
    output, errors = account.steps(*parts, "ensure_notification", PREFIX_FILTER=PREFIX)
    assert set(states(output)) == {"exists"}
    assert errors.count(told) == 1  # also if nothing is to be written
