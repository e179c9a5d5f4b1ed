# shellcheck shell=bash
# The log groups of the starter and of the workers.

# ask_log_groups NAME: those that begin so.
ask_log_groups() { aws_or_nothing logs describe-log-groups --log-group-name-prefix "$1"; }

# ensure_log_group NAME
ensure_log_group() {
  local days tags
  begin "log group" "$1"
  days=$(fact log_groups "$1" | jq --arg name "$1" '.logGroups[]? | select(.logGroupName == $name) | .retentionInDays')
  tags=$(fact tags map)
  [[ -n $days ]] || create aws_or_die logs create-log-group --log-group-name "$1" --tags "$tags"
  days=${days:-null}
  [[ $days == "$LOG_RETENTION_DAYS" ]] || change_from "$days" "$LOG_RETENTION_DAYS" retention \
    aws_or_die logs put-retention-policy --log-group-name "$1" --retention-in-days "$LOG_RETENTION_DAYS"
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
