# shellcheck shell=bash
# The rule of EVENT_SOURCE=eventbridge: which of the bucket's events go to the queue, and start the starter at once.

# Of how many beginnings of wildcards one key may be at the same time. EventBridge refuses more as too complex; it does
# not say how many that are, but its matcher is public (aws/event-ruler), and reports from the field agree.
readonly MOST_WILDCARD_BEGINNINGS=10

# Prints as a JSON list which patterns of EXCLUDE a rule may hold, as far as they go: for * alone, whose meaning is the
# same there. A key may be within a part as often as the part's first letter is in it.
excluded_by_rule() {
  items_of "$EXCLUDE" | jq -c --argjson most "$MOST_WILDCARD_BEGINNINGS" '
    def within: .[:1] as $first | if $first <= "~" then split($first) | length - 1 else [scan("[^ -~]")] | length end;
    def beginnings: split("*") | (if .[0] == "" then 0 else 1 end) + length - 1
      + ([.[1:][] | select(. != "") | within] | add // 0);
    reduce (.[] | select(test("[?\\[\\\\]|[*][*]") | not)) as $one ({list: [], sum: 0};
      ($one | beginnings) as $more | if .sum + $more > $most then . else {list: (.list + [$one]), sum: (.sum + $more)} end)
    | .list'
}

# In these events a key is as it is, and so is a prefix. A rule takes one of several prefixes, but not prefixes and
# exclusions of the same key: then the latter are left to the workers, which look at each key anyway.
event_pattern() {
  local prefixes excluded
  prefixes=$(synced_prefixes)
  excluded=$(excluded_by_rule)
  jq -nc --arg bucket "$SRC_BUCKET" --argjson prefixes "$prefixes" --argjson excluded "$excluded" '{
    source: ["aws.s3"],
    "detail-type": ["Object Created", "Object Deleted", "Object Restore Completed"],
    detail: ({bucket: {name: [$bucket]}}
      + if $prefixes != [""] then {object: {key: ($prefixes | map({prefix: .}))}}
        elif $excluded != [] then {object: {key: [{"anything-but": {wildcard: $excluded}}]}} else {} end)}'
}

# A start that does not get through at once is not needed: the rule that fires every minute starts the starter anyway.
# Without reserved concurrency, a burst of events would run many starters.
event_targets() {
  local starter="" too_few
  too_few=$(too_few_executions)
  [[ -n $too_few ]] || starter=$STARTER_ARN
  jq -nc --arg queue "$QUEUE_ARN" --arg starter "$starter" '[{Id: "queue", Arn: $queue}]
    + if $starter == "" then [] else
      [{Id: "starter", Arn: $starter, RetryPolicy: {MaximumEventAgeInSeconds: 60}}] end'
}

# Prints the bucket whose events it takes.
event_rule_source() {
  fact rule "$EVENT_RULE_NAME" | jq -r '.EventPattern // "{}" | fromjson | .detail.bucket.name[0]? // empty'
}

# missing_targets WANT HAVE: AWS may print more of a target than it was given. What replaces the event is none of ours.
missing_targets() {
  jq -nc --argjson want "$1" --argjson have "$2" '
    def compared: [.Id, .Arn, .RetryPolicy.MaximumEventAgeInSeconds, .Input, .InputPath, .InputTransformer];
    [$want[] | select(compared as $one | any($have[]; compared == $one) | not)]'
}

ensure_event_targets() {
  local have missing statement too_few
  have=$(fact targets "$EVENT_RULE_NAME" | jq -c '.Targets // []')
  missing=$(missing_targets "$(event_targets)" "${have:-[]}")
  [[ $missing == '[]' ]] \
    || change_from '[]' "$missing" "target $(jq -r 'map(.Id) | join(" and ")' <<<"$missing")" \
      put_targets "$EVENT_RULE_NAME" "$missing"
  too_few=$(too_few_executions)
  if [[ -n $too_few ]]; then
    note "events do not start $STARTER_NAME, only its rule does: without reserved concurrency, many runs would start" \
      "at once"
    [[ $(jq 'any(.[]; .Id == "starter")' <<<"${have:-[]}") == false ]] \
      || change "no target starter" drop_targets "$EVENT_RULE_NAME" starter
    statement=$(of_function permissions | statement_for "$EVENT_RULE_NAME")
    [[ -z $statement ]] || change "no permission" drop_permission "$EVENT_RULE_NAME"
  fi
}

# Tags are taken only for a new rule.
create_event_rule() {
  local switch=() turned_on
  turned_on=$(switch_turned_on_by)
  [[ -z $turned_on ]] || switch=("$SWITCH_TAG" "$SRC_BUCKET")
  aws_or_die events put-rule --cli-input-json "$1" --tags "$(all_tags ${switch[@]+"${switch[@]}"} | as_upper)"
}

# parsed_rule RULE: its pattern is JSON in a string, which AWS may print in its own way.
parsed_rule() { jq -c '.EventPattern |= (. // "null" | fromjson)' <<<"$1"; }

ensure_event_rule() {
  local want have too_few
  [[ $EVENT_SOURCE == eventbridge ]] || return 0
  begin "event rule" "$EVENT_RULE_NAME"
  have=$(fact rule "$EVENT_RULE_NAME")
  want=$(jq -n --arg name "$EVENT_RULE_NAME" --arg pattern "$(event_pattern)" --arg state "$(enabled_state <<<"$have")" '{
    Name: $name, EventPattern: $pattern, State: $state,
    Description: "Sends the events of the source bucket to the queue, and starts the starter"}')
  if [[ -z $have ]]; then
    create create_event_rule "$want"
  else
    change_members "$(parsed_rule "$want")" "$(parsed_rule "$have")" \
      aws_or_die events put-rule --cli-input-json "$want"
  fi
  too_few=$(too_few_executions)
  [[ -n $too_few ]] || ensure_permission "$EVENT_RULE_NAME" "$EVENT_RULE_ARN"
  ensure_event_targets
  finish
}

# Prints the tags of the rule, or nothing if there is none.
ask_event_rule_tags() {
  local rule
  rule=$(fact rule "$EVENT_RULE_NAME")
  [[ -z $rule ]] || aws_or_nothing events list-tags-for-resource --resource-arn "$EVENT_RULE_ARN" | jq .Tags
}

list_event_rule() {
  local tags
  tags=$(fact event_rule_tags)
  [[ -z $tags ]] || ours "$EVENT_RULE_NAME" <<<"$tags"
}

remove_event_rule() { remove_rule "$1"; }
