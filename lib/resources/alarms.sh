# shellcheck shell=bash
# The alarms, the metric filters that count log lines for some of them, and the topic that they write to.

# --- metric filters -------------------------------------------------------------------------------------------------
#
# They count outages in the log of the workers, and, with AUDIT_DAYS, audits that found something or went wrong, in their
# log and the starter's. A filter goes with its log group, and has no tags.

# metric_filter NAME GROUP PATTERN METRIC: a custom metric costs for each hour in which it has data, so these have none
# while all is well.
metric_filter() {
  jq -n --arg name "$1" --arg group "$2" --arg pattern "$3" --arg namespace "$APP_NAME" --arg metric "$4" '{
    filterName: $name, logGroupName: $group, filterPattern: $pattern,
    metricTransformations: [{metricNamespace: $namespace, metricName: $metric, metricValue: "1"}]}'
}

outage_filter() { metric_filter "$OUTAGE_ALARM" "$WORKER_LOG_GROUP" "$OUTAGE_FILTER" "$OUTAGE_METRIC"; }

audit_filter() { metric_filter "$AUDIT_ALARM" "$WORKER_LOG_GROUP" "$AUDIT_FILTER" "$AUDIT_METRIC"; }

audit_start_filter() { metric_filter "$AUDIT_ALARM" "$STARTER_LOG_GROUP" "$AUDIT_START_FILTER" "$AUDIT_METRIC"; }

# ask_metric_filter GROUP NAME
ask_metric_filter() {
  aws_or_nothing logs describe-metric-filters --log-group-name "$1" --filter-name-prefix "$2" \
    | jq -c --arg name "$2" '.metricFilters[] | select(.filterName == $name)'
}

# ensure_metric_filter FILTER
ensure_metric_filter() {
  local name group have
  name=$(jq -r .filterName <<<"$1")
  group=$(jq -r .logGroupName <<<"$1")
  begin "metric filter" "$name"
  have=$(fact metric_filter "$group" "$name")
  if [[ -z $have ]]; then
    create aws_or_die logs put-metric-filter --cli-input-json "$1"
  else
    change_members "$1" "$have" aws_or_die logs put-metric-filter --cli-input-json "$1"
  fi
  finish
}

ensure_outage_filter() { ensure_metric_filter "$(outage_filter)"; }

ensure_audit_filter() { [[ -z $AUDIT_DAYS ]] || ensure_metric_filter "$(audit_filter)"; }

ensure_audit_start_filter() { [[ -z $AUDIT_DAYS ]] || ensure_metric_filter "$(audit_start_filter)"; }

list_metric_filter() {
  {
    ask_metric_filter "$WORKER_LOG_GROUP" "$OUTAGE_ALARM"
    ask_metric_filter "$WORKER_LOG_GROUP" "$AUDIT_ALARM"
    ask_metric_filter "$STARTER_LOG_GROUP" "$AUDIT_ALARM"
  } | jq -rs 'map(.filterName) | unique[]'
}

# remove_metric_filter NAME: from each log group that has it.
remove_metric_filter() {
  local group have groups=("$WORKER_LOG_GROUP")
  [[ $1 != "$AUDIT_ALARM" ]] || groups+=("$STARTER_LOG_GROUP")
  for group in "${groups[@]}"; do
    have=$(ask_metric_filter "$group" "$1")
    [[ -n $have ]] || continue
    aws_unless_gone logs delete-metric-filter --log-group-name "$group" --filter-name "$1"
  done
}

# --- alarms ---------------------------------------------------------------------------------------------------------
#
# There are five, and one more with each of EVENT_SOURCE=eventbridge, AUDIT_DAYS and METRICS=true.

# Of all of them: one call finds them.
ask_alarms() {
  aws_or_die cloudwatch describe-alarms --alarm-names "$DLQ_ALARM" "$AGE_ALARM" "$STARTER_ALARM" \
    "$SILENT_ALARM" "$OUTAGE_ALARM" "$EVENTS_ALARM" "$AUDIT_ALARM" "$LATE_ALARM" | jq -c .MetricAlarms
}

# describe NAME WHY-AND-CURE: prints the description, which is what a mail has beside the name: which deployment it is, and
# the page, whose headings are the names of a deployment with the usual APP_NAME.
describe() {
  local page=${REPOSITORY:+$REPOSITORY/blob/main/}docs/troubleshooting.md
  printf 's3-to-s3express-sync: %s in %s copies %s to %s. %s More: %s#s3-to-s3express-sync-%s\n' \
    "$APP_NAME" "$REGION" "$SRC_BUCKET" "$DST_BUCKET" "$2" "$page" "${1#"$APP_NAME-"}"
}

# alarm NAME METRIC DIMENSION STATISTIC THRESHOLD PERIODS WHY-AND-CURE: METRIC with its namespace before the last slash,
# DIMENSION as NAME=VALUE or nothing, periods of five minutes. No data is no alarm: an idle queue reports nothing.
alarm() {
  jq -n --arg name "$1" --arg metric "$2" --arg dimension "$3" --arg statistic "$4" --argjson threshold "$5" \
    --argjson periods "$6" --arg description "$(describe "$1" "$7")" --arg topic "${ALARM_EMAIL:+$TOPIC_ARN}" '
    ($metric | split("/")) as $path | {
      AlarmName: $name, AlarmDescription: $description,
      ActionsEnabled: true, AlarmActions: [$topic | select(. != "")],
      Namespace: ($path[:-1] | join("/")), MetricName: $path[-1],
      Dimensions: [$dimension | select(. != "") | split("=") | {Name: .[0], Value: .[1]}],
      Statistic: $statistic, Period: 300, EvaluationPeriods: $periods, DatapointsToAlarm: $periods,
      Threshold: $threshold, ComparisonOperator: "GreaterThanThreshold", TreatMissingData: "notBreaching"}'
}

# ensure_alarm ALARM: CloudWatch may answer Metrics in any order.
ensure_alarm() {
  local have name
  name=$(jq -r .AlarmName <<<"$1")
  begin alarm "$name"
  have=$(fact alarms | jq -c --arg name "$name" '.[] | select(.AlarmName == $name)
    | if .Metrics then .Metrics |= sort_by(.Id) else . end')
  if [[ -z $have ]]; then
    create aws_or_die cloudwatch put-metric-alarm --cli-input-json "$1" --tags "$(all_tags | as_upper)"
  else
    change_members "$1" "$have" aws_or_die cloudwatch put-metric-alarm --cli-input-json "$1"
  fi
  finish
}

# find_alarm NAME: prints what is there of that alarm, or nothing.
find_alarm() {
  fact alarms | jq -c --arg name "$1" 'map(select(.AlarmName == $name)) | select(. != [])'
}

# ensure_no_alarm NAME WHAT COMMAND...: the command removes it, if deploy.sh made it.
ensure_no_alarm() {
  local alarm ours
  alarm=$(find_alarm "$1")
  [[ -n $alarm ]] || return 0
  begin alarm "$1"
  ours=$(our_alarms <<<"$alarm")
  [[ -z $ours ]] || remove "${@:2}"
  finish "left to you, because it has no tag app=$APP_NAME"
}

ensure_dlq_alarm() {
  local why="Why: messages failed $MAX_RECEIVES times and were given up, so their keys may differ."
  local cure="What to do: ./sync.sh redrive --list shows keys and reasons; fix those, then run ./sync.sh redrive."
  ensure_alarm "$(alarm "$DLQ_ALARM" AWS/SQS/ApproximateNumberOfMessagesVisible "QueueName=$DLQ_NAME" \
    Maximum 0 1 "$why $cure")"
}

ensure_age_alarm() {
  local why="Why: the sync is more than $ALARM_AGE_SECONDS s behind: no workers run, there are too few, or they fail."
  local cure="What to do: ./sync.sh status shows which; if all of them work, raise MAX_WORKERS."
  ensure_alarm "$(alarm "$AGE_ALARM" AWS/SQS/ApproximateAgeOfOldestMessage "QueueName=$QUEUE_NAME" \
    Maximum "$ALARM_AGE_SECONDS" 3 "$why $cure")"
}

# Two failed runs in a row are an alarm: of a starter that runs every 15 minutes they are three periods of five minutes
# apart. If it runs less often, a second one would come late, so the first is one.
starter_alarm_periods() {
  jq -n --argjson rate "$LAMBDA_POLL_RATE" 'if $rate <= 15
    then {Period: 300, EvaluationPeriods: ($rate / 5 + 2 | floor), DatapointsToAlarm: 2}
    else {Period: ($rate * 60), EvaluationPeriods: 1, DatapointsToAlarm: 1} end'
}

ensure_starter_alarm() {
  local alarm periods
  local why="Why: the function that starts workers fails: it cannot start them, they fail or end in an outage,"
  why+=" or its guard has found that events do not arrive; little or nothing is synced."
  local cure="What to do: ./sync.sh status and ./sync.sh logs starter show the error; fix it, or run ./deploy.sh again."
  alarm=$(alarm "$STARTER_ALARM" AWS/Lambda/Errors "FunctionName=$STARTER_NAME" Sum 0 2 "$why $cure")
  periods=$(starter_alarm_periods)
  ensure_alarm "$(jq -c --argjson periods "$periods" '. + $periods' <<<"$alarm")"
}

# What does not run reports no error, so here no data is the alarm. An alarm on three points looks at the last five, and has
# no data when all of them are missing (CloudWatch User Guide, "Configuring how CloudWatch alarms treat missing data").
# So its state is INSUFFICIENT_DATA then, as it is until a new deployment has run first, and a mail comes when it
# becomes so. Five periods are three times LAMBDA_POLL_RATE, in whole minutes.
ensure_silent_alarm() {
  local alarm
  local minutes=$(((LAMBDA_POLL_RATE * 3 + 4) / 5))
  local why="Why: the function that starts workers has not run for $((minutes * 5)) to $((minutes * 6)) minutes; nothing is"
  local cure="What to do: ./sync.sh status shows which rule, function or permission is missing; ./deploy.sh fixes it."
  alarm=$(alarm "$SILENT_ALARM" AWS/Lambda/Invocations "FunctionName=$STARTER_NAME" Sum 1 3 "$why synced. $cure")
  ensure_alarm "$(jq -c --argjson minutes "$minutes" '. + {Period: ($minutes * 60), InsufficientDataActions: .AlarmActions,
    ComparisonOperator: "LessThanThreshold", TreatMissingData: "missing"}' <<<"$alarm")"
}

# Lines on outages come less than half an hour apart until it is over: at most a quarter of an hour to the next worker,
# a minute to its start, five to its line. So long one line is the alarm, and an outage of days sends one mail.
ensure_outage_alarm() {
  local alarm
  local why="Why: the workers cannot sync any key; they keep or return all messages, and lose none."
  local cure="What to do: ./sync.sh status shows the error; fix it, and the workers resume by themselves."
  alarm=$(alarm "$OUTAGE_ALARM" "$APP_NAME/$OUTAGE_METRIC" "" Sum 0 6 "$why $cure")
  ensure_alarm "$(jq -c '. + {DatapointsToAlarm: 1}' <<<"$alarm")"
}

# Counts calls of a target that have failed permanently: at once if they are denied or the target is gone, and otherwise
# after 24 hours of retries (EventBridge User Guide, "Monitoring Amazon EventBridge"; re:Post, "How do I set up EventBridge
# retries"). A run of the starter that Lambda delays is not one of them, because the call has succeeded when Lambda has
# queued it (Lambda Developer Guide, "Asynchronous invocation").
ensure_events_alarm() {
  if [[ $EVENT_SOURCE == sqs ]]; then
    ensure_no_alarm "$EVENTS_ALARM" "removed, because EVENT_SOURCE is sqs" remove_alarm "$EVENTS_ALARM"
    return
  fi
  local why="Why: the rule $EVENT_RULE_NAME could not deliver events of the bucket: those for the queue are lost."
  local cure="What to do: ./sync.sh status shows why, ./deploy.sh fixes it, ./sync.sh reconcile finds what was missed."
  ensure_alarm "$(alarm "$EVENTS_ALARM" AWS/Events/FailedInvocations "RuleName=$EVENT_RULE_NAME" Sum 0 1 "$why $cure")"
}

# An audit reports its result once, at its end; the starter reports the result of a start in each run for an hour. The
# alarm shows that there is something to remove, so it is created before its filters and removed after them.
ensure_audit_alarm() {
  if [[ -z $AUDIT_DAYS ]]; then
    ensure_no_alarm "$AUDIT_ALARM" "removed with its filters, because AUDIT_DAYS is empty" undo_audits
    return
  fi
  local why="Why: an audit found that the buckets differ, did not finish, or could not be started."
  local cure="What to do: ./sync.sh status shows which; the differences are on the queue; after a failure,"
  cure+=" run ./sync.sh reconcile --audit."
  ensure_alarm "$(alarm "$AUDIT_ALARM" "$APP_NAME/$AUDIT_METRIC" "" Sum 0 1 "$why $cure")"
}

undo_audits() {
  remove_metric_filter "$AUDIT_ALARM"
  remove_alarm "$AUDIT_ALARM"
}

# As S3 Replication Time Control promises for 99.9% of the objects. Late keys are known when they are copied, so half an
# hour of them is one mail. Keys without a late one have no share above zero, and minutes without keys no share at all.
late_alarm() {
  local why="Why: more than 0.1% of the keys arrived later than $ALARM_LAG_SECONDS s after their event."
  local cure="What to do: the dashboard shows when, ./sync.sh status whether workers are missing, too few, or fail."
  alarm "$LATE_ALARM" "$APP_NAME/LateKeys" "" Sum 0.1 6 "$why $cure" | jq '
    def counted($id; $name): {Id: $id, ReturnData: false, MetricStat: {Period: 300, Stat: "Sum",
      Metric: {Namespace: .Namespace, MetricName: $name}}};
    . + {DatapointsToAlarm: 1, Metrics: ([counted("late"; "LateKeys"), counted("keys"; "Keys"),
      {Id: "share", Expression: "100 * late / keys", Label: "late keys (%)", ReturnData: true}] | sort_by(.Id))}
    | del(.Namespace, .MetricName, .Dimensions, .Statistic, .Period)'
}

ensure_late_alarm() {
  if [[ $METRICS == true ]]; then
    ensure_alarm "$(late_alarm)"
  else
    ensure_no_alarm "$LATE_ALARM" "removed, because METRICS is false" remove_alarm "$LATE_ALARM"
  fi
}

# Reads alarms, prints the names of those that deploy.sh made.
our_alarms() {
  local arns arn
  arns=$(jq -r '.[].AlarmArn')
  for arn in $arns; do
    aws_or_nothing cloudwatch list-tags-for-resource --resource-arn "$arn" | jq .Tags | ours "${arn##*:}"
  done
}

list_alarm() { ask_alarms | our_alarms; }

remove_alarm() { aws_unless_gone cloudwatch delete-alarms --alarm-names "$1"; }

# --- the topic ------------------------------------------------------------------------------------------------------
#
# With ALARM_EMAIL, alarms write to it, and that address is subscribed.

subscribe_email() {
  aws_or_die sns subscribe --topic-arn "$TOPIC_ARN" --protocol email --notification-endpoint "$ALARM_EMAIL"
  say "      $ALARM_EMAIL gets a mail from AWS now, and alarms once it has confirmed that"
}

unsubscribe() {
  local arn
  for arn in "$@"; do aws_or_die sns unsubscribe --subscription-arn "$arn"; done
}

# ensure_subscription SUBSCRIPTIONS: those of other kinds are someone's own. One that waits for its confirmation has no
# ARN, and AWS drops it.
ensure_subscription() {
  local mails others
  mails=$(jq -c '[.Subscriptions[]? | select(.Protocol == "email" and .SubscriptionArn != "Deleted")]' <<<"$1")
  jq -e --arg email "$ALARM_EMAIL" 'any(.[]; .Endpoint == $email)' <<<"$mails" >/dev/null \
    || change "subscription of $ALARM_EMAIL" subscribe_email
  others=$(jq -r --arg email "$ALARM_EMAIL" '[.[] | select(.Endpoint != $email).SubscriptionArn
    | select(startswith("arn:"))] | join(" ")' <<<"$mails")
  read -ra others <<<"$others"
  ((${#others[@]} == 0)) || change "other addresses" unsubscribe "${others[@]}"
}

ask_subscriptions() { aws_or_nothing sns list-subscriptions-by-topic --topic-arn "$TOPIC_ARN"; }

ensure_topic() {
  local subscriptions
  [[ -n $ALARM_EMAIL ]] || return 0
  begin topic "$TOPIC_NAME"
  subscriptions=$(fact subscriptions)
  [[ -n $subscriptions ]] || create aws_or_die sns create-topic --name "$TOPIC_NAME" --tags "$(all_tags | as_upper)"
  ensure_subscription "${subscriptions:-null}"
  finish
}

# Prints the topic's ARN if it is there and deploy.sh made it.
ask_own_topic() {
  aws_or_nothing sns list-tags-for-resource --resource-arn "$TOPIC_ARN" \
    | jq -r --arg app "$APP_NAME" --arg arn "$TOPIC_ARN" 'select(any(.Tags[]; .Key == "app" and .Value == $app)) | $arn'
}

ensure_no_topic() {
  local topic
  [[ -z $ALARM_EMAIL ]] || return 0
  begin topic "$TOPIC_NAME"
  topic=$(fact own_topic)
  [[ -z $topic ]] || remove "removed, because ALARM_EMAIL is empty" aws_or_die sns delete-topic --topic-arn "$topic"
  finish "none, because ALARM_EMAIL is empty"
}

list_topic() {
  local tags
  tags=$(aws_or_nothing sns list-tags-for-resource --resource-arn "$TOPIC_ARN" | jq .Tags)
  [[ -z $tags ]] || ours "$TOPIC_NAME" <<<"$tags"
}

# Its subscriptions go with it.
remove_topic() { aws_unless_gone sns delete-topic --topic-arn "$TOPIC_ARN"; }
