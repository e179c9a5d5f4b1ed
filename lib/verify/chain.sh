# shellcheck shell=bash
# Finds the broken link of the chain for ./sync.sh verify: asks AWS in the order in which a change passes the links.

# Each function prints "LINK<tab>WHY<tab>COMMAND" if its link is broken, a line for each reason, and nothing else. With
# true as its argument the time is over, and what is only likely counts too.
readonly VERIFY_LINKS=(event outage starter task copy)
readonly VERIFY_OUTAGE=60 # verify does not wait for the end of an outage that has lasted this many seconds

# find_broken_link IS_OVER: the first that is broken.
find_broken_link() {
  local link found
  find_all_faults
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

# find_all_faults: looks at the path of a change again, as what is known of it may have changed since.
find_all_faults() {
  ask_starter | keep starter
  read_path
  find_faults >"$VERIFY_DIR/path"
}

# print_faults [LINK]: those that break the link, or all.
print_faults() {
  jq -r --arg link "${1:-}" '.faults[] | select(.link == $link or $link == "")
    | "\(.link)\t\(.fault): \(.cure)\t\(.look)"' "$VERIFY_DIR/path"
}

# --- no event -------------------------------------------------------------------------------------------------------

find_break_of_event() {
  local found
  found=$(print_faults "no event")
  if [[ -n $found ]]; then
    printf '%s\n' "$found"
  elif [[ $1 == true && -z $VERIFY_EVENT_AT ]] && ! worker_wrote; then
    broken "no event" "the objects are in s3://$SRC_BUCKET, but no message reached $QUEUE_NAME: after a first \
deployment, S3 takes up to five minutes; otherwise check the queue's policy and the prefix of the notification or rule" \
      "aws s3api get-bucket-notification-configuration --bucket $SRC_BUCKET"
  fi
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
  found=$(read_outages | jq -r "$(jq_epoch)"'($tasks[0] | map(select(.status == "RUNNING").id)) as $running
    | max_by(.at) | select(. and ((.event == "ended" and (.at | epoch) >= $began)
        or (.event == "began" and (.stream | split("/")[-1] | IN($running[])) and ($over or (.at | epoch) <= $lasted))))
    | if .event == "began" then "since \(.at) no key can be synced: \(.reason)"
      else "for \(.seconds) s no key could be synced, and the worker ended: \(.reason)" end' \
    --argjson began "$VERIFY_BEGAN" --argjson over "$1" --argjson lasted $(($(now) - VERIFY_OUTAGE)) \
    --slurpfile tasks "$VERIFY_DIR/tasks")
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
  local found elapsed error
  found=$(print_faults "no starter")
  if [[ -n $found ]]; then
    printf '%s\n' "$found"
    return
  fi
  error=$(starter_error "$1")
  if [[ -n $error ]]; then
    broken "no starter" "the function $STARTER_NAME fails: $error" "./sync.sh$VIA logs starter"
    return
  fi
  elapsed=$((SECONDS - VERIFY_STARTED))
  if [[ ! -s $VERIFY_DIR/starter.lines ]] && { [[ $1 == true ]] || ((elapsed > LAMBDA_POLL_RATE * 60 + 150)); }; then
    broken "no starter" "the rule is enabled, but $STARTER_NAME has not run for $elapsed s: check its target and permission" \
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
  all_tasks | jq -cs "$(jq_epoch)"'
    def times: {created: .createdAt, connected: .connectivityAt, pulling: .pullStartedAt, pulled: .pullStoppedAt,
      started: .startedAt} | map_values(epoch);
    [.[].tasks[] | select(.startedBy == $by) | times + {
      id: (.taskArn | split("/")[-1]), status: .lastStatus, code: .stopCode, reason: .stoppedReason,
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
    broken "no task" "messages are waiting, but the starter has not started a worker" "./sync.sh$VIA logs starter"
  fi
}

# --- no copy --------------------------------------------------------------------------------------------------------

# Failures of a key are named by note_failures; here is what is left when the time is over.
find_break_of_copy() {
  local left
  [[ $1 == true ]] || return 0
  left=$(names_in_state missing | tr '\n' ' ')
  if [[ $(jq '.visible + .in_flight + .delayed' "$VERIFY_DIR/queue") == 0 ]]; then
    broken "no event" "the queue is empty, and no message named: $left" "./sync.sh$VIA logs worker"
  else
    broken "no copy" "messages are waiting or in flight, and these did not arrive in time: $left" \
      "./sync.sh$VIA logs worker"
  fi
}
