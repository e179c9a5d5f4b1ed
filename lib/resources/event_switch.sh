# shellcheck shell=bash
# The source bucket's EventBridge switch, which all users of the bucket share: whether S3 sends its events to the
# default event bus of the account.

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

# Prints the rule of another deployment that turned the switch on: the last one that goes turns it off.
switch_turned_on_by() {
  local arns arn tags
  arns=$(asking_rules)
  while read -r arn; do
    [[ $arn == *-event-rule ]] || continue
    tags=$(aws_or_nothing events list-tags-for-resource --resource-arn "$arn" | jq -c .Tags)
    if has_switch_tag "$tags"; then printf '%s\n' "$arn"; fi
  done <<<"$arns"
}

# The tag is first, so that a run that is interrupted in between is completed by the next. S3 need not look again at the
# queues and functions of others, of which some may be gone.
turn_on_switch() {
  local tags
  tags=$(fact event_rule_tags)
  has_switch_tag "$tags" \
    || aws_or_die events tag-resource --resource-arn "$EVENT_RULE_ARN" --tags "Key=$SWITCH_TAG,Value=$SRC_BUCKET"
  put_notifications "$(jq '.EventBridgeConfiguration = {}' <<<"$1")" --skip-destination-validation
}

# The call replaces the bucket's whole configuration, so the switch is put among what is there.
ensure_event_switch() {
  local have
  [[ $EVENT_SOURCE == eventbridge ]] || return 0
  begin "event switch" "$SRC_BUCKET"
  have=$(latest_notifications)
  has_switch "$have" || create turn_on_switch "$have"
  finish
}

switch_stays() { say "      stays: the EventBridge switch of $SRC_BUCKET, because $*"; }

# Prints the bucket if deploy.sh turned its switch on and nobody else needs it.
list_event_switch() {
  local tags have rules
  tags=$(fact event_rule_tags)
  [[ -n $tags ]] || admits "${EVENT_SENDERS[eventbridge]}" || return 0
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
  local have
  have=$(find_notifications)
  put_notifications "$(jq 'del(.EventBridgeConfiguration)' <<<"$have")" --skip-destination-validation
}
