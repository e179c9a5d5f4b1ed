# shellcheck shell=bash
# EventBridge: the rule that runs the starter, the rule of EVENT_SOURCE=eventbridge with the switch of the source bucket,
# and the change from one source of events to the other.

# --- what runs the starter ------------------------------------------------------------------------------------------
#
# A rule that fires every LAMBDA_POLL_RATE minutes, its target and its permission; and what all rules share.

# statement_for RULE: reads the answer of get-policy.
statement_for() { jq -c --arg sid "$1" '.Policy // "{}" | fromjson | .Statement[]? | select(.Sid == $sid)'; }

# ensure_permission RULE ARN: a statement of any name may let the rule run the function. One with the name of ours that
# does not is replaced.
ensure_permission() {
  local permissions other may_run=false
  permissions=$(of_function get-policy)
  [[ -z $permissions ]] || may_run=$(jq -c --arg rule "$2" '{$rule, permissions: .}' <<<"$permissions" \
    | run_python launch/policies.py)
  [[ $may_run == false ]] || return 0
  other=$(statement_for "$1" <<<"$permissions")
  [[ -z $other ]] || write drop_permission "$1"
  change permission aws_or_die lambda add-permission --function-name "$STARTER_NAME" --statement-id "$1" \
    --action lambda:InvokeFunction --principal events.amazonaws.com --source-arn "$2"
}

# drop_permission RULE
drop_permission() {
  aws_or_nothing lambda remove-permission --function-name "$STARTER_NAME" --statement-id "$1"
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

# ensure_targets RULE WANTED: a list of the targets that the rule is to have. What sends to our queues or runs our starter
# is ours, whatever its id, and so is what has an id of ours: one of each is enough, and the others go. AWS may print more
# of a target than it was given. What replaces the event is none of ours, and neither is another time for retries, unless
# WANTED has none. Targets of others stay. No id has a space (EventBridge API reference, Target).
ensure_targets() {
  local have compared missing ids spare theirs
  have=$(fact targets "$1")
  compared=$(printf '%s\n' "$2" "${have:-null}" | jq -rs --arg queue "$QUEUE_ARN" --arg dlq "$DLQ_ARN" \
    --arg starter "$STARTER_ARN" "$JQ_TEXT"'.[0] as $wanted | (.[1].Targets // []) as $have
    | def fits($one): .Arn == $one.Arn and ([.Input, .InputPath, .InputTransformer] | all(. == null))
        and (($one | has("RetryPolicy") | not)
          or .RetryPolicy.MaximumEventAgeInSeconds == $one.RetryPolicy.MaximumEventAgeInSeconds);
      [$wanted[] as $one | {$one, there: ([$have[] | select(fits($one)).Id] | sort_by(. != $one.Id)[0])}] as $pairs
    | [$pairs[] | select(.there == null).one | with_entries(select(.value != null))] as $missing
    | ([$pairs[].there] + [$missing[].Id]) as $ids
    | def is_ours: (.Id | IN("queue", "starter")) or (.Arn | IN($queue, $dlq, $starter));
      [$have[] | select(.Id | IN($ids[]) | not)] as $others
    | ($missing | map(.Id) | join(" and ")), ([$others[] | select(is_ours).Id] | join(" ")),
      ([$others[] | select(is_ours | not) | "\(.Id) (\(.Arn))"] | join(", ") | visible), ($missing | tojson)')
  {
    read -r ids
    read -ra spare
    read -r theirs
    read -r missing
  } <<<"$compared"
  [[ $missing == '[]' ]] || change_from '[]' "$missing" "target $ids" put_targets "$1" "$missing"
  ((${#spare[@]} == 0)) || change "no target $(join ' and ' "${spare[@]}")" drop_targets "$1" "${spare[@]}"
  [[ -z $theirs ]] || note "left to you, because somebody added it: target $theirs"
}

# enabled_state RULE: reads what exists of it, or nothing; prints the state that it is to have. There are two states of a
# rule that is enabled (EventBridge API reference, PutRule).
enabled_state() { jq -nr '[inputs][0].State // "" | if startswith("ENABLED") then . else "ENABLED" end'; }

# ask_rule NAME
ask_rule() { aws_or_nothing events describe-rule --name "$1"; }

# What the rule says while it is paused, and otherwise. The pause is in the function's variables, and somebody may delete
# the function; so the rule says it from before the pause until after it.
readonly RULE_SAYS="Looks at the queue and starts workers" RULE_SAYS_PAUSED="The sync has been paused since "

# words_of_rule TIME: prints the description of the rule during a pause since then, or without one. At most 512 characters
# (EventBridge API reference, PutRule), and somebody may have written any text as the time.
words_of_rule() {
  local says=$RULE_SAYS
  [[ -z $1 ]] || says=$RULE_SAYS_PAUSED${1:0:400}
  printf '%s\n' "$says"
}

# kept_pause: prints the pause that the rule says, or nothing.
kept_pause() {
  fact rule "$RULE_NAME" \
    | jq -r --arg says "$RULE_SAYS_PAUSED" '.Description // "" | select(startswith($says)) | ltrimstr($says)'
}

# pause_to_keep: prints when the sync was paused, or nothing: the function knows, and if it is gone, the rule.
pause_to_keep() {
  local function
  function=$(latest function)
  if [[ -n $function ]]; then
    jq -r '.Environment.Variables.PAUSED_SINCE // empty' <<<"$function"
  else
    kept_pause
  fi
}

# keep_pause TIME: before the function is deleted. Also that there is none, if the rule says one that has ended; and a
# pause that an older release began, which the rule does not say.
keep_pause() {
  local kept want
  kept=$(kept_pause)
  want=$(wanted_rule "$1")
  [[ $kept == "$1" ]] || write put_rule "$want"
}

# wanted_rule PAUSED-SINCE
wanted_rule() {
  local state says unit=minute
  ((LAMBDA_POLL_RATE == 1)) || unit=minutes
  state=$(fact rule "$RULE_NAME" | enabled_state)
  says=$(words_of_rule "$1")
  jq -n --arg name "$RULE_NAME" --arg rate "rate($LAMBDA_POLL_RATE $unit)" --arg state "$state" --arg says "$says" \
    '{Name: $name, ScheduleExpression: $rate, State: $state, Description: $says}'
}

# put_rule RULE: put-rule resets what it is not given, and takes tags only for a new rule.
put_rule() {
  local tags
  tags=$(fact tags upper)
  aws_or_die events put-rule --cli-input-json "$1" --tags "$tags"
  keep rule "$RULE_NAME" <<<"$1"
}

# Says what it means if the starter runs less often than ECS remembers tasks (launch/rates.py).
tell_of_rate() {
  local forgets
  forgets=$(fact rates | jq .forgets)
  [[ $forgets == false ]] || note "ECS forgets ended tasks after an hour, and $STARTER_NAME runs every $LAMBDA_POLL_RATE" \
    "minutes: it sees later that workers fail, and starts only one in a run until one has worked"
}

ensure_rule() {
  local want have target paused
  begin rule "$RULE_NAME"
  tell_of_rate
  have=$(fact rule "$RULE_NAME")
  paused=$(pause_to_keep)
  want=$(wanted_rule "$paused")
  if [[ -z $have ]]; then create put_rule "$want"; else change_members "$want" "$have" put_rule "$want"; fi
  ensure_permission "$RULE_NAME" "$RULE_ARN"
  printf -v target '[{"Id": "starter", "Arn": "%s"}]' "$STARTER_ARN"
  ensure_targets "$RULE_NAME" "$target"
  finish
}

# say_pause TIME ADVICE: gives the rule the words of a pause since then, or takes those of one away, and leaves the rest.
# A verb does so, which may be denied it. ADVICE: what an error of AWS means for the user.
say_pause() {
  local have want denied RESOURCE="rule $RULE_NAME" RESOURCE_ADVICE=$2
  have=$(aws_if_allowed events describe-rule --name "$RULE_NAME")
  if [[ -n $have ]]; then
    want=$(words_of_rule "$1")
    want=$(jq -c --arg says "$want" --arg since "$1" --arg paused "$RULE_SAYS_PAUSED" '
      select(.Description != $says and ($since != "" or (.Description // "" | startswith($paused))))
      | {Name, ScheduleExpression, EventPattern, State, RoleArn, Description: $says}
      | with_entries(select(.value != null))' <<<"$have")
    [[ -z $want ]] || aws_if_allowed events put-rule --cli-input-json "$want" >/dev/null
  fi
  was_denied || return 0
  denied=$(denial)
  say "the rule $RULE_NAME could not be changed, so only the function knows whether the sync is paused: $denied; grant" \
    "yourself events:DescribeRule and events:PutRule, and run this again"
}

list_rule() {
  local rule
  rule=$(ask_rule "$RULE_NAME")
  [[ -n $rule ]] || return 0
  ours_by "$RULE_NAME" Tags events list-tags-for-resource --resource-arn "$RULE_ARN"
}

# drop_targets RULE ID...
drop_targets() {
  aws_or_nothing events remove-targets --rule "$1" --ids "${@:2}" | must_be_zero .FailedEntryCount
}

# A rule with targets cannot be deleted.
remove_rule() {
  local targets ids
  targets=$(list_targets "$1" | jq -r '[.Targets[]?.Id] | join(" ")')
  read -ra ids <<<"$targets"
  ((${#ids[@]} == 0)) || drop_targets "$1" "${ids[@]}"
  aws_or_nothing events delete-rule --name "$1"
}

# --- events of the bucket -------------------------------------------------------------------------------------------
#
# The rule of EVENT_SOURCE=eventbridge: which of the bucket's events go to the queue, and start the starter at once.

event_pattern() { wanted | jq -c .event_pattern; }

# Prints the bucket whose events it takes.
event_rule_source() {
  fact rule "$EVENT_RULE_NAME" | jq -r '.EventPattern // "{}" | fromjson | .detail.bucket.name[0]? // empty'
}

# A start that does not get through at once is not needed: the rule that fires every minute starts the starter anyway.
# Without reserved concurrency, a burst of events would run many starters.
ensure_event_targets() {
  local wanted statement too_few starter=$STARTER_ARN
  too_few=$(too_few_executions)
  [[ -z $too_few ]] || starter=""
  wanted=$(jq -nc --arg queue "$QUEUE_ARN" --arg starter "$starter" '[{Id: "queue", Arn: $queue, RetryPolicy: null},
    ({Id: "starter", Arn: $starter, RetryPolicy: {MaximumEventAgeInSeconds: 60}} | select($starter != ""))]')
  ensure_targets "$EVENT_RULE_NAME" "$wanted"
  if [[ -n $too_few ]]; then
    note "events do not start $STARTER_NAME, only its rule does: without reserved concurrency, many runs would start" \
      "at once"
    statement=$(of_function get-policy | statement_for "$EVENT_RULE_NAME")
    [[ -z $statement ]] || change "no permission" drop_permission "$EVENT_RULE_NAME"
  fi
}

# Tags are taken only for a new rule. If the rule of another deployment says that it turned the switch on, so does this
# one: the last one that goes turns it off.
create_event_rule() {
  local arns arn tags switch=()
  arns=$(asking_rules)
  while read -r arn; do
    [[ $arn == *-event-rule ]] || continue
    tags=$(aws_or_nothing events list-tags-for-resource --resource-arn "$arn" | jq -c .Tags)
    if has_switch_tag "$tags"; then switch=("$SWITCH_TAG" "$SRC_BUCKET"); fi
  done <<<"$arns"
  tags=$(fact tags upper ${switch[@]+"${switch[@]}"})
  aws_or_die events put-rule --cli-input-json "$1" --tags "$tags"
}

# parsed_rule RULE: its pattern is JSON in a string, which AWS may print in its own way.
parsed_rule() { jq -c '.EventPattern |= (. // "null" | fromjson)' <<<"$1"; }

ensure_event_rule() {
  local want have before after too_few
  if [[ $EVENT_SOURCE == sqs ]]; then
    end_event_rule
    return
  fi
  begin "event rule" "$EVENT_RULE_NAME"
  have=$(fact rule "$EVENT_RULE_NAME")
  want=$(jq -n --arg name "$EVENT_RULE_NAME" --arg pattern "$(event_pattern)" --arg state "$(enabled_state <<<"$have")" '{
    Name: $name, EventPattern: $pattern, State: $state,
    Description: "Sends the events of the source bucket to the queue, and starts the starter"}')
  if [[ -z $have ]]; then
    create create_event_rule "$want"
  else
    before=$(parsed_rule "$have")
    after=$(parsed_rule "$want")
    after=$(exact "$after" "$before" EventPattern)
    change_members "$after" "$before" aws_or_die events put-rule --cli-input-json "$want"
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

# --- the bucket's switch --------------------------------------------------------------------------------------------
#
# All users of the source bucket share it: whether S3 sends its events to the default event bus of the account.

# The tag of our rule that says that deploy.sh turned the switch on: with the bucket as its value.
readonly SWITCH_TAG=turned-on-events-of

# has_switch CONFIGURATION
has_switch() { jq -e 'has("EventBridgeConfiguration")' <<<"$1" >/dev/null; }

# has_switch_tag TAGS
has_switch_tag() {
  jq -e --arg tag "$SWITCH_TAG" --arg bucket "$SRC_BUCKET" 'any(.[]?; .Key == $tag and .Value == $bucket)' \
    <<<"${1:-null}" >/dev/null
}

# Prints the ARN of each other rule that asks for events of the bucket, or may do so: only a list of plain names says
# that it does not.
asking_rules() {
  aws_or_die events list-rules | jq -r --arg bucket "$SRC_BUCKET" --arg ours "$EVENT_RULE_NAME" '
    def excludes($value): type == "array" and all(.[]; type == "string" and . != $value);
    .Rules[]? | select(.EventPattern and .Name != $ours) | select((try (.EventPattern | fromjson
      | (.source | excludes("aws.s3")) or (.detail.bucket.name | excludes($bucket))) catch false) | not).Arn'
}

# The tag is first, so that a run that is interrupted in between is completed by the next. S3 need not look again at the
# queues and functions of others, of which some may be gone.
turn_on_switch() {
  local tags
  tags=$(fact event_rule_tags)
  has_switch_tag "$tags" \
    || aws_or_die events tag-resource --resource-arn "$EVENT_RULE_ARN" --tags "Key=$SWITCH_TAG,Value=$SRC_BUCKET"
  change_notifications '.EventBridgeConfiguration = {}' null --skip-destination-validation
}

ensure_event_switch() {
  local have
  begin "event switch" "$SRC_BUCKET"
  have=$(first_notifications)
  has_switch "$have" || create turn_on_switch
  finish
}

switch_stays() { say "      stays: the EventBridge switch of $SRC_BUCKET, because $*"; }

# Prints the bucket if deploy.sh turned its switch on and nobody else needs it.
list_event_switch() {
  local tags have rules senders
  tags=$(fact event_rule_tags)
  senders=$(senders)
  [[ -n $tags ]] || admits "${EVENT_SENDERS[eventbridge]}" "$senders" || return 0
  have=$(find_notifications)
  has_switch "$have" || return 0
  if [[ -z $tags ]]; then
    switch_stays "$EVENT_RULE_NAME, whose tag said whether deploy.sh turned it on, is gone: if nobody else needs it," \
      "turn it off in the properties of the bucket (Amazon EventBridge: off), because each of its events costs money"
    return
  fi
  if ! has_switch_tag "$tags"; then
    switch_stays "deploy.sh did not turn it on"
    return
  fi
  rules=$(asking_rules)
  if [[ -n $rules ]]; then
    switch_stays "other rules may ask for its events: ${rules//$'\n'/, }"
    return
  fi
  printf '%s\n' "$SRC_BUCKET"
}

remove_event_switch() {
  change_notifications 'del(.EventBridgeConfiguration)' null --skip-destination-validation
}

# --- a change of EVENT_SOURCE ---------------------------------------------------------------------------------------
#
# The new way is created first, and the old one removed in the last step of the run. In between, both are on, so that no
# event is lost; an event that arrives twice does no harm.

# replace_old_way COMMAND...: the command removes it, when a change of the bucket's notifications has taken effect (S3
# User Guide, "Enabling and configuring event notifications" and "Enabling Amazon EventBridge": about five minutes), or
# after CHANGEOVER_SECONDS.
replace_old_way() {
  local part left=300
  [[ -z ${LOCAL_ENGINE:-} ]] || left=3
  left=${CHANGEOVER_SECONDS:-$left}
  say "      both event sources are on: the old one is removed when the new one has taken effect, in $left s"
  for (( ; left > 0; left -= part)); do
    part=$((left < 30 ? left : 30))
    sleep "$part"
    ((left == part)) || say_for_now "      waiting: $((left - part)) s"
  done
  end_progress >&2
  "$@"
}

# The statement in the queue's policy shows whether the old way exists: it is added before it and removed after it.
end_notification() {
  local have ours senders
  have=$(first_notifications)
  ours=$(our_notifications "$have")
  senders=$(senders)
  [[ $ours != "[]" ]] || admits "${EVENT_SENDERS[sqs]}" "$senders" || return 0
  begin notification "$SRC_BUCKET $NOTIFICATION_ID"
  [[ $ours == "[]" ]] || write replace_old_way remove_notification
  if admits "${EVENT_SENDERS[sqs]}" "$senders"; then write admit_one_sender; fi
  finish_removed "because EVENT_SOURCE=$EVENT_SOURCE"
}

# The rule goes last: without it the next run would not look for the rest.
drop_rule_and_switch() {
  local bucket permission
  bucket=$(list_event_switch)
  [[ -z $bucket ]] || remove_event_switch
  permission=$(aws_or_nothing lambda get-policy --function-name "$STARTER_NAME" | statement_for "$EVENT_RULE_NAME")
  [[ -z $permission ]] || drop_permission "$EVENT_RULE_NAME"
  remove_event_rule "$EVENT_RULE_NAME"
}

# A rule that is not known as ours stays, and so does the statement, by which the next run finds it.
end_event_rule() {
  local ours tags senders
  senders=$(senders)
  admits "${EVENT_SENDERS[eventbridge]}" "$senders" || return 0
  begin "event rule" "$EVENT_RULE_NAME"
  ours=$(list_event_rule)
  tags=$(fact event_rule_tags)
  if [[ -n $tags && -z $ours ]]; then
    note "the events still take both ways: if the rule is of this deployment, run aws events tag-resource" \
      "--resource-arn $EVENT_RULE_ARN --tags Key=app,Value=$APP_NAME and this again; otherwise remove the rule first"
    finish "left to you, because it has no tag app=$APP_NAME"
    return
  fi
  [[ -z $ours ]] || write replace_old_way drop_rule_and_switch
  write admit_one_sender
  finish_removed "because EVENT_SOURCE=$EVENT_SOURCE"
}
