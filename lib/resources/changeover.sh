# shellcheck shell=bash
# A change of EVENT_SOURCE: the new way is created first, and the old one removed in the last step of the run. In
# between, both are on, so that no event is lost; an event that arrives twice does no harm.

# How long it takes until a change of a bucket's notifications takes effect (S3 User Guide, "Enabling and configuring
# event notifications" and "Enabling Amazon EventBridge": about five minutes).
readonly CHANGEOVER_OF_S3=300 CHANGEOVER_OF_LOCAL_CLOUD=3
: "${CHANGEOVER_SECONDS:=}" # another number than these

await_changeover() {
  local part left=${CHANGEOVER_SECONDS:-$CHANGEOVER_OF_S3}
  [[ -z ${LOCAL_ENGINE:-} ]] || left=${CHANGEOVER_SECONDS:-$CHANGEOVER_OF_LOCAL_CLOUD}
  say "      both event sources are on: the old one is removed when the new one has taken effect, in $left s"
  for (( ; left > 0; left -= part)); do
    part=$((left < 30 ? left : 30))
    sleep "$part"
    ((left == part)) || say_for_now "      waiting: $((left - part)) s"
  done
  end_progress >&2
}

# replace_old_way COMMAND...: the command removes it.
replace_old_way() {
  await_changeover
  "$@"
}

# The statement in the queue's policy shows whether the old way exists: it is added before it and removed after it.
ensure_no_notification() {
  local ours
  [[ $EVENT_SOURCE == eventbridge ]] || return 0
  admits "${EVENT_SENDERS[sqs]}" || had_notifications || return 0
  begin notification "$SRC_BUCKET $NOTIFICATION_ID"
  ours=$(our_notifications "$(latest_notifications)")
  [[ $ours == "[]" ]] || write replace_old_way remove_notification
  if admits "${EVENT_SENDERS[sqs]}"; then write admit_one_sender; fi
  finish_removed "because EVENT_SOURCE=$EVENT_SOURCE"
}

# The rule goes last: without it the next run would not look for the rest.
drop_rule_and_switch() {
  local bucket permission
  bucket=$(list_event_switch)
  [[ -z $bucket ]] || remove_event_switch
  permission=$(permission_statement "$EVENT_RULE_NAME")
  [[ -z $permission ]] || drop_permission "$EVENT_RULE_NAME"
  remove_event_rule "$EVENT_RULE_NAME"
}

# A rule that is not known as ours stays, and so does the statement, by which the next run finds it.
ensure_no_event_rule() {
  local ours tags
  [[ $EVENT_SOURCE == sqs ]] && admits "${EVENT_SENDERS[eventbridge]}" || return 0
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
