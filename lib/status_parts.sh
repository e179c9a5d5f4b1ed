# shellcheck shell=bash
# What ./sync.sh status is made of: each function asks AWS for one part and prints it as JSON.

readonly FAILURES_SHOWN=10    # in status, and markers that wait
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
  query starter 3600 \
    "fields @timestamp, @message | $(filter_decisions) | sort @timestamp desc | limit 1" \
    | jq 'map((.["@timestamp"] | sub(" "; "T") | sub("[.]\\d+"; "") | rtrimstr("Z") + "Z") as $time | {
        at: $time, seconds_ago: (now - ($time | fromdateiso8601) | floor),
        decision: (try (.["@message"] | fromjson) catch null),
        error: (.["@message"] as $line | try ($line | fromjson | "") catch ($line | rtrimstr("\n")))})[0]'
}

# The failures of the last hour: their number, and of each key the newest one and how many it had, the newest first.
last_failures() {
  query keys 3600 \
    "fields @message | $(filter_failed) | sort @timestamp desc | limit 1000" \
    | failures_of | jq --argjson shown "$FAILURES_SHOWN" 'map({at, key, reason: ((.attempt // "") + .reason)})
      | {count: length,
         newest: (group_by(.key) | map(max_by(.at) + {times: length}) | sort_by(.at) | reverse | .[:$shown])}'
}

# Seconds from the event to the copy, over the newest copies of the last hour; when the newest was made.
last_lags() {
  local rows
  rows=$(query keys 3600 \
    "fields @message | $(filter_lags) | sort @timestamp desc | limit $LAG_SAMPLE")
  lags_of <<<"$rows" | jq --arg newest "$(newest_of <<<"$rows")" '{count: length, $newest,
    p50: .[(length - 1) * 0.5 | round], p99: .[(length - 1) * 0.99 | round]}'
}

# Of each worker with an outage in the last hour its last one: when it began, why, and its last line: began, over or
# ended, when, and after how many seconds. One that goes on may have begun before.
last_outages() {
  query keys "$OUTAGE_SECONDS" \
    "fields @logStream, @message | $(filter_outages) | sort @timestamp desc | limit 1000" \
    | outages_of | jq --arg hour "$(iso $(($(now) - 3600)))" 'group_by(.stream)
      | map(sort_by(.at) | last as $last | ([.[] | select(.event == "began")] | last) as $first
        | $last + {task: ($last.stream | split("/")[-1]), since: ($first.at // $last.at),
            reason: ($last.reason // $first.reason)} | select(.at >= $hour or .event == "began"))'
}

# The keys that wait for others by the log of the last hour: how many, the newest line on one with what it waits for
# since when, and those on some others; null if there is nothing that waits (COPY_LAST, TABLES).
last_markers() {
  local told keys synced="[]"
  [[ -n $(starter_setting COPY_LAST)$(starter_setting TABLES) ]] || { printf 'null\n' && return; }
  told=$(query keys 3600 "fields @message | $(filter_markers) | sort @timestamp desc | limit 1000" | markers_of \
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

# describe_audit DAYS: the last audit, as far as the log reaches, and when the next one is to start (launch/audit.py).
describe_audit() {
  local rows days
  # A query costs by what it reads: first the two days in which the last audit of a daily one is.
  for days in 2 $(($1 + 2)); do
    rows=$(query worker $((days * 86400)) "fields @message | $(filter_audited) | sort @timestamp desc | limit 1")
    [[ $rows == "[]" ]] || break
  done
  audits_of <<<"$rows" | jq --argjson days "$1" --argjson now "$(now)" '
    (($now - 7200) / 86400 | floor) as $day
    | {days: $days, next: (($day - $day % $days + $days) * 86400 + 7200 | todate),
       last: (.[0] | if . then . + {seconds_ago: ($now - (.at | sub("[.]\\d+"; "") | fromdateiso8601))} else . end)}'
}

# When the sync was paused, or null.
describe_pause() { jq -n --arg since "$(paused_since)" 'if $since == "" then null else {$since} end'; }

# What was chosen beyond the default, as the starter knows it.
describe_options() {
  local prefixes exclude
  prefixes=$(prefixes_of "$(starter_setting PREFIX_FILTER)")
  exclude=$(items_of "$(starter_setting EXCLUDE)")
  fact starter | jq -s --argjson prefixes "$prefixes" --argjson exclude "$exclude" '.[0].Environment.Variables // {}
    | {starter_copies: (.STARTER_COPIES == "true"), starter_max_size: (.STARTER_MAX_SIZE // "0" | tonumber),
       min_workers: (.MIN_WORKERS // "0" | tonumber)}
    + if .COPY_LAST then {copy_last: .COPY_LAST} else {} end + if .TABLES then {tables: .TABLES} else {} end
    + if .ANNOUNCE then {announce: .ANNOUNCE} else {} end
    + if $prefixes[1:] != [] then {$prefixes} else {} end + if $exclude != [] then {$exclude} else {} end
    + if .KEEP_DAYS then {keep_days: (.KEEP_DAYS | tonumber)} else {} end'
}

# The release that is deployed, and that of this checkout; AWS's error if it refuses.
describe_version() {
  local tags deployed error=""
  tags=$(aws_or_error lambda list-tags --resource "$STARTER_ARN") || { error=$tags && tags="{}"; }
  deployed=$(version_of_tags <<<"$tags")
  jq -n --arg deployed "$deployed" --arg checkout "$VERSION" --arg error "$error" '
    def order: [scan("\\d+") | tonumber] + [if endswith("-dev") then 0 else 1 end];
    {deployed: (if $error == "" then $deployed else null end), $checkout, $error}
    | .older = (.error == "" and (.deployed | order) < (.checkout | order))'
}

# Reads the rule that runs the starter, prints whether it is enabled, and how many minutes apart it fires; null if there
# is none.
shown_rule() {
  jq -s '.[0] | if . then {
    enabled: (.State | startswith("ENABLED")), minutes: (.ScheduleExpression | capture("(?<n>\\d+)").n | tonumber)} else . end'
}

# Seconds since deploy.sh made or changed the function that starts workers, or null if there is none.
function_age() {
  fact starter \
    | jq -s '.[0] | if . then now - (.LastModified | sub("[.+].*"; "Z") | fromdateiso8601) | floor else . end'
}
