# shellcheck shell=bash
# The queue that gets the events, and its dead-letter queue.

# The names of the statements for those that send the events, by EVENT_SOURCE.
declare -Ar EVENT_SENDERS=([sqs]=s3-events [eventbridge]=eventbridge)

# queue_policy SENDERS: prints the policy that the queue is to have, with a statement for each of them.
queue_policy() {
  jq -nc --arg queue "$QUEUE_ARN" --arg bucket "$SRC_BUCKET" --arg owner "$SRC_BUCKET_OWNER" \
    --arg rule "$EVENT_RULE_ARN" --arg senders "$1" '{
    Version: "2012-10-17",
    Statement: [{
      Sid: "s3-events", Effect: "Allow", Principal: {Service: "s3.amazonaws.com"},
      Action: "sqs:SendMessage", Resource: $queue,
      Condition: {
        ArnLike: {"aws:SourceArn": "arn:aws:s3:*:*:\($bucket)"},
        StringEquals: {"aws:SourceAccount": $owner}}}, {
      Sid: "eventbridge", Effect: "Allow", Principal: {Service: "events.amazonaws.com"},
      Action: "sqs:SendMessage", Resource: $queue,
      Condition: {ArnEquals: {"aws:SourceArn": $rule}}}
    | select([.Sid] | inside($senders | split(" ")))]}'
}

# Prints the policy that the queue had when this run began, or nothing. A single statement stands for a list of one.
ask_queue_policy() {
  fact queue_attributes "$QUEUE_NAME" | jq -c '.Attributes.Policy // "{}" | fromjson
    | if .Statement | type == "object" then .Statement |= [.] else . end'
}

# Prints the senders whose events the queue took when this run began, with a space before each.
senders() {
  local policy sender
  policy=$(fact queue_policy)
  for sender in "${EVENT_SENDERS[@]}"; do
    [[ $policy != *'"Sid":"'"$sender"'"'* ]] || printf ' %s' "$sender"
  done
}

# admits SENDER SENDERS: whether the queue takes its events. No name of a sender is part of another.
admits() { [[ $2 == *" $1"* ]]; }

# wanted_attributes NAME SENDERS HAVE: prints the attributes that the queue is to have, as .attributes, if SQS answers HAVE
# of it; and as .theirs the statements of its policy that others have added. What denies the senders, the starter or the
# workers what they need is not among them (launch/queues.py, launch/policies.py).
wanted_attributes() {
  local ours=null
  [[ $1 == "$DLQ_NAME" ]] || ours=$(queue_policy "$2")
  printf '%s\n' "${3:-null}" "$ours" | jq -cs --arg account "$ACCOUNT" --arg starter "$STARTER_ROLE_ARN" \
    --arg task "$TASK_ROLE_ARN" --arg queue "$QUEUE_ARN" --arg dlq "$DLQ_ARN" --arg visibility "$VISIBILITY_TIMEOUT" \
    --arg receives "$MAX_RECEIVES" '{have: .[0], policy: .[1], $queue, dead_letters: $dlq, $visibility, $receives,
      own: [$account, "arn:aws:iam::\($account):root", $starter, $task]}' \
    | run_python launch/queues.py
}

# The last step of a change of EVENT_SOURCE. The call replaces the whole policy, so it is read at this moment.
admit_one_sender() {
  local url have want attributes
  url=$(queue_url "$QUEUE_NAME")
  have=$(aws_or_die sqs get-queue-attributes --queue-url "$url" --attribute-names All)
  want=$(wanted_attributes "$QUEUE_NAME" "${EVENT_SENDERS[$EVENT_SOURCE]}" "$have")
  attributes=$(jq -c '.attributes | {Policy}' <<<"$want")
  aws_or_die sqs set-queue-attributes --queue-url "$url" --attributes "$attributes"
}

# SQS may print the JSON inside an attribute in its own way; differing() compares what it says.
parsed_attributes() {
  jq -c '.Attributes // . | with_entries(select(.key | IN("Policy", "RedrivePolicy", "RedriveAllowPolicy")).value
      |= if . == "" then . else fromjson end)
    | if .RedrivePolicy.maxReceiveCount? // null then .RedrivePolicy.maxReceiveCount |= tonumber else . end' <<<"$1"
}

# ask_queue_url NAME: prints nothing if there is no such queue.
ask_queue_url() { aws_or_nothing sqs get-queue-url --queue-name "$1" | jq -r .QueueUrl; }

# queue_url NAME: prints its URL, also of a queue that a dry run would make.
queue_url() {
  local url
  url=$(fact queue_url "$1")
  printf '%s\n' "${url:-https://sqs.$REGION.amazonaws.com/$ACCOUNT/$1}"
}

# The queue of an earlier run with another SRC_BUCKET, whose notification or event rule nobody would remove.
check_previous_source() {
  local policy buckets bucket senders
  policy=$(fact queue_policy)
  senders=$(senders)
  buckets=$(
    jq -r --arg sender "${EVENT_SENDERS[sqs]}" '.Statement[]? | select(.Sid == $sender)
      | .Condition.ArnLike["aws:SourceArn"] | strings | split(":")[-1]' <<<"${policy:-null}"
    if admits "${EVENT_SENDERS[eventbridge]}" "$senders"; then event_rule_source; fi
  )
  while read -r bucket; do
    [[ -z $bucket || $bucket == "$SRC_BUCKET" ]] || problem "SRC_BUCKET=$SRC_BUCKET, but the queue $QUEUE_NAME gets" \
      "the events of $bucket: to stop syncing that one, run cleanup.sh with SRC_BUCKET=$bucket first; or set another" \
      "APP_NAME"
  done <<<"$buckets"
}

# create_queue NAME ATTRIBUTES
create_queue() {
  local tags
  tags=$(fact tags map)
  aws_or_die sqs create-queue --queue-name "$1" --attributes "$2" --tags "$tags" \
    | jq -r .QueueUrl | keep queue_url "$1"
}

# ask_queue_attributes NAME
ask_queue_attributes() {
  local url
  url=$(fact queue_url "$1")
  [[ -z $url ]] || aws_or_nothing sqs get-queue-attributes --queue-url "$url" --attribute-names All
}

# ensure_queue NAME: a queue that was deleted a moment ago may still have a URL, but no attributes. What others have added
# to its policy is put with ours, so it is asked for again before that. Until the end of the run, the sender of the last
# deployment may send as well.
ensure_queue() {
  local url have want attributes senders theirs before after
  if [[ $1 == "$DLQ_NAME" ]]; then begin "dead-letter queue" "$1"; else begin queue "$1"; fi
  url=$(fact queue_url "$1")
  have=$(latest queue_attributes "$1")
  senders=$(senders)
  want=$(wanted_attributes "$1" "${EVENT_SENDERS[$EVENT_SOURCE]}$senders" "$have")
  attributes=$(jq -c .attributes <<<"$want")
  theirs=$(jq -r "$JQ_TEXT"'.theirs[] | tojson | visible' <<<"$want")
  if [[ -z $have ]]; then
    create create_queue "$1" "$attributes"
  else
    before=$(parsed_attributes "$have")
    after=$(parsed_attributes "$attributes")
    after=$(exact "$after" "$before" Policy)
    change_members "$after" "$before" aws_or_die sqs set-queue-attributes --queue-url "$url" --attributes "$attributes"
    [[ -z $theirs ]] || note "left to you, because somebody added it to the policy: ${theirs//$'\n'/, }"
  fi
  finish
}

# One that was deleted a moment ago may still have a URL, but no attributes.
list_queue() {
  local name url count
  for name in "$QUEUE_NAME" "$DLQ_NAME"; do
    url=$(fact queue_url "$name")
    [[ -n $url ]] || continue
    count=$(aws_or_nothing sqs get-queue-attributes --queue-url "$url" --attribute-names All | jq -r '.Attributes
      | [.ApproximateNumberOfMessages, .ApproximateNumberOfMessagesNotVisible, .ApproximateNumberOfMessagesDelayed]
      | map(tonumber) | add | "(\(.) messages)"')
    [[ -z $count ]] || ours_by "$name $count" Tags sqs list-queue-tags --queue-url "$url"
  done
}

remove_queue() {
  local url
  url=$(fact queue_url "$1")
  [[ -z $url ]] || aws_or_nothing sqs delete-queue --queue-url "$url"
}
