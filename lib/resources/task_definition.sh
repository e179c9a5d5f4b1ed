# shellcheck shell=bash
# The task definition: what a worker is started with.

# Prints how many processes a worker has: one for each vCPU, unless the setting says otherwise. The starter has to know.
worker_processes() { printf '%s\n' "${PROCESSES:-$((TASK_CPU > 1024 ? TASK_CPU / 1024 : 1))}"; }

# Prints the settings of a worker as a JSON object: those of the worker that are set, and QUEUE_URL.
worker_variables() {
  local names settings queue processes
  names=$(settings_of worker)
  mapfile -t settings <<<"$names"
  queue=$(queue_url "$QUEUE_NAME")
  processes=$(worker_processes)
  settings_json "${settings[@]}" | jq --arg queue "$queue" --arg processes "$processes" '
    with_entries(select(.value != "")) + {QUEUE_URL: $queue, PROCESSES: $processes}
    | if .ANNOUNCE == "none" then del(.ANNOUNCE) else . end
    | if .ROLLBACKS == "true" then del(.ROLLBACKS) else . end
    | if .METRICS == "false" then del(.METRICS, .ALARM_LAG_SECONDS, .APP_NAME) else . end'
}

# The log driver drops lines instead of blocking: a worker that is blocked because CloudWatch Logs does not answer extends
# no message and ignores SIGTERM, and nothing that it does to objects depends on the log. 25 MiB are 100,000 lines, a
# minute at full speed. ECS's own default is 10 MiB, which an account can change (Amazon ECS API reference,
# LogConfiguration).
task_definition() {
  local image variables record labels
  image=$(worker_image)
  variables=$(worker_variables)
  record=$(settings_record)
  labels=$(record_labels <<<"$record")
  jq -n --arg family "$TASK_FAMILY" --arg cpu "$TASK_CPU" --arg memory "$TASK_MEMORY" --arg arch "$TASK_ARCH" \
    --arg task_role "$TASK_ROLE_ARN" --arg exec_role "$EXEC_ROLE_ARN" --arg image "$image" \
    --arg group "$WORKER_LOG_GROUP" --arg region "$REGION" --argjson variables "$variables" '{
      family: $family, requiresCompatibilities: ["FARGATE"], networkMode: "awsvpc", cpu: $cpu, memory: $memory,
      runtimePlatform: {cpuArchitecture: $arch, operatingSystemFamily: "LINUX"},
      taskRoleArn: $task_role, executionRoleArn: $exec_role, containerDefinitions: [{
        name: "worker", image: $image, essential: true, dockerLabels: [inputs][0],
        environment: ($variables | to_entries | map({name: .key, value}) | sort_by(.name)),
        stopTimeout: 120, readonlyRootFilesystem: true, linuxParameters: {initProcessEnabled: true},
        logConfiguration: {logDriver: "awslogs", options: {
          "awslogs-group": $group, "awslogs-region": $region, "awslogs-stream-prefix": "worker",
          mode: "non-blocking", "max-buffer-size": "25m"}}}]}' <<<"$labels"
}

# What a revision that somebody registered by hand may have, and none of ours: what runs instead of the worker or beside it,
# in its container, and what a worker cannot start with (a volume, a proxy or a value that it cannot get), is killed by
# (memory), or never ends with (a restart policy); and what joins several lines of its log into one. What Fargate takes in
# no revision is not among them, and what does no harm stays (Amazon ECS API reference, ContainerDefinition).
readonly NOT_OF_TASK=(
  volumes proxyConfiguration
  containerDefinitions.0.{command,entryPoint,healthCheck,restartPolicy.enabled}
  containerDefinitions.0.{memory,mountPoints,secrets,environmentFiles}
  containerDefinitions.0.logConfiguration.{secretOptions,options.awslogs-datetime-format,options.awslogs-multiline-pattern}
)

# list_revisions STATUS: the ARNs of the family's revisions, the newest first, one per line.
list_revisions() {
  aws_or_nothing ecs list-task-definitions --family-prefix "$TASK_FAMILY" --status "$1" --sort DESC \
    | jq -r --arg family "$TASK_FAMILY" '.taskDefinitionArns[]? | select(split("/")[1] | split(":")[0] == $family)'
}

# ask_revisions STATUS: their numbers.
ask_revisions() {
  local arns
  arns=$(list_revisions "$1")
  cut -d : -f 7 <<<"$arns"
}

# describe_newest STATUS: prints the newest such revision, or nothing: describe-task-definition has no error code of its
# own for "none".
describe_newest() {
  local arns
  arns=$(list_revisions "$1")
  [[ -n $arns ]] || return 0
  aws_or_nothing ecs describe-task-definition --task-definition "${arns%%$'\n'*}" \
    | jq '.taskDefinition | .containerDefinitions |= map(.environment |= (. // [] | sort_by(.name)))'
}

# The one that tasks can be started with.
ask_task_definition() { describe_newest ACTIVE; }

# Prints the one that says what is deployed. Others may have deregistered all revisions, such as a program that tidies up.
# Of a deployment that was removed, neither the function nor the queue is left.
ask_last_definition() {
  local definition starter queue
  definition=$(fact task_definition)
  if [[ -z $definition ]]; then
    starter=$(fact starter)
    queue=$(fact queue_url "$QUEUE_NAME")
    [[ -z $starter$queue ]] || definition=$(describe_newest INACTIVE)
  fi
  printf '%s\n' "$definition"
}

# deployed_setting NAME: prints what the last deploy.sh gave to the workers, not what this shell has set.
deployed_setting() {
  local definition
  definition=$(fact last_definition)
  if [[ -n $definition ]]; then
    jq -r --arg name "$1" '[.containerDefinitions[] | select(.name == "worker")][0].environment
      // [] | map(select(.name == $name).value)[0] // ""' <<<"$definition"
  else
    printf '%s\n' "${RECORDED[$1]-}"
  fi
}

# parsed_definition DEFINITION OTHER SETTINGS: the record as settings, however many labels hold it, and of those that only
# the other one has what these say; null stands for nothing. What may hold a password is not shown.
parsed_definition() {
  printf '%s\n' "$@" | jq -cs "$(jq_record)"'
    def of_record: record // {} | if .DOCKER_BUILD_FLAGS then .DOCKER_BUILD_FLAGS = "(not shown)" else . end;
    (.[2] // {} | .DOCKER_BUILD_FLAGS = "") as $settings | (.[1] | worker | of_record) as $other | .[0]
    | .containerDefinitions |= map(if .name == "worker" then .settings = ($other | with_entries(.value = $settings[.key]))
        + of_record | del(.dockerLabels) else . end)'
}

# Everyone who may describe a revision can read its labels.
note_build_flags() {
  local active inactive all command=""
  active=$(fact revisions ACTIVE)
  inactive=$(fact revisions INACTIVE)
  all=$(printf '%s\n' "$active" "$inactive" | sed '/^$/d' | sort -n)
  [[ -z $active ]] || command="for n in ${active//$'\n'/ }; do aws ecs deregister-task-definition --region $REGION \
--task-definition $TASK_FAMILY:\$n; done; "
  command+="for n in ${all//$'\n'/ }; do aws ecs delete-task-definitions --region $REGION \
--task-definitions $TASK_FAMILY:\$n; done"
  note "DOCKER_BUILD_FLAGS is no longer recorded, because it may hold a password: name it for each run that builds an" \
    "image. Revisions of $TASK_FAMILY up to ${all##*$'\n'} may still show it: delete them when this run has ended:"
  note "\`$command\`"
}

# register_task_definition DEFINITION: and remembers the number of the new revision.
register_task_definition() {
  local tags answer
  tags=$(fact tags lower)
  answer=$(aws_or_die ecs register-task-definition --cli-input-json "$1" --tags "$tags")
  jq -r '.taskDefinition.taskDefinitionArn | split(":")[-1]' <<<"$answer" | keep own_revision
}

# Two deployments at once may both start from a record that the other one is about to replace. At its end, each looks for
# a revision that it did not register itself. A run that changed nothing loses nothing, and does not look.
tell_of_other_deployment() {
  local seen own="" active others
  seen=$(fact task_definition | jq -r '.taskDefinitionArn | split(":")[-1]')
  if is_known own_revision; then own=$(fact own_revision); fi
  active=$(ask_revisions ACTIVE)
  others=$(awk -v seen="${seen:-0}" -v own="$own" '$1 > seen + 0 && $1 != own' <<<"$active" | sort -n | paste -s -d ' ' -)
  [[ -z $others ]] || say "another deployment ran beside this one and registered $TASK_FAMILY:${others// /, $TASK_FAMILY:}:" \
    "settings that only one of them named may be lost. When both have ended, look at ./deploy.sh$VIA --dry-run, and" \
    "run ./deploy.sh$VIA with all that you want to change"
}

ensure_task_definition() {
  local have want settings before after repository paths=("${NOT_OF_TASK[@]}")
  begin "task definition" "$TASK_FAMILY"
  want=$(task_definition)
  have=$(fact task_definition)
  if had_build_flags; then note_build_flags; fi
  if [[ -z $have ]]; then
    create register_task_definition "$want"
  else
    settings=$(settings_json "${SETTINGS[@]}")
    before=$(parsed_definition "$have" "$want" null)
    after=$(parsed_definition "$want" "$have" "$settings")
    repository=$(image_repository_arn) # another registry may need them
    [[ -z $repository ]] || paths+=(containerDefinitions.0.repositoryCredentials)
    after=$(absent "$after" "$before" "${paths[@]}")
    change_members "$after" "$before" register_task_definition "$want"
  fi
  finish
}

# The bucket that is left would keep its copies, its lifecycle and a policy, and nobody would remove them.
check_previous_destination() {
  local was
  was=$(deployed_setting DST_BUCKET)
  [[ -z $was || $was == "$DST_BUCKET" ]] || problem "DST_BUCKET=$DST_BUCKET, but what is deployed copies to $was: leave" \
    "DST_BUCKET out; or, to move to $DST_BUCKET, run ./cleanup.sh, then ./deploy.sh with the new DST_BUCKET, then" \
    "./sync.sh reconcile, which finds everything again. The objects in $was stay"
}

list_task_definition() {
  local revisions
  revisions=$(
    list_revisions ACTIVE
    list_revisions INACTIVE
  )
  [[ -z $revisions ]] || printf '%s (%d revisions)\n' "$TASK_FAMILY" "$(wc -l <<<"$revisions")"
}

# Only a revision that was deregistered can be deleted, and 10 in one call.
remove_task_definition() {
  local arn active inactive arns
  active=$(list_revisions ACTIVE)
  inactive=$(list_revisions INACTIVE)
  for arn in $active; do aws_or_nothing ecs deregister-task-definition --task-definition "$arn"; done
  read -ra arns <<<"${active//$'\n'/ } ${inactive//$'\n'/ }"
  while ((${#arns[@]})); do
    aws_or_nothing ecs delete-task-definitions --task-definitions "${arns[@]:0:10}" | must_be_zero '.failures | length'
    arns=("${arns[@]:10}")
  done
}
