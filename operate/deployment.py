"""What a verb knows of its deployment before the first call: the settings and names that the scripts hand over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mirror.model.checks import TABLE
from operate.failure import Failure


class Deployment(NamedTuple):
    """`settings` are those of mirror/model/settings.table: what the environment names, what deploy.sh has been edited
    to, or what the deployment keeps (lib/record.sh). The other fields are variables of the scripts, in lower case
    (lib/operate.sh)."""

    settings: Mapping[str, str]

    account: str
    version: str  # of this checkout
    via: str  # what a command that a message names needs for the local cloud: " --local"
    cli_version: str
    bash: str  # the path of the one that runs the scripts
    bash_version: str

    queue_name: str
    dlq_name: str
    starter_name: str
    rule_name: str
    event_rule_name: str
    cluster_name: str
    task_family: str
    starter_role: str
    task_role: str
    starter_log_group: str
    worker_log_group: str
    started_by: str
    notification_id: str

    queue_arn: str
    dlq_arn: str
    starter_arn: str
    rule_arn: str
    event_rule_arn: str
    topic_arn: str
    dst_bucket_arn: str

    task_definition: str  # that tasks are started with: JSON; nothing if there is none, or it could not be read
    knows_deployment: str  # "false" if the task definition could not be read
    starter_memory: str  # MiB of the function
    copying_memory: str  # and of one that copies
    queue_policy: str  # which the queue is to have: JSON
    reads_id: str  # with which the ids of request metrics of ours begin
    app_number: str  # with which they end
    reads_problem: str  # why the AWS CLI cannot ask for request metrics, or nothing

    @property
    def region(self) -> str:
        return self.settings["REGION"]

    @property
    def app_name(self) -> str:
        return self.settings["APP_NAME"]


def read_handover(data: bytes) -> Deployment:
    """`data`: NAME=VALUE, with a NUL after each. A name that is missing or not known is a fault of the scripts."""
    pairs = [one.decode(errors="surrogateescape").partition("=") for one in data.split(b"\0")[:-1]]
    given = {name: value for name, _, value in pairs}

    settings = {setting.name for setting in TABLE}
    names = {name.upper() for name in Deployment._fields if name != "settings"}
    wrong = sorted(given.keys() ^ (settings | names))
    if wrong:
        raise Failure(f"the scripts and operate/ are not of one release, by {', '.join(wrong)}: check out one release")

    fields: dict[str, Any] = {name.lower(): given[name] for name in names}
    return Deployment(settings={name: given[name] for name in settings}, **fields)
