# shellcheck shell=bash
# The starter: the Lambda function that starts workers, and its archive.

# --- the archive ----------------------------------------------------------------------------------------------------
#
# It has the starter's own files, and with STARTER_COPIES=true the libraries that it copies with.

# Makes $TEMP_DIR/starter.zip. Prints what Lambda calls its CodeSha256; then, of one with libraries, "compiled" or "plain".
ask_starter_archive() {
  python3 "$PROJECT_DIR/lib/pack_function.py" "$PROJECT_DIR" "$TEMP_DIR/starter.zip" "$STARTER_COPIES"
}

# Libraries come from the internet, so they are here before the first write.
check_archive() {
  local said why
  [[ $STARTER_COPIES == true ]] && has_python || return 0 # without Python: a problem of its own
  if ! said=$(python3 -m pip --version 2>&1); then
    problem "STARTER_COPIES=true needs pip, and python3 -m pip says \"${said##*$'\n'}\": install pip (the package" \
      "python3-pip, or python3 -m ensurepip), or set STARTER_COPIES=false"
  elif said=$(ask_starter_archive 2>"$TEMP_DIR/pip.log"); then
    keep starter_archive <<<"$said"
  else
    why=$(sed -n '1p;1!{$p;}' "$TEMP_DIR/pip.log" | cut -c 1-300 | paste -s -d ' ' -) # the reason, and what failed
    problem "STARTER_COPIES=true: the function could not be packed with the libraries of requirements.txt: $why:" \
      "let pip reach a package index, or set STARTER_COPIES=false"
  fi
}

# --- the function ---------------------------------------------------------------------------------------------------

readonly STARTER_MEMORY=128 COPYING_MEMORY=512 # MiB; the CPU of a function grows with it
readonly STARTER_TIMEOUT=60                    # seconds

# Prints what the function copies with, or else what status is to find of the workers' settings, as a JSON object; null
# stands for a variable that it is to have no longer.
copying_variables() {
  local variables names
  names=$(settings_of worker)
  variables=$(worker_variables | jq --argjson copies "$STARTER_COPIES" --arg max_size "$STARTER_MAX_SIZE" '
    if $copies then del(.PROCESSES, .S3_CLIENT, .TASK_MEMORY) + {STARTER_COPIES: "true", STARTER_MAX_SIZE: $max_size}
    else {COPY_LAST, TABLES, ANNOUNCE, EXCLUDE, KEEP_DAYS, PREFIX_FILTER, METRICS} end')
  printf '%s\n' STARTER_COPIES STARTER_MAX_SIZE "$names" \
    | jq -Rn --argjson variables "$variables" '[inputs | {key: ., value: $variables[.]}] | from_entries'
}

# The variables by which the starter knows what deploy.sh creates on the path of events, and the address of the alarms
# (launch/wanted.py).
ask_known_path() {
  {
    fact our_notifications
    event_pattern
    queue_policy "${EVENT_SENDERS[*]}"
  } | jq -s --arg visibility "$VISIBILITY_TIMEOUT" --arg receives "$MAX_RECEIVES" --arg mail "$ALARM_EMAIL" '{
    notifications: .[0], pattern: .[1], policy: .[2], $mail,
    queue: {VisibilityTimeout: $visibility, maxReceiveCount: $receives}}' | run_python launch/wanted.py
}

function_configuration() {
  local listed names queue processes subnets group copying known memory=$STARTER_MEMORY
  [[ $STARTER_COPIES == false ]] || memory=$COPYING_MEMORY
  listed=$(settings_of starter)
  mapfile -t names <<<"$listed"
  queue=$(queue_url "$QUEUE_NAME")
  processes=$(worker_processes)
  subnets=$(task_subnets)
  group=$(fact security_group)
  copying=$(copying_variables)
  known=$(fact known_path)
  settings_json "${names[@]}" LAMBDA_POLL_RATE \
    | jq --arg name "$STARTER_NAME" --arg role "$STARTER_ROLE_ARN" --argjson memory "$memory" \
      --argjson timeout "$STARTER_TIMEOUT" --arg queue "$queue" --arg cluster "$CLUSTER_NAME" \
      --arg family "$TASK_FAMILY" --arg subnets "$subnets" --arg group "${group:-sg-made-later}" \
      --arg started_by "$STARTED_BY" --arg audits "$AUDIT_STARTED_BY" --arg processes "$processes" --arg tags "$TAGS" \
      --argjson known "$known" --argjson copying "$copying" '{
      FunctionName: $name, Role: $role, Runtime: "python3.13", Handler: "starter.handler", MemorySize: $memory,
      Timeout: $timeout, Environment: {Variables: ($copying
        + (del(.STARTER_COPIES, .STARTER_MAX_SIZE) | map_values(if . == "" then null else . end)) + {
          MIN_WORKERS: (if .MIN_WORKERS == "0" then null else .MIN_WORKERS end),
          AUDIT_STARTED_BY: (if .AUDIT_DAYS == "" then null else $audits end),
          TAG_TASKS: (if $tags == "" then null else "true" end),
          QUEUE_URL: $queue, CLUSTER: $cluster, TASK_DEFINITION: $family, SUBNETS: $subnets, SECURITY_GROUPS: $group,
          STARTED_BY: $started_by, PROCESSES: $processes} + $known)}}'
}

# without_theirs CONFIGURATION: reads the function that is there, prints the configuration with what takes away what
# somebody gave the function and it may not have: a network and files, for which it has no rights; code of others; a key
# that it may be denied; a queue of ours for the events of failed runs; logs in another form or place than those in which
# they are read. Empty lists and texts take it away (Lambda Developer Guide, "Attaching Lambda functions to a VPC" and
# "Adding layers to functions"; other tools send the same for the rest).
without_theirs() {
  jq -cs --argjson want "$1" --arg group "$STARTER_LOG_GROUP" --arg queue "$QUEUE_ARN" --arg dlq "$DLQ_ARN" '
    def is_there: (. // "") | IN("", [], {}) | not;
    .[0] // {} | $want
      + if .VpcConfig.SubnetIds | is_there then {VpcConfig: {SubnetIds: [], SecurityGroupIds: []}} else {} end
      + if .Layers | is_there then {Layers: []} else {} end
      + if .FileSystemConfigs | is_there then {FileSystemConfigs: []} else {} end
      + if .KMSKeyArn | is_there then {KMSKeyArn: ""} else {} end
      + if .DeadLetterConfig.TargetArn | IN($queue, $dlq) then {DeadLetterConfig: {TargetArn: ""}} else {} end
      + if (.LoggingConfig // {} | (.LogFormat // "Text") == "Text" and (.LogGroup // $group) == $group) then {}
        else {LoggingConfig: {LogFormat: "Text", LogGroup: $group}} end'
}

# with_pause CONFIGURATION: reads the function that is there, or nothing; prints the configuration with its pause, which
# belongs to ./sync.sh pause and resume, and without the variables that it is not to have.
with_pause() {
  jq -s --argjson want "$1" '.[0].Environment.Variables.PAUSED_SINCE as $paused | $want
    | .Environment.Variables |= (.PAUSED_SINCE = $paused | with_entries(select(.value != null)))'
}

await_function() { aws_or_die lambda wait "$1" --function-name "$STARTER_NAME"; }

# create_function CONFIGURATION PAUSED-SINCE
create_function() {
  local input state tags
  tags=$(fact tags map)
  input=$(jq -n --arg since "$2" '{Environment: {Variables: {PAUSED_SINCE: (if $since == "" then null else $since end)}}}' \
    | with_pause "$1")
  state=$(aws_or_die lambda create-function --cli-input-json "$input" --zip-file "fileb://$TEMP_DIR/starter.zip" \
    --architectures arm64 --tags "$tags" | jq -r .State)
  [[ $state == Active ]] || await_function function-active-v2
}

# Lambda refuses a second update while the first is in progress.
update_code() {
  aws_or_die lambda update-function-code --function-name "$STARTER_NAME" --zip-file "fileb://$TEMP_DIR/starter.zip" \
    --architectures arm64
  await_function function-updated-v2
}

# change_function COMMAND...: sends what the command makes of the configuration that the function has at this moment. The
# variables that it does not name go. If anybody else, such as ./sync.sh pause or another deploy.sh, changes the function
# after it was read, Lambda refuses the older RevisionId, and it is read again.
change_function() {
  local try have input reason update=(lambda update-function-configuration)
  for ((try = 1; ; try++)); do
    have=$(aws_or_die lambda get-function-configuration --function-name "$STARTER_NAME")
    jq -e '.Environment.Error | not' <<<"$have" >/dev/null || die "function $STARTER_NAME: nothing was changed, because" \
      "its variables cannot be read: $(jq -r .Environment.Error.Message <<<"$have"); grant yourself kms:Decrypt"
    input=$("$@" <<<"$have")
    input=$(jq -c --argjson have "$have" '($have | {FunctionName, RevisionId} | with_entries(select(.value))) + .' \
      <<<"$input")
    if try_aws "${update[@]}" --cli-input-json "$input" >/dev/null; then break; fi
    reason=$(transient_reason "${update[@]}")
    if [[ -z $reason ]] || ! pause "$try" "$reason"; then aws_failed "${update[@]}"; fi
  done
  await_function function-updated-v2
}

# ensure_code WANT HAVE
ensure_code() {
  local said have want
  said=$(fact starter_archive)
  want=$(jq -nc --arg sha "${said%% *}" '{CodeSha256: $sha, Architectures: ["arm64"]}')
  have=$(jq -c '{CodeSha256, Architectures}' <<<"$2")
  [[ $have == "$want" ]] || change_from "$have" "$want" code update_code
}

# whole_configuration CONFIGURATION: reads the function that is there, prints what it is to have instead.
whole_configuration() {
  local have want
  have=$(cat)
  want=$(without_theirs "$1" <<<"$have")
  with_pause "$want" <<<"$have"
}

# ensure_configuration WANT HAVE
ensure_configuration() {
  local want
  want=$(without_theirs "$1" <<<"$2")
  change_members "$want" "$2" change_function whole_configuration "$1"
}

# end_rights POLICY
end_rights() {
  say "      waiting: the last run of $STARTER_NAME that may copy ends within $STARTER_TIMEOUT s"
  sleep "$STARTER_TIMEOUT"
  put_policy "$STARTER_ROLE" "$1"
}

# A step of its own, after those of the path of events: until they have followed the function's variables, its guard sees
# a difference (launch/guard.py), and confirms it before this wait is over.
ensure_rights_ended() {
  local have want
  have=$(fact role_policy "$STARTER_ROLE" | jq -c .PolicyDocument)
  keeps_rights "$STARTER_ROLE" "$have" || return 0
  begin role "$STARTER_ROLE"
  want=$(starter_policy)
  change_from "$have" "$want" policy end_rights "$want"
  finish
}

# ask_of_function CALL: what AWS keeps beside the function; prints nothing if there is none.
ask_of_function() {
  local have
  have=$(fact function)
  [[ -z $have ]] || aws_or_nothing lambda "$1" --function-name "$STARTER_NAME"
}

# of_function CALL: prints the same, of which a function that this run made has nothing yet.
of_function() { was_created function "$STARTER_NAME" || fact of_function "$1"; }

# Asks for what a run needs to know beside the function; prints nothing.
ask_all_of_function() {
  local have
  have=$(fact function)
  if [[ -n $have ]]; then
    all_at_once ask_one "of_function get-function-event-invoke-config" "of_function get-function-concurrency" \
      "of_function get-policy" starter_tags
  else
    fact account_settings >/dev/null
  fi
}

ask_account_settings() { aws_or_nothing lambda get-account-settings; }

# A start that failed is tried by the next minute's event anyway; a replayed one would start workers for a stale count. What
# Lambda reports of runs may go anywhere but to our queues, whose messages are events of the bucket. The call replaces all
# that is configured (Lambda API reference, PutFunctionEventInvokeConfig).
ensure_no_retries() {
  local both want have what destinations options=()
  both=$(of_function get-function-event-invoke-config | jq -cn --arg queue "$QUEUE_ARN" --arg dlq "$DLQ_ARN" '
    [inputs][0] | {MaximumRetryAttempts, MaximumEventAgeInSeconds,
      DestinationConfig: (.DestinationConfig // {} | with_entries(select(.value.Destination // "" != "")))} as $have
    | ($have + {MaximumRetryAttempts: 0, MaximumEventAgeInSeconds: 60}
      | .DestinationConfig |= with_entries(select(.value.Destination | IN($queue, $dlq) | not))) as $want | $have, $want')
  have=${both%$'\n'*} want=${both#*$'\n'}
  [[ $have != "$want" ]] || return 0
  what="async retries"
  [[ $have != '{"MaximumRetryAttempts":0,"MaximumEventAgeInSeconds":60,'* ]] || what="async destination"
  destinations=$(jq -c '.DestinationConfig | select(. != {})' <<<"$want")
  [[ -z $destinations ]] || options=(--destination-config "$destinations")
  change_from "$have" "$want" "$what" aws_or_die lambda put-function-event-invoke-config \
    --function-name "$STARTER_NAME" --maximum-retry-attempts 0 --maximum-event-age-in-seconds 60 \
    ${options[@]+"${options[@]}"}
}

# Prints how many runs at once were reserved for the function, or null.
reserved_concurrency() {
  of_function get-function-concurrency | jq -n '[inputs][0].ReservedConcurrentExecutions'
}

# Two starters at once could both see no worker. An account must keep 100 executions unreserved (Lambda API
# reference, PutFunctionConcurrency), so a new account with its limit of 10 goes without: prints how many it has then.
too_few_executions() {
  local have
  have=$(reserved_concurrency)
  [[ $have == 1 ]] || fact account_settings \
    | jq --argjson have "$have" '.AccountLimit.UnreservedConcurrentExecutions + ($have // 0) | select(. <= 100)'
}

ensure_concurrency() {
  local have too_few
  have=$(reserved_concurrency)
  too_few=$(too_few_executions)
  if [[ -n $too_few ]]; then
    [[ $have == null ]] || change_from "$have" null "no reserved concurrency" \
      aws_or_die lambda delete-function-concurrency --function-name "$STARTER_NAME"
    note "no concurrency is reserved for $STARTER_NAME: the account has only $too_few unreserved executions"
  elif [[ $have != 1 ]]; then
    change_from "$have" 1 concurrency aws_or_die lambda put-function-concurrency --function-name "$STARTER_NAME" \
      --reserved-concurrent-executions 1
  fi
}

# has_newer_role FUNCTION: prints true if its role is newer: only the role that it was made with may decrypt its environment, and not a new one of the
# same name (re:Post, "How do I resolve KMSAccessDeniedException errors from AWS Lambda"), also if an interrupted run
# made that one. It may as soon as the function is made again, or has had another role for a moment, but Lambda can
# assume no other role of ours.
has_newer_role() {
  local role
  role=$(fact role "$STARTER_ROLE")
  if was_created role "$STARTER_ROLE"; then
    printf 'true\n'
  else
    printf '%s\n' "${role:-null}" "$1" | jq -s '.[0].Role.CreateDate[:19] > .[1].LastModified[:19]'
  fi
}

ask_function() { aws_or_nothing lambda get-function --function-name "$STARTER_NAME" | jq -c .Configuration; }

# A run may come between the updates of the code and of the variables. These make it copy, for which it needs its
# libraries: they come after the code, and go before it.
ensure_function() {
  local have want paused archive newer=false update updates=(ensure_code ensure_configuration)
  begin function "$STARTER_NAME"
  archive=$(fact starter_archive)
  [[ $archive != *" plain" ]] || note "this machine has no python3.13 to compile the libraries: each cold start of" \
    "$STARTER_NAME takes up to a second longer"
  have=$(fact function)
  want=$(function_configuration)
  paused=$(pause_to_keep)
  [[ -z $paused ]] || note "the sync has been paused since $paused, and stays paused until ./sync.sh$VIA resume"
  [[ -z $have ]] || newer=$(has_newer_role "$have")
  if [[ $newer == true ]]; then
    keep_pause "$paused"
    change "created again" aws_or_die lambda delete-function --function-name "$STARTER_NAME"
    have=""
  fi
  if [[ -z $have ]]; then
    create create_function "$want" "$paused"
  else
    [[ $STARTER_COPIES == true || $(jq .Environment.Variables.STARTER_COPIES <<<"$have") == null ]] \
      || updates=(ensure_configuration ensure_code)
    for update in "${updates[@]}"; do "$update" "$want" "$have"; done
  fi
  ensure_no_retries
  ensure_concurrency
  finish
}

ask_starter() { aws_or_nothing lambda get-function-configuration --function-name "$STARTER_NAME"; }

# starter_setting NAME: prints one variable of the starter, which is what the last deploy.sh decided.
starter_setting() { fact starter | jq -r --arg name "$1" '.Environment.Variables[$name] // ""'; }

# Without lambda:ListTags, GetFunction shows no tags, as if there were none (Lambda API reference): so ListTags decides.
list_function() {
  local function tags
  function=$(aws_or_nothing lambda get-function --function-name "$STARTER_NAME")
  [[ -n $function ]] || return 0
  tags=$(jq -c '.Tags // empty' <<<"$function")
  if [[ -z $tags ]]; then
    tags=$(aws_or_error lambda list-tags --resource "$STARTER_ARN") || die "function $STARTER_NAME stays, because" \
      "its tags could not be read: $tags; grant yourself lambda:ListTags and run this again"
    tags=$(jq -c '.Tags // {}' <<<"$tags")
  fi
  ours "$STARTER_NAME" <<<"$tags"
}

remove_function() { aws_or_nothing lambda delete-function --function-name "$1"; }

# --- the pause ------------------------------------------------------------------------------------------------------

# variables_of_pause TIME: reads the function. In jq 1.6, "try" inside of |= always ends in its catch.
variables_of_pause() {
  jq --arg now "$1" '.Environment.Variables
    | if (.PAUSED_SINCE // "" | try fromdateiso8601 catch null) then . else .PAUSED_SINCE = $now end
    | {Environment: {Variables: .}}'
}

# set_pause TIME: unless it is paused already; what somebody else wrote there, and is no time, is replaced. Prints the time
# that counts.
set_pause() {
  local RESOURCE="function $STARTER_NAME"
  change_function variables_of_pause "$1"
  ask_starter | keep starter
  starter_setting PAUSED_SINCE
}

end_pause() {
  local RESOURCE="function $STARTER_NAME"
  change_function jq '.Environment.Variables | del(.PAUSED_SINCE) | {Environment: {Variables: .}}'
}

# await_last_run UNTIL: the last run that may still copy, or start a worker, is over by then; or, if only one runs at a
# time, when another one has begun and ended.
await_last_run() {
  local reserved
  reserved=$(reserved_concurrency)
  printf '{}\n' >"$TEMP_DIR/event"
  while (($(now) < $1)); do
    if [[ $reserved == 1 ]] && try_aws lambda invoke --function-name "$STARTER_NAME" \
      --payload "fileb://$TEMP_DIR/event" "$TEMP_DIR/answer" >/dev/null; then break; fi
    say_for_now "pause: waiting for the last run of $STARTER_NAME, at most $(($1 - $(now))) s"
    sleep "$RETRY_PAUSE"
  done
  end_progress >&2
}
