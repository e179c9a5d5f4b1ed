# shellcheck shell=bash
# ./sync.sh status: one word, then what it is made of.

print_status_help() {
  cat <<'HELP'
usage: ./sync.sh status [--json]

  idle     nothing is waiting and nobody works
  working  messages are waiting or in work
  behind   the oldest message waits for more than 15 minutes, or workers could not be started
  failing  a bucket does not answer, the starter fails or does not run, workers stop before they work, no key can be
           synced (an outage), or the dead-letter queue is not empty

Exit status 1 when failing. The age of the oldest message is a CloudWatch metric, about a minute old.
HELP
}

readonly BEHIND_SECONDS=900 # older than that, the oldest message says that the sync is behind
readonly FAILURES_SHOWN=10  # in status

readonly LAG_SAMPLE=1000      # the newest synced keys that the lag is computed from
readonly OUTAGE_SECONDS=10800 # so far back the beginning of an outage is looked for

# describe_bucket NAME
describe_bucket() {
  local error=""
  error=$(aws_or_error s3api list-objects-v2 --bucket "$1" --max-keys 1 --no-paginate) && error=""
  jq -n --arg name "$1" --arg error "$error" '{name: $name, error: $error}'
}

# Whole seconds, or null if CloudWatch has no figure yet.
oldest_message() {
  local end
  end=$(now)
  aws_or_die cloudwatch get-metric-statistics --namespace AWS/SQS --metric-name ApproximateAgeOfOldestMessage \
    --dimensions "Name=QueueName,Value=$QUEUE_NAME" --statistics Maximum --period 60 \
    --start-time "$(iso $((end - 600)))" --end-time "$(iso "$end")" \
    | jq '.Datapoints | max_by(.Timestamp) | .Maximum | if . then round else . end'
}

# The starter's last decision or failure, with its age in seconds; null when it has not run for an hour.
last_start() {
  query "$STARTER_LOG_GROUP" 3600 \
    "fields @timestamp, @message | $(filter_decisions) | sort @timestamp desc | limit 1" \
    | jq 'map((.["@timestamp"] | sub(" "; "T") | sub("[.]\\d+"; "") | rtrimstr("Z") + "Z") as $time | {
        at: $time, seconds_ago: (now - ($time | fromdateiso8601) | floor),
        decision: (try (.["@message"] | fromjson) catch null),
        error: (.["@message"] as $line | try ($line | fromjson | "") catch ($line | rtrimstr("\n")))})[0]'
}

# The failures of the last hour: their number, and of each key the newest one and how many it had, the newest first.
last_failures() {
  query "$WORKER_LOG_GROUP" 3600 \
    "fields @message | $(filter_failed) | sort @timestamp desc | limit 1000" \
    | failures_of | jq --argjson shown "$FAILURES_SHOWN" 'map({at, key, reason: ((.attempt // "") + .reason)})
      | {count: length,
         newest: (group_by(.key) | map(max_by(.at) + {times: length}) | sort_by(.at) | reverse | .[:$shown])}'
}

# Seconds from the event to the copy, over the newest copies of the last hour; when the newest was made.
last_lags() {
  local rows
  rows=$(query "$WORKER_LOG_GROUP" 3600 \
    "fields @message | $(filter_lags) | sort @timestamp desc | limit $LAG_SAMPLE")
  lags_of <<<"$rows" | jq --arg newest "$(newest_of <<<"$rows")" '{count: length, $newest,
    p50: .[(length - 1) * 0.5 | round], p99: .[(length - 1) * 0.99 | round]}'
}

# Of each worker with an outage in the last hour its last one: when it began, why, and its last line: began, over or
# ended, when, and after how many seconds. One that goes on may have begun before.
last_outages() {
  query "$WORKER_LOG_GROUP" "$OUTAGE_SECONDS" \
    "fields @logStream, @message | $(filter_outages) | sort @timestamp desc | limit 1000" \
    | outages_of | jq --arg hour "$(iso $(($(now) - 3600)))" 'group_by(.stream)
      | map(sort_by(.at) | last as $last | ([.[] | select(.event == "began")] | last) as $first
        | $last + {task: ($last.stream | split("/")[-1]), since: ($first.at // $last.at),
            reason: ($last.reason // $first.reason)} | select(.at >= $hour or .event == "began"))'
}

# Reads the parts, and chooses the outage that is told: one that goes on, else the newest.
choose_outage() {
  jq '[.workers[].id] as $running | .outage = (.outages | map(. + {state: (if .event != "began" then .event
      elif .task | IN($running[]) then "goes on" else "cut short" end)})
    | ([.[] | select(.state == "goes on")] | min_by(.since)) // max_by(.at)) | del(.outages)'
}

# Whether the rule runs the starter, and how many minutes apart; null if there is none.
describe_rule() {
  aws_or_nothing events describe-rule --name "$RULE_NAME" | jq -s '.[0] | if . then {
    enabled: (.State == "ENABLED"), minutes: (.ScheduleExpression | capture("(?<n>\\d+)").n | tonumber)} else . end'
}

# Seconds since deploy.sh made or changed the function that starts workers, or null if there is none.
function_age() {
  find_starter \
    | jq -s '.[0] | if . then now - (.LastModified | sub("[.+].*"; "Z") | fromdateiso8601) | floor else . end'
}

# Reads the parts and adds the one word and the reasons for it.
judge() {
  jq --argjson behind "$BEHIND_SECONDS" '
    (.queue | .visible + .in_flight + .delayed) as $messages
    | (180 * (.rule.minutes // 1)) as $silence
    | [(.source, .destination | select(.error != "") | "the bucket \(.name) does not answer: \(.error)"),
       (.rule | select(. == null) | "no rule runs the starter: ./deploy.sh"),
       (.rule | select(. and (.enabled | not)) | "the rule that runs the starter is disabled: ./deploy.sh"),
       (.function_age | select(. == null) | "there is no function that starts workers: ./deploy.sh"),
       (select(.starter == null and $silence <= 3600 and (.function_age // 0) > $silence)
         | "the starter has not run for an hour"),
       (.starter | select(. and .error != "") | "the starter failed: \(.error | split("\n")[0])"),
       (.starter.decision | select(. and (.failing // "") != "") | "workers do not get to work: \(.failing)"),
       (.outage | select(.state == "goes on") | "no key can be synced since \(.since): \(.reason)"),
       (.lag.newest as $newest | .outage | select($messages > 0 and .state == "ended" and .at > ($newest // ""))
         | "a worker ended in an outage, and none has synced a key since: \(.reason)"),
       (.starter | select(. and .seconds_ago > $silence) | "the starter has not run for \(.seconds_ago) s"),
       (.dead_letters.visible | select(. > 0) | "\(.) messages in the dead-letter queue: ./sync.sh redrive")]
      as $failing
    | [(.queue.oldest_seconds | select(. and . > $behind) | "the oldest message waits for \(.) s"),
       (.starter.decision | select(.) | .failures[] | "a worker was not started: \(.)")] as $late
    | if $failing != [] then {state: "failing", reasons: ($failing + $late)}
      elif $late != [] and $messages > 0 then {state: "behind", reasons: $late}
      elif $messages > 0 or .workers != [] then {state: "working", reasons: []}
      else {state: "idle", reasons: []} end + .'
}

# gather NAME COMMAND...: keeps what the command prints as the part NAME of the status.
gather() { "${@:2}" | jq --arg name "$1" '{($name): .}' >"$TEMP_DIR/status.$1"; }

# All parts at once, because each call of the AWS CLI takes about a second to begin.
collect_status() {
  local job
  gather source describe_bucket "$SRC_BUCKET" &
  gather destination describe_bucket "$DST_BUCKET" &
  gather queue describe_queue "$QUEUE_NAME" &
  gather dead_letters describe_queue "$DLQ_NAME" &
  gather oldest oldest_message &
  gather workers describe_tasks --desired-status RUNNING &
  gather rule describe_rule &
  gather function_age function_age &
  gather starter last_start &
  gather failures last_failures &
  gather lag last_lags &
  gather outages last_outages &
  for job in $(jobs -p); do wait "$job"; done
  jq -s 'add | .queue.oldest_seconds = .oldest | del(.oldest)' "$TEMP_DIR"/status.* | choose_outage | judge
}

print_status() {
  jq -r '
    def bucket: "s3://\(.name)  \(if .error == "" then "answers" else .error end)";
    def counted: group_by(.) | map("\(length) \(.[0])") | join(", ");
    def row($name; $text): "\($name + " " * (14 - ($name | length)))\($text)";
    .state, (.reasons[] | "  \(.)"), "",
    row("source"; .source | bucket), row("destination"; .destination | bucket),
    row("queue"; .queue | "\(.visible) waiting, \(.in_flight) in work, \(.delayed) delayed\(
      if .visible + .in_flight + .delayed == 0 then "" elif .oldest_seconds then ", the oldest for \(.oldest_seconds) s"
      else "" end)"),
    row("dead letters"; .dead_letters.visible),
    row("workers"; if .workers == [] then "none" else .workers | map("\(.capacity) \(.status)") | counted end),
    row("starter"; .starter | if . == null then "no run in the last hour"
      elif .decision == null then "\(.at): \(.error)"
      else "\(.seconds_ago) s ago: \(.decision | "saw \(.visible + .in_flight) messages and \(.running
        ) workers, wanted \(.wanted), started \(.started | to_entries | map("\(.value) \(.key)") | join(", ")
        | if . == "" then "none" else . end)\(if (.trial // "") == "" then "" else ": \(.trial)" end)")" end),
    row("lag"; .lag | if .count == 0 then "nothing synced in the last hour"
      else "from event to copy p50 \(.p50) s, p99 \(.p99) s of the newest \(.count) keys" end),
    row("outage"; .outage | if . == null then "none in the last hour" else "since \(.since), " + {
        "goes on": "it goes on", over: "over after \(.seconds) s",
        ended: "after \(.seconds) s the worker ended (exit status 3)",
        "cut short": "its worker was stopped before the end"}[.state] + ": \(.reason)" end),
    (.outage | select(. and .state != "over") | "  nothing is lost: mend the reason, and workers go on by themselves\(
      if .state == "goes on" then "" else ", the next one within 15 minutes" end)"),
    row("failures"; "\(.failures.count) in the last hour"),
    (.failures.newest[] | "  \(.key | tojson) failed \(.times) times, the last at \(.at): \(.reason)")'
}

verb_status() {
  local format=text found
  while (($#)); do
    case "$1" in
      --json) format=json ;;
      --help) print_status_help && return ;;
      *) usage "status: unknown option $1" ;;
    esac
    shift
  done
  start_verb
  found=$(collect_status)
  if [[ $format == json ]]; then printf '%s\n' "$found"; else print_status <<<"$found"; fi
  [[ $(jq -r .state <<<"$found") != failing ]]
}
