# shellcheck shell=bash
# The source bucket: its notification to the queue, among those of others.

# S3 compares a filter with keys as its events write them: a space is +, other special characters are encoded (S3 User
# Guide, "Configuring event notifications using object key name filtering", and reports from the field).
filter_value() {
  jq -nr --arg prefix "$PREFIX_FILTER" '$prefix | split("/") | map(@uri | gsub("%20"; "+")) | join("/")'
}

notification() {
  jq -n --arg id "$NOTIFICATION_ID" --arg queue "$QUEUE_ARN" --arg prefix "$(filter_value)" '
    {Id: $id, QueueArn: $queue,
     Events: ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*", "s3:ObjectRestore:Completed"]}
    + if $prefix == "" then {} else
      {Filter: {Key: {FilterRules: [{Name: "prefix", Value: $prefix}]}}} end'
}

check_source_bucket() {
  local answer region
  if ! answer=$(aws_or_error s3api get-bucket-location --bucket "$SRC_BUCKET" \
    --expected-bucket-owner "$SRC_BUCKET_OWNER"); then
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
  jq -r --argjson ours "$(notification)" '
    def filters($name): [.Filter.Key.FilterRules[]? | select(.Name | ascii_downcase == $name).Value][0] // "";
    def encoded: [scan("%[0-9A-Fa-f]{2}|[^%]|%")] | map(if test("^%..") then ascii_upcase
      elif . == "/" or . == "+" then . else @uri end) | join("") | gsub("%20"; "+") | gsub("%2F"; "/");
    def meet($one; $two): ($one | startswith($two)) or ($two | startswith($one));
    def same_event($one; $two): ($one == $two)
      or (($one | split(":")[1]) == ($two | split(":")[1]) and any($one, $two; endswith(":*")));
    (.QueueConfigurations // []) + (.TopicConfigurations // []) + (.LambdaFunctionConfigurations // [])
    | map(select(.Id != $ours.Id and meet(filters("prefix") | encoded; $ours | filters("prefix") | encoded)
      and any(.Events[] as $one | $ours.Events[] as $two | same_event($one; $two); .)))[]
    | "\(.Id) (\(.Events | join(", ")), prefix \"\(filters("prefix"))\")"' <<<"$1"
}

# Prints the queue of a notification that has our name, if the queue is not ours.
foreign_queue() {
  jq -r --argjson ours "$(notification)" '.QueueConfigurations[]?
    | select(.Id == $ours.Id and .QueueArn != $ours.QueueArn).QueueArn' <<<"$1"
}

check_notifications() {
  local have overlap other
  if ! have=$(aws_or_error s3api get-bucket-notification-configuration --bucket "$SRC_BUCKET" \
    --expected-bucket-owner "$SRC_BUCKET_OWNER"); then
    problem "SRC_BUCKET=$SRC_BUCKET: $have"
    return
  fi
  our_notification "${have:-"{}"}" | keep "our notification"
  [[ $EVENT_SOURCE != eventbridge ]] || return 0 # S3 may send an event to both
  other=$(foreign_queue "${have:-"{}"}")
  [[ -z $other ]] || problem "APP_NAME=$APP_NAME: SRC_BUCKET=$SRC_BUCKET has a notification of this name already, to" \
    "the queue $other of another deployment: set another APP_NAME"
  while read -r overlap; do
    [[ -z $overlap ]] || problem "SRC_BUCKET=$SRC_BUCKET has the notification $overlap, and S3 allows only one per" \
      "event and key: set EVENT_SOURCE=eventbridge, or PREFIX_FILTER to keys it does not cover, or let it publish to" \
      "SNS and subscribe both"
  done <<<"$(overlapping_notifications "${have:-"{}"}")"
}

find_notifications() {
  local have
  have=$(aws_or_nothing s3api get-bucket-notification-configuration --bucket "$SRC_BUCKET" \
    --expected-bucket-owner "$SRC_BUCKET_OWNER")
  jq 'del(.ResponseMetadata)' <<<"${have:-"{}"}"
}

# put_notifications CONFIGURATION OPTION...: through a file, as others may have many.
put_notifications() {
  printf '%s\n' "$1" >"$TEMP_DIR/notifications.json"
  aws_or_die s3api put-bucket-notification-configuration --bucket "$SRC_BUCKET" \
    --expected-bucket-owner "$SRC_BUCKET_OWNER" \
    --notification-configuration "file://$TEMP_DIR/notifications.json" "${@:2}"
}

# S3 answers event and filter names in its own order and case.
comparable_notification() {
  jq -c 'if . then .Events |= sort | if .Filter then .Filter.Key.FilterRules |= map(.Name |= ascii_downcase) else . end
    else . end' <<<"$1"
}

# Prints our notification in a bucket's configuration, or null.
our_notification() {
  jq --arg id "$NOTIFICATION_ID" --arg queue "$QUEUE_ARN" \
    '[.QueueConfigurations[]? | select(.Id == $id and .QueueArn == $queue)][0]' <<<"$1"
}

# Whether there was one when the settings were checked.
has_known_notification() { [[ $(known_or_ask "our notification" false) != null ]]; }

# Prints a bucket's configuration without our notification.
other_notifications() {
  jq --arg id "$NOTIFICATION_ID" --arg queue "$QUEUE_ARN" '.QueueConfigurations =
    [.QueueConfigurations[]? | select(.Id != $id or .QueueArn != $queue)]' <<<"$1"
}

# The call replaces the bucket's whole configuration, so ours is put among those that are there.
ensure_notification() {
  local have ours merged
  begin notification "$SRC_BUCKET $NOTIFICATION_ID"
  have=$(find_notifications)
  ours=$(our_notification "$have")
  merged=$(other_notifications "$have" | jq --argjson ours "$(notification)" '.QueueConfigurations += [$ours]')
  if [[ $ours == null ]]; then
    create put_notifications "$merged"
  else
    same_json "$(comparable_notification "$(notification)")" "$(comparable_notification "$ours")" \
      || change "events or filter" put_notifications "$merged"
  fi
  finish
}

list_notification() {
  our_notification "$(find_notifications)" | jq -r --arg bucket "$SRC_BUCKET" \
    'select(.) | "\($bucket) (only \(.Id))"'
}

# Without the option, S3 would refuse the rest if the queue or function of one of the others does not exist any more.
remove_notification() {
  local rest
  rest=$(other_notifications "$(find_notifications)" \
    | jq 'if .QueueConfigurations == [] then del(.QueueConfigurations) else . end')
  put_notifications "$rest" --skip-destination-validation
}
