# shellcheck shell=bash
# The topic that the alarms write to, and its subscription of ALARM_EMAIL.

subscribe_email() {
  aws_or_die sns subscribe --topic-arn "$TOPIC_ARN" --protocol email --notification-endpoint "$ALARM_EMAIL"
  say "      $ALARM_EMAIL gets a mail from AWS now, and alarms once it has confirmed that"
}

unsubscribe() {
  local arn
  for arn in "$@"; do aws_or_die sns unsubscribe --subscription-arn "$arn"; done
}

# ensure_subscription SUBSCRIPTIONS: those of other kinds are someone's own. One that waits for its confirmation has no
# ARN, and AWS drops it.
ensure_subscription() {
  local mails others
  mails=$(jq -c '[.Subscriptions[]? | select(.Protocol == "email" and .SubscriptionArn != "Deleted")]' <<<"$1")
  jq -e --arg email "$ALARM_EMAIL" 'any(.[]; .Endpoint == $email)' <<<"$mails" >/dev/null \
    || change "subscription of $ALARM_EMAIL" subscribe_email
  others=$(jq -r --arg email "$ALARM_EMAIL" '[.[] | select(.Endpoint != $email).SubscriptionArn
    | select(startswith("arn:"))] | join(" ")' <<<"$mails")
  read -ra others <<<"$others"
  ((${#others[@]} == 0)) || change "other addresses" unsubscribe "${others[@]}"
}

ask_subscriptions() { aws_or_nothing sns list-subscriptions-by-topic --topic-arn "$TOPIC_ARN"; }

ensure_topic() {
  local subscriptions
  [[ -n $ALARM_EMAIL ]] || return 0
  begin topic "$TOPIC_NAME"
  subscriptions=$(fact subscriptions)
  [[ -n $subscriptions ]] || create aws_or_die sns create-topic --name "$TOPIC_NAME" --tags "$(all_tags | as_upper)"
  ensure_subscription "${subscriptions:-null}"
  finish
}

# Prints the topic's ARN if it is there and deploy.sh made it.
ask_own_topic() {
  aws_or_nothing sns list-tags-for-resource --resource-arn "$TOPIC_ARN" \
    | jq -r --arg app "$APP_NAME" --arg arn "$TOPIC_ARN" 'select(any(.Tags[]; .Key == "app" and .Value == $app)) | $arn'
}

ensure_no_topic() {
  local topic
  [[ -z $ALARM_EMAIL ]] || return 0
  begin topic "$TOPIC_NAME"
  topic=$(fact own_topic)
  [[ -z $topic ]] || remove "removed, because ALARM_EMAIL is empty" aws_or_die sns delete-topic --topic-arn "$topic"
  finish "none, because ALARM_EMAIL is empty"
}

list_topic() {
  local tags
  tags=$(aws_or_nothing sns list-tags-for-resource --resource-arn "$TOPIC_ARN" | jq .Tags)
  [[ -z $tags ]] || ours "$TOPIC_NAME" <<<"$tags"
}

# Its subscriptions go with it.
remove_topic() { aws_unless_gone sns delete-topic --topic-arn "$TOPIC_ARN"; }
