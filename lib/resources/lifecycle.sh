# shellcheck shell=bash
# The lifecycle of the destination bucket: our rules, among those of others. One aborts uploads that were given up; with
# KEEP_DAYS there is one more for each prefix, which expires what is older.

abort_rule() {
  printf '{"ID": "%s", "Status": "Enabled", "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}\n' "$LIFECYCLE_RULE_ID"
}

# of_lifecycle WHAT LIFECYCLE [RULES]: reads a lifecycle, or nothing, by a function of lifecycle.jq.
of_lifecycle() {
  local programs
  programs=$(<"$PROJECT_DIR/lib/resources/lifecycle.jq")
  jq -rc --arg keep "$KEEP_RULE_ID" --argjson abort "$(abort_rule)" --argjson rules "${3:-null}" "$programs $1" \
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

# --- what a deployment says of it ---------------------------------------------------------------------------------

removal_command() { printf './sync.sh%s reconcile --remove-unwanted\n' "${LOCAL_ENGINE:+ --local}"; }

# Prints where KEEP_DAYS acts.
kept_places() { wanted | jq -r --arg bucket "$DST_BUCKET" '.prefixes | map("s3://\($bucket)/\(.)") | join(", ")'; }

stays_until_removed() {
  printf 'copies older than KEEP_DAYS=%s days stay until %s removes them\n' "$KEEP_DAYS" "$(removal_command)"
}

# S3 Lifecycle adds the days to an object's time, rounds up to midnight UTC and removes it some time after (S3 User
# Guide, "Setting lifecycle configuration on a bucket" and "Expiring objects").
tell_of_expiry() {
  note "KEEP_DAYS=$KEEP_DAYS: S3's lifecycle deletes everything in $(kept_places) that is older than $KEEP_DAYS days" \
    "within about two days, also objects of other programs and earlier ones; nothing is deleted in the source." \
    "$(removal_command) deletes old copies at once"
}

# tell_of_longer BEFORE
tell_of_longer() {
  local reconcile
  reconcile=$(removal_command)
  if [[ -z $KEEP_DAYS ]]; then
    note "KEEP_DAYS=$1 is no longer set: ${reconcile% *} brings back older objects"
  elif ((KEEP_DAYS > $1)); then
    note "KEEP_DAYS=$KEEP_DAYS was $1: ${reconcile% *} brings back the objects between the two ages"
  fi
}

# What a change of KEEP_DAYS leaves to be done.
tell_of_keep_days() {
  local before
  before=$(deployed_setting KEEP_DAYS)
  [[ -z $before ]] || tell_of_longer "$before"
}

tell_of_foreign_lifecycle() {
  [[ -n $KEEP_DAYS ]] || return 0
  note "the lifecycle of $DST_BUCKET is someone else's and stays as it is: $(stays_until_removed), or until that" \
    "lifecycle also has the rules $(keep_rules), and the bucket's policy the statement of $(lifecycle_policy)"
}

# What S3 may refuse of them is not documented: that a prefix of a listing has to end in a slash is (S3 API reference,
# ListObjectsV2).
lifecycle_advice() {
  printf 'KEEP_DAYS=%s makes the rules %s: if S3 refuses one of them, set PREFIX_FILTER to prefixes that end in /, ' \
    "$KEEP_DAYS" "$(keep_rules)"
  printf 'leave KEEP_DAYS empty, or give the bucket a lifecycle of your own, which stays as it is. Until then, %s\n' \
    "$(stays_until_removed)"
}

# The sync works without the lifecycle, so a denial does not end a deployment.
leave_lifecycle() {
  local before without="parts of abandoned copies stay in the bucket and cost money"
  CREATED=false CHANGES=()
  before=$(deployed_setting KEEP_DAYS)
  [[ -z $KEEP_DAYS ]] || without+=", and $(stays_until_removed)"
  [[ -z $before || $before == "$KEEP_DAYS" ]] || without+="; any rules of KEEP_DAYS=$before keep deleting"
  leave "$RESOURCE, with the policy for it. Without them, $without. $(denial). Add this statement to a policy of your" \
    "own identity and run this again: $(lifecycle_rights)"
}

# --- the steps ----------------------------------------------------------------------------------------------------

LOOSENED_LIFECYCLE="" # what a plan takes the bucket to have after the first step

# Expires less, if there is less to expire: before a worker copies what would go at once. A deployment without KEEP_DAYS
# has no rule to ask for.
ensure_loosened_lifecycle() {
  local before have agreed
  before=$(deployed_setting KEEP_DAYS)
  [[ -n $before && $DST_BUCKET_OWNER == "$ACCOUNT" ]] || return 0
  begin "bucket lifecycle" "$DST_BUCKET"
  have=$(latest bucket_lifecycle)
  agreed=$(of_lifecycle agreed "$have" "$(keep_rules)")
  if lifecycle_is has_just "$have" "$agreed"; then return; fi
  if ! was_denied; then change_keep_rules "keeps more" "$have" "$agreed"; fi
  LOOSENED_LIFECYCLE=$(of_lifecycle with_rules "$have" "$agreed")
  if was_denied; then
    CHANGES=() AGAIN=true
    finish "left to you, see the end"
  else
    finish
  fi
}

# change_keep_rules WHAT LIFECYCLE RULES
change_keep_rules() {
  [[ -z $KEEP_DAYS ]] || RESOURCE_ADVICE=$(lifecycle_advice)
  change "$1" put_lifecycle aws_if_allowed "$(of_lifecycle with_rules "$2" "$3")"
}

# ensure_rules LIFECYCLE: someone else's stays as it is. One of which the first step took all our rules is not.
ensure_rules() {
  local rules
  rules=$(keep_rules)
  if [[ -z $1 ]]; then
    [[ -z $KEEP_DAYS ]] || RESOURCE_ADVICE=$(lifecycle_advice)
    create put_lifecycle aws_if_allowed "$(of_lifecycle with_rules '' "$rules")"
  elif [[ -z $KEEP_DAYS || -z $LOOSENED_LIFECYCLE ]] && ! lifecycle_is has_ours "$1"; then
    tell_of_foreign_lifecycle
    return
  elif lifecycle_is has_just "$1" "$rules"; then
    rules='[]'
  else
    change_keep_rules "rules of KEEP_DAYS" "$1" "$rules"
  fi
  if was_denied; then return; fi
  [[ $rules == '[]' ]] || tell_of_expiry
  ensure_bucket_policy
}

ensure_lifecycle() {
  local have=$LOOSENED_LIFECYCLE
  if [[ $DST_BUCKET_OWNER != "$ACCOUNT" ]]; then
    ensure_owner_is_told
    return
  fi
  begin "bucket lifecycle" "$DST_BUCKET"
  if [[ $DRY_RUN == true && -n $have ]]; then AGAIN=true; else have=$(latest bucket_lifecycle); fi
  if ! was_denied; then ensure_rules "$have"; fi
  tell_of_keep_days
  if was_denied; then
    leave_lifecycle
    finish "left to you, see the end"
  else
    finish
  fi
}

# Reports what the owner has to set for KEEP_DAYS.
ensure_owner_is_told() {
  local before
  before=$(deployed_setting KEEP_DAYS)
  [[ -n $KEEP_DAYS$before ]] || return 0
  begin "bucket lifecycle" "$DST_BUCKET"
  if [[ -n $KEEP_DAYS ]]; then
    leave "$RESOURCE: S3 accepts it only from the bucket's own account. $DST_BUCKET_OWNER has to set the rules" \
      "$(keep_rules), in place of any with the same IDs, and add the statement of $(lifecycle_policy) to the policy" \
      "of the bucket. Until then, $(stays_until_removed)"
  else
    leave "$RESOURCE: S3 accepts it only from the bucket's own account. $DST_BUCKET_OWNER has to remove the rules" \
      "$KEEP_RULE_ID..., if there are any: they keep deleting"
  fi
  tell_of_keep_days
  finish "left to its owner, see the end"
}

# --- its removal --------------------------------------------------------------------------------------------------

# What may not be read stays, and is reported.
tell_denied() {
  if was_denied; then
    say "      stays, if deploy.sh made it: the ${RESOURCE#bucket } of $DST_BUCKET. $(denial). To have it removed," \
      "add this statement to a policy of your own identity and run this again: $(lifecycle_rights)"
  fi
}

# A rule that removes objects may not outlive the sync, also among those of others.
list_bucket_lifecycle() {
  local lifecycle ids
  lifecycle=$(ask_bucket_lifecycle)
  ids=$(of_lifecycle ids "$lifecycle")
  if was_denied; then
    tell_denied
  elif is_our_lifecycle "$lifecycle"; then
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
    aws_unless_gone s3api delete-bucket-lifecycle --bucket "$1"
  else
    put_lifecycle aws_or_die "$(jq '{Rules: .}' <<<"$rest")"
  fi
}
