# shellcheck shell=bash
# Checks of the source bucket, and whether others' notifications leave room for ours.

readonly MOST_NOTIFICATIONS=100 # of a bucket (S3 User Guide, "Enabling and configuring event notifications")

ask_source_location() {
  aws_or_error s3api get-bucket-location --bucket "$SRC_BUCKET" --expected-bucket-owner "$SRC_BUCKET_OWNER"
}

check_source_bucket() {
  local answer region
  if ! answer=$(fact_or_reason source_location); then
    problem "SRC_BUCKET=$SRC_BUCKET: $answer; set a bucket that exists and belongs to account $SRC_BUCKET_OWNER" \
      "(SRC_BUCKET_OWNER)"
    return
  fi
  region=$(jq -r '.LocationConstraint // "us-east-1" | if . == "EU" then "eu-west-1" else . end' <<<"$answer")
  [[ $region == "$REGION" ]] || problem "SRC_BUCKET=$SRC_BUCKET is in $region, and S3 sends events only to a queue in" \
    "its own Region: set REGION=$region and a destination there"
  [[ $EVENT_SOURCE != eventbridge || $SRC_BUCKET_OWNER == "$ACCOUNT" ]] || problem "EVENT_SOURCE=eventbridge:" \
    "S3 sends events only to EventBridge in the bucket's own account (SRC_BUCKET_OWNER=$SRC_BUCKET_OWNER), and this is" \
    "$ACCOUNT: set EVENT_SOURCE=sqs"
  check_notifications
}

# Two notifications for the same event may not cover the same key (S3 User Guide, "Configuring event notifications
# using object key name filtering"); S3 would refuse ours as the last step. Others may have written their prefix as it
# is or encoded: both are compared in the encoded form.
overlapping_notifications() {
  jq -r --argjson ours "$(notifications)" --arg queue "$QUEUE_ARN" "$(jq_filters)"'
    def filters($name): [.Filter.Key.FilterRules[]? | select(.Name | ascii_downcase == $name).Value][0] // "";
    def encoded: [scan("%[0-9A-Fa-f]{2}|[^%]|%")] | map(if test("^%..") then ascii_upcase
      elif . == "/" or . == "+" then . else url_encoded end) | join("") | gsub("%20"; "+") | gsub("%2F"; "/");
    def meet($one; $two): ($one | startswith($two)) or ($two | startswith($one));
    def same_event($one; $two): ($one == $two)
      or (($one | split(":")[1]) == ($two | split(":")[1]) and any($one, $two; endswith(":*")));
    (.QueueConfigurations // []) + (.TopicConfigurations // []) + (.LambdaFunctionConfigurations // [])
    | map(select((.QueueArn == $queue or (.Id | IN($ours[].Id))) | not) | select(. as $their
      | any($ours[]; meet($their | filters("prefix") | encoded; filters("prefix") | encoded)
        and any($their.Events[] as $one | .Events[] as $two | same_event($one; $two); .))))[]
    | "\(.Id) (\(.Events | join(", ")), prefix \"\(filters("prefix"))\")"' <<<"$1"
}

# Prints "ID<tab>QUEUE" of each notification that has a name of ours, if the queue is not ours.
foreign_queues() {
  jq -r --argjson ours "$(notifications)" '.QueueConfigurations[]?
    | select((.Id | IN($ours[].Id)) and .QueueArn != $ours[0].QueueArn) | "\(.Id)\t\(.QueueArn)"' <<<"$1"
}

check_names_of_notifications() {
  local found id queue
  found=$(foreign_queues "$1")
  while IFS=$'\t' read -r id queue; do
    [[ -z $id ]] || problem "APP_NAME=$APP_NAME: SRC_BUCKET=$SRC_BUCKET has a notification of" \
      "$(if [[ $id == "$NOTIFICATION_ID" ]]; then printf 'this name'; else printf 'the name %s' "$id"; fi) already, to" \
      "the queue $queue of another deployment: set another APP_NAME"
  done <<<"$found"
}

check_overlaps() {
  local found overlap
  found=$(overlapping_notifications "$1")
  while read -r overlap; do
    [[ -z $overlap ]] || problem "SRC_BUCKET=$SRC_BUCKET has the notification $overlap, and S3 allows only one per" \
      "event and key: set EVENT_SOURCE=eventbridge, or PREFIX_FILTER to keys it does not cover, or let it publish to" \
      "SNS and subscribe both"
  done <<<"$found"
}

check_number_of_notifications() {
  local ours others
  ours=$(notifications | jq length)
  others=$(other_notifications "$1" | jq '[.QueueConfigurations, .TopicConfigurations, .LambdaFunctionConfigurations
    | length] | add')
  ((ours + others <= MOST_NOTIFICATIONS)) || problem "SRC_BUCKET=$SRC_BUCKET has $others notifications of others, and S3" \
    "allows $MOST_NOTIFICATIONS for a bucket: for PREFIX_FILTER=$PREFIX_FILTER it would have $ours more: set" \
    "EVENT_SOURCE=eventbridge, or fewer prefixes"
}

# A step that puts a new configuration asks again.
ask_notifications() {
  aws_or_error s3api get-bucket-notification-configuration --bucket "$SRC_BUCKET" \
    --expected-bucket-owner "$SRC_BUCKET_OWNER"
}

check_notifications() {
  local have
  if ! have=$(fact_or_reason notifications); then
    problem "SRC_BUCKET=$SRC_BUCKET: $have"
    return
  fi
  have=${have:-"{}"}
  [[ $EVENT_SOURCE != eventbridge ]] || return 0 # S3 may send an event to both
  check_names_of_notifications "$have"
  check_overlaps "$have"
  check_number_of_notifications "$have"
}
