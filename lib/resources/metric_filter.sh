# shellcheck shell=bash
# The metric filters that count outages in the log of the workers, and, with AUDIT_DAYS, audits that found something or
# went wrong, in their log and the starter's. A filter goes with its log group, and has no tags.

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
