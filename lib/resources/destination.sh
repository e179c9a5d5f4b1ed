# shellcheck shell=bash
# The destination bucket, and the policy that its lifecycle needs.

# Zone ids begin with a short form of the Region: eu-north-1 has eun1-az1.
zone_prefix() { sed -E 's/north/n/; s/south/s/; s/east/e/; s/west/w/; s/central/c/; s/-//g' <<<"$REGION"; }

# Those of another account cannot be listed.
ask_directory_buckets() { [[ $DST_BUCKET_OWNER != "$ACCOUNT" ]] || aws_or_error s3api list-directory-buckets; }

check_destination_bucket() {
  local buckets
  if [[ ! $DST_BUCKET =~ ^[a-z0-9][a-z0-9-]*--([a-z0-9]+-az[0-9]+)--x-s3$ ]]; then
    problem "DST_BUCKET=$DST_BUCKET: set the name of a directory bucket, such as mirror--$(zone_prefix)-az1--x-s3"
  elif [[ ${BASH_REMATCH[1]%-*} != "$(zone_prefix)" ]]; then
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
  local found
  [[ -z $(fact task_definition) ]] || return 0
  if ! found=$(aws_or_error s3api list-objects-v2 --bucket "$DST_BUCKET" --expected-bucket-owner "$DST_BUCKET_OWNER" \
    --max-items 1); then
    say "      DST_BUCKET=$DST_BUCKET: it is not known whether it is empty: $found"
  elif jq -e '.Contents // [] | length > 0' <<<"$found" >/dev/null; then
    say "      DST_BUCKET=$DST_BUCKET is not empty: if the source has or gets an object with the same key, it is" \
      "overwritten, and deleted when that is deleted. Other objects stay; ./sync.sh reconcile lists them as foreign," \
      "and EXCLUDE leaves them alone"
  fi
}

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
  local policy lifecycle
  policy=$(ask_bucket_policy)
  lifecycle=$(ask_bucket_lifecycle)
  if was_denied; then
    tell_denied
  elif same_json "$policy" "$(lifecycle_policy)" && { [[ -z $lifecycle ]] || is_our_lifecycle "$lifecycle"; }; then
    printf '%s\n' "$DST_BUCKET"
  fi
}

remove_bucket_policy() { aws_unless_gone s3api delete-bucket-policy --bucket "$1"; }
