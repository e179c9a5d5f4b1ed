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

# whole_policy SENDERS ATTRIBUTES: prints the policy that the queue is to have, as .policy, with the statements that others
# have added to the one in ATTRIBUTES, what SQS answers, as .theirs. What denies the senders, the starter or the workers
# what they need is not among them (launch/policies.py).
whole_policy() {
  local ours
  ours=$(queue_policy "$1")
  printf '%s\n' "${2:-null}" "$ours" | jq -cs --arg account "$ACCOUNT" --arg starter "$STARTER_ROLE_ARN" \
    --arg task "$TASK_ROLE_ARN" '{have: (.[0].Attributes.Policy // "null" | fromjson), ours: .[1],
      own: [$account, "arn:aws:iam::\($account):root", $starter, $task]}' \
    | python3 -B "$PROJECT_DIR/launch/policies.py" queue
}

# queue_attributes POLICY: prints the attributes that the queue is to have.
queue_attributes() {
  local base
  base=$(dlq_attributes)
  jq -n --argjson base "$base" --arg visibility "$VISIBILITY_TIMEOUT" --arg policy "$1" --arg dlq "$DLQ_ARN" \
    --arg receives "$MAX_RECEIVES" '$base + {
      VisibilityTimeout: $visibility, Policy: $policy,
      RedrivePolicy: ({deadLetterTargetArn: $dlq, maxReceiveCount: $receives | tonumber} | tojson)}'
}

# The last step of a change of EVENT_SOURCE. The call replaces the whole policy, so it is read at this moment.
admit_one_sender() {
  local url have policy attributes
  url=$(queue_url "$QUEUE_NAME")
  have=$(aws_or_die sqs get-queue-attributes --queue-url "$url" --attribute-names All)
  policy=$(whole_policy "${EVENT_SENDERS[$EVENT_SOURCE]}" "$have")
  attributes=$(jq -c '{Policy: (.policy | tojson)}' <<<"$policy")
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

# unwanted_attributes NAME: reads what SQS answers of the queue, prints values for what somebody may have set and a queue of
# ours may not have. An event of EventBridge has at most 256 KiB, which was SQS's limit when older queues were made. A
# redrive policy of the dead-letter queue takes its messages away when somebody looks at them; an empty text ends it, as
# other tools do it, because the SQS API reference (SetQueueAttributes) does not say how. A redrive allow policy has to
# admit our queue, and allowAll is what a queue has by itself. launch/path.py judges both in the same way.
unwanted_attributes() {
  local is_dlq=false
  [[ $1 != "$DLQ_NAME" ]] || is_dlq=true
  jq -c --arg queue "$QUEUE_ARN" --argjson is_dlq "$is_dlq" '.Attributes
    | (if (.KmsMasterKeyId // "") == "" then {} else {KmsMasterKeyId: ""} end)
      + (if (.MaximumMessageSize // "262144" | tonumber) >= 262144 then {} else {MaximumMessageSize: "262144"} end)
      + (if $is_dlq | not then {} else
        (if (.RedrivePolicy // "") == "" then {} else {RedrivePolicy: ""} end)
        + (.RedriveAllowPolicy // "" | if . == "" then {} else fromjson
          | if (.redrivePermission // "allowAll") == "allowAll" or any(.sourceQueueArns[]?; . == $queue) then {}
            else {RedriveAllowPolicy: ({redrivePermission: "allowAll"} | tojson)} end end) end)'
}

# ensure_queue NAME: a queue that was deleted a moment ago may still have a URL, but no attributes. What others have added
# to its policy is put with ours, so it is asked for again before that.
ensure_queue() {
  local url have want attributes senders policy theirs="" before after
  if [[ $1 == "$DLQ_NAME" ]]; then begin "dead-letter queue" "$1"; else begin queue "$1"; fi
  url=$(fact queue_url "$1")
  have=$(latest queue_attributes "$1")
  if [[ $1 == "$DLQ_NAME" ]]; then
    attributes=$(dlq_attributes)
  else
    senders=$(senders) # until the end of the run, that of the last deployment may send, too
    policy=$(whole_policy "${EVENT_SENDERS[$EVENT_SOURCE]}$senders" "$have")
    theirs=$(jq -r "$JQ_TEXT"'.theirs[] | tojson | visible' <<<"$policy")
    policy=$(jq -c .policy <<<"$policy")
    attributes=$(queue_attributes "$policy")
  fi
  if [[ -z $have ]]; then
    create create_queue "$1" "$attributes"
  else
    want=$(unwanted_attributes "$1" <<<"$have")
    want=$(printf '%s\n' "$attributes" "$want" | jq -cs add)
    before=$(parsed_attributes "$have")
    after=$(parsed_attributes "$want")
    after=$(exact "$after" "$before" Policy)
    change_members "$after" "$before" aws_or_die sqs set-queue-attributes --queue-url "$url" --attributes "$want"
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
