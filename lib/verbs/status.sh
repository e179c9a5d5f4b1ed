# shellcheck shell=bash
# usage: ./sync.sh status [--json]
#
# One word, from idle to failing, and then the details.
#
#   idle     nothing is waiting and no worker is running
#   working  messages are waiting or in progress
#   behind   the oldest message has waited for more than 15 minutes, or workers
#            could not be started
#   paused   somebody ran ./sync.sh pause; shows since when, and until when events
#            wait
#   failing  a bucket does not respond, the starter fails or does not run, workers
#            fail, no key can be synced (an outage), the dead-letter queue is
#            not empty, or the last audit failed or is too old (AUDIT_DAYS)
#
#   --json   the same as JSON on stdout
#
# Exit status 1 when failing. The age of the oldest message is a CloudWatch
# metric, about a minute old.

readonly FAILURES_SHOWN=10 # in status, and markers that wait

# of_status FILTER: reads a list of the parts, or of the status alone.
of_status() {
  jq -rs --arg via "$VIA" --argjson keep "$QUEUE_SECONDS" --arg starter_role "$STARTER_ROLE" --arg task_role "$TASK_ROLE" \
    "$JQ_TEXT$(<"$PROJECT_DIR/lib/status.jq")$1"
}

# --- parts: each function asks AWS for one, and prints it as JSON ---------------------------------------------------

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
  query starter 3600 \
    "fields @timestamp, @message | $(like "$DECISION_OR_FAILURE") | sort @timestamp desc | limit 1" \
    | jq 'map((.["@timestamp"] | sub(" "; "T") | sub("[.]\\d+"; "") | rtrimstr("Z") + "Z") as $time | {
        at: $time, seconds_ago: (now - ($time | fromdateiso8601) | floor),
        decision: (try (.["@message"] | fromjson) catch null),
        error: (.["@message"] as $line | try ($line | fromjson | "") catch ($line | rtrimstr("\n")))})[0]'
}

# The failures of the last hour: their number, and of each key the newest one and how many it had, the newest first.
last_failures() {
  query keys 3600 \
    "fields @message | $(like "$FAILED_LINE") | sort @timestamp desc | limit 1000" \
    | failures_of | jq --argjson shown "$FAILURES_SHOWN" 'map({at, key, reason: ((.attempt // "") + .reason)})
      | {count: length,
         newest: (group_by(.key) | map(max_by(.at) + {times: length}) | sort_by(.at) | reverse | .[:$shown])}'
}

# Seconds from the event to the copy, over the newest 1,000 copies of the last hour; when the newest was made.
last_lags() {
  local rows
  rows=$(query keys 3600 "fields @message | $(like "$SYNCED_LAG") | sort @timestamp desc | limit 1000")
  lags_of <<<"$rows" | jq --arg newest "$(newest_of <<<"$rows")" '{count: length, $newest,
    p50: .[(length - 1) * 0.5 | round], p99: .[(length - 1) * 0.99 | round]}'
}

# Of each worker with an outage in the last hour its last one: when it began, why, and its last line: began, over or
# ended, when, and after how many seconds. One that goes on may have begun before, in the last three hours.
last_outages() {
  query keys 10800 \
    "fields @logStream, @message | $(like "$OUTAGE_LINE") | sort @timestamp desc | limit 1000" \
    | outages_of | jq --arg hour "$(iso $(($(now) - 3600)))" 'group_by(.stream)
      | map(sort_by(.at) | last as $last | ([.[] | select(.event == "began")] | last) as $first
        | $last + {task: ($last.stream | split("/")[-1]), since: ($first.at // $last.at),
            reason: ($last.reason // $first.reason)} | select(.at >= $hour or .event == "began"))'
}

# The keys that wait for others by the log of the last hour: how many, the newest line on one with what it waits for
# since when, and those on some others; null if there is nothing that waits (COPY_LAST, TABLES).
last_markers() {
  local told keys synced="[]" markers tables
  markers=$(starter_setting COPY_LAST)
  tables=$(starter_setting TABLES)
  [[ -n $markers$tables ]] || { printf 'null\n' && return; }
  told=$(query keys 3600 "fields @message | $(like "$MARKER_LINE") | sort @timestamp desc | limit 1000" | markers_of \
    | jq -c 'group_by(.key) | map(max_by(.at)) | sort_by(.at) | reverse')
  keys=$(jq -c 'map(.key)' <<<"$told")
  [[ $keys == "[]" ]] || synced=$(query keys 3600 \
    "fields @message | $(filter_synced_of <<<"$keys") | sort @timestamp desc | limit 1000")
  jq --argjson synced "$(synced_of <<<"$synced")" --argjson shown "$FAILURES_SHOWN" '
    map(select(.at > ($synced[.key] // "")))
    | if . == [] then null else {count: length, newest: .[0], others: .[1:$shown]} end' <<<"$told"
}

# Which way the bucket's events really take to the queue, and what is wrong with it; reads the output of find_faults.
describe_events() {
  jq '. as $path | (.bucket.error // "") as $error | {$error,
    at_once: (.event_rule != null and any(.event_rule.Targets[]?; .Arn == $path.arn.starter)),
    source: (if $error != "" then "unknown" elif .ours != [] and .event_rule then "both" elif .ours != [] then "sqs"
      elif .event_rule then "eventbridge" else "none" end),
    problems: [.faults[] | select(.link | IN("no event", "no start at once")).fault]}'
}

# describe_audit DAYS: the last audit, as far as the log reaches.
describe_audit() {
  local rows days
  # A query costs by what it reads: first the two days in which the last audit of a daily one is.
  for days in 2 $(($1 + 2)); do
    rows=$(query worker $((days * 86400)) "fields @message | $(like "$AUDITED_LINE") | sort @timestamp desc | limit 1")
    [[ $rows == "[]" ]] || break
  done
  audits_of <<<"$rows" | jq --argjson days "$1" '{$days, last: .[0]}'
}

# When the sync was paused, or null.
describe_pause() {
  local since
  since=$(paused_since)
  jq -n --arg since "$since" 'if $since == "" then null else {$since} end'
}

# describe_options WANTED: what was chosen beyond the default, as the starter knows it.
describe_options() {
  fact starter | jq -s --argjson known "$1" '.[0].Environment.Variables // {}
    | {starter_copies: (.STARTER_COPIES == "true"), starter_max_size: (.STARTER_MAX_SIZE // "0" | tonumber),
       min_workers: (.MIN_WORKERS // "0" | tonumber)}
    + if .COPY_LAST then {copy_last: .COPY_LAST} else {} end + if .TABLES then {tables: .TABLES} else {} end
    + if .ANNOUNCE then {announce: .ANNOUNCE} else {} end
    + if $known.prefixes[1:] != [] then {prefixes: $known.prefixes} else {} end
    + if $known.excluded != [] then {exclude: $known.excluded} else {} end
    + if .KEEP_DAYS then {keep_days: (.KEEP_DAYS | tonumber)} else {} end'
}

# The release that is deployed, and that of this checkout; AWS's error if it refuses.
describe_version() {
  local tags error=""
  tags=$(aws_or_error lambda list-tags --resource "$STARTER_ARN") || { error=$tags && tags="{}"; }
  jq -n --arg deployed "$(version_of_tags <<<"$tags")" --arg checkout "$VERSION" --arg error "$error" '
    {deployed: (if $error == "" then $deployed else null end), $checkout, $error}'
}

# Reads the rule that runs the starter, prints whether it is enabled, and how many minutes apart it fires; null if there
# is none.
shown_rule() {
  jq -s '.[0] | if . then {
    enabled: (.State | startswith("ENABLED")), minutes: (.ScheduleExpression | capture("(?<n>\\d+)").n | tonumber)} else . end'
}

# Seconds since deploy.sh made or changed the function that starts workers, or null if there is none.
age_of_function() {
  fact starter \
    | jq -s '.[0] | if . then now - (.LastModified | sub("[.+].*"; "Z") | fromdateiso8601) | floor else . end'
}

# --- all of it -----------------------------------------------------------------------------------------------------

# gather NAME COMMAND...: keeps what the command prints as the part NAME of the status.
gather() { "${@:2}" >"$TEMP_DIR/status.$1"; }

# The parts that the path of a change to the starter has, and what is wrong with it (lib/checks.sh).
gather_path() {
  read_path
  find_faults >"$TEMP_DIR/path"
  gather queue numbers_of_queue <"$TEMP_DIR/path.queue"
  gather dead_letters numbers_of_queue <"$TEMP_DIR/path.dead_letters"
  gather rule shown_rule <"$TEMP_DIR/path.rule"
  gather events describe_events <"$TEMP_DIR/path"
  gather faults jq .faults "$TEMP_DIR/path"
  jq -r '.permissions.error // empty' "$TEMP_DIR/path" >&2
}

# gather_log NAME WITHOUT COMMAND...: as gather, of a part that is read from a log, or that few have. What goes wrong, such
# as a query that is slow, throttled or denied, is printed: then the part is WITHOUT, and is not known.
gather_log() {
  run_apart "$TEMP_DIR/gathered.$1" gather "$1" "${@:3}"
  ! has_failed "$TEMP_DIR/gathered.$1" || gather "$1" printf '%s, "not_known": ["%s"]\n' "$2" "$1"
}

# Leaves the status in a file of the run: all parts at once, because each call of the AWS CLI takes about a second to
# begin. The last ones need to know first what the starter is set to, which is asked for while the others run. A subshell,
# which waits for its own jobs only.
keep_status() (
  local job audit_days prefixes exclude
  gather source describe_bucket "$SRC_BUCKET" &
  gather destination describe_bucket "$DST_BUCKET" &
  gather oldest oldest_message &
  gather workers describe_tasks --desired-status RUNNING &
  prefixes=$(starter_setting PREFIX_FILTER)
  exclude=$(starter_setting EXCLUDE)
  PREFIX_FILTER=$prefixes EXCLUDE=$exclude wanted >/dev/null # from now on it is known
  gather_path &
  audit_days=$(starter_setting AUDIT_DAYS)
  [[ -z $audit_days ]] || gather_log audit null describe_audit "$audit_days" &
  gather options describe_options "$WANTED" &
  gather_log reads null describe_request_metrics &
  gather version describe_version &
  gather function_age age_of_function &
  gather paused describe_pause &
  gather_log starter null last_start &
  gather_log failures '{"count": 0, "newest": []}' last_failures &
  gather_log lag '{"count": 0, "newest": ""}' last_lags &
  gather_log outages [] last_outages &
  gather_log markers null last_markers &
  for job in $(jobs -p); do wait "$job"; done
  as_members "$TEMP_DIR"/status.* | of_status 'gathered | choose_outage | judge' >"$TEMP_DIR/found"
)

verb_status() {
  local format=text found state
  local -A colours=([idle]=$GREEN [working]=$GREEN [behind]=$AMBER [paused]=$AMBER [failing]=$RED)
  while (($#)); do
    case "$1" in
      --json) format=json ;;
      *) usage "status: unknown option $1" ;;
    esac
    shift
  done
  start_verb
  say_while "status: asking AWS" keep_status
  found=$(<"$TEMP_DIR/found")
  state=$(jq -r .state <<<"$found")
  if [[ $format == json ]]; then
    visible_lines <<<"$found"
  else
    paint "${colours[$state]}" "$state"
    of_status '.[0] | lines' <<<"$found"
  fi
  [[ $state == failing ]] || return 0
  [[ $format == json ]] || say 'what to do about each reason: docs/operations.md, "Status"'
  return 1
}
