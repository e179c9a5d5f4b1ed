# shellcheck shell=bash
# The names, ARNs and tags of everything that deploy.sh makes, and the release.

# --- names ----------------------------------------------------------------------------------------------------------

# Names follow from the settings when a command runs, so that a caller may still change the settings after sourcing.
set_names() {
  QUEUE_NAME=$APP_NAME-q
  DLQ_NAME=$APP_NAME-dlq
  STARTER_NAME=$APP_NAME-starter
  RULE_NAME=$APP_NAME-starter-rule
  EVENT_RULE_NAME=$APP_NAME-event-rule
  CLUSTER_NAME=$APP_NAME-cluster
  TASK_FAMILY=$APP_NAME-task
  STARTER_ROLE=$APP_NAME-starter-role
  TASK_ROLE=$APP_NAME-task-role
  EXEC_ROLE=$APP_NAME-exec-role
  SECURITY_GROUP_NAME=$APP_NAME-sg
  DLQ_ALARM=$APP_NAME-dead-letters
  AGE_ALARM=$APP_NAME-behind
  STARTER_ALARM=$APP_NAME-starter-fails
  SILENT_ALARM=$APP_NAME-starter-silent
  OUTAGE_ALARM=$APP_NAME-outage
  OUTAGE_METRIC=Outages
  EVENTS_ALARM=$APP_NAME-events
  AUDIT_ALARM=$APP_NAME-audit
  AUDIT_METRIC=Audits
  LATE_ALARM=$APP_NAME-late
  TOPIC_NAME=$APP_NAME-alarms
  DASHBOARD_NAME=$APP_NAME
  STARTER_LOG_GROUP=/aws/lambda/$STARTER_NAME
  WORKER_LOG_GROUP=/ecs/$TASK_FAMILY
  STARTED_BY=$APP_NAME-starter
  AUDIT_STARTED_BY=$APP_NAME-audit
  NOTIFICATION_ID=$APP_NAME
  LIFECYCLE_RULE_ID=$APP_NAME-abort-incomplete-uploads
  KEEP_RULE_ID=$APP_NAME-keep # the first one's
}

# ARNs are made of names and the account, so that a dry run and a clean-up know them without the resource.
set_account() {
  ACCOUNT=$1
  : "${SRC_BUCKET_OWNER:=$ACCOUNT}" "${DST_BUCKET_OWNER:=$ACCOUNT}"
  QUEUE_ARN=arn:aws:sqs:$REGION:$ACCOUNT:$QUEUE_NAME
  DLQ_ARN=arn:aws:sqs:$REGION:$ACCOUNT:$DLQ_NAME
  STARTER_ARN=arn:aws:lambda:$REGION:$ACCOUNT:function:$STARTER_NAME
  RULE_ARN=arn:aws:events:$REGION:$ACCOUNT:rule/$RULE_NAME
  EVENT_RULE_ARN=arn:aws:events:$REGION:$ACCOUNT:rule/$EVENT_RULE_NAME
  CLUSTER_ARN=arn:aws:ecs:$REGION:$ACCOUNT:cluster/$CLUSTER_NAME
  TASK_ROLE_ARN=arn:aws:iam::$ACCOUNT:role$ROLE_PATH$TASK_ROLE
  EXEC_ROLE_ARN=arn:aws:iam::$ACCOUNT:role$ROLE_PATH$EXEC_ROLE
  STARTER_ROLE_ARN=arn:aws:iam::$ACCOUNT:role$ROLE_PATH$STARTER_ROLE
  TOPIC_ARN=arn:aws:sns:$REGION:$ACCOUNT:$TOPIC_NAME
  REPOSITORY_ARN=arn:aws:ecr:$REGION:$ACCOUNT:repository/$APP_NAME
  DST_BUCKET_ARN=arn:aws:s3express:$REGION:$DST_BUCKET_OWNER:bucket/$DST_BUCKET
}

# --- tags -----------------------------------------------------------------------------------------------------------
#
# Everything has app=APP_NAME, by which it is recognized, the release, and those of TAGS.

# Keys that mean something to deploy.sh. Keys of roles differ by more than case (IAM API reference, Tag).
readonly OWN_TAG_KEYS=(app version region turned-on-events-of)

# Prints TAGS as a JSON list of {key, value}. Blanks around a key or a value do not count; without a "=" there is no value.
given_tags() {
  jq -nc --arg tags "$TAGS" 'def trimmed: gsub("\\A\\s+|\\s+\\z"; "");
    [$tags | select(. != "") | splits(",") | split("=")
    | {key: (.[0] // "" | trimmed), value: (if length > 1 then .[1:] | join("=") | trimmed else null end)}]'
}

# ask_tags NOTATION [KEY VALUE]: prints the tags of what is made, and one more, as JSON in a notation of AWS: "lower" and
# "upper" are lists of {key, value} and {Key, Value}, and "map" is an object.
ask_tags() {
  local given
  given=$(given_tags)
  jq -nc --argjson given "$given" --arg app "$APP_NAME" --arg version "$VERSION" --arg notation "$1" --arg key "${2-}" \
    --arg value "${3-}" '
    [{key: "app", value: $app}, {key: "version", value: $version}] + [{$key, $value} | select(.key != "")] + $given
    | if $notation == "map" then from_entries elif $notation == "upper" then map({Key: .key, Value: .value}) else . end'
}

# tag_specifications TYPE: those of EC2, for a resource that it is to make.
tag_specifications() {
  local tags
  tags=$(fact tags upper)
  printf '[{"ResourceType": "%s", "Tags": %s}]\n' "$1" "$tags"
}

# ours NAME: reads the tags of NAME in any of AWS's notations; prints NAME if deploy.sh made it. Otherwise it stays, which
# ./cleanup.sh fails with.
ours() {
  local tags
  tags=$(cat)
  if jq -e --arg app "$APP_NAME" 'if type == "object" then .app == $app
    else any(.[]?; (.Key // .key) == "app" and (.Value // .value) == $app) end' <<<"${tags:-null}" >/dev/null; then
    printf '%s\n' "$1"
  else
    say "      stays: $1, because it has no tag app=$APP_NAME"
    printf '%s\n' "$1" >>"$TEMP_DIR/stays"
  fi
}

# ours_by NAME MEMBER CALL...: the same, by the tags that the call answers in this member. What cannot be read is not said
# to be somebody else's.
ours_by() {
  local answer
  answer=$(aws_or_nothing "${@:3}")
  jq ".$2" <<<"${answer:-null}" | ours "$1"
}

# --- the release ----------------------------------------------------------------------------------------------------
#
# That of this checkout is in mirror/version.py, because the worker reports it as well. 1.3.0-dev is before 1.3.0.

VERSION=$(sed -n 's/^VERSION = "\(.*\)"$/\1/p' "$PROJECT_DIR/mirror/version.py")
readonly VERSION

print_version() { printf 's3-to-s3express-sync %s\n' "$(project_version)"; }

# Prints the release, and the commit of a checkout.
project_version() {
  local commit=""
  if [[ -e $PROJECT_DIR/.git ]] && type -P git >/dev/null; then
    commit=$(git -C "$PROJECT_DIR" rev-parse --short HEAD) || commit="" # it says why, such as that somebody else owns it
  fi
  printf '%s%s\n' "$VERSION" "${commit:+, commit $commit}"
}

# Where this checkout is published, such as https://github.com/OWNER/NAME; without it, mails name pages by their path alone.
readonly REPOSITORY=""
