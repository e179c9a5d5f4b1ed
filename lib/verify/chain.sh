# shellcheck shell=bash
# Which link of the chain is broken, for ./sync.sh verify: asks AWS in the order in which a change goes through it.

# Each function prints "LINK<tab>WHY<tab>COMMAND" and nothing else if its link is broken. With true as its argument the
# time is over, and what is only likely counts too.
readonly VERIFY_LINKS=(event outage starter task copy)
readonly VERIFY_OUTAGE=60 # an outage that has lasted for so many seconds is not waited out

# find_broken_link IS_OVER: the first that is broken.
find_broken_link() {
  local link found
  read_starter_lines
  read_tasks
  for link in "${VERIFY_LINKS[@]}"; do
    found=$("find_break_of_$link" "$1")
    if [[ -n $found ]]; then
      printf '%s\n' "$found"
      return
    fi
  done
}

# broken LINK WHY COMMAND
broken() { printf '%s\t%s\t%s\n' "$1" "$(tr '\t\n' '  ' <<<"$2" | sed 's/ *$//')" "$3"; }

worker_wrote() { [[ -s $VERIFY_DIR/worker.lines ]]; }

# --- no event -------------------------------------------------------------------------------------------------------

find_break_of_event() {
  local url configuration ours wanted rule found look missing="no notification $NOTIFICATION_ID"
  look="aws s3api get-bucket-notification-configuration --bucket $SRC_BUCKET"
  url=$(ask_queue_url "$QUEUE_NAME")
  if [[ -z $url ]]; then
    broken "no event" "there is no queue $QUEUE_NAME: run ./deploy.sh$VIA" "aws sqs list-queues"
    return
  fi
  configuration=$(find_notifications)
  ours=$(our_notifications "$configuration" | jq length)
  wanted=$(synced_prefixes | jq length)
  ((ours == 0)) || missing="$ours of $wanted notifications, one for each prefix,"
  if ((ours < wanted)); then
    rule=$(ask_event_rule)
    if [[ -z $rule ]]; then
      broken "no event" "s3://$SRC_BUCKET has $missing to the queue: run ./deploy.sh$VIA" "$look"
      return
    fi
    found=$(find_break_of_rule "$configuration" "$rule")
    [[ -z $found ]] || { printf '%s\n' "$found" && return; }
  fi
  if [[ $1 == true && -z $VERIFY_EVENT_AT ]] && ! worker_wrote; then
    broken "no event" "the objects are in s3://$SRC_BUCKET, and no message came to $QUEUE_NAME: after a first \
deployment S3 takes up to five minutes; else look at the queue's policy and the prefix of the notification or rule" "$look"
  fi
}

# has_target TARGETS ARN
has_target() { jq -e --arg arn "$2" 'any(.Targets[]?; .Arn == $arn)' <<<"${1:-null}" >/dev/null; }

# is_for_other_keys RULE: whether it is not what deploy.sh makes of the settings that are deployed.
is_for_other_keys() {
  local have want EXCLUDE
  have=$(jq -r '.EventPattern // ""' <<<"$1")
  [[ -n $have ]] || return 1
  EXCLUDE=$(deployed_setting EXCLUDE)
  want=$(event_pattern)
  ! same_json "$want" "$have"
}

# find_break_of_rule CONFIGURATION RULE: events that go through EventBridge.
find_break_of_rule() {
  local targets policy look="aws events describe-rule --name $EVENT_RULE_NAME"
  if ! has_switch "$1"; then
    broken "no event" "s3://$SRC_BUCKET sends no events to EventBridge, it is switched off: run ./deploy.sh$VIA" \
      "aws s3api get-bucket-notification-configuration --bucket $SRC_BUCKET"
    return
  fi
  if [[ $(jq -r .State <<<"$2") != ENABLED ]]; then
    broken "no event" "the rule $EVENT_RULE_NAME is $(jq -r .State <<<"$2"): run ./deploy.sh$VIA" "$look"
    return
  fi
  if is_for_other_keys "$2"; then
    broken "no event" "the rule $EVENT_RULE_NAME is for other keys than those that are synced: run ./deploy.sh$VIA" "$look"
    return
  fi
  targets=$(ask_event_targets)
  if ! has_target "$targets" "$QUEUE_ARN"; then
    broken "no event" "the rule $EVENT_RULE_NAME does not send to $QUEUE_NAME, its target is gone: run ./deploy.sh$VIA" \
      "aws events list-targets-by-rule --rule $EVENT_RULE_NAME"
    return
  fi
  policy=$(ask_queue_policy)
  has_statement "$policy" "${EVENT_SENDERS[eventbridge]}" || broken "no event" \
    "the policy of $QUEUE_NAME does not let the rule $EVENT_RULE_NAME send to it: run ./deploy.sh$VIA" \
    "aws sqs get-queue-attributes --attribute-names Policy --queue-url $(ask_queue_url "$QUEUE_NAME")"
}

# The rule that sends the events starts the starter at once. Without that all goes on, but up to LAMBDA_POLL_RATE
# minutes later, so it is told when the rounds are over.
find_break_of_start_at_once() {
  local rule targets statement
  rule=$(ask_event_rule)
  [[ -n $rule ]] || return 0
  targets=$(ask_event_targets)
  has_target "$targets" "$STARTER_ARN" || return 0 # deploy.sh says why
  statement=$(permission_statement "$EVENT_RULE_NAME")
  [[ -n $statement ]] || broken "no start at once" \
    "the function $STARTER_NAME does not let the rule $EVENT_RULE_NAME run it, only the minute's rule does: run ./deploy.sh$VIA" \
    "aws lambda get-policy --function-name $STARTER_NAME"
}

# --- no copy, of any key --------------------------------------------------------------------------------------------

# What the workers wrote of outages since a quarter of an hour before the run, as read by outages_of(). An outage that
# the starter meets is theirs as soon as one runs.
read_outages() {
  aws_or_nothing logs filter-log-events --log-group-name "$WORKER_LOG_GROUP" \
    --start-time $(((VERIFY_BEGAN - 900) * 1000)) --filter-pattern '"outage"' \
    | jq -c --arg line "$OUTAGE_LINE" '[.events[]? | select(.message | test($line))
        | {"@logStream": .logStreamName, "@message": .message}]' | outages_of
}

# An outage that goes on in a task that runs, or that a worker ended in since the run began.
find_break_of_outage() {
  local found
  found=$(read_outages | jq -r "$(jq_epoch)"'($tasks | map(select(.status == "RUNNING").id)) as $running
    | max_by(.at) | select(. and ((.event == "ended" and (.at | epoch) >= $began)
        or (.event == "began" and (.stream | split("/")[-1] | IN($running[])) and ($over or (.at | epoch) <= $lasted))))
    | if .event == "began" then "since \(.at) no key can be synced: \(.reason)"
      else "for \(.seconds) s no key could be synced, and the worker ended: \(.reason)" end' \
    --argjson began "$VERIFY_BEGAN" --argjson over "$1" --argjson lasted $(($(now) - VERIFY_OUTAGE)) \
    --argjson tasks "$(cat "$VERIFY_DIR/tasks")")
  [[ -z $found ]] || broken "no copy" "$found" "./sync.sh$VIA status"
}

# --- no starter -----------------------------------------------------------------------------------------------------

# What the starter wrote since the run began, one JSON object per line: a decision, or {error}.
read_starter_lines() {
  aws_or_nothing logs filter-log-events --log-group-name "$STARTER_LOG_GROUP" --start-time $((VERIFY_BEGAN * 1000)) \
    | jq -c --arg wanted "$DECISION_OR_FAILURE" '.events[]? | .message | rtrimstr("\n") | select(test($wanted))
      | . as $line | try (fromjson) catch {error: $line}' >"$VERIFY_DIR/starter.lines"
}

find_break_of_starter() {
  local rule elapsed error look="aws events describe-rule --name $RULE_NAME"
  rule=$(aws_or_nothing events describe-rule --name "$RULE_NAME" | jq -r .State)
  if [[ $rule != ENABLED ]]; then
    broken "no starter" "the rule $RULE_NAME is ${rule:-gone}: run ./deploy.sh$VIA" "$look"
    return
  fi
  if [[ -z $(ask_starter) ]]; then
    broken "no starter" "there is no function $STARTER_NAME: run ./deploy.sh$VIA" \
      "aws lambda get-function-configuration --function-name $STARTER_NAME"
    return
  fi
  error=$(starter_error "$1")
  if [[ -n $error ]]; then
    broken "no starter" "the function $STARTER_NAME fails: $error" "./sync.sh$VIA logs starter"
    return
  fi
  elapsed=$((SECONDS - VERIFY_STARTED))
  if [[ ! -s $VERIFY_DIR/starter.lines ]] && { [[ $1 == true ]] || ((elapsed > LAMBDA_POLL_RATE * 60 + 150)); }; then
    broken "no starter" "the rule is enabled, but $STARTER_NAME has not run for $elapsed s: its target or permission" \
      "aws events list-targets-by-rule --rule $RULE_NAME; aws lambda get-policy --function-name $STARTER_NAME"
  fi
}

# starter_error IS_OVER: the newest failure, if the last two runs failed; once the time is over, if the last one did. An
# error right after a decision is of a run that did decide: why that came to nothing is the task's link.
starter_error() {
  jq -rs --argjson least "$([[ $1 == true ]] && printf 1 || printf 2)" '. as $all
    | [range(length) as $i | $all[$i] | select((has("error") and $i > 0 and ($all[$i - 1] | has("error") | not)) | not)]
    | reverse | (map(has("error")) | index(false)) as $good
    | if ($good // length) >= $least then .[0].error | capture("^(?<line>[^\r\n]*)").line else "" end' \
    "$VERIFY_DIR/starter.lines"
}

# --- no task --------------------------------------------------------------------------------------------------------

# The tasks that the starter started since the run began, as a JSON list in a file.
read_tasks() {
  local wanted listed arns=()
  for wanted in RUNNING STOPPED; do
    listed=$(aws_or_nothing ecs list-tasks --cluster "$CLUSTER_NAME" --desired-status "$wanted" \
      | jq -r '.taskArns[:50][]')
    [[ -z $listed ]] || mapfile -t -O "${#arns[@]}" arns <<<"$listed"
  done
  printf '[]\n' >"$VERIFY_DIR/tasks"
  ((${#arns[@]})) || return 0
  aws_or_die ecs describe-tasks --cluster "$CLUSTER_NAME" --tasks "${arns[@]}" | jq -c "$(jq_epoch)"'
    [.tasks[] | select(.startedBy == $by) | {
      id: (.taskArn | split("/")[-1]), status: .lastStatus, code: .stopCode, reason: .stoppedReason,
      created: (.createdAt | epoch), pulled: (.pullStoppedAt | epoch), started: (.startedAt | epoch),
      capacity: (.capacityProviderName // .launchType),
      exit: ([.containers[]? | select(.name == "worker")][0].exitCode),
      container_reason: ([.containers[]? | select(.name == "worker")][0].reason)}]' --arg by "$STARTED_BY" \
    >"$VERIFY_DIR/tasks"
}

find_break_of_task() {
  local found id
  found=$(jq -r --argjson began "$VERIFY_BEGAN" '
    def why: "\(.reason // "no reason is known")\(if .container_reason then " (\(.container_reason))" else "" end)";
    [.[] | select(.status == "STOPPED" and .created >= $began and .code != "SpotInterruption")] | sort_by(.created)
    | map(select(.started == null) | "\(.id)\ttask \(.id) stopped before it started: \(why)")
      + map(select(.exit != null and .exit != 0 and .started != null)
        | "\(.id)\ttask \(.id) ended with exit code \(.exit): \(why)") | .[0] // ""' "$VERIFY_DIR/tasks")
  if [[ -n $found ]] && ! worker_wrote; then
    id=${found%%$'\t'*}
    broken "no task" "${found#*$'\t'}" "aws ecs describe-tasks --cluster $CLUSTER_NAME --tasks $id"
    return
  fi
  found=$(refused_start "$1")
  if [[ -n $found ]]; then
    broken "no task" "ECS did not start a worker: $found" "./sync.sh$VIA logs starter"
  elif [[ $1 == true ]]; then
    find_waiting_task
  fi
}

# refused_start IS_OVER: why the last run of the starter could not start a worker; a shortage of capacity passes.
refused_start() {
  jq -rs --argjson over "$1" '[.[] | select(has("failures"))] | last // {failures: [], running: 0, started: {}}
    | select(.running == 0 and (.started | length) == 0) | .failures
    | map(select($over or (test("Capacity is unavailable at this time") | not))) | .[0] // ""' \
    "$VERIFY_DIR/starter.lines"
}

find_waiting_task() {
  local found
  found=$(jq -r 'map(select(.status | IN("PROVISIONING", "PENDING", "ACTIVATING"))) | .[0]
    | select(.) | "\(.id)\ttask \(.id) is still \(.status)"' "$VERIFY_DIR/tasks")
  if [[ -n $found ]]; then
    broken "no task" "${found#*$'\t'}" "aws ecs describe-tasks --cluster $CLUSTER_NAME --tasks ${found%%$'\t'*}"
  elif ! worker_wrote && [[ $(jq length "$VERIFY_DIR/tasks") == 0 ]]; then
    broken "no task" "messages wait, and the starter has started no worker" "./sync.sh$VIA logs starter"
  fi
}

# --- no copy --------------------------------------------------------------------------------------------------------

# Failures of a key are named by note_failures; here is what is left when the time is over.
find_break_of_copy() {
  local left
  [[ $1 == true ]] || return 0
  left=$(names_in_state missing | tr '\n' ' ')
  if [[ $(jq '.visible + .in_flight + .delayed' "$VERIFY_DIR/queue") == 0 ]]; then
    broken "no event" "the queue is empty, and no message told of: $left" "./sync.sh$VIA logs worker"
  else
    broken "no copy" "messages are waiting or in work, and these did not arrive in time: $left" \
      "./sync.sh$VIA logs worker"
  fi
}
