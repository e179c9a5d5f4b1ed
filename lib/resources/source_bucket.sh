# shellcheck shell=bash
# The source bucket: what is checked of it, and its notifications to the queue, among those of others.

# --- its notifications ----------------------------------------------------------------------------------------------

# Prints ours as they are to be, one for each prefix, as a JSON list; our_notifications finds those that exist.
ask_our_notifications() {
  wanted | jq -c --arg id "$NOTIFICATION_ID" --arg queue "$QUEUE_ARN" '
    [.filters | to_entries[] | {Id: ($id + if .key == 0 then "" else "-\(.key + 1)" end), QueueArn: $queue,
     Events: ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*", "s3:ObjectRestore:Completed"]}
    + if .value == "" then {} else {Filter: {Key: {FilterRules: [{Name: "prefix", Value: .value}]}}} end]'
}

# configuration_of ANSWER: prints a bucket's configuration in an answer of S3, which is nothing if there is none. Any other
# answer ends the run.
configuration_of() {
  local found
  found=$(jq -cs 'if . == [] then {} elif length == 1 and (.[0] | type == "object") then .[0] | del(.ResponseMetadata)
    else error("not one JSON object") end' <<<"$1" 2>&1) || die "${RESOURCE:+$RESOURCE: }nothing is known of the" \
    "notifications of $SRC_BUCKET, because the answer of S3 cannot be read: ${found%%$'\n'*}; run this again"
  printf '%s\n' "$found"
}

# Prints what the bucket has at this moment.
find_notifications() {
  local answer
  answer=$(aws_or_nothing s3api get-bucket-notification-configuration --bucket "$SRC_BUCKET" \
    --expected-bucket-owner "$SRC_BUCKET_OWNER")
  configuration_of "$answer"
}

# Prints what the bucket had when the run began.
first_notifications() {
  local answer
  answer=$(fact_or_reason notifications) || die "${RESOURCE:-notifications of $SRC_BUCKET}: $answer"
  configuration_of "$answer"
}

# change_notifications FILTER VALUE [OPTION...]: writes what the filter of jq makes of the configuration that the bucket has
# at this moment; it knows the value, and the others that send to queues. The call replaces all that the bucket has, so
# nothing is written unless it could be read. It goes through a file, because others may have many.
change_notifications() {
  local have want
  have=$(find_notifications)
  want=$(printf '%s\n' "$have" "$2" | jq -cs --arg queue "$QUEUE_ARN" ".[1] as \$value | def value: \$value;
    def others: [.QueueConfigurations[]? | select(.QueueArn != \$queue)]; .[0] | $1")
  if same_json "$want" "$have"; then return; fi
  printf '%s\n' "$want" >"$TEMP_DIR/notifications.json"
  aws_or_die s3api put-bucket-notification-configuration --bucket "$SRC_BUCKET" \
    --expected-bucket-owner "$SRC_BUCKET_OWNER" \
    --notification-configuration "file://$TEMP_DIR/notifications.json" "${@:3}"
}

# S3 answers event and filter names in its own order and case, and notifications in any order. A tool that has taken them
# over gives them names of its own.
comparable_notifications() {
  jq -c 'map(del(.Id) | .Events |= sort | if .Filter then .Filter.Key.FilterRules |= map(.Name |= ascii_downcase
      | select(.Value != "")) else . end | if .Filter.Key.FilterRules == [] then del(.Filter) else . end)
    | sort_by(.Filter.Key.FilterRules // [])' <<<"$1"
}

# Prints those in a bucket's configuration that send to our queue, which are ours whatever their name, as a JSON list.
our_notifications() {
  jq -c --arg queue "$QUEUE_ARN" '[.QueueConfigurations[]? | select(.QueueArn == $queue)]' <<<"$1"
}

# put_ours OURS: puts them in the place of ours that are there.
put_ours() {
  change_notifications '.QueueConfigurations = others + value' "$1"
}

ensure_notification() {
  local have ours want before after what
  if [[ $EVENT_SOURCE == eventbridge ]]; then
    end_notification
    return
  fi
  begin notification "$SRC_BUCKET $NOTIFICATION_ID"
  have=$(first_notifications)
  ours=$(our_notifications "$have")
  want=$(fact our_notifications)
  if [[ $ours == "[]" ]]; then
    create put_ours "$want"
  else
    before=$(comparable_notifications "$ours")
    after=$(comparable_notifications "$want")
    if ! same_json "$after" "$before"; then
      what=$(printf '%s\n' "$want" "$ours" | jq -rs 'map(length) | if .[0] == .[1] then "events or filter"
        else "\(.[0]) prefix\(if .[0] == 1 then "" else "es" end), not \(.[1])" end')
      change_from "$before" "$after" "$what" put_ours "$want"
    fi
  fi
  finish
}

list_notification() {
  local have
  have=$(find_notifications)
  our_notifications "$have" | jq -r --arg bucket "$SRC_BUCKET" \
    'select(. != []) | "\($bucket) (only \(map(.Id) | join(", ")))"'
}

# Without the option, S3 would refuse the rest if the queue or function of one of the others does not exist any more.
remove_notification() {
  change_notifications '.QueueConfigurations = others
    | if .QueueConfigurations == [] then del(.QueueConfigurations) else . end' null --skip-destination-validation
}

# --- checks ---------------------------------------------------------------------------------------------------------

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

# check_overlaps HAVE OURS: two notifications for the same event may not cover the same key (S3 User Guide, "Configuring
# event notifications using object key name filtering"); S3 would refuse ours as the last step. Others may have written
# their prefix as it is or encoded: both are compared in the encoded form. In jq 1.6, @uri leaves five characters as they
# are.
check_overlaps() {
  local found overlap
  found=$(jq -r --argjson ours "$2" --arg queue "$QUEUE_ARN" '
    def filters($name): [.Filter.Key.FilterRules[]? | select(.Name // "" | ascii_downcase == $name).Value][0] // "";
    def url_encoded:
      @uri | gsub("(?<sign>[!*\u0027()])"; {"!": "%21", "*": "%2A", "\u0027": "%27", "(": "%28", ")": "%29"}[.sign]);
    def encoded: [scan("%[0-9A-Fa-f]{2}|[^%]|%")] | map(if test("^%..") then ascii_upcase
      elif . == "/" or . == "+" then . else url_encoded end) | join("") | gsub("%20"; "+") | gsub("%2F"; "/");
    def meet($one; $two): ($one | startswith($two)) or ($two | startswith($one));
    def same_event($one; $two): ($one == $two)
      or (($one | split(":")[1]) == ($two | split(":")[1]) and any($one, $two; endswith(":*")));
    (.QueueConfigurations // []) + (.TopicConfigurations // []) + (.LambdaFunctionConfigurations // [])
    | map(select((.QueueArn == $queue or (.Id | IN($ours[].Id))) | not) | select(. as $their
      | any($ours[]; meet($their | filters("prefix") | encoded; filters("prefix") | encoded)
        and any($their.Events[]? as $one | .Events[] as $two | same_event($one; $two); .))))[]
    | "\(.Id) (\(.Events | join(", ")), prefix \"\(filters("prefix"))\")"' <<<"$1")
  while read -r overlap; do
    [[ -z $overlap ]] || problem "SRC_BUCKET=$SRC_BUCKET has the notification $overlap, and S3 allows only one per" \
      "event and key: set EVENT_SOURCE=eventbridge, or PREFIX_FILTER to keys it does not cover, or let it publish to" \
      "SNS and subscribe both"
  done <<<"$found"
}

# check_names_of_notifications HAVE OURS: whether one has a name of ours, and the queue is not ours.
check_names_of_notifications() {
  local found id queue
  found=$(jq -r --argjson ours "$2" '.QueueConfigurations[]?
    | select((.Id | IN($ours[].Id)) and .QueueArn != $ours[0].QueueArn) | "\(.Id)\t\(.QueueArn)"' <<<"$1")
  while IFS=$'\t' read -r id queue; do
    [[ -z $id ]] || problem "APP_NAME=$APP_NAME: SRC_BUCKET=$SRC_BUCKET has a notification of" \
      "$(if [[ $id == "$NOTIFICATION_ID" ]]; then printf 'this name'; else printf 'the name %s' "$id"; fi) already, to" \
      "the queue $queue of another deployment: set another APP_NAME"
  done <<<"$found"
}

# For the checks and the plan; change_notifications asks again.
ask_notifications() {
  aws_or_error s3api get-bucket-notification-configuration --bucket "$SRC_BUCKET" \
    --expected-bucket-owner "$SRC_BUCKET_OWNER"
}

# A bucket can have 100 of them (S3 User Guide, "Enabling and configuring event notifications").
check_notifications() {
  local have ours others
  if ! have=$(fact_or_reason notifications); then
    problem "SRC_BUCKET=$SRC_BUCKET: $have"
    return
  fi
  have=$(configuration_of "$have")
  [[ $EVENT_SOURCE != eventbridge ]] || return 0 # S3 may send an event to both
  ours=$(fact our_notifications)
  check_names_of_notifications "$have" "$ours"
  check_overlaps "$have" "$ours"
  ours=$(jq length <<<"$ours")
  others=$(jq --arg queue "$QUEUE_ARN" '[(.QueueConfigurations // [] | map(select(.QueueArn != $queue))),
    .TopicConfigurations, .LambdaFunctionConfigurations | length] | add' <<<"$have")
  ((ours + others <= 100)) || problem "SRC_BUCKET=$SRC_BUCKET has $others notifications of others, and S3 allows 100 for" \
    "a bucket: for PREFIX_FILTER=$PREFIX_FILTER it would have $ours more: set EVENT_SOURCE=eventbridge, or fewer" \
    "prefixes"
}
