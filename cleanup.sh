#!/usr/bin/env bash
# Removes exactly what deploy.sh made. Buckets and their objects, notifications, policies and endpoints of others, and
# the account's service-linked role for ECS stay.

# shellcheck source=deploy.sh
source "$(dirname "${BASH_SOURCE[0]}")/deploy.sh"

ASSUME_YES=false

# In the order of removal: nothing new arrives, nothing new is started, what runs is ended, then what it used goes, and
# what watched it. An alarm goes before the topic that it writes to.
# list_KIND prints what is there, one name per line, with a remark after a space; remove_KIND NAME removes it.
readonly KINDS=(
  notification rule function cluster task_definition vpc_endpoint security_group repository
  queue log_group role bucket_policy bucket_lifecycle alarm topic dashboard
)

# --- what is there and ours ---------------------------------------------------------------------------------------

# ours NAME: reads the tags of NAME in any of AWS's notations; prints NAME if deploy.sh made it.
ours() {
  local tags
  tags=$(cat)
  if jq -e --arg app "$APP_NAME" 'if type == "object" then .app == $app
    else any(.[]?; (.Key // .key) == "app" and (.Value // .value) == $app) end' <<<"${tags:-null}" >/dev/null; then
    printf '%s\n' "$1"
  else
    say "      stays: $1, because it has no tag app=$APP_NAME"
  fi
}

list_notification() {
  our_notification "$(find_notifications)" | jq -r --arg bucket "$SRC_BUCKET" \
    'select(.) | "\($bucket) (only \(.Id))"'
}

list_rule() {
  local rule
  rule=$(lookup events describe-rule --name "$RULE_NAME")
  [[ -z $rule ]] || lookup events list-tags-for-resource --resource-arn "$RULE_ARN" | jq .Tags | ours "$RULE_NAME"
}

list_function() {
  local function
  function=$(lookup lambda get-function --function-name "$STARTER_NAME")
  [[ -z $function ]] || jq '.Tags // {}' <<<"$function" | ours "$STARTER_NAME"
}

# Prints the ids of the cluster's tasks that have not ended. A task that is being stopped is wanted STOPPED already.
list_tasks() {
  local wanted listed arns
  for wanted in RUNNING STOPPED; do
    listed=$(lookup ecs list-tasks --cluster "$CLUSTER_NAME" --desired-status "$wanted" | jq -r '.taskArns[]')
    mapfile -t arns < <(printf '%s' "$listed")
    while ((${#arns[@]})); do # DescribeTasks takes 100
      call ecs describe-tasks --cluster "$CLUSTER_NAME" --tasks "${arns[@]:0:100}" \
        | jq -r '.tasks[] | select(.lastStatus != "STOPPED").taskArn | split("/")[-1]'
      arns=("${arns[@]:100}")
    done
  done
}

list_cluster() {
  local cluster tasks
  cluster=$(lookup ecs describe-clusters --clusters "$CLUSTER_NAME" --include TAGS \
    | jq '.clusters[] | select(.status | IN("INACTIVE", "DEPROVISIONING") | not)')
  [[ -n $cluster ]] || return 0
  tasks=$(list_tasks)
  jq .tags <<<"$cluster" | ours "$CLUSTER_NAME ($(wc -w <<<"$tasks") tasks)"
}

list_task_definition() {
  local revisions
  revisions=$(list_revisions ACTIVE && list_revisions INACTIVE)
  [[ -z $revisions ]] || printf '%s (%d revisions)\n' "$TASK_FAMILY" "$(wc -l <<<"$revisions")"
}

# What is listed by its tag has it looked at once more before it is believed to be ours.
list_vpc_endpoint() {
  call ec2 describe-vpc-endpoints --filters "Name=tag:app,Values=$APP_NAME" | jq -r --arg app "$APP_NAME" '
    .VpcEndpoints[] | select(.State | ascii_downcase | startswith("delet") | not)
    | select(any(.Tags[]?; .Key == "app" and .Value == $app)) | "\(.VpcEndpointId) (\(.ServiceName))"'
}

list_security_group() {
  call ec2 describe-security-groups --filters "Name=tag:app,Values=$APP_NAME" | jq -r --arg app "$APP_NAME" \
    --arg name "$SECURITY_GROUP_NAME" '.SecurityGroups[] | select(.GroupName == $name)
    | select(any(.Tags[]?; .Key == "app" and .Value == $app)) | "\(.GroupId) (\(.GroupName))"'
}

list_repository() {
  local repository
  repository=$(lookup ecr describe-repositories --repository-names "$APP_NAME")
  [[ -z $repository ]] \
    || lookup ecr list-tags-for-resource --resource-arn "$REPOSITORY_ARN" | jq .tags | ours "$APP_NAME"
}

count_messages() {
  lookup sqs get-queue-attributes --queue-url "$1" --attribute-names All | jq -r '.Attributes
    | [.ApproximateNumberOfMessages, .ApproximateNumberOfMessagesNotVisible, .ApproximateNumberOfMessagesDelayed]
    | map(tonumber) | add | "(\(.) messages)"'
}

list_queue() {
  local name url
  for name in "$QUEUE_NAME" "$DLQ_NAME"; do
    url=$(lookup sqs get-queue-url --queue-name "$name" | jq -r .QueueUrl)
    [[ -z $url ]] \
      || lookup sqs list-queue-tags --queue-url "$url" | jq '.Tags // {}' | ours "$name $(count_messages "$url")"
  done
}

list_log_group() {
  local name groups
  for name in "$STARTER_LOG_GROUP" "$WORKER_LOG_GROUP"; do
    groups=$(call logs describe-log-groups --log-group-name-prefix "$name")
    jq -e --arg name "$name" 'any(.logGroups[]; .logGroupName == $name)' <<<"$groups" >/dev/null || continue
    lookup logs list-tags-log-group --log-group-name "$name" | jq .tags | ours "$name"
  done
}

# Role names are the same in all Regions: a role with another Region's tag belongs to a deployment there.
list_role() {
  local name role
  for name in "$STARTER_ROLE" "$TASK_ROLE" "$EXEC_ROLE"; do
    role=$(lookup iam get-role --role-name "$name")
    [[ -z $role ]] || jq --arg region "$REGION" '.Role.Tags // []
      | if any(.Key == "region" and .Value != $region) then [] else . end' <<<"$role" | ours "$name"
  done
}

# is_our_lifecycle LIFECYCLE: true where it has our rule and no other.
is_our_lifecycle() {
  [[ $(jq '.Rules | length' <<<"${1:-null}") == 1 && -z $(differing "$(lifecycle_rules)" "$1") ]]
}

# Rules of others may need it too. Neither is deploy.sh's on another account's bucket.
list_bucket_policy() {
  local policy lifecycle
  [[ $DST_BUCKET_OWNER == "$ACCOUNT" ]] || return 0
  policy=$(find_bucket_policy)
  lifecycle=$(find_lifecycle)
  if same_json "$policy" "$(lifecycle_policy)" && { [[ -z $lifecycle ]] || is_our_lifecycle "$lifecycle"; }; then
    printf '%s\n' "$DST_BUCKET"
  fi
}

list_bucket_lifecycle() {
  local lifecycle
  [[ $DST_BUCKET_OWNER == "$ACCOUNT" ]] || return 0
  lifecycle=$(find_lifecycle)
  if is_our_lifecycle "$lifecycle"; then
    printf '%s\n' "$DST_BUCKET"
  elif [[ $lifecycle == *"\"$LIFECYCLE_RULE_ID\""* ]]; then
    say "      stays: the lifecycle of $DST_BUCKET, because it has rules of others too"
  fi
}

list_alarm() {
  local alarms arn
  alarms=$(find_alarms | jq -r '.[].AlarmArn')
  for arn in $alarms; do
    lookup cloudwatch list-tags-for-resource --resource-arn "$arn" | jq .Tags | ours "${arn##*:}"
  done
}

list_topic() {
  local tags
  tags=$(lookup sns list-tags-for-resource --resource-arn "$TOPIC_ARN" | jq .Tags)
  [[ -z $tags ]] || ours "$TOPIC_NAME" <<<"$tags"
}

# A dashboard has no tags in the older versions of the AWS CLI. Its name is the account's, whatever the Region.
list_dashboard() {
  find_dashboard | jq -r --arg region "$REGION" --arg name "$DASHBOARD_NAME" \
    'select(any(.widgets[]?; .properties.region? == $region)) | $name'
}

# --- removing -----------------------------------------------------------------------------------------------------

# S3 would refuse the rest because of a notification of others that goes to what is gone.
remove_notification() {
  local rest
  rest=$(other_notifications "$(find_notifications)" \
    | jq 'if .QueueConfigurations == [] then del(.QueueConfigurations) else . end')
  put_notifications "$rest" --skip-destination-validation
}

# A rule with targets cannot be deleted.
remove_rule() {
  local targets ids
  targets=$(lookup events list-targets-by-rule --rule "$1" | jq -r '[.Targets[].Id] | join(" ")')
  read -ra ids <<<"$targets"
  ((${#ids[@]} == 0)) || lookup events remove-targets --rule "$1" --ids "${ids[@]}" | must_be_zero .FailedEntryCount
  lookup events delete-rule --name "$1"
}

remove_function() { lookup lambda delete-function --function-name "$1"; }

# must_be_zero FILTER: reads the answer of a call that reports failures in its answer.
must_be_zero() {
  local answer
  answer=$(cat)
  [[ -z $answer || $(jq "$1 // 0" <<<"$answer") == 0 ]] || die "$RESOURCE: refused: $answer"
}

# A starter that was still at work may start one more task, so the list is read again until it is empty.
end_tasks() {
  local try tasks task
  for ((try = 1; ; try++)); do
    tasks=$(list_tasks)
    [[ -n $tasks ]] || return 0
    for task in $tasks; do
      lookup ecs stop-task --cluster "$CLUSTER_NAME" --task "$task" --reason "cleanup.sh of $APP_NAME"
    done
    pause "$try" "$(wc -w <<<"$tasks") tasks are ending" || die "$RESOURCE: tasks that do not end: $tasks"
  done
}

remove_cluster() {
  end_tasks
  lookup ecs delete-cluster --cluster "$1"
}

# Only a revision that was deregistered can be deleted, and 10 in one call.
remove_task_definition() {
  local arn active inactive arns
  active=$(list_revisions ACTIVE)
  inactive=$(list_revisions INACTIVE)
  for arn in $active; do lookup ecs deregister-task-definition --task-definition "$arn"; done
  read -ra arns <<<"${active//$'\n'/ } ${inactive//$'\n'/ }"
  while ((${#arns[@]})); do
    lookup ecs delete-task-definitions --task-definitions "${arns[@]:0:10}" | must_be_zero '.failures | length'
    arns=("${arns[@]:10}")
  done
}

remove_vpc_endpoint() {
  lookup ec2 delete-vpc-endpoints --vpc-endpoint-ids "$1" | must_be_zero '.Unsuccessful | length'
}

remove_security_group() { lookup ec2 delete-security-group --group-id "$1"; }

remove_repository() { lookup ecr delete-repository --repository-name "$1" --force; }

remove_queue() {
  local url
  url=$(lookup sqs get-queue-url --queue-name "$1" | jq -r .QueueUrl)
  [[ -z $url ]] || lookup sqs delete-queue --queue-url "$url"
}

remove_log_group() { lookup logs delete-log-group --log-group-name "$1"; }

# A role with policies cannot be deleted.
remove_role() {
  local policy policies
  policies=$(lookup iam list-role-policies --role-name "$1" | jq -r '.PolicyNames[]')
  for policy in $policies; do lookup iam delete-role-policy --role-name "$1" --policy-name "$policy"; done
  policies=$(lookup iam list-attached-role-policies --role-name "$1" | jq -r '.AttachedPolicies[].PolicyArn')
  for policy in $policies; do lookup iam detach-role-policy --role-name "$1" --policy-arn "$policy"; done
  lookup iam delete-role --role-name "$1"
}

remove_bucket_policy() { lookup s3api delete-bucket-policy --bucket "$1"; }

remove_bucket_lifecycle() { lookup s3api delete-bucket-lifecycle --bucket "$1"; }

remove_alarm() { lookup cloudwatch delete-alarms --alarm-names "$1"; }

# Its subscriptions go with it.
remove_topic() { lookup sns delete-topic --topic-arn "$TOPIC_ARN"; }

remove_dashboard() { lookup cloudwatch delete-dashboards --dashboard-names "$1"; }

# --- the plan and its execution -----------------------------------------------------------------------------------

# Runs a command to its end or its first error, and leaves 0 or not in STATUS; what fails is told, and the rest goes on.
attempt() {
  set +e
  (
    set -e
    "$@"
  )
  STATUS=$?
  set -e
  ((STATUS == 0)) || FAILURES=$((FAILURES + 1))
}

# Leaves "KIND NAME REMARK" lines in PLAN.
make_plan() {
  local kind listing=$TEMP_DIR/listing
  PLAN=()
  for kind in "${KINDS[@]}"; do
    RESOURCE=${kind//_/ }
    attempt "list_$kind" >"$listing"
    mapfile -t -O "${#PLAN[@]}" PLAN < <(sed "s/^/$kind /" "$listing")
  done
}

print_plan() {
  local row kind name would="to remove:"
  [[ $DRY_RUN == false ]] || would="would remove"
  printf 'In account %s, Region %s:\n' "$ACCOUNT" "$REGION"
  for row in "${PLAN[@]}"; do
    read -r kind name <<<"$row"
    printf '  %s %s %s\n' "$would" "${kind//_/ }" "$name"
  done
}

confirm() {
  local answer
  [[ $ASSUME_YES == false ]] || return 0
  [[ -t 0 ]] || die "nothing was removed: there is nobody to ask; use --yes"
  read -r -p 'Remove all of this, with the messages that are still queued? [y/N] ' answer
  [[ $answer == [yY]* ]] || die "nothing was removed"
}

carry_out() {
  local row kind name step=0 result
  for row in "${PLAN[@]}"; do
    read -r kind name _ <<<"$row"
    step=$((step + 1))
    RESOURCE="${kind//_/ } $name"
    attempt "remove_$kind" "$name" >"$TEMP_DIR/answer"
    result=removed
    ((STATUS == 0)) || result="NOT removed, the error is above"
    printf '[%d/%d] %s: %s\n' "$step" "${#PLAN[@]}" "$RESOURCE" "$result"
  done
}

# Shows, asks, removes. A subshell, so that a caller keeps its own variables and traps. Status 1 if anything failed.
cleanup_all() (
  FAILURES=0
  start_run
  check_tools
  check_account
  ((${#PROBLEMS[@]})) || check_previous_source
  stop_on_problems
  make_plan
  if ((${#PLAN[@]})); then
    print_plan
    if [[ $DRY_RUN == true ]]; then return; fi
    confirm
    carry_out
    [[ " ${PLAN[*]} " != *" queue "* ]] || say "SQS keeps a queue's name for 60 s: wait that long before you deploy again"
  else
    printf 'nothing of %s is left in account %s, Region %s\n' "$APP_NAME" "$ACCOUNT" "$REGION"
  fi
  ((FAILURES == 0)) || die "$FAILURES errors, see above: mend them and run this again"
)

print_help() {
  cat <<'HELP'
usage: ./cleanup.sh [--yes] [--dry-run | --local | --help]

Shows what deploy.sh made, asks, and removes it. Both buckets and all objects stay.

  --yes      do not ask
  --dry-run  show it and remove nothing
  --local    end what ./deploy.sh --local started on this machine

It needs the settings that deploy.sh ran with: REGION, SRC_BUCKET, DST_BUCKET, APP_NAME, and the owners of buckets of
other accounts.
HELP
}

main() {
  local option
  for option in "$@"; do
    case "$option" in
      --yes) ASSUME_YES=true ;;
      --dry-run) DRY_RUN=true ;;
      --help)
        print_help
        return
        ;;
      --local)
        # shellcheck source=local/local.sh
        source "$PROJECT_DIR/local/local.sh"
        local_cleanup
        return
        ;;
      *) die "unknown option: $option (use --help)" ;;
    esac
  done
  cleanup_all
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
