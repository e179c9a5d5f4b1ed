# shellcheck shell=bash
# The alarms, the metric filters that count log lines for some of them, and the topic that they write to.

# --- metric filters -------------------------------------------------------------------------------------------------
#
# They count outages in the log of the workers, and, with AUDIT_DAYS, audits that found something or went wrong, in their
# log and the starter's. A filter goes with its log group, and has no tags.

# Its patterns have regular expressions without groups or spaces. In the log of the starter an audit is wrong if its
# "audit" has a "problem".
readonly OUTAGE_FILTER='%^\S+\sERROR\soutage%'
readonly AUDIT_FILTER='%^\S+\sERROR\saudited%' AUDIT_START_FILTER='{ $.audit.problem = "*" }'

# metric_filter NAME GROUP: a custom metric costs for each hour in which it has data, so these have none while all is well.
metric_filter() {
  local pattern=$OUTAGE_FILTER metric=$OUTAGE_METRIC
  if [[ $1 == "$AUDIT_ALARM" ]]; then
    metric=$AUDIT_METRIC pattern=$AUDIT_FILTER
    [[ $2 == "$WORKER_LOG_GROUP" ]] || pattern=$AUDIT_START_FILTER
  fi
  jq -n --arg name "$1" --arg group "$2" --arg pattern "$pattern" --arg namespace "$APP_NAME" --arg metric "$metric" '{
    filterName: $name, logGroupName: $group, filterPattern: $pattern,
    metricTransformations: [{metricNamespace: $namespace, metricName: $metric, metricValue: "1"}]}'
}

# What such a filter may not have: the alarm would not see a metric with dimensions, and some lines would not be counted
# (CloudWatch Logs API reference, PutMetricFilter).
readonly NOT_OF_FILTER=(metricTransformations.0.dimensions fieldSelectionCriteria emitSystemFieldDimensions applyOnTransformedLogs)

# ask_metric_filter GROUP NAME
ask_metric_filter() {
  aws_or_nothing logs describe-metric-filters --log-group-name "$1" --filter-name-prefix "$2" \
    | jq -c --arg name "$2" '.metricFilters[]? | select(.filterName == $name)'
}

# ensure_metric_filter NAME GROUP
ensure_metric_filter() {
  local want have after
  begin "metric filter" "$1"
  want=$(metric_filter "$1" "$2")
  have=$(fact metric_filter "$2" "$1")
  if [[ -z $have ]]; then
    create aws_or_die logs put-metric-filter --cli-input-json "$want"
  else
    after=$(absent "$want" "$have" "${NOT_OF_FILTER[@]}")
    change_members "$after" "$have" aws_or_die logs put-metric-filter --cli-input-json "$want"
  fi
  finish
}

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
    aws_or_nothing logs delete-metric-filter --log-group-name "$group" --filter-name "$1"
  done
}

# --- alarms ---------------------------------------------------------------------------------------------------------
#
# EVENT_SOURCE=eventbridge, AUDIT_DAYS and METRICS=true each add one.

# Of all of them: one call finds them.
ask_alarms() {
  aws_or_die cloudwatch describe-alarms --alarm-names "$DLQ_ALARM" "$AGE_ALARM" "$STARTER_ALARM" \
    "$SILENT_ALARM" "$OUTAGE_ALARM" "$EVENTS_ALARM" "$AUDIT_ALARM" "$LATE_ALARM" | jq -cn '[inputs][0].MetricAlarms // []'
}

# alarm NAME METRIC DIMENSION STATISTIC THRESHOLD PERIODS WHY-AND-CURE [MORE]: prints a row for ask_both_alarms: METRIC
# with its namespace before the last slash, DIMENSION as NAME=VALUE or nothing, periods of five minutes; MORE, an object,
# says what else it is to have.
alarm() {
  local IFS=$'\x1f'
  printf '%s\n' "$*"
}

# rates_of MINUTES AGE: prints what this LAMBDA_POLL_RATE decides beside the schedule (launch/rates.py).
rates_of() { run_python launch/rates.py "$1" "$2" "${SHIPPED[ALARM_AGE_SECONDS]}"; }

ask_rates() { rates_of "$LAMBDA_POLL_RATE" "$ALARM_AGE_SECONDS"; }

# Prints those that this deployment is to have.
list_alarm_rows() {
  local why cure age
  why="Why: messages failed $MAX_RECEIVES times and were given up, so their keys may differ."
  cure="What to do: ./sync.sh redrive --list shows keys and reasons; fix those, then run ./sync.sh redrive."
  alarm "$DLQ_ALARM" AWS/SQS/ApproximateNumberOfMessagesVisible "QueueName=$DLQ_NAME" Maximum 0 1 "$why $cure"

  age=$(fact rates | jq .age)
  why="Why: the sync is more than $age s behind: no workers run, there are too few, or they fail."
  cure="What to do: ./sync.sh status shows which; if all of them work, raise MAX_WORKERS."
  alarm "$AGE_ALARM" AWS/SQS/ApproximateAgeOfOldestMessage "QueueName=$QUEUE_NAME" \
    Maximum "$age" 3 "$why $cure"

  list_alarms_of_starter

  # Lines on outages come less than half an hour apart until it is over: at most a quarter of an hour to the next worker,
  # a minute to its start, five to its line. So long one line is the alarm, and an outage of days sends one mail.
  why="Why: the workers cannot sync any key; they keep or return all messages, and lose none."
  cure="What to do: ./sync.sh status shows the error; fix it, and the workers resume by themselves."
  alarm "$OUTAGE_ALARM" "$APP_NAME/$OUTAGE_METRIC" "" Sum 0 6 "$why $cure" '{"DatapointsToAlarm": 1}'

  # Counts calls of a target that have failed permanently: at once if they are denied or the target is gone, and otherwise
  # after 24 hours of retries (EventBridge User Guide, "Monitoring Amazon EventBridge"; re:Post, "How do I set up
  # EventBridge retries"). A run of the starter that Lambda delays is not one of them, because the call has succeeded when
  # Lambda has queued it (Lambda Developer Guide, "Asynchronous invocation").
  why="Why: the rule $EVENT_RULE_NAME could not deliver events of the bucket: those for the queue are lost."
  cure="What to do: ./sync.sh status shows why, ./deploy.sh fixes it, ./sync.sh reconcile finds what was missed."
  [[ $EVENT_SOURCE == sqs ]] \
    || alarm "$EVENTS_ALARM" AWS/Events/FailedInvocations "RuleName=$EVENT_RULE_NAME" Sum 0 1 "$why $cure"

  # An audit reports its result once, at its end; the starter reports the result of a start in each run for an hour.
  why="Why: an audit found that the buckets differ, did not finish, or could not be started."
  cure="What to do: ./sync.sh status shows which; the differences are on the queue; after a failure,"
  cure+=" run ./sync.sh reconcile --audit."
  [[ -z $AUDIT_DAYS ]] || alarm "$AUDIT_ALARM" "$APP_NAME/$AUDIT_METRIC" "" Sum 0 1 "$why $cure"

  # As S3 Replication Time Control promises for 99.9% of the objects. Late keys are known when they are copied, so half an
  # hour of them is one mail. Keys without a late one have no share above zero, and minutes without keys no share at all.
  why="Why: more than 0.1% of the keys arrived later than $ALARM_LAG_SECONDS s after their event."
  cure="What to do: the dashboard shows when, ./sync.sh status whether workers are missing, too few, or fail."
  [[ $METRICS == false ]] || alarm "$LATE_ALARM" "$APP_NAME/LateKeys" "" Sum 0.1 6 "$why $cure" \
    '{"DatapointsToAlarm": 1, "of": "Keys"}'
}

# Two failed runs in a row are an alarm: one fails now and then because AWS does not answer. Of a starter that runs every
# 15 minutes they are three periods of five minutes apart. If it runs less often than every hour, a second one would come
# late, and ECS has forgotten by then what the first one saw, so the first is one.
#
# What does not run reports no error, so for silence no data is the alarm. An alarm on three points looks at the last five,
# and has no data when all of them are missing (CloudWatch User Guide, "Configuring how CloudWatch alarms treat missing
# data"). So its state is INSUFFICIENT_DATA then, as it is until a new deployment has run first, and a mail comes when it
# becomes so. Five periods are three times LAMBDA_POLL_RATE, in whole minutes.
list_alarms_of_starter() {
  local minutes=$(((LAMBDA_POLL_RATE * 3 + 4) / 5)) why cure form periods=$((LAMBDA_POLL_RATE / 5 + 2)) two=2 seconds=300
  ((LAMBDA_POLL_RATE <= 60)) || periods=1 two=1 seconds=$((LAMBDA_POLL_RATE * 60))
  why="Why: the function that starts workers fails: it cannot start them, they die or end in an outage,"
  why+=" or its guard has found that events or alarms do not arrive; little or nothing is synced. Or only workers copy,"
  why+=" because it cannot (STARTER_COPIES)."
  cure="What to do: ./sync.sh status and ./sync.sh logs starter show the error; fix it, or run ./deploy.sh again."
  printf -v form '{"Period": %d, "DatapointsToAlarm": %d}' "$seconds" "$two"
  alarm "$STARTER_ALARM" AWS/Lambda/Errors "FunctionName=$STARTER_NAME" Sum 0 "$periods" "$why $cure" "$form"

  why="Why: the function that starts workers has not run for $((minutes * 5)) to $((minutes * 6)) minutes; nothing is synced."
  cure="What to do: ./sync.sh status shows which rule, function or permission is missing; ./deploy.sh fixes it."
  printf -v form '{"Period": %d, "ComparisonOperator": "LessThanThreshold", "TreatMissingData": "missing"}' $((minutes * 60))
  alarm "$SILENT_ALARM" AWS/Lambda/Invocations "FunctionName=$STARTER_NAME" Sum 1 3 "$why $cure" "$form"
}

# Prints two JSON lists: these rows as CloudWatch takes them, and the alarms that are there. No data is no alarm: an idle
# queue reports nothing. The description is what a mail has beside the name: which deployment it is, and the page, whose
# headings are the names of a deployment with the usual APP_NAME. An alarm with "of" is on a share in percent.
ask_both_alarms() {
  local rows
  rows=$(list_alarm_rows)
  jq -Rnc --arg which "$APP_NAME in $REGION copies $SRC_BUCKET to $DST_BUCKET." \
    --arg page "${REPOSITORY:+$REPOSITORY/blob/main/}docs/troubleshooting.md" --arg topic "${ALARM_EMAIL:+$TOPIC_ARN}" \
    --arg app "$APP_NAME" --arg others "./sync.sh status also shows which other alarms are red." '
    def counted($id; $name): {Id: $id, ReturnData: false, MetricStat: {Period: .Period, Stat: .Statistic,
      Metric: {Namespace: .Namespace, MetricName: $name}}};
    def as_share: . + {Metrics: ([counted("late"; .MetricName), counted("keys"; .of),
        {Id: "share", Expression: "100 * late / keys", Label: "late keys (%)", ReturnData: true}] | sort_by(.Id))}
      | del(.Namespace, .MetricName, .Dimensions, .Statistic, .Period, .of);
    [inputs | split("\u001f") | (.[1] | split("/")) as $path | [$topic | select(. != "")] as $topics
      | "s3-to-s3express-sync: \($which) \(.[6]) \($others) More: \($page)#s3-to-s3express-sync-\(.[0] | ltrimstr($app + "-"))" as $says
      | {AlarmName: .[0], AlarmDescription: $says, ActionsEnabled: true, AlarmActions: $topics,
        Namespace: ($path[:-1] | join("/")), MetricName: $path[-1],
        Dimensions: [.[2] | select(. != "") | split("=") | {Name: .[0], Value: .[1]}],
        Statistic: .[3], Period: 300, EvaluationPeriods: (.[5] | tonumber), DatapointsToAlarm: (.[5] | tonumber),
        Threshold: (.[4] | tonumber), ComparisonOperator: "GreaterThanThreshold", TreatMissingData: "notBreaching"}
        + (.[7] // "{}" | fromjson)
      | if .TreatMissingData == "missing" then . + {InsufficientDataActions: $topics} else . end
      | if .of then as_share else . end]' <<<"$rows" && fact alarms
}

# What an alarm may not have: a metric has no data in a unit that it is not reported in (CloudWatch API reference,
# PutMetricAlarm).
readonly NOT_OF_ALARM=(Unit Metrics.{0,1,2}.MetricStat.Unit)

# with_theirs WANT HAVE: prints alarm WANT with what others have added to HAVE, because the call that puts an alarm replaces
# all of it: their actions, those for other states, and what says nothing of what it watches.
with_theirs() {
  jq -cs --arg topic "$TOPIC_ARN" '.[0] as $want | .[1] as $have
    | def actions($name): ($want[$name] // []) as $ours
        | [$have[$name][]? | select(. != $topic or IN(($want[$name] // $want.AlarmActions)[]))] as $kept
        | $kept + ($ours - $kept) | if . == [] and ($have[$name] // []) == [] then $want[$name] else . end;
    $want + ({AlarmActions: actions("AlarmActions"), OKActions: actions("OKActions"),
        InsufficientDataActions: actions("InsufficientDataActions")}
      + ($have | {ActionConfiguration, EvaluationWindow, WarmUpConfiguration}) | with_entries(select(.value != null)))' \
    <<<"$1 $2"
}

# Says which actions of the alarm others have added.
tell_of_actions() {
  local theirs
  theirs=$(jq -r --arg topic "$TOPIC_ARN" "$JQ_TEXT"'[.AlarmActions, .OKActions, .InsufficientDataActions | .[]?]
    | unique - [$topic] | join(", ") | visible' <<<"$1")
  [[ -z $theirs ]] || note "left to you, because somebody added it: $theirs"
}

# Says so if ALARM_AGE_SECONDS is less than a message waits while all is well.
tell_of_age() {
  local lowest
  lowest=$(fact rates | jq 'select(.age < .lowest).lowest')
  [[ -n $lowest ]] || return 0
  note "ALARM_AGE_SECONDS=$ALARM_AGE_SECONDS is less than a message may wait with LAMBDA_POLL_RATE=$LAMBDA_POLL_RATE while" \
    "all is well, so this alarm fires without a reason: set at least $lowest, or ${SHIPPED[ALARM_AGE_SECONDS]}, which" \
    "stands for that then"
}

# ensure_alarm NAME: CloudWatch may answer Metrics in any order. What is not wanted any more is removed, if deploy.sh made
# it; the filters of the one on audits go first, because it shows that there is something to remove.
ensure_alarm() {
  local both want have ours why tags after
  both=$(fact both_alarms | jq -c --arg name "$1" 'map(select(.AlarmName == $name))[0]
    | if .Metrics? then .Metrics |= sort_by(.Id) else . end')
  want=${both%$'\n'*} have=${both#*$'\n'}
  [[ $want$have != nullnull ]] || return 0
  begin alarm "$1"
  [[ $1 != "$AGE_ALARM" ]] || tell_of_age
  if [[ $want == null ]]; then
    ours=$(our_alarms <<<"[$have]")
    if [[ -n $ours ]]; then
      case "$1" in
        "$EVENTS_ALARM") why="removed, because EVENT_SOURCE is sqs" ;;
        "$LATE_ALARM") why="removed, because METRICS is false" ;;
        "$AUDIT_ALARM")
          why="removed with its filters, because AUDIT_DAYS is empty"
          write remove_metric_filter "$1"
          ;;
      esac
      remove "$why" remove_alarm "$1"
    fi
    finish "left to you, because it has no tag app=$APP_NAME"
    return
  fi
  if [[ $have == null ]]; then
    tags=$(fact tags upper)
    create aws_or_die cloudwatch put-metric-alarm --cli-input-json "$want" --tags "$tags"
  else
    want=$(with_theirs "$want" "$have")
    after=$(absent "$want" "$have" "${NOT_OF_ALARM[@]}")
    change_members "$after" "$have" aws_or_die cloudwatch put-metric-alarm --cli-input-json "$want"
    tell_of_actions "$want"
  fi
  finish
}

# The alarm on audits comes before its filters, because it shows that there is something to remove.
ensure_alarms() {
  each ensure_alarm "$DLQ_ALARM" "$AGE_ALARM" "$STARTER_ALARM" "$SILENT_ALARM"
  each ensure_metric_filter "$OUTAGE_ALARM $WORKER_LOG_GROUP"
  each ensure_alarm "$OUTAGE_ALARM" "$EVENTS_ALARM" "$AUDIT_ALARM"
  [[ -z $AUDIT_DAYS ]] \
    || each ensure_metric_filter "$AUDIT_ALARM $WORKER_LOG_GROUP" "$AUDIT_ALARM $STARTER_LOG_GROUP"
  each ensure_alarm "$LATE_ALARM"
}

# Reads alarms, prints the names of those that deploy.sh made.
our_alarms() {
  local arns arn
  arns=$(jq -r '.[].AlarmArn')
  for arn in $arns; do
    ours_by "${arn##*:}" Tags cloudwatch list-tags-for-resource --resource-arn "$arn"
  done
}

list_alarm() { ask_alarms | our_alarms; }

remove_alarm() { aws_or_nothing cloudwatch delete-alarms --alarm-names "$1"; }

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

ask_subscriptions() { aws_or_nothing sns list-subscriptions-by-topic --topic-arn "$TOPIC_ARN"; }

# Prints the topic's ARN if it is there and deploy.sh made it.
ask_own_topic() {
  aws_or_nothing sns list-tags-for-resource --resource-arn "$TOPIC_ARN" \
    | jq -r --arg app "$APP_NAME" --arg arn "$TOPIC_ARN" 'select(any(.Tags[]?; .Key == "app" and .Value == $app)) | $arn'
}

# Subscriptions of other kinds are someone's own. One that waits for its confirmation has no ARN, and AWS drops it.
ensure_topic() {
  local topic subscriptions mails others tags
  begin topic "$TOPIC_NAME"
  if [[ -z $ALARM_EMAIL ]]; then
    topic=$(fact own_topic)
    [[ -z $topic ]] || remove "removed, because ALARM_EMAIL is empty" aws_or_die sns delete-topic --topic-arn "$topic"
    finish "none, because ALARM_EMAIL is empty"
    return
  fi
  subscriptions=$(fact subscriptions)
  tags=$(fact tags upper)
  [[ -n $subscriptions ]] || create aws_or_die sns create-topic --name "$TOPIC_NAME" --tags "$tags"
  mails=$(jq -c '[.Subscriptions[]? | select(.Protocol == "email" and .SubscriptionArn != "Deleted")]' \
    <<<"${subscriptions:-null}")
  jq -e --arg email "$ALARM_EMAIL" 'any(.[]; .Endpoint == $email)' <<<"$mails" >/dev/null \
    || change "subscription of $ALARM_EMAIL" subscribe_email
  others=$(jq -r --arg email "$ALARM_EMAIL" '[.[] | select(.Endpoint != $email).SubscriptionArn
    | select(startswith("arn:"))] | join(" ")' <<<"$mails")
  read -ra others <<<"$others"
  ((${#others[@]} == 0)) || change "other addresses" unsubscribe "${others[@]}"
  finish
}

list_topic() {
  local tags
  tags=$(aws_or_nothing sns list-tags-for-resource --resource-arn "$TOPIC_ARN" | jq .Tags)
  [[ -z $tags ]] || ours "$TOPIC_NAME" <<<"$tags"
}

# Its subscriptions go with it.
remove_topic() { aws_or_nothing sns delete-topic --topic-arn "$TOPIC_ARN"; }
