# shellcheck shell=bash
# The rule that runs the starter every LAMBDA_POLL_RATE minutes, its target and permission; what all rules share.

rate_expression() {
  if ((LAMBDA_POLL_RATE == 1)); then
    printf 'rate(1 minute)\n'
  else
    printf 'rate(%d minutes)\n' "$LAMBDA_POLL_RATE"
  fi
}

# statement_for RULE: reads the answer of get-policy.
statement_for() { jq -c --arg sid "$1" '.Policy | fromjson | .Statement[] | select(.Sid == $sid)'; }

# permission_statement RULE
permission_statement() {
  aws_or_nothing lambda get-policy --function-name "$STARTER_NAME" | statement_for "$1"
}

# ensure_permission RULE ARN
ensure_permission() {
  local statement
  statement=$(of_function permissions | statement_for "$1")
  [[ -z $statement ]] || return 0
  change permission aws_or_die lambda add-permission --function-name "$STARTER_NAME" --statement-id "$1" \
    --action lambda:InvokeFunction --principal events.amazonaws.com --source-arn "$2"
}

# drop_permission RULE
drop_permission() {
  aws_unless_gone lambda remove-permission --function-name "$STARTER_NAME" --statement-id "$1"
}

# list_targets RULE
list_targets() { aws_or_nothing events list-targets-by-rule --rule "$1"; }

# ask_targets RULE: prints nothing if there is no such rule.
ask_targets() {
  local rule
  rule=$(fact rule "$1")
  [[ -z $rule ]] || list_targets "$1"
}

# put_targets RULE TARGETS
put_targets() {
  local answer
  answer=$(aws_or_die events put-targets --rule "$1" --targets "$2")
  [[ $(jq .FailedEntryCount <<<"$answer") == 0 ]] || die "$RESOURCE: put-targets was refused: $answer"
}

ensure_target() {
  local have
  have=$(fact targets "$RULE_NAME" | jq '.Targets[]? | select(.Id == "starter").Arn')
  [[ $have == "\"$STARTER_ARN\"" ]] \
    || change_from "$have" "\"$STARTER_ARN\"" target put_targets "$RULE_NAME" "Id=starter,Arn=$STARTER_ARN"
}

# ask_rule NAME
ask_rule() { aws_or_nothing events describe-rule --name "$1"; }

# put-rule resets what it is not given, and takes tags only for a new rule.
ensure_rule() {
  local want have
  begin rule "$RULE_NAME"
  want=$(jq -n --arg name "$RULE_NAME" --arg rate "$(rate_expression)" '{
    Name: $name, ScheduleExpression: $rate, State: "ENABLED", Description: "Looks at the queue and starts workers"}')
  have=$(fact rule "$RULE_NAME")
  if [[ -z $have ]]; then
    create aws_or_die events put-rule --cli-input-json "$want" --tags "$(all_tags | as_upper)"
  else
    change_members "$want" "$have" aws_or_die events put-rule --cli-input-json "$want"
  fi
  ensure_permission "$RULE_NAME" "$RULE_ARN"
  ensure_target
  finish
}

list_rule() {
  local rule
  rule=$(aws_or_nothing events describe-rule --name "$RULE_NAME")
  [[ -n $rule ]] || return 0
  aws_or_nothing events list-tags-for-resource --resource-arn "$RULE_ARN" | jq .Tags | ours "$RULE_NAME"
}

# drop_targets RULE ID...
drop_targets() {
  aws_unless_gone events remove-targets --rule "$1" --ids "${@:2}" | must_be_zero .FailedEntryCount
}

# A rule with targets cannot be deleted.
remove_rule() {
  local targets ids
  targets=$(list_targets "$1" | jq -r '[.Targets[].Id] | join(" ")')
  read -ra ids <<<"$targets"
  ((${#ids[@]} == 0)) || drop_targets "$1" "${ids[@]}"
  aws_unless_gone events delete-rule --name "$1"
}
