# shellcheck shell=bash
# The log groups of the starter and of the workers.

# ask_log_groups NAME: those that begin so.
ask_log_groups() { aws_or_nothing logs describe-log-groups --log-group-name-prefix "$1"; }

# ensure_log_group NAME: under a retention policy of the account, a period of its own has no effect (CloudWatch Logs API
# reference, LogGroup).
ensure_log_group() {
  local group days policy tags
  begin "log group" "$1"
  group=$(fact log_groups "$1" | jq -r --arg name "$1" "$JQ_TEXT"'.logGroups[]? | select(.logGroupName == $name)
    | "\(.retentionInDays) \(.retentionPolicyName // "" | visible)"')
  read -r days policy <<<"$group"
  tags=$(fact tags map)
  [[ -n $group ]] || create aws_or_die logs create-log-group --log-group-name "$1" --tags "$tags"
  if [[ -n $policy ]]; then
    note "LOG_RETENTION_DAYS=$LOG_RETENTION_DAYS has no effect: the account's retention policy $policy decides"
  elif [[ $days != "$LOG_RETENTION_DAYS" ]]; then
    change_from "$days" "$LOG_RETENTION_DAYS" retention \
      aws_or_die logs put-retention-policy --log-group-name "$1" --retention-in-days "$LOG_RETENTION_DAYS"
  fi
  finish
}

list_log_group() {
  local name groups
  for name in "$STARTER_LOG_GROUP" "$WORKER_LOG_GROUP"; do
    groups=$(aws_or_die logs describe-log-groups --log-group-name-prefix "$name")
    jq -e --arg name "$name" 'any(.logGroups[]?; .logGroupName == $name)' <<<"$groups" >/dev/null || continue
    ours_by "$name" tags logs list-tags-log-group --log-group-name "$name"
  done
}

remove_log_group() { aws_or_nothing logs delete-log-group --log-group-name "$1"; }
