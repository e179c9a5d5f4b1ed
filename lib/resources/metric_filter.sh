# shellcheck shell=bash
# The metric filter that counts outages in the log of the workers. It goes with its log group, and has no tags.

# A custom metric costs for each hour in which it has data, so this one has none while all is well.
outage_filter() {
  jq -n --arg name "$OUTAGE_ALARM" --arg group "$WORKER_LOG_GROUP" --arg pattern "$OUTAGE_FILTER" \
    --arg namespace "$APP_NAME" --arg metric "$OUTAGE_METRIC" '{
      filterName: $name, logGroupName: $group, filterPattern: $pattern,
      metricTransformations: [{metricNamespace: $namespace, metricName: $metric, metricValue: "1"}]}'
}

find_outage_filter() {
  aws_or_nothing logs describe-metric-filters --log-group-name "$WORKER_LOG_GROUP" \
    --filter-name-prefix "$OUTAGE_ALARM" \
    | jq -c --arg name "$OUTAGE_ALARM" '.metricFilters[] | select(.filterName == $name)'
}

ensure_outage_filter() {
  local want have different
  begin "metric filter" "$OUTAGE_ALARM"
  want=$(outage_filter)
  have=$(find_outage_filter)
  different=$(differing "$want" "$have")
  if [[ -z $have ]]; then
    create aws_or_die logs put-metric-filter --cli-input-json "$want"
  elif [[ -n $different ]]; then
    change "$different" aws_or_die logs put-metric-filter --cli-input-json "$want"
  fi
  finish
}

list_metric_filter() { find_outage_filter | jq -r .filterName; }

remove_metric_filter() {
  aws_unless_gone logs delete-metric-filter --log-group-name "$WORKER_LOG_GROUP" --filter-name "$1"
}
