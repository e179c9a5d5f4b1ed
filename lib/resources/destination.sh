# shellcheck shell=bash
# The destination bucket: what is checked of it, its lifecycle with the policy that this needs, and the request metrics of
# its folders.

# Those of another account cannot be listed.
ask_directory_buckets() { [[ $DST_BUCKET_OWNER != "$ACCOUNT" ]] || aws_or_error s3api list-directory-buckets; }

# Zone ids begin with a short form of the Region: eu-north-1 has eun1-az1.
check_destination_bucket() {
  local buckets zones
  zones=$(sed -E 's/north/n/; s/south/s/; s/east/e/; s/west/w/; s/central/c/; s/-//g' <<<"$REGION")
  if [[ ! $DST_BUCKET =~ ^[a-z0-9][a-z0-9-]*--([a-z0-9]+-az[0-9]+)--x-s3$ ]]; then
    problem "DST_BUCKET=$DST_BUCKET: set the name of a directory bucket, such as mirror--$zones-az1--x-s3"
  elif [[ ${BASH_REMATCH[1]%-*} != "$zones" ]]; then
    problem "DST_BUCKET=$DST_BUCKET is in the zone ${BASH_REMATCH[1]}, which is not in REGION=$REGION: both buckets" \
      "have to be in one Region"
  elif [[ $DST_BUCKET_OWNER != "$ACCOUNT" ]]; then
    say "      DST_BUCKET=$DST_BUCKET is not checked: it belongs to account $DST_BUCKET_OWNER"
    say_if_not_empty
  elif ! buckets=$(fact_or_reason directory_buckets); then
    problem "DST_BUCKET=$DST_BUCKET: $buckets"
  elif ! jq -e --arg name "$DST_BUCKET" 'any(.Buckets[]?; .Name == $name)' <<<"${buckets:-null}" >/dev/null; then
    problem "DST_BUCKET=$DST_BUCKET does not exist in account $ACCOUNT: create it, or set DST_BUCKET"
  else
    say_if_not_empty
  fi
}

# Before the first deployment, whose user may not know that others keep objects there. A page may be empty although
# objects follow, and the CLI goes on to the first one.
say_if_not_empty() {
  local found deployed
  deployed=$(deployed_setting DST_BUCKET)
  [[ -z $deployed ]] || return 0
  if ! found=$(aws_or_error s3api list-objects-v2 --bucket "$DST_BUCKET" --expected-bucket-owner "$DST_BUCKET_OWNER" \
    --max-items 1); then
    say "      DST_BUCKET=$DST_BUCKET: it is not known whether it is empty: $found"
  elif jq -e '.Contents // [] | length > 0' <<<"$found" >/dev/null; then
    say "      DST_BUCKET=$DST_BUCKET is not empty: if the source has or gets an object with the same key, it is" \
      "overwritten, and deleted when that is deleted. Other objects stay; ./sync.sh reconcile lists them as foreign," \
      "and EXCLUDE leaves them alone"
  fi
}

# --- the lifecycle --------------------------------------------------------------------------------------------------
#
# Our rules, among those of others. One aborts uploads that were given up; with KEEP_DAYS there is one more for each
# prefix, which expires what is older.

# of_lifecycle WHAT LIFECYCLE [RULES]: reads a lifecycle, or nothing, by a function of lifecycle.jq.
of_lifecycle() {
  local programs abort
  programs=$(<"$PROJECT_DIR/lib/resources/lifecycle.jq")
  printf -v abort '{"ID": "%s", "Status": "Enabled", "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}' "$LIFECYCLE_RULE_ID"
  jq -rc --arg keep "$KEEP_RULE_ID" --argjson abort "$abort" --argjson rules "${3:-null}" "$programs $1" \
    <<<"${2:-null}"
}

# Prints the rules of KEEP_DAYS. A directory bucket takes days, a prefix and sizes, but no date and no tags (S3 API
# reference, LifecycleExpiration and LifecycleRuleFilter).
keep_rules() {
  local places='[]'
  [[ -z $KEEP_DAYS ]] || places=$(wanted | jq -c --argjson days "$KEEP_DAYS" '.prefixes | map({prefix: ., $days})')
  of_lifecycle numbered "$places"
}

# A lifecycle cannot be set from another account (S3 API reference, PutBucketLifecycleConfiguration).
ask_bucket_lifecycle() {
  local RESOURCE=${RESOURCE:-"bucket lifecycle $DST_BUCKET"}
  [[ $DST_BUCKET_OWNER != "$ACCOUNT" ]] || aws_if_allowed s3api get-bucket-lifecycle-configuration --bucket "$DST_BUCKET"
}

# lifecycle_is WHAT LIFECYCLE [RULES]
lifecycle_is() { [[ $(of_lifecycle "$@") == true ]]; }

# is_our_lifecycle LIFECYCLE: true if it has our rules and no other.
is_our_lifecycle() { [[ -n $1 && $(of_lifecycle others "$1") == '[]' ]]; }

# put_lifecycle COMMAND LIFECYCLE: through a file, as others may have many rules.
put_lifecycle() {
  printf '%s\n' "$2" >"$TEMP_DIR/lifecycle.json"
  "$1" s3api put-bucket-lifecycle-configuration --bucket "$DST_BUCKET" \
    --lifecycle-configuration "file://$TEMP_DIR/lifecycle.json"
}

# --- what a deployment says of the lifecycle ------------------------------------------------------------------------

removal_command() { printf './sync.sh%s reconcile --remove-unwanted\n' "${LOCAL_ENGINE:+ --local}"; }

stays_until_removed() {
  printf 'copies older than KEEP_DAYS=%s days stay until %s removes them\n' "$KEEP_DAYS" "$(removal_command)"
}

# What a change of KEEP_DAYS leaves to be done.
tell_of_keep_days() {
  local before reconcile
  before=$(deployed_setting KEEP_DAYS)
  [[ -n $before ]] || return 0
  reconcile=$(removal_command)
  if [[ -z $KEEP_DAYS ]]; then
    note "KEEP_DAYS=$before is no longer set: ${reconcile% *} brings back older objects"
  elif ((KEEP_DAYS > before)); then
    note "KEEP_DAYS=$KEEP_DAYS was $before: ${reconcile% *} brings back the objects between the two ages"
  fi
}

# What S3 may refuse of them is not documented: that a prefix of a listing has to end in a slash is (S3 API reference,
# ListObjectsV2).
lifecycle_advice() {
  printf 'KEEP_DAYS=%s makes the rules %s: if S3 refuses one of them, set PREFIX_FILTER to prefixes that end in /, ' \
    "$KEEP_DAYS" "$(keep_rules)"
  printf 'leave KEEP_DAYS empty, or give the bucket a lifecycle of your own, which stays as it is. Until then, %s\n' \
    "$(stays_until_removed)"
}

# --- the steps of the lifecycle -------------------------------------------------------------------------------------

LOOSENED_LIFECYCLE="" # what a plan takes the bucket to have after the first step

# Expires less, if there is less to expire: before a worker copies what would go at once. A deployment without KEEP_DAYS
# has no rule to ask for.
ensure_loosened_lifecycle() {
  local before have rules agreed
  before=$(deployed_setting KEEP_DAYS)
  [[ -n $before && $DST_BUCKET_OWNER == "$ACCOUNT" ]] || return 0
  begin "bucket lifecycle" "$DST_BUCKET"
  have=$(latest bucket_lifecycle)
  rules=$(keep_rules)
  agreed=$(of_lifecycle agreed "$have" "$rules")
  if lifecycle_is has_just "$have" "$agreed"; then return; fi
  if ! was_denied; then change_keep_rules "keeps more" "$have" "$agreed"; fi
  LOOSENED_LIFECYCLE=$(of_lifecycle with_rules "$have" "$agreed")
  if was_denied; then
    ACTION=none CHANGES=() AGAIN=true
    finish "left to you, see the end"
  else
    finish
  fi
}

# change_keep_rules WHAT LIFECYCLE RULES
change_keep_rules() {
  local lifecycle
  lifecycle=$(of_lifecycle with_rules "$2" "$3")
  [[ -z $KEEP_DAYS ]] || RESOURCE_ADVICE=$(lifecycle_advice)
  change "$1" put_lifecycle aws_if_allowed "$lifecycle"
}

# ensure_rules LIFECYCLE: someone else's stays as it is. One of which the first step took all our rules is not. S3
# Lifecycle adds the days to an object's time, rounds up to midnight UTC and removes it some time after (S3 User Guide,
# "Setting lifecycle configuration on a bucket" and "Expiring objects").
ensure_rules() {
  local rules places lifecycle
  rules=$(keep_rules)
  if [[ -z $1 ]]; then
    lifecycle=$(of_lifecycle with_rules '' "$rules")
    [[ -z $KEEP_DAYS ]] || RESOURCE_ADVICE=$(lifecycle_advice)
    create put_lifecycle aws_if_allowed "$lifecycle"
  elif [[ -z $KEEP_DAYS || -z $LOOSENED_LIFECYCLE ]] && ! lifecycle_is has_ours "$1"; then
    [[ -z $KEEP_DAYS ]] || note "the lifecycle of $DST_BUCKET is someone else's and stays as it is:" \
      "$(stays_until_removed), or until that lifecycle also has the rules $(keep_rules), and the bucket's policy the" \
      "statement of $(lifecycle_policy)"
    return
  elif lifecycle_is has_just "$1" "$rules"; then
    ! lifecycle_is is_off "$1" || change_keep_rules "rule $LIFECYCLE_RULE_ID, which is disabled" "$1" "$rules"
    rules='[]'
  else
    change_keep_rules "rules of KEEP_DAYS" "$1" "$rules"
  fi
  if was_denied; then return; fi
  if [[ $rules != '[]' ]]; then
    places=$(wanted | jq -r --arg bucket "$DST_BUCKET" '.prefixes | map("s3://\($bucket)/\(.)") | join(", ")')
    note "KEEP_DAYS=$KEEP_DAYS: S3's lifecycle deletes everything in $places that is older than $KEEP_DAYS days within" \
      "about two days, also objects of other programs and earlier ones; nothing is deleted in the source." \
      "$(removal_command) deletes old copies at once"
  fi
  ensure_bucket_policy
}

# The sync works without the lifecycle, so a denial does not end a deployment.
ensure_lifecycle() {
  local have=$LOOSENED_LIFECYCLE before without="parts of abandoned copies stay in the bucket and cost money"
  if [[ $DST_BUCKET_OWNER != "$ACCOUNT" ]]; then
    ensure_owner_is_told
    return
  fi
  begin "bucket lifecycle" "$DST_BUCKET"
  if [[ $DRY_RUN == true && -n $have ]]; then AGAIN=true; else have=$(latest bucket_lifecycle); fi
  if ! was_denied; then ensure_rules "$have"; fi
  tell_of_keep_days
  if was_denied; then
    ACTION=none CHANGES=()
    before=$(deployed_setting KEEP_DAYS)
    [[ -z $KEEP_DAYS ]] || without+=", and $(stays_until_removed)"
    [[ -z $before || $before == "$KEEP_DAYS" ]] || without+="; any rules of KEEP_DAYS=$before keep deleting"
    leave "$RESOURCE, with the policy for it. Without them, $without. $(denial). Add this statement to a policy of" \
      "your own identity and run this again: $(lifecycle_rights)"
    finish "left to you, see the end"
  else
    finish
  fi
}

# Reports what the owner has to set for KEEP_DAYS.
ensure_owner_is_told() {
  local before todo="remove the rules $KEEP_RULE_ID..., if there are any: they keep deleting"
  before=$(deployed_setting KEEP_DAYS)
  [[ -n $KEEP_DAYS$before ]] || return 0
  begin "bucket lifecycle" "$DST_BUCKET"
  if [[ -n $KEEP_DAYS ]]; then
    todo="set the rules $(keep_rules), in place of any with the same IDs, and add the statement of $(lifecycle_policy) to"
    todo+=" the policy of the bucket. Until then, $(stays_until_removed)"
  fi
  leave "$RESOURCE: S3 accepts it only from the bucket's own account. $DST_BUCKET_OWNER has to $todo"
  tell_of_keep_days
  finish "left to its owner, see the end"
}

# --- the removal of the lifecycle -----------------------------------------------------------------------------------

# die_denied WHAT: what may not be read stays, and rules of KEEP_DAYS may go on deleting.
die_denied() {
  local said rights
  said=$(denial)
  rights=$(lifecycle_rights)
  die "the $1 of $DST_BUCKET could not be read: $said. To have it removed, if deploy.sh made it, add" \
    "this statement to a policy of your own identity and run this again: $rights"
}

# A rule that removes objects may not outlive the sync, also among those of others.
list_bucket_lifecycle() {
  local lifecycle ids
  lifecycle=$(ask_bucket_lifecycle)
  if was_denied; then die_denied lifecycle; fi
  ids=$(of_lifecycle ids "$lifecycle")
  if is_our_lifecycle "$lifecycle"; then
    printf '%s\n' "$DST_BUCKET"
  elif lifecycle_is has_keeping "$lifecycle"; then
    printf '%s (only %s)\n' "$DST_BUCKET" "$ids"
  elif lifecycle_is has_ours "$lifecycle"; then
    say "      stays: the lifecycle of $DST_BUCKET, because it has rules of others too"
  fi
}

remove_bucket_lifecycle() {
  local lifecycle rest
  lifecycle=$(aws_or_nothing s3api get-bucket-lifecycle-configuration --bucket "$1")
  rest=$(of_lifecycle others "$lifecycle")
  if [[ $rest == '[]' ]]; then
    aws_or_nothing s3api delete-bucket-lifecycle --bucket "$1"
  else
    rest=$(jq '{Rules: .}' <<<"$rest")
    put_lifecycle aws_or_die "$rest"
  fi
}

# --- the policy that it needs ---------------------------------------------------------------------------------------

# S3 User Guide, "Working with S3 Lifecycle for directory buckets": lifecycle acts only through a session of its own.
lifecycle_policy() {
  jq -nc --arg bucket "$DST_BUCKET_ARN" '{Version: "2012-10-17", Statement: [{
    Effect: "Allow", Principal: {Service: "lifecycle.s3.amazonaws.com"},
    Action: "s3express:CreateSession", Resource: $bucket,
    Condition: {StringEquals: {"s3express:SessionMode": "ReadWrite"}}}]}'
}

ask_bucket_policy() {
  local RESOURCE=${RESOURCE:-"bucket lifecycle $DST_BUCKET"}
  [[ $DST_BUCKET_OWNER != "$ACCOUNT" ]] || aws_if_allowed s3api get-bucket-policy --bucket "$DST_BUCKET" | jq -r .Policy
}

ensure_bucket_policy() {
  local have
  have=$(latest bucket_policy)
  if was_denied; then return; fi
  if [[ -z $have ]]; then
    change "policy for it" aws_if_allowed s3api put-bucket-policy --bucket "$DST_BUCKET" --policy "$(lifecycle_policy)"
  elif [[ $have != *lifecycle.s3.amazonaws.com* ]]; then
    note "the policy of $DST_BUCKET is someone else's and stays as it is;" \
      "incomplete uploads are aborted${KEEP_DAYS:+, and objects older than KEEP_DAYS=$KEEP_DAYS days deleted,}" \
      "only when it also has the statement of $(lifecycle_policy)"
  fi
}

# The rights that a deployment and its removal need for the lifecycle (S3 API reference, the permissions of each call on
# a directory bucket).
lifecycle_rights() {
  jq -nc --arg bucket "$DST_BUCKET_ARN" '{Effect: "Allow", Resource: $bucket, Action: ["GetLifecycleConfiguration",
    "PutLifecycleConfiguration", "GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"] | map("s3express:" + .)}'
}

# Rules of others may need it too. Neither is deploy.sh's on another account's bucket.
list_bucket_policy() {
  local policy lifecycle ours
  policy=$(ask_bucket_policy)
  lifecycle=$(ask_bucket_lifecycle)
  if was_denied; then die_denied policy; fi
  ours=$(lifecycle_policy)
  if same_json "$policy" "$ours" && { [[ -z $lifecycle ]] || is_our_lifecycle "$lifecycle"; }; then
    printf '%s\n' "$DST_BUCKET"
  fi
}

# Others may have changed it since.
remove_bucket_policy() {
  local still
  still=$(list_bucket_policy)
  [[ -z $still ]] || aws_or_nothing s3api delete-bucket-policy --bucket "$1"
}

# --- the request metrics of its folders -----------------------------------------------------------------------------
#
# ./sync.sh cost --reads turns them on for a while: filters of the bucket, each with an id that says when it was turned
# on, for how many days, and of which APP_NAME it is, because several deployments may have one destination. Those of
# others have other ids.

readonly READS_ID=s3-to-s3express-sync-reads-

# Prints APP_NAME as a number: an id has 64 characters at most.
number_of_app() {
  local sum
  sum=$(cksum <<<"$APP_NAME")
  printf '%s\n' "${sum%% *}"
}

# request_metrics_id BEGAN DAYS NUMBER
request_metrics_id() {
  local app
  app=$(number_of_app)
  printf '%s%s-%s-%s-%s\n' "$READS_ID" "$1" "$2" "$3" "$app"
}

# Prints what is wrong with the AWS CLI, or nothing. Both generations send these calls of a directory bucket to the right
# endpoint from botocore 1.42.80 on ("Add Bucket Metrics configuration support to directory buckets" in the change logs of
# all three).
problem_with_cli_of_metrics() {
  local version newer
  [[ $CLI_VERSION =~ aws-cli/([0-9.]+) ]] || return 0
  version=${BASH_REMATCH[1]}
  newer=$(newer_cli_for "$version" 1.44.70 2.34.21)
  [[ -z $newer ]] \
    || printf 'AWS CLI %s does not know request metrics of directory buckets: install %s or newer\n' "$version" "$newer"
}

# Prints {id, folder, began, days} of each filter of ours as a JSON list. They can only be read in the bucket's account.
# One without the number of an APP_NAME was turned on before ids had it, and counts as ours.
ask_request_metrics() {
  local RESOURCE="request metrics of $DST_BUCKET" page token="" problem app
  app=$(number_of_app)
  problem=$(problem_with_cli_of_metrics)
  [[ -z $problem && $DST_BUCKET_OWNER == "$ACCOUNT" ]] || return 0
  while :; do
    page=$(aws_if_allowed s3api list-bucket-metrics-configurations --bucket "$DST_BUCKET" \
      ${token:+--continuation-token "$token"})
    jq -c --arg prefix "$READS_ID" --arg app "$app" '.MetricsConfigurationList[]?
      | select(.Id | test("^\($prefix)\\d+-\\d+-\\d+(-\($app))?$"))
      | (.Id | ltrimstr($prefix) | split("-")) as $parts
      | {id: .Id, folder: (.Filter.Prefix // ""), began: ($parts[0] | tonumber), days: ($parts[1] | tonumber)}' \
      <<<"${page:-null}"
    token=$(jq -r '.NextContinuationToken // ""' <<<"${page:-null}")
    [[ -n $token ]] || return 0
  done | jq -s .
}

# What could not be looked for is said: it goes on costing.
list_request_metrics() {
  local RESOURCE="request metrics of $DST_BUCKET" problem
  fact request_metrics | jq -r "$JQ_TEXT"'.[]? | "\(.id) \(.folder | tojson | visible)"'
  problem=$(problem_with_cli_of_metrics)
  [[ -z $problem ]] || say "request metrics of $DST_BUCKET, if ./sync.sh cost --reads has turned any on, stay: $problem"
  if was_denied; then
    problem=$(denial)
    die "request metrics of $DST_BUCKET could not be read: $problem. To have those removed that ./sync.sh cost --reads" \
      "has turned on, grant yourself s3express:GetMetricsConfiguration and run this again"
  fi
}

# Nothing but a script of ours turns off those whose days are over, which are charged on and on: deploy.sh does so.
ensure_no_overdue_reads() {
  local found ids
  found=$(fact request_metrics | jq -r --argjson now "$(now)" '.[]? | select(.began + .days * 86400 <= $now).id')
  [[ -n $found ]] || return 0
  mapfile -t ids <<<"$found"
  begin "request metrics" "$DST_BUCKET"
  remove "removed, because their days are over" end_request_metrics "${ids[@]}"
  finish
}

# turn_on_request_metrics BEGAN DAYS FOLDER...: prints their ids. If one is refused, those before it are turned off.
turn_on_request_metrics() {
  local folder id ids=()
  for folder in "${@:3}"; do
    id=$(request_metrics_id "$1" "$2" "$((${#ids[@]} + 1))")
    run_apart "$TEMP_DIR/turned_on" put_request_metrics "$id" "$folder"
    if has_failed "$TEMP_DIR/turned_on"; then
      ((${#ids[@]} == 0)) || turn_off_request_metrics "${ids[@]}"
      return 1
    fi
    ids+=("$id")
    say "turned on: $(jq -nr --arg folder "$folder" "$JQ_TEXT"'$folder | tojson | visible')"
  done
  printf '%s\n' "${ids[@]}"
}

# put_request_metrics ID FOLDER
put_request_metrics() {
  local filter
  filter=$(jq -nc --arg id "$1" --arg folder "$2" '{Id: $id, Filter: {Prefix: $folder}}')
  aws_or_die s3api put-bucket-metrics-configuration --bucket "$DST_BUCKET" --id "$1" --metrics-configuration "$filter"
}

# turn_off_request_metrics ID...
turn_off_request_metrics() {
  end_request_metrics "$@"
  say "the request metrics are turned off"
}

end_request_metrics() {
  local id
  for id in "$@"; do remove_request_metrics "$id"; done
}

remove_request_metrics() {
  aws_or_nothing s3api delete-bucket-metrics-configuration --bucket "$DST_BUCKET" --id "$1"
}
