# shellcheck shell=bash
# The starter: the Lambda function that starts workers.

# zip_starter ARCHIVE: prints what Lambda calls its CodeSha256. Stored, not compressed, and without the files' times: the
# same files are the same archive on every machine.
zip_starter() {
  python3 - "$PROJECT_DIR" "$1" <<'PYTHON'
import base64, hashlib, pathlib, sys, zipfile

project, archive = map(pathlib.Path, sys.argv[1:])
with zipfile.ZipFile(archive, "w") as file:
    for path in sorted([project / "starter.py", *project.glob("launch/*.py")]):
        member = zipfile.ZipInfo(path.relative_to(project).as_posix(), (1980, 1, 1, 0, 0, 0))
        member.external_attr = 0o644 << 16
        file.writestr(member, path.read_bytes())
print(base64.b64encode(hashlib.sha256(archive.read_bytes()).digest()).decode())
PYTHON
}

starter_environment() {
  local queue subnets group
  queue=$(queue_url "$QUEUE_NAME")
  subnets=$(task_subnets)
  group=$(security_group_id)
  settings_json ASSIGN_PUBLIC_IP MAX_WORKERS MESSAGES_PER_WORKER \
    | jq --arg queue "$queue" --arg cluster "$CLUSTER_NAME" --arg family "$TASK_FAMILY" --arg subnets "$subnets" \
      --arg group "$group" --arg started_by "$STARTED_BY" '. + {
        QUEUE_URL: $queue, CLUSTER: $cluster, TASK_DEFINITION: $family, SUBNETS: $subnets, SECURITY_GROUPS: $group,
        STARTED_BY: $started_by}'
}

function_configuration() {
  local variables
  variables=$(starter_environment)
  jq -n --arg name "$STARTER_NAME" --arg role "$STARTER_ROLE_ARN" --argjson variables "$variables" '{
    FunctionName: $name, Role: $role, Runtime: "python3.13", Handler: "starter.handler", MemorySize: 128, Timeout: 60,
    Environment: {Variables: $variables}}'
}

await_function() { aws_or_die lambda wait "$1" --function-name "$STARTER_NAME"; }

create_function() {
  aws_or_die lambda create-function --cli-input-json "$1" --zip-file "fileb://$TEMP_DIR/starter.zip" \
    --architectures arm64 --tags "app=$APP_NAME"
  await_function function-active-v2
}

# Lambda refuses a second update while the first is in progress.
update_code() {
  aws_or_die lambda update-function-code --function-name "$STARTER_NAME" --zip-file "fileb://$TEMP_DIR/starter.zip" \
    --architectures arm64
  await_function function-updated-v2
}

update_configuration() {
  aws_or_die lambda update-function-configuration --cli-input-json "$1"
  await_function function-updated-v2
}

# A start that failed is tried by the next minute's event anyway; a replayed one would start workers for a stale count.
ensure_no_retries() {
  local want='{"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}' have
  have=$(aws_or_nothing lambda get-function-event-invoke-config --function-name "$STARTER_NAME")
  [[ -z $(differing "$want" "$have") ]] || change "async retries" aws_or_die lambda put-function-event-invoke-config \
    --function-name "$STARTER_NAME" --maximum-retry-attempts 0 --maximum-event-age-in-seconds 60
}

# Two starters at once could both see no worker. An account must keep 100 executions unreserved (Lambda API
# reference, PutFunctionConcurrency), so a new account with its limit of 10 goes without.
ensure_concurrency() {
  local have unreserved
  have=$(aws_or_nothing lambda get-function-concurrency --function-name "$STARTER_NAME")
  [[ $(jq '.ReservedConcurrentExecutions' <<<"${have:-null}") != 1 ]] || return 0
  unreserved=$(aws_or_nothing lambda get-account-settings | jq .AccountLimit.UnreservedConcurrentExecutions)
  if ((unreserved > 100)); then
    change concurrency aws_or_die lambda put-function-concurrency --function-name "$STARTER_NAME" \
      --reserved-concurrent-executions 1
  else
    keep "many starters at once" <<<true
    say "      no concurrency is reserved for $STARTER_NAME: the account has only $unreserved unreserved executions"
  fi
}

# has_newer_role FUNCTION: only the role that it was made with may decrypt its environment, and not a new one of the
# same name (re:Post, "How do I resolve KMSAccessDeniedException errors from AWS Lambda"), also if an interrupted run
# made that one.
has_newer_role() {
  local made
  was_created role "$STARTER_ROLE" && return
  made=$(role_date "$STARTER_ROLE")
  [[ $made > $(jq -r '.LastModified[:19]' <<<"$1") ]]
}

ensure_function() {
  local have want code different
  begin function "$STARTER_NAME"
  code=$(zip_starter "$TEMP_DIR/starter.zip")
  want=$(function_configuration)
  have=$(aws_or_nothing lambda get-function --function-name "$STARTER_NAME" | jq -c .Configuration)
  if [[ -n $have ]] && has_newer_role "$have"; then
    change "made anew" aws_or_die lambda delete-function --function-name "$STARTER_NAME"
    have=""
  fi
  if [[ -z $have ]]; then
    create create_function "$want"
  else
    [[ $(jq -r '"\(.CodeSha256) \(.Architectures[0])"' <<<"$have") == "$code arm64" ]] || change code update_code
    different=$(differing "$want" "$have")
    [[ -z $different ]] || change "$different" update_configuration "$want"
  fi
  ensure_no_retries
  ensure_concurrency
  finish
}

ask_starter() { aws_or_nothing lambda get-function-configuration --function-name "$STARTER_NAME"; }

# Prints the function's configuration, or nothing if there is none.
find_starter() { known_or_ask starter ask_starter; }

need_starter() {
  local starter
  starter=$(find_starter)
  [[ -n $starter ]] || die "there is no function $STARTER_NAME in $REGION: run ./deploy.sh"
}

# starter_setting NAME: prints one variable of the starter, which is what the last deploy.sh decided.
starter_setting() { find_starter | jq -r --arg name "$1" '.Environment.Variables[$name] // ""'; }

# Without lambda:ListTags, GetFunction shows no tags, as if there were none (Lambda API reference): ListTags tells.
list_function() {
  local function tags
  function=$(aws_or_nothing lambda get-function --function-name "$STARTER_NAME")
  [[ -n $function ]] || return 0
  tags=$(jq -c '.Tags // empty' <<<"$function")
  if [[ -z $tags ]]; then
    tags=$(aws_or_error lambda list-tags --resource "$STARTER_ARN") || die "function $STARTER_NAME stays, because" \
      "its tags could not be read: $tags; allow yourself lambda:ListTags and run this again"
    tags=$(jq -c '.Tags // {}' <<<"$tags")
  fi
  ours "$STARTER_NAME" <<<"$tags"
}

remove_function() { aws_unless_gone lambda delete-function --function-name "$1"; }
