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

# lets_run ARN: reads the answer of get-policy; whether a statement, of any name, lets the rule with this ARN run the
# function (as in launch/path.py).
lets_run() {
  jq -e --arg arn "$1" '(.Policy // "{}" | fromjson).Statement // [] | any(.[]; .Effect == "Allow"
    and .Action == "lambda:InvokeFunction" and .Principal == {Service: "events.amazonaws.com"}
    and ([.Condition // {} | .[] | to_entries[] | select(.key | ascii_downcase == "aws:sourcearn").value] - [$arn] == []))' \
    >/dev/null
}

# ensure_permission RULE ARN
ensure_permission() {
  local permissions other
  permissions=$(of_function permissions)
  ! lets_run "$2" <<<"${permissions:-"{}"}" || return 0
  other=$(statement_for "$1" <<<"$permissions")
  change permission permit "$1" "$2" "$other"
}

# permit RULE ARN OTHER: OTHER is a statement with the name of ours that does not let the rule run the function.
permit() {
  [[ -z $3 ]] || drop_permission "$1"
  aws_or_die lambda add-permission --function-name "$STARTER_NAME" --statement-id "$1" \
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

# enabled_state RULE: reads what exists of it, or nothing; prints the state that it is to have. There are two states of a
# rule that is enabled (EventBridge API reference, PutRule).
enabled_state() { jq -nr '[inputs][0].State // "" | if startswith("ENABLED") then . else "ENABLED" end'; }

# ask_rule NAME
ask_rule() { aws_or_nothing events describe-rule --name "$1"; }

# What the rule says, and what it says instead from before the function is deleted until it has been made again: the
# pause is in the function's variables, and a run may be interrupted in between.
readonly RULE_SAYS="Looks at the queue and starts workers" RULE_SAYS_PAUSED="The sync has been paused since "

# kept_pause: prints the pause that the rule says, or nothing.
kept_pause() {
  fact rule "$RULE_NAME" \
    | jq -r --arg says "$RULE_SAYS_PAUSED" '.Description // "" | select(startswith($says)) | ltrimstr($says)'
}

# keep_pause TIME: also that there is none, if the rule says one that has ended.
keep_pause() {
  local kept want
  kept=$(kept_pause)
  want=$(wanted_rule "${1:+$RULE_SAYS_PAUSED$1}")
  [[ $kept == "$1" ]] || write put_rule "$want"
}

# wanted_rule [DESCRIPTION]
wanted_rule() {
  local state
  state=$(fact rule "$RULE_NAME" | enabled_state)
  jq -n --arg name "$RULE_NAME" --arg rate "$(rate_expression)" --arg state "$state" --arg says "${1:-$RULE_SAYS}" \
    '{Name: $name, ScheduleExpression: $rate, State: $state, Description: $says}'
}

# put_rule RULE: put-rule resets what it is not given, and takes tags only for a new rule.
put_rule() {
  aws_or_die events put-rule --cli-input-json "$1" --tags "$(all_tags | as_upper)"
  keep rule "$RULE_NAME" <<<"$1"
}

ensure_rule() {
  local want have
  begin rule "$RULE_NAME"
  have=$(fact rule "$RULE_NAME")
  want=$(wanted_rule)
  if [[ -z $have ]]; then create put_rule "$want"; else change_members "$want" "$have" put_rule "$want"; fi
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
