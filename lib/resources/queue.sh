# shellcheck shell=bash
# The queue that gets the events, and its dead-letter queue.

# An expiring message is counted from its first queue on, so both queues keep messages for the 14 days that SQS allows.
readonly QUEUE_SECONDS=1209600

# Prints the attributes that both queues are to have; the dead-letter queue is to have no others.
dlq_attributes() {
  printf '{"MessageRetentionPeriod": "%s", "ReceiveMessageWaitTimeSeconds": "20", "SqsManagedSseEnabled": "true",
    "DelaySeconds": "0"}\n' "$QUEUE_SECONDS"
}

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

# For jq: a policy whose only statement stands for a list of one.
readonly JQ_STATEMENTS='def with_statements: if .Statement | type == "object" then .Statement |= [.] else . end;'

# Prints the policy that the queue had when this run began, or nothing.
ask_queue_policy() {
  fact queue_attributes "$QUEUE_NAME" \
    | jq -c "$JQ_STATEMENTS"'.Attributes.Policy // "{}" | fromjson | with_statements'
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

# Prints the attributes that the queue is to have; those that it has are a fact of the same name. Until the end of the
# run two may send: the service of this EVENT_SOURCE, and that of the last deployment.
queue_attributes() {
  local senders base policy
  senders=$(senders)
  base=$(dlq_attributes)
  policy=$(queue_policy "${EVENT_SENDERS[$EVENT_SOURCE]}$senders")
  jq -n --argjson base "$base" --arg visibility "$VISIBILITY_TIMEOUT" \
    --arg policy "$policy" --arg dlq "$DLQ_ARN" --arg receives "$MAX_RECEIVES" '$base + {
      VisibilityTimeout: $visibility, Policy: $policy,
      RedrivePolicy: ({deadLetterTargetArn: $dlq, maxReceiveCount: $receives | tonumber} | tojson)}'
}

# The last step of a change of EVENT_SOURCE. The call replaces the whole policy, so the statements of the other sender are
# taken out of the one that the queue has at this moment.
admit_one_sender() {
  local url have ours others=() sender attributes
  url=$(queue_url "$QUEUE_NAME")
  have=$(aws_or_die sqs get-queue-attributes --queue-url "$url" --attribute-names All)
  ours=$(queue_policy "${EVENT_SENDERS[$EVENT_SOURCE]}")
  for sender in "${EVENT_SENDERS[@]}"; do
    [[ $sender == "${EVENT_SENDERS[$EVENT_SOURCE]}" ]] || others+=("$sender")
  done
  attributes=$(jq -c --arg others "${others[*]}" --arg ours "$ours" "$JQ_STATEMENTS"'
    .Attributes.Policy // $ours | fromjson | with_statements
    | .Statement |= map(select(.Sid // "" | IN($others | splits(" ")) | not)) | {Policy: tojson}' <<<"$have")
  aws_or_die sqs set-queue-attributes --queue-url "$url" --attributes "$attributes"
}

# SQS may print the JSON inside an attribute in its own way; differing() compares what it says.
parsed_attributes() {
  jq -c '.Attributes // . | with_entries(select(.key == "Policy" or .key == "RedrivePolicy").value |= fromjson)
    | if .RedrivePolicy then .RedrivePolicy.maxReceiveCount |= tonumber else . end' <<<"$1"
}

# ask_queue_url NAME: prints nothing if there is no such queue.
ask_queue_url() { aws_or_nothing sqs get-queue-url --queue-name "$1" | jq -r .QueueUrl; }

# queue_url NAME: prints its URL, also of a queue that a dry run would make.
queue_url() {
  local url
  url=$(fact queue_url "$1")
  printf '%s\n' "${url:-https://sqs.$REGION.amazonaws.com/$ACCOUNT/$1}"
}

# existing_queue_url NAME: ends the run if there is no such queue.
existing_queue_url() {
  local url
  url=$(fact queue_url "$1")
  [[ -n $url ]] || die "there is no queue $1 in $REGION: run ./deploy.sh$VIA, or set REGION and APP_NAME"
  printf '%s\n' "$url"
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

# ensure_queue NAME: a queue that was deleted a moment ago may still have a URL, but no attributes. Two that somebody may
# have set are taken back. The size of an event of EventBridge is at most 256 KiB, which was SQS's limit when older queues
# were made.
ensure_queue() {
  local url have want attributes
  if [[ $1 == "$DLQ_NAME" ]]; then
    begin "dead-letter queue" "$1"
    attributes=$(dlq_attributes)
  else
    begin queue "$1"
    attributes=$(queue_attributes)
  fi
  url=$(fact queue_url "$1")
  have=$(fact queue_attributes "$1")
  if [[ -z $have ]]; then
    create create_queue "$1" "$attributes"
  else
    want=$(jq -c --argjson want "$attributes" '.Attributes | $want
      + if (.KmsMasterKeyId // "") == "" then {} else {KmsMasterKeyId: ""} end
      + if (.MaximumMessageSize // "262144" | tonumber) >= 262144 then {} else {MaximumMessageSize: "262144"} end' \
      <<<"$have")
    change_members "$(parsed_attributes "$want")" "$(parsed_attributes "$have")" \
      aws_or_die sqs set-queue-attributes --queue-url "$url" --attributes "$want"
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

# Reads the attributes of a queue, prints how many messages it has, or null if there is no such queue.
numbers_of_queue() {
  jq -n '[inputs][0] | if . then .Attributes | {
    visible: .ApproximateNumberOfMessages | tonumber, in_flight: .ApproximateNumberOfMessagesNotVisible | tonumber,
    delayed: .ApproximateNumberOfMessagesDelayed | tonumber} else . end'
}

# find_numbers NAME
find_numbers() { ask_queue_attributes "$1" | numbers_of_queue; }

# describe_queue NAME: ends the run if there is no such queue.
describe_queue() {
  existing_queue_url "$1" >/dev/null
  find_numbers "$1"
}
