# shellcheck shell=bash
# The path of a change from the source bucket to the starter: reads it from AWS for the checks of launch/path.py, which
# ./sync.sh status, ./sync.sh verify and the starter share.

# Each is a file of that name in the folder of the run once read_path has asked.
readonly PATH_PARTS=(bucket queue dead_letters event_rule rule starter permissions)

# What deploy.sh creates on the path of events, in the form that launch/path.py compares with what exists, and of which
# "launch/path.py want" makes the variables by which the starter knows it, in short; and the address of the alarms.
path_of_settings() {
  {
    fact our_notifications
    event_pattern
    queue_policy "${EVENT_SENDERS[*]}"
  } | jq -s --arg visibility "$VISIBILITY_TIMEOUT" --arg receives "$MAX_RECEIVES" --arg mail "$ALARM_EMAIL" '{
    notifications: .[0], pattern: .[1], policy: .[2], $mail,
    queue: {VisibilityTimeout: $visibility, maxReceiveCount: $receives}}'
}

# ask_rule_and_targets RULE: prints it with its .Targets, or nothing if there is none.
ask_rule_and_targets() {
  local rule targets
  rule=$(ask_rule "$1")
  [[ -n $rule ]] || return 0
  targets=$(list_targets "$1")
  printf '%s\n' "$rule" "${targets:-"{}"}" | jq -s add
}

# ask_or_say_why COMMAND...: prints what AWS answers, or an object with its .error: the owner of a bucket in another
# account may not let us read it, and the caller may not have the permission.
ask_or_say_why() {
  local answer
  if answer=$(aws_or_error "$@"); then
    printf '%s\n' "$answer"
  elif [[ $answer != *ResourceNotFoundException* ]]; then
    jq -n --arg error "$answer" '{$error}'
  fi
}

# read_part NAME: what AWS says of it, or nothing if there is none.
read_part() {
  case "$1" in
    bucket)
      ask_or_say_why s3api get-bucket-notification-configuration --bucket "$SRC_BUCKET" \
        --expected-bucket-owner "$SRC_BUCKET_OWNER" | jq -n '[inputs][0] // {}'
      ;;
    queue) ask_queue_attributes "$QUEUE_NAME" ;;
    dead_letters) ask_queue_attributes "$DLQ_NAME" ;;
    event_rule) ask_rule_and_targets "$EVENT_RULE_NAME" ;;
    rule) ask_rule_and_targets "$RULE_NAME" ;;
    starter) fact starter ;;
    permissions) ask_or_say_why lambda get-policy --function-name "$STARTER_NAME" ;;
  esac >"$TEMP_DIR/path.$1"
}

# read_path: asks for all parts at once.
read_path() { all_at_once read_part "${PATH_PARTS[@]}"; }

# Prints what read_path has read, as one object, with all .faults: compared with what deploy.sh makes of the settings that
# are deployed. The starter of 1.1.0 does not know all of them; the settings of the queue are taken from GUARD.
find_faults() {
  local PREFIX_FILTER EXCLUDE want names url guard processes
  PREFIX_FILTER=$(starter_setting PREFIX_FILTER)
  EXCLUDE=$(starter_setting EXCLUDE)
  wanted >/dev/null # from now on it is known
  want=$(path_of_settings)
  url=$(queue_url "$QUEUE_NAME")
  guard=$(starter_setting GUARD)
  processes=$(starter_setting PROCESSES)
  names=$(jq -n --arg via "$VIA" --arg bucket "$SRC_BUCKET" --arg queue "$QUEUE_NAME" --arg dlq "$DLQ_NAME" \
    --arg url "$url" --arg event_rule "$EVENT_RULE_NAME" --arg rule "$RULE_NAME" \
    --arg starter "$STARTER_NAME" --arg queue_arn "$QUEUE_ARN" --arg starter_arn "$STARTER_ARN" \
    --arg id "$NOTIFICATION_ID" --arg guard "$guard" --arg dlq_arn "$DLQ_ARN" \
    --arg rule_arn "$RULE_ARN" --arg event_rule_arn "$EVENT_RULE_ARN" '{$via, $id, $guard,
      name: {$bucket, $queue, queue_url: $url, dead_letters: $dlq, $event_rule, $rule, $starter},
      arn: {queue: $queue_arn, dead_letters: $dlq_arn, rule: $rule_arn, event_rule: $event_rule_arn,
        starter: $starter_arn}}')
  as_members "${PATH_PARTS[@]/#/$TEMP_DIR/path.}" \
    | jq -s --argjson want "$want" --argjson names "$names" --arg known "$processes$PREFIX_FILTER" '
      add + $names + {want: ($want + {is_known: ($known != "")})}' \
    | PYTHONPATH=$PROJECT_DIR python3 -B "$PROJECT_DIR/launch/path.py" faults
}
