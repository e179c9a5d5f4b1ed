# shellcheck shell=bash
# The roles of the starter, of the worker, and of ECS for starting it.

# Whether the error names a role that this run made, so that it may pass by itself: for an older role, the same error is
# final. One that names no role is about the starter's.
is_about_new_role() {
  local role
  for role in "$STARTER_ROLE" "$TASK_ROLE" "$EXEC_ROLE"; do
    if [[ $AWS_ERROR == *":role$ROLE_PATH$role"* || $AWS_ERROR != *:role/* && $role == "$STARTER_ROLE" ]]; then
      was_created role "$role" && return
    fi
  done
  return 1
}

ask_role() { aws_or_nothing iam get-role --role-name "$1"; }

# ask_role_policy NAME: prints what it allows, if there is such a role.
ask_role_policy() {
  local role
  role=$(fact role "$1")
  [[ -z $role ]] || aws_or_nothing iam get-role-policy --role-name "$1" --policy-name "$APP_NAME"
}

# Role names are the account's, all other names are the Region's.
check_roles() {
  local name role path answer
  for name in "$STARTER_ROLE" "$TASK_ROLE" "$EXEC_ROLE"; do
    role=$(fact role "$name")
    [[ -z $role ]] || jq -e --arg app "$APP_NAME" --arg region "$REGION" \
      '.Role.Tags // [] | from_entries | .app == $app and .region == $region' <<<"$role" >/dev/null \
      || problem "APP_NAME=$APP_NAME: its role $name belongs to someone else or to another Region (it does not have" \
        "the tags app=$APP_NAME region=$REGION), and all Regions share role names: set another APP_NAME"
  done
  # A role's path is a part of its ARN, and no call changes it (IAM API reference, UpdateRole).
  for name in "$STARTER_ROLE" "$TASK_ROLE" "$EXEC_ROLE"; do
    role=$(fact role "$name")
    path=$(jq -r '.Role.Path' <<<"${role:-null}")
    [[ $path != null && $path != "$ROLE_PATH" ]] || continue
    problem "ROLE_PATH=$ROLE_PATH: the role $name is under $path, and IAM cannot move a role: set ROLE_PATH=$path, or" \
      "run ./cleanup.sh first, which also removes the messages that are still queued"
    break
  done
  # Without iam:GetPolicy nothing is known, and AWS says it when the first role is made.
  [[ -n $ROLE_BOUNDARY_ARN ]] || return 0
  answer=$(aws_or_error iam get-policy --policy-arn "$ROLE_BOUNDARY_ARN") || [[ $answer != *NoSuchEntity* ]] \
    || problem "ROLE_BOUNDARY_ARN=$ROLE_BOUNDARY_ARN: $answer"
}

# trust SERVICE [CONDITION]: the policy by which that service takes a role.
trust() {
  printf '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "%s"},
    "Action": "sts:AssumeRole"%s}]}\n' "$1" "${2:+, \"Condition\": $2}"
}

# Amazon ECS Developer Guide, "Task IAM role": one cluster cannot be named, the account's ECS in this region can.
ecs_trust() {
  trust ecs-tasks.amazonaws.com "{\"ArnLike\": {\"aws:SourceArn\": \"arn:aws:ecs:$REGION:$ACCOUNT:*\"},
    \"StringEquals\": {\"aws:SourceAccount\": \"$ACCOUNT\"}}"
}

# With STARTER_COPIES=true the function may do what a worker may. Which task definition is the newest counts only for
# workers that stay (MIN_WORKERS); no resource can be named for it (Service Authorization Reference, Amazon ECS). With
# TAGS, RunTask needs the right to tag, which this condition gives to no other call. The first statement has what needs
# no condition, on one resource of each service: no action is for a resource of another service, and a statement for
# each would not fit with the most prefixes and keys. The last five of its rows are the guard's, and so is the last
# statement, which is one of its own because the starter may not write to the log of the workers. If the policy would
# have more characters than IAM takes (IAM User Guide, "IAM and AWS STS quotas"), the guard does not look at the alarms.
starter_policy() {
  local copying="[]"
  [[ $STARTER_COPIES == false ]] || copying=$(worker_statements)
  jq -n --argjson copying "$copying" --arg queue "$QUEUE_ARN" --arg cluster "$CLUSTER_ARN" \
    --arg definition "arn:aws:ecs:$REGION:$ACCOUNT:task-definition/$TASK_FAMILY:*" \
    --arg task_role "$TASK_ROLE_ARN" --arg exec_role "$EXEC_ROLE_ARN" \
    --arg logs "arn:aws:logs:$REGION:$ACCOUNT:log-group:$STARTER_LOG_GROUP:*" --argjson least "$MIN_WORKERS" \
    --arg tags "$TAGS" --arg source "arn:aws:s3:::$SRC_BUCKET" --arg rules "arn:aws:events:$REGION:$ACCOUNT:rule/$APP_NAME-*-rule" \
    --arg starter "$STARTER_ARN" --arg destination "$DST_BUCKET_ARN" --arg topic "${ALARM_EMAIL:+$TOPIC_ARN}" \
    --arg alarms "arn:aws:cloudwatch:$REGION:$ACCOUNT:alarm:*" \
    --arg workers_logs "arn:aws:logs:$REGION:$ACCOUNT:log-group:$WORKER_LOG_GROUP:*" --arg audits "$AUDIT_DAYS" '
    def as_one: {Effect: "Allow", Action: (map(.Action) | flatten), Resource: (map(.Resource) | unique)};
    {ArnEquals: {"ecs:cluster": $cluster}} as $our_cluster | ($cluster | sub(":cluster/"; ":task/")) as $task |
    ($copying | map(select(.Resource == ($queue, $source, $destination)))) as $copying_plainly |
    def policy($watchers; $of_filters): {Version: "2012-10-17", Statement: ([
      ([{Action: "sqs:GetQueueAttributes", Resource: $queue},
        {Action: ["ecs:DescribeTasks", "ecs:StopTask"], Resource: "\($task)/*"},
        {Action: ["logs:CreateLogStream", "logs:PutLogEvents"], Resource: $logs},
        {Action: "s3:GetBucketNotification", Resource: $source},
        {Action: ["events:DescribeRule", "events:ListTargetsByRule"], Resource: $rules},
        {Action: "lambda:GetPolicy", Resource: $starter}] + $watchers + $copying_plainly | as_one),
      {Effect: "Allow", Action: "ecs:RunTask", Resource: $definition, Condition: $our_cluster},
      {Effect: "Allow", Action: "ecs:ListTasks", Resource: "*", Condition: $our_cluster},
      (if $least == 0 then empty else {Effect: "Allow", Action: "ecs:DescribeTaskDefinition", Resource: "*"} end),
      (if $tags == "" then empty else {Effect: "Allow", Action: "ecs:TagResource", Resource: "\($task)/*",
        Condition: {StringEquals: {"ecs:CreateAction": "RunTask"}}} end),
      {Effect: "Allow", Action: "iam:PassRole", Resource: [$task_role, $exec_role],
       Condition: {StringEquals: {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}}]
      + ($copying - $copying_plainly) + $of_filters)};
    [{Action: "lambda:GetFunctionConfiguration", Resource: $starter},
      {Action: "cloudwatch:DescribeAlarms", Resource: $alarms},
      ({Action: "sns:ListSubscriptionsByTopic", Resource: $topic} | select($topic != ""))] as $watchers |
    [{Effect: "Allow", Action: "logs:DescribeMetricFilters",
      Resource: [$workers_logs, ($logs | select($audits != ""))]}] as $of_filters |
    policy($watchers; $of_filters) | if tojson | length <= 10240 then . else policy([]; []) end'
}

# Prints the synced prefixes up to their first character that no policy may hold (IAM API reference, PutRolePolicy: U+0020
# to U+00FF), as a JSON list. Names in other alphabets keep working so; the role may then read more of the source bucket
# than the worker looks at, and nothing outside of it.
ask_readable_prefixes() { wanted | jq -c .readable; }

# Prints what copying needs. Without s3:ListBucket a missing key answers 403, not 404 (S3 API reference, HeadObject).
# PutEvents is allowed for a bus (EventBridge User Guide, "Example policy: Send events to an event bus in the same
# account").
worker_statements() {
  local prefixes
  prefixes=$(fact readable_prefixes)
  jq -n --arg queue "$QUEUE_ARN" --arg source "arn:aws:s3:::$SRC_BUCKET" --argjson prefixes "$prefixes" \
    --arg destination "$DST_BUCKET_ARN" --arg source_keys "$SRC_KMS_KEY_ARN" --arg destination_key "$DST_KMS_KEY_ARN" \
    --arg announce "$ANNOUNCE" --arg bus "arn:aws:events:$REGION:$ACCOUNT:event-bus/default" '
    def one_or_all: if length == 1 then .[0] else . end;
    [$source_keys | splits("[, ]+") | select(. != "")] as $source_keys |
    ([
      {Effect: "Allow", Resource: $queue,
       Action: ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:SendMessage"]},
      {Effect: "Allow", Action: "s3:GetObject", Resource: ($prefixes | map("\($source)/\(.)*") | one_or_all)},
      {Effect: "Allow", Action: "s3:ListBucket", Resource: $source},
      {Effect: "Allow", Action: "s3express:CreateSession", Resource: $destination}]
      + if $announce == "none" then [] else [{Effect: "Allow", Action: "events:PutEvents", Resource: $bus}] end
      + if $source_keys == [] then [] else
        [{Effect: "Allow", Action: "kms:Decrypt", Resource: ($source_keys | one_or_all)}] end
      + if $destination_key == "" then [] else
        [{Effect: "Allow", Action: ["kms:GenerateDataKey", "kms:Decrypt"], Resource: $destination_key}] end)'
}

exec_policy() {
  jq -n --arg logs "arn:aws:logs:$REGION:$ACCOUNT:log-group:$WORKER_LOG_GROUP:*" \
    --arg repository "$(image_repository_arn)" '
    {Version: "2012-10-17", Statement: (
      [{Effect: "Allow", Action: ["logs:CreateLogStream", "logs:PutLogEvents"], Resource: $logs}]
      + if $repository == "" then [] else [
        {Effect: "Allow", Action: "ecr:GetAuthorizationToken", Resource: "*"},
        {Effect: "Allow", Resource: $repository,
         Action: ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]}] end)}'
}

# put_policy ROLE POLICY
put_policy() { aws_or_die iam put-role-policy --role-name "$1" --policy-name "$APP_NAME" --policy-document "$2"; }

# keeps_rights ROLE POLICY: whether the role keeps its policy for now. A function that still copies loses the right to it only
# after its last run: without it, that run could not hand its messages back, and they would be late by hours.
keeps_rights() {
  [[ $1 == "$STARTER_ROLE" && $STARTER_COPIES == false && $2 == *sqs:ReceiveMessage* ]]
}

# create_role NAME TRUST
create_role() {
  local tags options=()
  tags=$(fact tags upper region "$REGION")
  [[ $ROLE_PATH == / ]] || options+=(--path "$ROLE_PATH")
  [[ -z $ROLE_BOUNDARY_ARN ]] || options+=(--permissions-boundary "$ROLE_BOUNDARY_ARN")
  aws_or_die iam create-role --role-name "$1" --assume-role-policy-document "$2" ${options[@]+"${options[@]}"} \
    --tags "$tags"
}

# ensure_role NAME: the boundary comes first, because an account with rules may let nobody change a role without. If
# ROLE_BOUNDARY_ARN is empty, one that somebody gave the role stays.
ensure_role() {
  local role want_trust want trust boundary policy=""
  begin role "$1"
  case "$1" in
    "$STARTER_ROLE") want_trust=$(trust lambda.amazonaws.com) want=$(starter_policy) ;;
    "$TASK_ROLE")
      want_trust=$(ecs_trust) want=$(worker_statements | jq '{Version: "2012-10-17", Statement: .}')
      tell_of_readable
      ;;
    "$EXEC_ROLE") want_trust=$(ecs_trust) want=$(exec_policy) ;;
  esac
  role=$(fact role "$1")
  if [[ -z $role ]]; then
    create create_role "$1" "$want_trust"
  else
    boundary=$(jq -r '.Role.PermissionsBoundary.PermissionsBoundaryArn // ""' <<<"$role")
    if [[ -n $ROLE_BOUNDARY_ARN ]]; then
      [[ $boundary == "$ROLE_BOUNDARY_ARN" ]] || change boundary aws_or_die iam put-role-permissions-boundary \
        --role-name "$1" --permissions-boundary "$ROLE_BOUNDARY_ARN"
    elif [[ -n $boundary ]]; then
      note "left to you, because somebody added it: the permissions boundary $boundary. If it denies what the sync needs," \
        "run aws iam delete-role-permissions-boundary --role-name $1, or set ROLE_BOUNDARY_ARN to one that allows it"
    fi
    trust=$(jq -c .Role.AssumeRolePolicyDocument <<<"$role")
    same_json "$want_trust" "$trust" || change_from "$trust" "$want_trust" trust \
      aws_or_die iam update-assume-role-policy --role-name "$1" --policy-document "$want_trust"
    policy=$(fact role_policy "$1" | jq -c .PolicyDocument)
  fi
  same_json "$want" "$policy" || keeps_rights "$1" "$policy" \
    || change_from "$policy" "$want" policy put_policy "$1" "$want"
  finish
}

# Says so if workers may read more than is synced.
tell_of_readable() {
  local prefixes synced
  prefixes=$(fact readable_prefixes)
  synced=$(wanted | jq -c .prefixes)
  [[ $prefixes == "$synced" ]] || note "$(jq -r --arg role "$TASK_ROLE" --arg bucket "$SRC_BUCKET" '
    "\($role) may read \(map("s3://\($bucket)/\(.)*") | join(", ")), because an IAM policy cannot contain the rest of "
    + "PREFIX_FILTER"' <<<"$prefixes")"
}

# Role names are the same in all Regions: a role with another Region's tag belongs to a deployment there.
list_role() {
  local name role other
  for name in "$STARTER_ROLE" "$TASK_ROLE" "$EXEC_ROLE"; do
    role=$(aws_or_nothing iam get-role --role-name "$name")
    [[ -n $role ]] || continue
    other=$(jq -r --arg region "$REGION" '.Role.Tags[]? | select(.Key == "region" and .Value != $region).Value' <<<"$role")
    if [[ -n $other ]]; then
      say "      stays: $name, because it is of the deployment in $other"
    else
      jq '.Role.Tags // []' <<<"$role" | ours "$name"
    fi
  done
}

# A role with policies cannot be deleted.
remove_role() {
  local policy policies
  policies=$(aws_or_nothing iam list-role-policies --role-name "$1" | jq -r '.PolicyNames[]?')
  for policy in $policies; do aws_or_nothing iam delete-role-policy --role-name "$1" --policy-name "$policy"; done
  policies=$(aws_or_nothing iam list-attached-role-policies --role-name "$1" | jq -r '.AttachedPolicies[]?.PolicyArn')
  for policy in $policies; do aws_or_nothing iam detach-role-policy --role-name "$1" --policy-arn "$policy"; done
  aws_or_nothing iam delete-role --role-name "$1"
}
