r"""Slips to plant in a copy of the project outside of the protocol, each with the tests that have to notice it.

They are of the kind that people make: the wrong resource, a condition that is missing, a comparison the wrong way
round, another unit, off by one, the first page of a paginated answer taken for all of it, a failure that is ignored.
Those in the protocol are in mutants.py.
"""

from pathlib import Path
from typing import NamedTuple

from mutants import PROJECT, WORKER, copy_project, replace_once

# What the tests of the scripts and of the local cloud need beside the worker.
ALL = (
    *(*WORKER, "starter.py", "launch", "deploy.sh", "cleanup.sh", "sync.sh", "lib", "local"),
    *("Dockerfile", "requirements.txt", "docs"),
)


# The model of the commands that read many keys, and what stops them.
AGREE, STOPPED = ("worker/test_readers_agree.py",), ("worker/test_readers_stopped.py",)


class Slip(NamedTuple):
    """`text` occurs once in the file, whose path is below the project; `tests` are files or node ids below tests/."""

    name: str
    file: str
    text: str
    replacement: str
    tests: tuple[str, ...]


def scripts(*names: str) -> tuple[str, ...]:
    return tuple(f"scripts/test_{name}.py" for name in names)


def worker(*names: str) -> tuple[str, ...]:
    return tuple(f"worker/test_{name}.py" for name in names)


def documents(name: str) -> tuple[str, ...]:
    """What deploy.sh sends to AWS."""
    return (f"scripts/test_documents.py::test_{name}",)


def resource(name: str, file: str, text: str, replacement: str, tests: tuple[str, ...]) -> Slip:
    return Slip(name, f"lib/resources/{file}", text, replacement, tests)


STARTER = (
    Slip(
        "a task without createdAt is of 1970",
        "launch/tasks.py",
        'created=times.get("createdAt", now),',
        'created=times.get("createdAt", 0.0),',
        ("scripts/test_starter_troubles.py::test_a_task_that_may_yet_start_counts_as_running",),
    ),
    Slip(
        "a task on demand waits for Spot",
        "launch/tasks.py",
        "return unstarted and self.spot and now",
        "return unstarted and now",
        ("scripts/test_starter_troubles.py::test_a_task_that_may_yet_start_counts_as_running",),
    ),
    Slip(
        "each describe asks for the first hundred tasks",
        "launch/calls.py",
        "tasks=list(arns[first : first + TASKS_PER_DESCRIBE])",
        "tasks=list(arns[:TASKS_PER_DESCRIBE])",
        ("scripts/test_starter.py::test_workers_on_every_page_of_the_list_count",),
    ),
    Slip(
        "only the first page of tasks is read",
        "launch/calls.py",
        'pages = ecs.get_paginator("list_tasks").paginate(**selection, PaginationConfig=limit)',
        "pages = [ecs.list_tasks(**selection)]",
        ("scripts/test_starter.py::test_workers_on_every_page_of_the_list_count",),
    ),
    Slip(
        "an empty security group is sent",
        "launch/calls.py",
        '[group for group in settings["SECURITY_GROUPS"].split(",") if group]',
        'settings["SECURITY_GROUPS"].split(",")',
        ("scripts/test_starter.py::test_a_worker_has_the_security_groups_that_are_set",),
    ),
    Slip(
        "what was just started is forgotten at once",
        "launch/calls.py",
        "if now - at < JUST_STARTED_SECONDS}",
        "if now - at >= JUST_STARTED_SECONDS}",
        ("scripts/test_starter_events.py::test_a_burst_starts_one_worker_though_ecs_does_not_list_it_yet",),
    ),
    Slip(
        "what could not be stopped gets a successor",
        "starter.py",
        "    if failures:\n        return [], failures\n",
        "",
        ("scripts/test_starter_troubles.py::test_a_waiting_task_that_cannot_be_stopped_gets_no_successor",),
    ),
    Slip(
        "a pause lets the function copy",
        "starter.py",
        " or decision.paused_since",
        "",
        ("scripts/test_starter_paused.py::test_nothing_is_started_or_copied_and_what_runs_is_stopped",),
    ),
    Slip(
        "an audit is started as a worker",
        "starter.py",
        '{**settings, "STARTED_BY": settings["AUDIT_STARTED_BY"]}',
        "dict(settings)",
        ("scripts/test_starter_audit.py::test_an_audit_is_started_on_demand_with_its_command_and_is_no_worker",),
    ),
    Slip(
        "the slot of an audit comes at midnight",
        "launch/audit.py",
        "day = int((now - SLOT_SECONDS) // DAY)",
        "day = int(now // DAY)",
        ("scripts/test_starter_audit.py::test_a_slot_is_at_two_every_so_many_days",),
    ),
    Slip(
        "an audit that found differences is started again",
        "launch/audit.py",
        "ENDED_BY_ITSELF = (0, 1, 3)",
        "ENDED_BY_ITSELF = (0,)",
        ("scripts/test_starter_audit.py::test_the_plan",),
    ),
    Slip(
        "the time that is left is taken for seconds",
        "launch/copying.py",
        "float(context.get_remaining_time_in_millis()) / 1000",
        "float(context.get_remaining_time_in_millis())",
        ("scripts/test_starter_copying.py::test_so_much_time_is_kept_for_the_rest_of_the_run",),
    ),
    Slip(
        "only a late event tells of a message",
        "launch/copying.py",
        "timestamp() <= FRESH_SECONDS",
        "timestamp() > FRESH_SECONDS",
        ("scripts/test_starter_events.py::test_an_event_is_a_message_also_if_it_is_in_no_count_yet",),
    ),
    Slip(
        "the pause between attempts does not grow",
        "launch/decision.py",
        "max(times) + min(longest, max(shortest, max(times) - min(times)))",
        "max(times) + min(longest, shortest)",
        ("scripts/test_starter_troubles.py::test_pauses_between_attempts_grow_to_a_quarter_of_an_hour",),
    ),
    Slip(
        "the highest value of a setting is refused",
        "launch/settings.py",
        "if not lowest <= settings[name] <= highest:",
        "if not lowest <= settings[name] < highest:",
        ("scripts/test_starter.py::test_who_wants_one_worker_for_very_many_messages_gets_one",),
    ),
    Slip(
        "a worker that has merely started has worked",
        "launch/decision.py",
        "proof = seconds_of_proof(failed)",
        "proof = 0.0",
        ("scripts/test_starter_worlds.py::test_in_no_world_the_starter_breaks_its_word",),
    ),
    Slip(
        "each step of a roll-over exceeds MAX_WORKERS by one more",
        "launch/decision.py",
        "newer = min(plan.newer, max(room, int(room == 0)))",
        "newer = min(plan.newer, max(room, 1))",
        (
            "scripts/test_starter_staying.py::test_above_max_workers_a_roll_over_ends_an_older_one_and_starts_none_above_one_more",
        ),
    ),
    Slip(
        "a roll-over that exceeds MAX_WORKERS waits for workers that do not end",
        "launch/staying.py",
        "above = min(1, len(live) - most) if going == len(newest) else 0",
        "above = 0",
        (
            "scripts/test_starter_staying.py::test_above_max_workers_a_roll_over_ends_an_older_one_and_starts_none_above_one_more",
        ),
    ),
)

READERS = (
    Slip(
        "a copy has landed after five seconds",
        "mirror/readers/completeness.py",
        "else self.buckets.settings.copy_timeout + LANDED_SECONDS",
        "else LANDED_SECONDS",
        AGREE,
    ),
    Slip(
        "a source that has no versions is not told from one that has",
        "mirror/protocol/requests.py",
        'buckets.is_versioned = "VersionId" in found',
        "buckets.is_versioned = False",
        AGREE,
    ),
    Slip(
        "missing keys beyond those that are remembered are forgotten",
        "mirror/readers/completeness.py",
        "        self.more.keys += 1\n",
        "        pass\n",
        ("worker/test_completeness.py::test_of_more_missing_keys_than_may_be_remembered_the_others_are_counted",),
    ),
    Slip(
        "all missing keys are looked at in each round",
        "mirror/readers/completeness.py",
        "if not (await self.have_most_arrived(self.look_at, some) or are_most_here):",
        "if not (await self.have_most_arrived(self.look_at, some) or True):",
        ("worker/test_completeness.py::test_only_some_of_many_missing_keys_are_looked_at_until_they_have_arrived",),
    ),
    Slip(
        "keys that never arrive hide those that are only counted",
        "mirror/readers/completeness.py",
        "if not self.missing or since >= max(RELIST_SECONDS, RELIST_SHARE * self.took):",
        "if not self.missing:",
        ("worker/test_completeness.py::test_keys_that_never_arrive_do_not_hide_those_that_are_only_counted",),
    ),
    Slip(
        "what another tool put into the destination is waited for",
        "mirror/readers/completeness.py",
        'return found.row in ("", "unwanted", FOREIGN)',
        'return found.row in ("", "unwanted")',
        AGREE,
    ),
    Slip(
        "the same keys are looked at on both sides each time",
        "mirror/readers/completeness.py",
        "            self.missing[key] = self.missing.pop(key)\n",
        "            pass\n",
        (
            "worker/test_completeness.py::test_of_many_keys_that_lack_all_have_their_turn_to_be_looked_for_in_the_source",
        ),
    ),
    Slip(
        "a page that may not be listed is asked for again and again",
        "mirror/readers/listing.py",
        "if is_environment(error) or not is_busy(error):",
        "if False:",
        STOPPED,
    ),
    Slip(
        "a time that is over before both listings are read counts as complete",
        "mirror/readers/wait.py",
        'return self.report("complete" if self.is_complete() else "timeout")',
        'return self.report("timeout" if self.state.lacking else "complete")',
        STOPPED,
    ),
    Slip(
        "a difference that is reported has the number of the one before",
        "mirror/readers/repairs.py",
        "        self.differences += 1\n",
        "        self.differences = max(1, self.differences)\n",
        ("worker/test_reconcile.py::test_a_report_names_each_difference_in_a_numbered_line_up_to_a_number",),
    ),
    Slip(
        "a report of which lines are missing counts as whole",
        "lib/verbs/reconcile.sh",
        "elif $found < .reported then",
        "elif false then",
        ("scripts/test_report_verb.py::test_a_report_has_all_differences_in_their_order_or_says_why_not",),
    ),
    Slip(
        "the time that is left is said while folders are still found",
        "mirror/readers/listing.py",
        "if known > self.known:",
        "if not self.known:",
        ("worker/test_progress.py::test_the_time_that_is_left_is_said_only_when_it_can_be_known",),
    ),
    Slip(
        "what stopped a wait is told as its timeout",
        "mirror/readers/wait.py",
        '"stopped": 3}',
        '"stopped": 1}',
        STOPPED,
    ),
    Slip(
        "as many as may be deleted are too many",
        "mirror/readers/reconcile.py",
        "len(self.held) + len(self.removal.keys) > self.options.max_delete",
        "len(self.held) + len(self.removal.keys) >= self.options.max_delete",
        AGREE,
    ),
    Slip(
        "a missing object that may be archived is queued without a look",
        "mirror/readers/reconcile.py",
        " and source.storage_class not in MAYBE_ARCHIVED",
        "",
        AGREE,
    ),
    Slip(
        "a dry run that found differences ends with 0",
        "mirror/readers/reconcile.py",
        'settled = {"archived"} if self.options.dry_run else {"archived", *QUEUED}',
        'settled = {"archived", *QUEUED}',
        AGREE,
    ),
    Slip(
        "what an audit has no room for is dropped",
        "mirror/readers/reconcile.py",
        "            found = found[room:]\n",
        "            found = []\n",
        AGREE,
    ),
    Slip(
        "an audit of the first thousand doubtful keys is all of it",
        "mirror/readers/reconcile.py",
        "in pieces(keys, self.buckets.settings.task_memory)",
        "in itertools.islice(pieces(keys, self.buckets.settings.task_memory), 1)",
        AGREE,
    ),
    Slip(
        "what the sync did not write is put on the queue as a ghost",
        "mirror/readers/listing.py",
        "Finding(key, what, NOTHING if is_foreign else action, is_foreign, checked)",
        "Finding(key, what, action, is_foreign, checked)",
        AGREE,
    ),
    Slip(
        "what is excluded is removed, even if others wrote it",
        "mirror/readers/repairs.py",
        "found.row in self.asked and (FOREIGN in self.asked or not found.is_foreign)",
        "found.row in self.asked",
        AGREE,
    ),
    Slip(
        "a worker is not told that a copy is corrupt",
        "mirror/readers/repairs.py",
        "row == MISSING, row == CORRUPT)",
        "row == MISSING, False)",
        ("worker/test_reconcile.py::test_a_copy_that_others_have_changed_is_found_by_its_checksum_and_copied_again",),
    ),
    Slip(
        "checksums that S3 does not show end the comparison",
        "mirror/protocol/requests.py",
        'if checksums and error_code(error) in (*UNEXPLAINED_CODES, "501"):',
        "if False:",
        ("worker/test_reconcile.py::test_checksums_that_s3_does_not_show_are_left_out_and_that_is_said_once",),
    ),
    Slip(
        "an audit raises its alarm at objects of others",
        "mirror/readers/repairs.py",
        'NO_ALARM = ("foreign", "archived")',
        'NO_ALARM = ("archived",)',
        AGREE,
    ),
    Slip(
        "one too many unwanted keys is not remembered",
        "mirror/readers/repairs.py",
        "if len(self.keys) <= self.most:",
        "if len(self.keys) < self.most:",
        AGREE,
    ),
    Slip(
        "a copy that changed before its removal counts as removed",
        "mirror/readers/repairs.py",
        '                return Finding(sync.key, "")\n',
        '                return Finding(sync.key, "removed")\n',
        AGREE,
    ),
    Slip(
        "what is excluded counts as too old as well",
        "mirror/readers/measure.py",
        "            elif self.wanted.is_expired(destination.modified, self.now):",
        "            if self.wanted.is_expired(destination.modified, self.now):",
        AGREE,
    ),
    Slip(
        "what is under no prefix is measured",
        "mirror/readers/walk.py",
        'if item["Key"].startswith(self.prefixes)]',
        "if item]",
        AGREE,
    ),
)

CLIENTS = (
    Slip(
        "an error inside a 200 is a success",
        "mirror/aws/wire.py",
        '    if root.tag == "Error":\n        raise client_error(operation, answer)\n',
        "",
        ("worker/test_crt.py::test_both_clients_decide_alike_on_every_fault",),
    ),
    Slip(
        "an upload's id is not quoted",
        "mirror/aws/wire.py",
        "{quote(parameters['UploadId'], safe='~')}",
        "{parameters['UploadId']}",
        ("worker/test_crt.py::test_every_request_equals_that_of_boto3_on_the_real_host_names",),
    ),
    Slip(
        "a connection is used again however long it was silent",
        "mirror/aws/http.py",
        "if since > oldest and connection.is_open():",
        "if connection.is_open():",
        ("worker/test_connections.py::test_a_connection_that_was_idle_for_long_is_not_used_again",),
    ),
    Slip(
        "a long poll is given up before it ends",
        "mirror/aws/crt_json.py",
        'timeout = parameters["WaitTimeSeconds"] + QUEUE_TIMEOUT',
        "timeout = QUEUE_TIMEOUT",
        ("worker/test_connections.py::test_a_receive_has_the_time_of_its_poll_and_that_of_an_answer",),
    ),
    Slip(
        "a refusal of SQS is taken for its answer",
        "mirror/aws/crt_json.py",
        "if answer.status == 200 else None",
        "if answer.status < 500 else None",
        ("worker/test_crt.py::test_what_fails_on_the_queue_is_repeated_by_boto3",),
    ),
    Slip(
        "a large copy is given as little time as a small one",
        "mirror/aws/crt_s3.py",
        "self.send(COPY_OBJECT, parameters, timeout)",
        "self.send(COPY_OBJECT, parameters, self.short_timeout)",
        ("worker/test_connections.py::test_a_small_copy_that_is_silent_is_given_up_sooner_and_may_still_land",),
    ),
    Slip(
        "keys that have ended are used",
        "mirror/aws/keys.py",
        "return keys if left > 0 else None",
        "return keys",
        ("worker/test_credentials.py::test_many_who_find_the_keys_ended_fetch_new_ones_once",),
    ),
    Slip(
        "boto3 repeats a copy by itself",
        "mirror/aws/boto3_clients.py",
        "self.writes, self.small_writes = client(long, 1), client(short, 1)",
        "self.writes, self.small_writes = client(long, timeouts.ATTEMPTS), client(short, timeouts.ATTEMPTS)",
        ("worker/test_connections.py::test_what_changes_the_destination_is_sent_once",),
    ),
    Slip(
        "the port is left out of the Host header",
        "mirror/aws/endpoints.py",
        "return Endpoint(url, urlsplit(url).netloc, ",
        'return Endpoint(url, urlsplit(url).hostname or "", ',
        ("worker/test_crt.py::test_the_host_of_a_request_has_the_port_of_its_endpoint",),
    ),
)

RESOURCES = (
    resource(
        "the alarm on dead letters looks at the queue",
        "alarm.sh",
        'AWS/SQS/ApproximateNumberOfMessagesVisible "QueueName=$DLQ_NAME"',
        'AWS/SQS/ApproximateNumberOfMessagesVisible "QueueName=$QUEUE_NAME"',
        documents("each_alarm_watches_what_its_name_says"),
    ),
    resource(
        "an idle queue is an alarm",
        "alarm.sh",
        'TreatMissingData: "notBreaching"',
        'TreatMissingData: "breaching"',
        documents("each_alarm_watches_what_its_name_says"),
    ),
    resource(
        "one line of an outage is no alarm",
        "alarm.sh",
        '"" Sum 0 6 "$why $cure")',
        '"" Sum 1 6 "$why $cure")',
        documents("each_alarm_watches_what_its_name_says"),
    ),
    resource(
        "the alarm on audits counts outages",
        "alarm.sh",
        '"$APP_NAME/$AUDIT_METRIC" "" Sum',
        '"$APP_NAME/$OUTAGE_METRIC" "" Sum',
        documents("each_alarm_watches_what_its_name_says"),
    ),
    resource(
        "a bucket of another account with the name may send to the queue",
        "queue.sh",
        ',\n        StringEquals: {"aws:SourceAccount": $owner}}}, {',
        "}}, {",
        documents("only_the_source_of_events_may_send_to_the_queue"),
    ),
    resource(
        "any rule of anybody may send to the queue",
        "queue.sh",
        ',\n      Condition: {ArnEquals: {"aws:SourceArn": $rule}}}',
        "}",
        documents("only_the_source_of_events_may_send_to_the_queue"),
    ),
    resource(
        "messages are kept for four days",
        "queue.sh",
        "QUEUE_SECONDS=1209600",
        "QUEUE_SECONDS=345600",
        documents("a_message_that_fails_goes_to_the_dead_letter_queue"),
    ),
    resource(
        "the queue is its own dead-letter queue",
        "queue.sh",
        '--arg dlq "$DLQ_ARN"',
        '--arg dlq "$QUEUE_ARN"',
        documents("a_message_that_fails_goes_to_the_dead_letter_queue"),
    ),
    resource(
        "the visibility timeout is the interval of its extension",
        "queue.sh",
        '--arg visibility "$VISIBILITY_TIMEOUT"',
        '--arg visibility "$VISIBILITY_EXTEND_INTERVAL"',
        documents("a_message_that_fails_goes_to_the_dead_letter_queue"),
    ),
    resource(
        "a lifecycle session may only read",
        "destination.sh",
        '"ReadWrite"',
        '"ReadOnly"',
        documents("s3_lifecycle_may_open_a_session_that_writes_and_nobody_else_any"),
    ),
    resource(
        "where two rules of KEEP_DAYS meet, the fewer days count",
        "lifecycle.jq",
        "days: ([$old, $new | .Expiration.Days] | max)}",
        "days: ([$old, $new | .Expiration.Days] | min)}",
        ("scripts/test_lifecycle.py::test_ours_change_with_the_settings_and_those_of_others_stay",),
    ),
    resource(
        "uploads that were given up stay for a week",
        "lifecycle.sh",
        "{DaysAfterInitiation: 1}}",
        "{DaysAfterInitiation: 7}}",
        documents("the_lifecycle_ends_uploads_and_what_is_older_than_keep_days"),
    ),
    resource(
        "roles keep the tag of the old version",
        "version_tag.sh",
        '    printf \'iam tag-role --role-name %s\\n\' "$STARTER_ROLE" "$TASK_ROLE" "$EXEC_ROLE"\n',
        "",
        documents("a_new_release_is_the_tag_of_everything_and_of_the_function_last"),
    ),
    resource(
        "the starter may pass its roles to any service",
        "role.sh",
        ',\n       Condition: {StringEquals: {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}}',
        "}",
        documents("a_role_may_do_exactly_that"),
    ),
    resource(
        "the ECS of any account may take the task's role",
        "role.sh",
        ', StringEquals: {"aws:SourceAccount": $account}',
        "",
        documents("a_role_is_taken_only_by_the_service_and_the_account_that_it_is_for"),
    ),
    resource(
        "the worker may read all of the source bucket",
        "role.sh",
        'map("\\($source)/\\(.)*")',
        'map("\\($source)/*")',
        documents("a_role_may_do_exactly_that"),
    ),
    resource(
        "ECS may write to the starter's log instead of the worker's",
        "role.sh",
        'log-group:$WORKER_LOG_GROUP:*" \\\n    --arg repository',
        'log-group:$STARTER_LOG_GROUP:*" \\\n    --arg repository',
        documents("a_role_may_do_exactly_that"),
    ),
    resource(
        "a worker has 30 seconds for its end",
        "task_definition.sh",
        "stopTimeout: 120",
        "stopTimeout: 30",
        documents("a_worker_runs_so"),
    ),
    resource(
        "a log that does not answer stops the worker",
        "task_definition.sh",
        '"non-blocking"',
        '"blocking"',
        documents("a_worker_runs_so"),
    ),
    resource(
        "the task has the role of ECS",
        "task_definition.sh",
        '--arg task_role "$TASK_ROLE_ARN" --arg exec_role "$EXEC_ROLE_ARN"',
        '--arg task_role "$EXEC_ROLE_ARN" --arg exec_role "$TASK_ROLE_ARN"',
        documents("a_worker_runs_so"),
    ),
    resource(
        "the image is built for this machine",
        "image.sh",
        ' --platform "$(docker_platform)"',
        "",
        documents("the_image_is_built_for_the_task_pushed_and_run"),
    ),
    resource(
        "the image has attestations",
        "image.sh",
        " --provenance=false --sbom=false",
        "",
        documents("the_image_is_built_for_the_task_pushed_and_run"),
    ),
    resource(
        "what a lifecycle of the source deletes is no event",
        "notification.sh",
        '"s3:LifecycleExpiration:*", ',
        "",
        documents("the_bucket_sends_what_changes_its_keys_to_the_queue"),
    ),
    resource(
        "notifications of others to queues go",
        "notification.sh",
        "'.QueueConfigurations += $ours'",
        "'.QueueConfigurations = $ours'",
        documents("notifications_of_others_stay"),
    ),
    resource(
        "any rule may run the starter",
        "rule.sh",
        ' --source-arn "$2"',
        "",
        documents("the_rule_runs_the_starter"),
    ),
    resource(
        "an event that starts the starter is an hour old",
        "event_rule.sh",
        "RetryPolicy: {MaximumEventAgeInSeconds: 60}}",
        "RetryPolicy: {MaximumEventAgeInSeconds: 3600}}",
        documents("an_event_goes_to_the_queue_and_starts_the_starter_while_it_is_new"),
    ),
    resource(
        "audits that could not start are looked for in the worker's log",
        "metric_filter.sh",
        '"$AUDIT_ALARM" "$STARTER_LOG_GROUP" "$AUDIT_START_FILTER"',
        '"$AUDIT_ALARM" "$WORKER_LOG_GROUP" "$AUDIT_START_FILTER"',
        documents("an_audit_that_could_not_be_started_is_counted_in_the_starters_log"),
    ),
    resource(
        "Lambda runs a failed starter twice more",
        "function.sh",
        "--maximum-retry-attempts 0",
        "--maximum-retry-attempts 2",
        documents("the_function_runs_so"),
    ),
    resource(
        "the cluster has no Spot",
        "cluster.sh",
        "FARGATE FARGATE_SPOT \\\n    --settings",
        "FARGATE \\\n    --settings",
        documents("the_cluster_has_spot_and_is_waited_for"),
    ),
    resource(
        "only a hundred tasks are waited for",
        "cluster.sh",
        '    arns=("${arns[@]:100}")\n',
        "    arns=()\n",
        scripts("cleanup_parts"),
    ),
    resource(
        "both gateway endpoints are those of S3",
        "vpc_endpoint.sh",
        "ensure_s3express_endpoint() { ensure_vpc_endpoint s3express; }",
        "ensure_s3express_endpoint() { ensure_vpc_endpoint s3; }",
        documents("each_route_table_of_the_tasks_gets_an_endpoint_for_both_services"),
    ),
    resource(
        "tasks run in private subnets of the default VPC",
        "network.sh",
        'select($chosen != "" or .MapPublicIpOnLaunch)',
        "select(true)",
        documents("tasks_run_in_subnets_that_they_can_run_in"),
    ),
    resource(
        "the old source of events goes before the new one has taken effect",
        "changeover.sh",
        '  await_changeover\n  "$@"',
        '  "$@"',
        ("scripts/test_event_source.py::test_the_old_way_goes_when_the_new_one_has_had_its_time",),
    ),
    resource(
        "the dashboard shows the queue as dead letters",
        "dashboard.sh",
        '"$visible,QueueName,$DLQ_NAME,parked"',
        '"$visible,QueueName,$QUEUE_NAME,parked"',
        documents("each_widget_shows_what_its_title_says"),
    ),
)

VERBS = (
    Slip(
        "a move of messages that failed is told as done",
        "lib/verbs/redrive.sh",
        'Status <<<"$move") == COMPLETED ]] ||',
        'Status <<<"$move") != RUNNING ]] ||',
        ("scripts/test_verb_parts.py::test_messages_are_back_only_when_their_move_has_completed",),
    ),
    Slip(
        "keys of dead letters stay encoded",
        "lib/dead_letters.sh",
        'unquote_plus(record["s3"]["object"]["key"])',
        'record["s3"]["object"]["key"]',
        ("scripts/test_event_source.py::test_redrive_reads_the_keys_of_both_forms",),
    ),
    Slip(
        "only ten dead letters are made visible again",
        "lib/dead_letters.sh",
        "| .[$i:$i + 10]')",
        "| .[$i:10]')",
        ("scripts/test_night.py::test_redrive_shows_what_it_sees_says_what_it_does_not_and_hides_nothing",),
    ),
    Slip(
        "status ends with 0 though it says failing",
        "lib/verbs/status.sh",
        "  return 1\n",
        "",
        ("scripts/test_verb_parts.py::test_status_ends_with_1_only_if_something_fails",),
    ),
    Slip(
        "one dead letter is none",
        "lib/verbs/status.sh",
        "(.dead_letters | all_messages | select(. > 0)",
        "(.dead_letters | all_messages | select(. > 1)",
        ("scripts/test_night.py::test_status_fails_although_a_dead_letter_is_hidden",),
    ),
    Slip(
        "one broken way of the events is a fault although the other is whole",
        "launch/path.py",
        "for fault in way] if all(ways) else []",
        "for fault in way] if any(ways) else []",
        ("scripts/test_path.py::test_of_two_ways_one_is_enough",),
    ),
    Slip(
        "a target that sends something else counts as one that sends the event",
        "launch/path.py",
        "any(not any(target.get(name)",
        "any(True or any(target.get(name)",
        ("scripts/test_path.py::test_each_break_is_seen_said_alike_and_repaired_by_one_deployment",),
    ),
    Slip(
        "a deployment waits for the last copies before the notification has followed the function",
        "deploy.sh",
        "ensure_rule ensure_notification ensure_event_rule ensure_event_switch\n  ensure_rights_ended\n",
        "ensure_rights_ended ensure_rule ensure_notification ensure_event_rule ensure_event_switch\n",
        ("scripts/test_path.py::test_the_guard_finds_nothing_while_a_deployment_waits",),
    ),
    Slip(
        "the late keys of a hundred are a share of one",
        "lib/resources/alarm.sh",
        'Expression: "100 * late / keys"',
        'Expression: "late / keys"',
        documents("one_alarm_watches_the_share_of_late_keys_if_there_are_metrics"),
    ),
    Slip(
        "request metrics that cleanup.sh has not seen stay on",
        "lib/reads.sh",
        '  turn_off_if_removed "${ids[@]}"\n',
        "",
        ("scripts/test_reads.py::test_a_whole_run_of_cleanup_while_they_are_turned_on_leaves_nothing",),
    ),
    Slip(
        "a fault that is seen once fails the run",
        "launch/guard.py",
        "[fault for fault in faults if fault in again]",
        "faults",
        ("scripts/test_guard.py::test_no_false_alarm_in_a_day_of_deployments_pauses_and_refused_reads",),
    ),
    Slip(
        "the guard looks an hour later although something is wrong",
        "launch/guard.py",
        "return now if faults or not is_complete else",
        "return now if not is_complete else",
        ("scripts/test_path.py::test_the_guard_looks_once_an_hour_and_at_once_after_a_cure",),
    ),
    Slip(
        "each failure of a message is announced as its last",
        "mirror/queue/leases.py",
        "if self.when_failed and self.is_last(lease):",
        "if self.when_failed:",
        ("worker/test_announcer.py::test_what_goes_to_the_dead_letter_queue_is_told_only_if_that_is_asked",),
    ),
    Slip(
        "a permission that nobody may read is gone",
        "launch/path.py",
        "return is_unknown(permissions) or any(",
        "return any(",
        ("scripts/test_path.py::test_what_may_not_be_read_is_said_and_is_no_fault",),
    ),
    Slip(
        "a starter that runs every 15 minutes is missed after three",
        "lib/verbs/status.sh",
        "(180 * (.rule.minutes // 1)) as $silence",
        "180 as $silence",
        ("scripts/test_sync.py::test_the_one_word_of_status",),
    ),
    Slip(
        "the first figure is taken for the newest",
        "lib/status_parts.sh",
        "'.Datapoints | max_by(.Timestamp) | .Maximum",
        "'.Datapoints[0] | .Maximum",
        ("scripts/test_verb_parts.py::test_the_age_of_the_oldest_message_is_the_newest_figure",),
    ),
    Slip(
        "releases are compared as texts",
        "lib/status_parts.sh",
        "(.deployed | order) < (.checkout | order)",
        ".deployed < .checkout",
        scripts("verb_parts"),
    ),
    Slip(
        "the function's milliseconds are paid as seconds",
        "lib/verbs/cost.sh",
        "if . then . / 1000 else . end",
        "if . then . else . end",
        ("scripts/test_cost_verb.py::test_the_figures_come_from_the_logs_the_metrics_and_the_task",),
    ),
    Slip(
        "the free tier takes off more than was used",
        "lib/cost.jq",
        "(if $row.quantity < $units then $row.quantity else $units end) * $row.price",
        "$units * $row.price",
        ("docs/test_estimate.py::test_it_says_of_a_month_what_one_adds_up_by_hand",),
    ),
    Slip(
        "the offset of a time zone is added",
        "lib/clock.sh",
        "tonumber) - $offset end;",
        "tonumber) + $offset end;",
        ("scripts/test_verb_parts.py::test_a_time_is_read_as_each_generation_of_the_cli_prints_it",),
    ),
    Slip(
        "a query that has only been scheduled is empty",
        "lib/log_reader.sh",
        "      Complete)",
        "      Complete | Scheduled | Unknown)",
        ("scripts/test_verb_parts.py::test_the_rows_of_a_query_are_those_of_its_end",),
    ),
    Slip(
        "a line that a log shows twice is printed twice",
        "lib/log_reader.sh",
        "    LOG_SEEN[$id]=$time\n",
        "",
        ("scripts/test_verbs.py::test_hours_of_a_log_are_printed_page_by_page_and_not_remembered",),
    ),
    Slip(
        "AccessDeniedException is no denial",
        "lib/aws.sh",
        "^(AccessDenied.*|",
        "^(AccessDenied|",
        ("scripts/test_verb_parts.py::test_what_each_kind_of_call_takes_for_an_answer",),
    ),
    Slip(
        "a task for one command runs on Spot",
        "lib/one_task.sh",
        "capacityProvider=FARGATE,weight=1",
        "capacityProvider=FARGATE_SPOT,weight=1",
        ("scripts/test_verb_parts.py::test_a_task_for_one_command_runs_on_demand_in_the_network_of_the_workers",),
    ),
    Slip(
        "another container's exit code is the worker's",
        "lib/one_task.sh",
        """'[.containers[]? | select(.name == "worker")][0].exitCode'""",
        "'.containers[0].exitCode'",
        ("scripts/test_verbs.py::test_a_summary_that_the_log_dropped_does_not_decide_the_result",),
    ),
    Slip(
        "an error of the script looks like a timeout of wait",
        "lib/verbs/wait.sh",
        "  ((status != 1)) || status=${WAIT_STATUS:-3}\n",
        "",
        ("scripts/test_wait_verb.py::test_what_goes_wrong_is_never_taken_for_a_timeout_and_leaves_no_task",),
    ),
    Slip(
        "what a list has beyond the wanted is no difference",
        "lib/json.sh",
        '($have | type) == "array" and length == ($have | length)',
        '($have | type) == "array" and length <= ($have | length)',
        ("scripts/test_verb_parts.py::test_what_is_there_differs_in_what_it_lacks_or_has_more_of_in_a_list",),
    ),
    Slip(
        "the shortest visibility timeout that is safe is refused",
        "lib/settings.sh",
        "((lowest <= VISIBILITY_TIMEOUT)) ||",
        "((lowest < VISIBILITY_TIMEOUT)) ||",
        ("scripts/test_settings.py::test_settings_that_do_not_go_together_are_refused",),
    ),
    Slip(
        "a clean-up that could not remove something ends with 0",
        "cleanup.sh",
        '  ! has_failed "$1" || FAILURES=$((FAILURES + 1))\n',
        "",
        ("scripts/test_cleanup_parts.py::test_what_fails_does_not_keep_the_rest_and_is_no_success",),
    ),
)

VERIFY = (
    Slip(
        "any size has arrived",
        "lib/verify/watch.sh",
        """[[ ${SIZE_THERE["in_mirror $key"]:-} == "${SIZE_THERE["in_source $key"]}" ]]""",
        """[[ -n ${SIZE_THERE["in_mirror $key"]:-} ]]""",
        ("scripts/test_verify_parts.py::test_what_has_arrived_is_there_with_its_size_or_gone",),
    ),
    Slip(
        "what was listed before is still there",
        "lib/verify/watch.sh",
        """    [[ $key != "$1 "* ]] || unset "SIZE_THERE[\\$key]"\n""",
        "    :\n",
        ("scripts/test_verify_parts.py::test_what_has_arrived_is_there_with_its_size_or_gone",),
    ),
    Slip(
        "Cache-Control is not compared",
        "lib/verify/cases.sh",
        "{ContentType, CacheControl, ContentDisposition,",
        "{ContentType, ContentDisposition,",
        ("scripts/test_verify_parts.py::test_each_field_that_a_copy_carries_is_compared",),
    ),
    Slip(
        "only the source's bytes are compared",
        "lib/verify/cases.sh",
        """ && cmp -s "$want" "$VERIFY_DIR/in_mirror.$1.body"; then""",
        "; then",
        ("scripts/test_verify_parts.py::test_bytes_are_compared_with_what_was_put_on_both_sides",),
    ),
    Slip(
        "a copy of the version before is the changed one",
        "lib/verify/cases.sh",
        '.Metadata["sync-source"] // "" | startswith($wanted))',
        '.Metadata["sync-source"] // "" | . != "")',
        (
            "scripts/test_verify_parts.py::test_a_change_has_arrived_when_the_copy_was_made_from_the_source_as_it_is_now",
        ),
    ),
    Slip(
        "a removal that S3 refused is done",
        "lib/verbs/verify.sh",
        """  "$1" delete-objects --delete "file://$VERIFY_DIR/remove.json" | must_be_zero '.Errors | length'""",
        """  "$1" delete-objects --delete "file://$VERIFY_DIR/remove.json" >/dev/null""",
        ("scripts/test_verify_parts.py::test_a_removal_that_s3_refuses_is_a_failure",),
    ),
    Slip(
        "objects that are left end verify with 0",
        "lib/verbs/verify.sh",
        "    status=1\n  fi\n  rm -rf",
        "  fi\n  rm -rf",
        ("scripts/test_verify_parts.py::test_what_may_be_left_is_told_and_no_success",),
    ),
    Slip(
        "all is well though metadata differ",
        "lib/verify/table.sh",
        """ and (.bytes | IN("equal", "-"))\n    and (.metadata | IN("equal", "-"))""",
        """ and (.bytes | IN("equal", "-"))""",
        ("scripts/test_verify_parts.py::test_all_is_well_only_if_nothing_differs",),
    ),
    Slip(
        "a task that Spot took is a broken link",
        "lib/verify/chain.sh",
        """ and .created >= $began and .code != "SpotInterruption")]""",
        " and .created >= $began)]",
        ("scripts/test_verbs.py::test_the_link_that_broke_is_named_only_when_it_is_certain",),
    ),
)

LOCAL = (
    Slip(
        "the local cloud takes a prefix of half a name",
        "local/gaps/s3.py",
        '(prefix and not prefix.endswith("/"))',
        "False",
        ("standin/test_rules_of_aws.py::test_it_follows_the_rule",),
    ),
    Slip(
        "messages stay in the local dead-letter queue when they are moved",
        "local/gaps/sqs.py",
        '        source["messages"].remove(message)\n',
        "",
        ("chain/test_cloud.py::test_a_dead_letter_queue_is_moved_back_to_its_source",),
    ),
    Slip(
        "the local cloud shows the moves of all queues",
        "local/gaps/sqs.py",
        '[m for m in moves if m["SourceArn"] == data["SourceArn"]]',
        "moves",
        ("chain/test_cloud.py::test_a_dead_letter_queue_is_moved_back_to_its_source",),
    ),
    Slip(
        "the local cloud forgets what an alarm on several metrics watches",
        "local/gaps/metrics.py",
        'alarm | {"Metrics": watched}',
        "alarm",
        ("chain/test_cloud.py::test_an_alarm_on_several_metrics_is_kept_as_it_was_put",),
    ),
    Slip(
        "a local rule delivers whatever the queue's policy says",
        "local/gaps/events.py",
        "bool(sqs._queue_by_arn(target)) and sqs.queue_policy_allows(target, SERVICE, rule, get_account_id())",
        "bool(sqs._queue_by_arn(target))",
        ("chain/test_cloud_events.py::test_a_queue_gets_nothing_unless_its_policy_names_the_rule",),
    ),
    Slip(
        "a local function is given seconds as milliseconds",
        "local/runtime.py",
        '(request["deadline"] - time.time()) * 1000',
        '(request["deadline"] - time.time())',
        ("chain/test_cloud_functions.py::test_the_context_knows_the_run_and_the_time_that_is_left",),
    ),
    Slip(
        "a local task starts with a deregistered revision",
        "local/gaps/ecs.py",
        'if (d["family"], d["status"]) == (family, "ACTIVE")]',
        'if d["family"] == family]',
        ("chain/test_cloud.py::test_a_family_is_its_newest_active_revision",),
    ),
    Slip(
        "the credentials of this shell reach the local cloud",
        "local/local.sh",
        '  unset "${!AWS_@}"\n',
        "",
        ("chain/test_local_start.py::test_of_a_users_shell_nothing_about_aws_reaches_the_local_cloud",),
    ),
)

SLIPS = (*STARTER, *READERS, *CLIENTS, *RESOURCES, *VERBS, *VERIFY, *LOCAL)


def plant(slip: Slip | None, directory: Path) -> None:
    """A copy of the project with the slip. Raises ValueError if its file has changed too much."""
    copy_project(ALL, directory)
    (directory / ".venv").symlink_to(PROJECT / ".venv")  # the stand-ins for AWS have theirs in it
    if slip:
        replace_once(directory / slip.file, slip.text, slip.replacement)
