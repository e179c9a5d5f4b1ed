# shellcheck shell=bash
# The dashboard, and the log lines that it looks for.

# --- log lines ------------------------------------------------------------------------------------------------------
#
# A pattern is a regular expression of Logs Insights, for a format of mirror/model/log_lines.py. It is for the beginning of
# a line, as a key may hold any words, also those of another line.

# Worker: TIME INFO synced key=KEY action=copied|deleted|skipped size=BYTES seconds=S [lag=S]
readonly SYNCED_LINE='^\S+ INFO synced key='

# Worker: TIME ERROR failed key=KEY [attempt=N/N] REASON; the key is a JSON text.
readonly FAILED_LINE='^\S+ ERROR failed key='

# For "parse" of Logs Insights, which is not known to have groups without a name. The last quote of the line ends the
# key: none may follow it.
readonly -A PARSED=(
  [copied]="$SYNCED_LINE\".*\" action=(?<copied>copied) [^\"]*\$"
  [deleted]="$SYNCED_LINE\".*\" action=(?<deleted>deleted) [^\"]*\$"
  [size]="$SYNCED_LINE\".*\" action=(?<action>\S+) size=(?<size>\d+) [^\"]*\$"
  [lag]="$SYNCED_LINE\".*\" action=[^\"]* lag=(?<lag>[0-9.]+)[^\"]*\$"
  [failed]='^\S+ ERROR (?<failed>failed) key='
)

# Worker: TIME ERROR outage: N keys fail alike, nothing is begun until one can be synced again: REASON; later either
# TIME INFO outage over after N s, or TIME ERROR outage for N s, the worker ends: REASON.
readonly OUTAGE_LINE='^\S+ (ERROR outage: |INFO outage over after |ERROR outage for )'

# like PATTERN: the filter of a query of Logs Insights for such lines.
like() { printf 'filter @message like /%s/\n' "$1"; }

# --- widgets --------------------------------------------------------------------------------------------------------

# A widget is a line of fields, from which jq makes all of them.
widget() {
  local IFS=$'\x1f'
  printf '%s\n' "$*"
}

# metric_widget X Y TITLE STATISTIC METRIC...: a metric is one word, NAMESPACE,NAME,DIMENSION,VALUE,LABEL, without
# DIMENSION,VALUE if it has none, and with ,STATISTIC if that is another one.
metric_widget() { widget metric "$1" "$2" "$3" "$4" "${*:5}"; }

# log_widget X Y VIEW TITLE QUERY [GROUP...]: a Logs Insights query on what the workers wrote, and on what these log
# groups have beside; a table is twice as wide.
log_widget() { widget log "$1" "$2" "$4" "$3" "$5" "$WORKER_LOG_GROUP ${*:6}"; }

# For jq: the widgets of these lines.
jq_widgets() {
  cat <<'JQ'
def metrics: splits(" ") | split(",") | (if .[2] == "" then 2 else 4 end) as $path
  | .[:$path] + [{label: .[4]} + if .[5] then {stat: .[5]} else {} end];
def sources: [splits(" ") | select(. != "") | "SOURCE '\(.)' | "] | add;
split("\u001f") | . as [$type, $x, $y, $title, $kind, $shown, $groups]
  | {type: $type, x: ($x | tonumber), y: ($y | tonumber), width: (if $kind == "table" then 24 else 12 end), height: 6}
    + {properties: ({title: $title, region: $region}
      + if $type == "metric" then {view: "timeSeries", stat: $kind, period: 60, metrics: [$shown | metrics]}
        else {view: $kind, query: (($groups | sources) + $shown)} end)}
JQ
}

# What the starter does beyond starting workers: it is run by each event, or copies. Then the metrics of METRICS.
extra_widgets() {
  local y=30 events=AWS/Events,Invocations,RuleName,$EVENT_RULE_NAME of_starter=FunctionName,$STARTER_NAME
  if [[ $EVENT_SOURCE == eventbridge ]]; then
    metric_widget 0 "$y" 'Event rule: calls of its targets' Sum "$events,calls" \
      "AWS/Events,FailedInvocations,RuleName,$EVENT_RULE_NAME,failed"
    metric_widget 12 "$y" 'Starter: runs that had to wait, and dropped ones' Sum \
      "AWS/Lambda,Throttles,$of_starter,waited" "AWS/Lambda,AsyncEventsDropped,$of_starter,dropped"
    y=36
  fi
  if [[ $STARTER_COPIES == true ]]; then
    metric_widget 0 "$y" 'Starter: longest run (ms)' Maximum "AWS/Lambda,Duration,$of_starter,longest"
    y=$((y + 6))
  fi
  if [[ $METRICS == true ]]; then
    metric_widget 0 "$y" 'Metrics: keys a minute' Sum "$APP_NAME,CopiedKeys,,,copied" \
      "$APP_NAME,DeletedKeys,,,deleted" "$APP_NAME,FailedKeys,,,failed"
    metric_widget 12 "$y" 'Metrics: bytes a minute' Sum "$APP_NAME,CopiedBytes,,,copied"
    y=$((y + 6))
    metric_widget 0 "$y" 'Metrics: lag from event to copy (s)' p50 "$APP_NAME,Lag,,,p50" "$APP_NAME,Lag,,,p99,p99"
    metric_widget 12 "$y" 'Metrics: keys that are late, or held by an outage or as markers' Sum \
      "$APP_NAME,LateKeys,,,late" "$APP_NAME,HeldKeys,,,held"
  fi
}

# Uses AWS's own metrics and queries on the log; custom metrics only with METRICS=true. Three dashboards are free; a query
# costs by what it reads (0.005 USD a GB), and only while somebody looks.
dashboard() {
  local synced troubles copying=() age=AWS/SQS,ApproximateAgeOfOldestMessage
  local visible=AWS/SQS,ApproximateNumberOfMessagesVisible in_work=AWS/SQS,ApproximateNumberOfMessagesNotVisible
  local parsed="parse @message /${PARSED[copied]}/ | parse @message /${PARSED[deleted]}/ | parse @message /${PARSED[failed]}/"
  local counts="count(copied) as copies, count(deleted) as deletes, count(failed) as failures"
  [[ $STARTER_COPIES == false ]] || copying=("$STARTER_LOG_GROUP")
  synced=$(like "$SYNCED_LINE") troubles=$(like "$FAILED_LINE|$OUTAGE_LINE")
  {
    metric_widget 0 0 'Messages in the queue' Maximum "$visible,QueueName,$QUEUE_NAME,waiting" \
      "$in_work,QueueName,$QUEUE_NAME,in-work"
    metric_widget 12 0 'Age of the oldest message (s)' Maximum "$age,QueueName,$QUEUE_NAME,age"
    log_widget 0 6 timeSeries 'Copies, deletes and failures a minute' "$parsed | stats $counts by bin(1m)" \
      ${copying[@]+"${copying[@]}"}
    log_widget 12 6 timeSeries 'Bytes a minute' \
      "$synced | parse @message /${PARSED[size]}/ | stats sum(size) as bytes by bin(1m)" \
      ${copying[@]+"${copying[@]}"}
    log_widget 0 12 timeSeries 'Lag from event to copy (s)' \
      "$synced | parse @message /${PARSED[lag]}/ | stats pct(lag, 50) as p50, pct(lag, 99) as p99 by bin(1m)" \
      ${copying[@]+"${copying[@]}"}
    log_widget 12 12 timeSeries 'Workers' 'stats count_distinct(@logStream) as workers by bin(1m)'
    metric_widget 0 18 'Dead letters' Maximum "$visible,QueueName,$DLQ_NAME,parked"
    metric_widget 12 18 'Starter: runs and errors' Sum "AWS/Lambda,Invocations,FunctionName,$STARTER_NAME,runs" \
      "AWS/Lambda,Errors,FunctionName,$STARTER_NAME,errors"
    log_widget 0 24 table 'Last failures' \
      "fields @timestamp, @message | $troubles | sort @timestamp desc | limit 20" ${copying[@]+"${copying[@]}"}
    extra_widgets
  } | jq -Rnc --arg region "$REGION" "{widgets: [inputs | $(jq_widgets)]}"
}

put_dashboard() {
  aws_or_die cloudwatch put-dashboard --dashboard-name "$DASHBOARD_NAME" --dashboard-body "$1" \
    | must_be_zero '.DashboardValidationMessages | length'
}

ask_dashboard() { aws_or_nothing cloudwatch get-dashboard --dashboard-name "$DASHBOARD_NAME" | jq -r .DashboardBody; }

ensure_dashboard() {
  local want have ours
  begin dashboard "$DASHBOARD_NAME"
  have=$(fact dashboard)
  if [[ $DASHBOARD == false ]]; then
    ours=$(our_dashboard <<<"$have")
    [[ -z $ours ]] || remove "removed, because DASHBOARD is false" remove_dashboard "$DASHBOARD_NAME"
    finish "none, because DASHBOARD is false"
    return
  fi
  want=$(dashboard)
  if [[ -z $have ]]; then
    create put_dashboard "$want"
  else
    same_json "$want" "$have" || change_from "$have" "$want" widgets put_dashboard "$want"
  fi
  finish
}

# Reads what a dashboard shows, prints its name if it is ours: it has no tags in the older versions of the AWS CLI, and
# its name is the account's, whatever the Region.
our_dashboard() {
  jq -r --arg region "$REGION" --arg name "$DASHBOARD_NAME" \
    'select(any(.widgets[]?; .properties.region? == $region)) | $name'
}

list_dashboard() { ask_dashboard | our_dashboard; }

remove_dashboard() { aws_or_nothing cloudwatch delete-dashboards --dashboard-names "$1"; }
