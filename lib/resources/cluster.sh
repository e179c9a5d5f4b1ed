# shellcheck shell=bash
# The ECS cluster, the role of ECS that it needs, and the tasks in it.

readonly SPOT_VCPU_QUOTA=L-36FBB829 # Service Quotas, AWS Fargate: Fargate Spot vCPU resource count

ask_quota() { aws_or_error service-quotas get-service-quota --service-code fargate --quota-code "$SPOT_VCPU_QUOTA"; }

check_quota() {
  local answer quota
  is_number "$MAX_WORKERS" && is_number "$TASK_CPU" || return 0
  if ! answer=$(fact_or_reason quota); then
    say "      the Fargate Spot quota is not checked: $answer"
    return
  fi
  quota=$(jq '.Quota.Value // empty | floor' <<<"${answer:-null}")
  if [[ -z $quota ]]; then
    say "      the Fargate Spot quota is not checked: Service Quotas says none"
    return
  fi
  ((MAX_WORKERS * TASK_CPU <= quota * 1024)) || problem "MAX_WORKERS=$MAX_WORKERS with TASK_CPU=$TASK_CPU needs" \
    "$(((MAX_WORKERS * TASK_CPU + 1023) / 1024)) vCPUs, the account's Fargate Spot quota is $quota: lower one of" \
    "them, or ask for more (Service Quotas, $SPOT_VCPU_QUOTA)"
}

# ECS or another deployment may make the role in this moment; then it is there.
create_ecs_role() {
  local error
  error=$(aws_or_error iam create-service-linked-role --aws-service-name ecs.amazonaws.com) \
    || [[ $error == *"has been taken in this account"* ]] \
    || die "$RESOURCE: aws iam create-service-linked-role failed: $error"
}

ask_ecs_roles() { aws_or_nothing iam list-roles --path-prefix /aws-service-role/ecs.amazonaws.com/; }

# The role is the account's, not ours: it has no tag and stays at clean-up.
ensure_ecs_role() {
  local roles
  begin "service-linked role" AWSServiceRoleForECS
  roles=$(fact ecs_roles)
  [[ $(jq '.Roles | length' <<<"${roles:-null}") != 0 ]] \
    || create create_ecs_role
  finish
}

ask_cluster() {
  aws_or_nothing ecs describe-clusters --clusters "$CLUSTER_NAME" | jq -c '.clusters[]? | select(.status != "INACTIVE")'
}

# settled_cluster CLUSTER: prints it, or nothing, as soon as it is neither being made nor being deleted.
settled_cluster() {
  local try cluster=$1 status
  for ((try = 1; ; try++)); do
    status=$(jq -r '.status' <<<"${cluster:-null}")
    [[ $status == *PROVISIONING ]] || break
    pause "$try" "the cluster is $status" || die "$RESOURCE: still $status; look at it in the ECS console"
    cluster=$(ask_cluster)
  done
  printf '%s\n' "$cluster"
}

create_cluster() {
  local cluster tags
  tags=$(fact tags lower)
  cluster=$(aws_or_die ecs create-cluster --cluster-name "$CLUSTER_NAME" --capacity-providers FARGATE FARGATE_SPOT \
    --settings name=containerInsights,value=disabled --tags "$tags" | jq -c .cluster)
  settled_cluster "$cluster"
}

ensure_cluster() {
  local cluster
  begin cluster "$CLUSTER_NAME"
  cluster=$(fact cluster)
  cluster=$(settled_cluster "$cluster")
  if [[ -z $cluster ]]; then
    create create_cluster
  elif ! jq -e '["FARGATE", "FARGATE_SPOT"] - (.capacityProviders // []) == []' <<<"$cluster" >/dev/null; then
    change_from "$(jq -c .capacityProviders <<<"$cluster")" '["FARGATE", "FARGATE_SPOT"]' "capacity providers" \
      aws_or_die ecs put-cluster-capacity-providers --cluster "$CLUSTER_NAME" \
      --capacity-providers FARGATE FARGATE_SPOT --default-capacity-provider-strategy '[]'
  fi
  finish
}

# listed_tasks OPTION...: what DescribeTasks says of the cluster's tasks that ListTasks finds, an answer for each 100,
# as it takes no more.
listed_tasks() {
  local listed arns
  listed=$(aws_or_nothing ecs list-tasks --cluster "$CLUSTER_NAME" "$@" | jq -r '.taskArns[]?')
  mapfile -t arns < <(printf '%s' "$listed")
  while ((${#arns[@]})); do
    aws_or_die ecs describe-tasks --cluster "$CLUSTER_NAME" --tasks "${arns[@]:0:100}"
    arns=("${arns[@]:100}")
  done
}

# Those that run and those that have ended: a task that is being stopped is wanted STOPPED already.
all_tasks() {
  listed_tasks --desired-status RUNNING
  listed_tasks --desired-status STOPPED
}

# unfinished_tasks [CONDITION]: prints the ids of the cluster's tasks that have not ended, or of those for which the
# condition holds, in jq.
unfinished_tasks() {
  all_tasks | jq -r --arg by "$STARTED_BY" '.tasks[]? | select(.lastStatus != "STOPPED" and ('"${1:-true}"'))
    | .taskArn | split("/")[-1]'
}

list_cluster() {
  local cluster tasks
  cluster=$(aws_or_nothing ecs describe-clusters --clusters "$CLUSTER_NAME" --include TAGS \
    | jq '.clusters[]? | select(.status | IN("INACTIVE", "DEPROVISIONING") | not)')
  [[ -n $cluster ]] || return 0
  tasks=$(unfinished_tasks)
  jq .tags <<<"$cluster" | ours "$CLUSTER_NAME ($(wc -w <<<"$tasks") tasks)"
}

# end_tasks REASON [CONDITION]: stops them and waits until they have ended. A starter that was still at work may start
# one more task, so the list is read again until it is empty.
end_tasks() {
  local try tasks task
  for ((try = 1; ; try++)); do
    tasks=$(unfinished_tasks "${2:-}")
    [[ -n $tasks ]] || return 0
    for task in $tasks; do
      aws_or_nothing ecs stop-task --cluster "$CLUSTER_NAME" --task "$task" --reason "$1" >/dev/null
    done
    pause "$try" "tasks that are ending: $(wc -w <<<"$tasks")" || die "${RESOURCE:+$RESOURCE: }tasks that do not end: $tasks"
  done
}

# For jq: of a task, whether it is a worker; whether it deletes objects of the destination by itself.
readonly IS_WORKER=".startedBy == \$by"
readonly IS_REMOVAL='([.overrides.containerOverrides[]?.command[]?] | any(.[]; startswith("--remove-"))
  and all(.[]; . != "--dry-run"))'

# end_work BEGAN workers|writers: the tasks that are not to run during a pause, of which each run of the starter knows
# that began after BEGAN, in seconds since the epoch. Writers are the workers, and what removes objects.
end_work() {
  local tasks task which=$IS_WORKER why="./sync.sh pause of $APP_NAME"
  if [[ $2 == writers ]]; then
    which="$IS_WORKER or $IS_REMOVAL"
    tasks=$(unfinished_tasks "$IS_REMOVAL")
    for task in $tasks; do
      say "pause: task $task removes objects from the destination (reconcile --remove-...): it is ended, and the" \
        "next such run after the pause removes the rest"
    done
  fi
  end_tasks "$why" "$which"
  await_last_run $(($1 + STARTER_TIMEOUT))
  end_tasks "$why" "$which"
}

remove_cluster() {
  end_tasks "cleanup.sh of $APP_NAME"
  aws_or_nothing ecs delete-cluster --cluster "$1"
}
