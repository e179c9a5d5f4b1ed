# shellcheck shell=bash
# The tags of everything that deploy.sh created: "version", the release that last brought it to the wanted state, and
# those of TAGS. New resources get them at once, so this has something to do only if one of the two has changed. A tag
# that is no longer in TAGS stays, because it may be somebody else's by now.

# Reads the tags of the function, as lambda list-tags prints them; prints the release. 1.0.0 had no tag for it.
version_of_tags() { jq -r '.Tags.version // "1.0.0"'; }

# Without a right to read them, the sync works.
ask_starter_tags() {
  local starter RESOURCE=${RESOURCE:-"tag version=$VERSION"}
  starter=$(fact function)
  [[ -z $starter ]] || aws_if_allowed lambda list-tags --resource "$STARTER_ARN"
}

# The workers of 1.0.0, which continue until the queue is empty, cannot read an event of EventBridge, so SQS parks it.
check_release() {
  local starter tags version rule RESOURCE="tag version=$VERSION"
  [[ $EVENT_SOURCE == eventbridge ]] || return 0
  starter=$(fact function)
  [[ -n $starter ]] || return 0
  tags=$(fact starter_tags)
  version=$(version_of_tags <<<"${tags:-"{}"}")
  if was_denied; then
    version=${RECORDED[VERSION]-}
    rule=$(fact rule "$EVENT_RULE_NAME") # which 1.0.0 did not know
    [[ -n $version$rule ]] || problem "EVENT_SOURCE=eventbridge: the workers of release 1.0.0 cannot read events of" \
      "EventBridge, and which release is deployed could not be read: $(denial); grant yourself lambda:ListTags"
  fi
  [[ $version != 1.0.0 ]] || problem "EVENT_SOURCE=eventbridge: release 1.0.0 is deployed, whose workers cannot read" \
    "events of EventBridge: run ./deploy.sh with EVENT_SOURCE=sqs first, and again with eventbridge when" \
    "./sync.sh status says idle"
}

# Prints the calls that bring them to all but the function, one per line, each after the notation of its service.
tag_calls() {
  local queue dlq task found network alarms topic
  queue=$(queue_url "$QUEUE_NAME")
  dlq=$(queue_url "$DLQ_NAME")
  task=$(list_revisions ACTIVE)
  alarms=$(ask_alarms | jq -r '.[].AlarmArn | "cloudwatch tag-resource --resource-arn \(.)"')
  found=$(
    list_security_group
    list_vpc_endpoint
  )
  found=$(cut -d ' ' -f 1 <<<"$found")
  mapfile -t network <<<"$found"
  topic=$(ask_own_topic)
  printf 'map logs tag-log-group --log-group-name %s\n' "$STARTER_LOG_GROUP" "$WORKER_LOG_GROUP"
  printf 'map sqs tag-queue --queue-url %s\n' "$queue" "$dlq"
  printf 'lower ecs tag-resource --resource-arn %s\n' "$CLUSTER_ARN" "${task%%$'\n'*}"
  {
    printf 'iam tag-role --role-name %s\n' "$STARTER_ROLE" "$TASK_ROLE" "$EXEC_ROLE"
    [[ -n $IMAGE_URI ]] || printf 'ecr tag-resource --resource-arn %s\n' "$REPOSITORY_ARN"
    printf 'events tag-resource --resource-arn %s\n' "$RULE_ARN"
    [[ $EVENT_SOURCE == sqs ]] || printf 'events tag-resource --resource-arn %s\n' "$EVENT_RULE_ARN"
    [[ -z $found ]] || printf 'ec2 create-tags --resources %s\n' "${network[@]}"
    printf '%s\n' "$alarms"
    [[ -z $topic ]] || printf 'sns tag-resource --resource-arn %s\n' "$topic"
  } | sed 's/^/upper /'
}

# The function is the last: an interrupted run is completed by the next one. Without a right to tag, the sync works. The
# function then gets the release alone, so that the next run finds tags missing and tries again.
tag_all() {
  local calls call
  local -A tags
  tags[lower]=$(fact tags lower | jq -c 'map(select(.key != "app"))')
  tags[upper]=$(fact tags upper | jq -c 'map(select(.Key != "app"))')
  tags[map]=$(fact tags map | jq -c 'del(.app)')
  calls=$(tag_calls)
  while read -ra call; do aws_if_allowed "${call[@]:1}" --tags "${tags[${call[0]}]}"; done <<<"$calls"
  if was_denied; then tags[map]=$(jq -nc --arg version "$VERSION" '{version: $version}'); fi
  aws_if_allowed lambda tag-resource --resource "$STARTER_ARN" --tags "${tags[map]}"
}

# The tags of the function, as lambda list-tags prints them, stand for those of all.
ensure_version_tag() {
  local tags given missing want
  begin tag "version=$VERSION"
  if was_created function "$STARTER_NAME"; then
    ACTION=create
    finish
    return
  fi
  tags=$(latest starter_tags)
  given=$(given_tags)
  missing=$(jq -r --argjson given "$given" --arg version "$VERSION" '.Tags // {} | . as $have
    | [(.version // "1.0.0") | select(. != $version) | "was \(.)"]
      + [$given[] | select($have[.key] != .value) | "\(.key)=\(.value)"] | join(", ")' <<<"$tags")
  if [[ -n $missing ]]; then
    want=$(fact tags map)
    [[ $DRY_RUN == false ]] || VALUES+=("$(differences "$want" "$(jq -c .Tags <<<"$tags")" false)")
    change "$missing" tag_all
  fi
  if was_denied; then
    leave "$RESOURCE, which ./sync.sh status needs to show what is deployed. $(denial)"
    ACTION=none CHANGES=()
    finish "left to you, see the end"
  else
    finish
  fi
}
