# shellcheck shell=bash
# Gathers what lib/verify/chain.jq needs to find the broken link of the chain for ./sync.sh verify.

# find_all_faults: looks at the path of a change again, as what is known of it may have changed since.
find_all_faults() {
  ask_starter | keep starter
  read_path
  find_faults >"$VERIFY_DIR/path"
}

# What the workers wrote of outages since a quarter of an hour before the run, as read by outages_of(). An outage that
# the starter meets is theirs as soon as one runs.
read_outages() {
  aws_or_nothing logs filter-log-events --log-group-name "$WORKER_LOG_GROUP" \
    --start-time $(((VERIFY_BEGAN - 900) * 1000)) --filter-pattern '"outage"' \
    | jq -c --arg line "$OUTAGE_LINE" '[.events[]? | select(.message | test($line))
        | {"@logStream": .logStreamName, "@message": .message}]' | outages_of
}

# What the starter wrote since the run began, as a JSON list: a decision, or {error}.
read_starter_lines() {
  aws_or_nothing logs filter-log-events --log-group-name "$STARTER_LOG_GROUP" --start-time $((VERIFY_BEGAN * 1000)) \
    | jq -cs --arg wanted "$DECISION_OR_FAILURE" '[.[].events[]? | .message | rtrimstr("\n") | select(test($wanted))
      | . as $line | try (fromjson) catch {error: $line}]'
}

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

# find_broken_link IS_OVER: prints {link, why, command} of the first that is broken, a line for each reason.
find_broken_link() {
  local starter outages wrote=false
  find_all_faults
  read_tasks
  starter=$(read_starter_lines)
  outages=$(read_outages)
  [[ ! -s $VERIFY_DIR/worker.lines ]] || wrote=true
  {
    cat "$VERIFY_DIR/path" "$VERIFY_DIR/tasks" "$VERIFY_DIR/queue"
    printf '%s\n' "$starter" "$outages"
  } | jq -cs --argjson over "$1" --argjson elapsed $((SECONDS - VERIFY_STARTED)) --argjson began "$VERIFY_BEGAN" \
    --argjson poll $((LAMBDA_POLL_RATE * 60)) --argjson now "$(now)" --arg event "$VERIFY_EVENT_AT" --arg via "$VIA" \
    --argjson wrote "$wrote" --argjson left "$(cases_in_state missing)" \
    --arg cluster "$CLUSTER_NAME" "$(jq_epoch)"'
    {faults: .[0].faults, name: (.[0].name | {source: .bucket, queue, starter, rule} + {$cluster}), tasks: .[1],
     queue: (.[2] + {event: ($event != "")}), starter: .[3], outages: .[4], $wrote,
     $over, $elapsed, $began, $poll, $now, left: ($left | map(.name) | join(" ")), $via} | '"$(<"$PROJECT_DIR/lib/verify/chain.jq")"
}
