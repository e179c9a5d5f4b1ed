#!/usr/bin/env bash
# The operator's verbs: status, logs, reconcile, redrive. Uses the settings and helpers of deploy.sh.

# shellcheck source=deploy.sh
source "$(dirname "${BASH_SOURCE[0]}")/deploy.sh"

readonly BEHIND_SECONDS=900      # older than that, the oldest message says that the sync is behind
readonly FAILURES_SHOWN=10       # in status
readonly LAG_SAMPLE=1000         # the newest synced keys that the lag is computed from
readonly OVERLAP_MS=30000        # events reach CloudWatch Logs out of order: what is followed is read again for so long
readonly LAST_LINES_TRIES=10     # looks at the log of a task that has ended, until its last line is there
readonly REDRIVE_LOOK_SECONDS=30 # for so long a message that is only looked at stays invisible
readonly REDRIVE_SHOWN=100
: "${FOLLOW_PAUSE:=3}" # seconds between two looks at a log

# --- help ---------------------------------------------------------------------------------------------------------

print_help() {
  cat <<'HELP'
usage: ./sync.sh [--local] VERB [options]     (./sync.sh VERB --help)

  status     one word (idle, working, behind, failing), then what it is made of
  logs       the log of the workers or of the starter
  reconcile  compare both buckets and put the keys that differ on the queue: backfill, audit, repair
  redrive    show what is in the dead-letter queue, and have it tried again

  --local    talk to the cloud that ./deploy.sh --local started on this machine

It needs the settings that deploy.sh ran with: REGION, APP_NAME, SRC_BUCKET, DST_BUCKET.
HELP
}

print_status_help() {
  cat <<'HELP'
usage: ./sync.sh status [--json]

  idle     nothing is waiting and nobody works
  working  messages are waiting or in work
  behind   the oldest message waits for more than 15 minutes, or workers could not be started
  failing  a bucket does not answer, the starter fails or does not run, or the dead-letter queue is not empty

Exit status 1 when failing. The age of the oldest message is a CloudWatch metric, about a minute old.
HELP
}

print_logs_help() {
  cat <<'HELP'
usage: ./sync.sh logs [worker|starter] [--since 15m] [--follow] [--json]

  --since   how far back: a number and s, m, h or d (default 15m)
  --follow  go on until Ctrl-C
  --json    one JSON object per line: timestamp (ms), logStreamName, message
HELP
}

print_reconcile_help() {
  cat <<'HELP'
usage: ./sync.sh reconcile [--prefix P] [--dry-run] [--deep] [--max-delete N] [--examples N] [--json]

Compares both buckets in a task of its own and puts the keys that differ on the queue. It is safe to interrupt and to
run again. Ctrl-C ends only the view of its log, not the task.

  --prefix P      only keys that begin with P (default: PREFIX_FILTER)
  --dry-run       only report
  --deep          look at every object, not only at sizes and times: also finds changes within the second of the copy
  --max-delete N  stop when more than N objects would be deleted from the destination (default 1000)
  --examples N    keys to name of each kind (default 10)
  --json          the numbers as JSON on stdout, the log on stderr

Exit status: 0 equal, or all that differs is on the queue; 1 differences are left; 2 wrong usage; 3 a listing failed,
too many would be deleted, or the task did not end by itself: nothing is deleted then.
HELP
}

print_redrive_help() {
  cat <<'HELP'
usage: ./sync.sh redrive [--list] [--purge [--yes]] [--json]

Shows the first 100 messages of the dead-letter queue: the key, when it failed last, and why. Then moves all back to
the queue.

  --list   only show
  --purge  delete all instead; asks first
  --yes    do not ask
HELP
}

usage() {
  say "${0##*/}: $* (use --help)"
  exit 2
}

# --- small things -------------------------------------------------------------------------------------------------

now() { printf '%(%s)T\n' -1; }

iso() { TZ=UTC printf '%(%Y-%m-%dT%H:%M:%SZ)T\n' "$1"; }

# Prints the seconds that a duration such as 15m has.
seconds_of() {
  local -A units=([s]=1 [m]=60 [h]=3600 [d]=86400)
  [[ $1 =~ ^([1-9][0-9]{0,5})([smhd])$ ]] || return 1
  printf '%d\n' $((BASH_REMATCH[1] * units[${BASH_REMATCH[2]}]))
}

# need_value OPTION COUNT: fails unless a value follows.
need_value() { (($2 > 1)) || usage "$1 needs a value"; }

# find_queue NAME: leaves the URL in QUEUE_URL.
find_queue() {
  QUEUE_URL=$(lookup sqs get-queue-url --queue-name "$1" | jq -r .QueueUrl)
  [[ -n $QUEUE_URL ]] || die "there is no queue $1 in $REGION: run ./deploy.sh, or set REGION and APP_NAME"
}

# Prints one attribute of the starter's configuration, which is what the last deploy.sh decided.
starter_setting() { jq -r --arg name "$1" '.Environment.Variables[$name] // ""' <<<"$STARTER"; }

find_starter() {
  STARTER=$(lookup lambda get-function-configuration --function-name "$STARTER_NAME")
  [[ -n $STARTER ]] || die "there is no function $STARTER_NAME in $REGION: run ./deploy.sh"
}

# --- CloudWatch Logs ----------------------------------------------------------------------------------------------

# query GROUP SECONDS QUERY: the rows of a Logs Insights query on the last seconds, as a JSON list of objects.
query() {
  local id answer end try
  end=$(now)
  id=$(lookup logs start-query --log-group-name "$1" --start-time $((end - $2)) --end-time $((end + 60)) \
    --query-string "$3" | jq -r .queryId)
  [[ -n $id ]] || { printf '[]\n' && return; }
  for ((try = 0; try < 120; try++)); do
    answer=$(call logs get-query-results --query-id "$id")
    if [[ $(jq -r .status <<<"$answer") == Complete ]]; then
      jq -c '[.results[] | map({key: .field, value}) | from_entries]' <<<"$answer"
      return
    fi
    sleep 1
  done
  die "log group $1: a query did not end in 120 s; try it again"
}

# read_log GROUP SINCE_MS STREAM...: lines of an event's id, its time and what to print of it, with tabs between them;
# nothing where there is no such group or stream.
read_log() {
  local streams=()
  (($# == 2)) || streams=(--log-stream-names "${@:3}")
  lookup logs filter-log-events --log-group-name "$1" --start-time "$2" ${streams[@]+"${streams[@]}"} \
    | jq -r --arg format "$FORMAT" '.events[] | "\(.eventId)\t\(.timestamp)\t\(
        if $format == "json" then {timestamp, logStreamName, message} | tojson
        else .message | rtrimstr("\n") | gsub("\n"; " ") end)"'
}

# Prints what read_log finds from LOG_FROM on and is not in SEEN; leaves the time from which to read on in LOG_FROM and
# the last line in LAST_TEXT.
print_new() {
  local id time text events
  events=$(read_log "$1" "$LOG_FROM" "${@:2}")
  while IFS=$'\t' read -r id time text; do
    [[ -n $id && -z ${SEEN[$id]:-} ]] || continue
    SEEN[$id]=1
    LAST_TEXT=$text
    ((time - OVERLAP_MS <= LOG_FROM)) || LOG_FROM=$((time - OVERLAP_MS))
    printf '%s\n' "$text"
  done <<<"$events"
}

# --- status -------------------------------------------------------------------------------------------------------

# describe_bucket NAME
describe_bucket() {
  local error=""
  error=$(ask s3api list-objects-v2 --bucket "$1" --max-keys 1 --no-paginate) && error=""
  jq -n --arg name "$1" --arg error "$error" '{name: $name, error: $error}'
}

# describe_queue NAME
describe_queue() {
  find_queue "$1"
  call sqs get-queue-attributes --queue-url "$QUEUE_URL" --attribute-names All | jq '.Attributes | {
    visible: .ApproximateNumberOfMessages | tonumber, in_flight: .ApproximateNumberOfMessagesNotVisible | tonumber,
    delayed: .ApproximateNumberOfMessagesDelayed | tonumber}'
}

# Whole seconds, or null where CloudWatch has no figure yet.
oldest_message() {
  local end
  end=$(now)
  call cloudwatch get-metric-statistics --namespace AWS/SQS --metric-name ApproximateAgeOfOldestMessage \
    --dimensions "Name=QueueName,Value=$QUEUE_NAME" --statistics Maximum --period 60 \
    --start-time "$(iso $((end - 600)))" --end-time "$(iso "$end")" | jq '.Datapoints | max_by(.Timestamp) | .Maximum
      | if . then round else . end'
}

# list_tasks OPTION...: running tasks as a JSON list. DescribeTasks takes 100.
list_tasks() {
  local arns
  arns=$(lookup ecs list-tasks --cluster "$CLUSTER_NAME" "$@" | jq -r '.taskArns[:100][]')
  [[ -n $arns ]] || { printf '[]\n' && return; }
  mapfile -t arns <<<"$arns"
  call ecs describe-tasks --cluster "$CLUSTER_NAME" --tasks "${arns[@]}" | jq '[.tasks[] | {
    id: (.taskArn | split("/")[-1]), status: .lastStatus, started_by: .startedBy,
    capacity: (.capacityProviderName // .launchType)}]'
}

# The starter's last decision or failure, with its age in seconds; null when it has not run for an hour.
last_start() {
  local lines='filter @message like /"visible":|ERROR|Task timed out/'
  query "$STARTER_LOG_GROUP" 3600 "fields @timestamp, @message | $lines | sort @timestamp desc | limit 1" \
    | jq 'map((.["@timestamp"] | sub(" "; "T") | sub("[.]\\d+"; "") | rtrimstr("Z") + "Z") as $time | {
        at: $time, seconds_ago: (now - ($time | fromdateiso8601) | floor),
        decision: (try (.["@message"] | fromjson) catch null),
        error: (.["@message"] as $line | try ($line | fromjson | "") catch ($line | rtrimstr("\n")))})[0]'
}

# The failures of the last hour: their number, and of each key the newest one and how many it had, the newest first.
last_failures() {
  query "$WORKER_LOG_GROUP" 3600 \
    'fields @message | filter @message like /ERROR failed key=/ | sort @timestamp desc | limit 1000' \
    | jq --argjson shown "$FAILURES_SHOWN" '[.[]["@message"] | capture(
        "^(?<at>\\S+) ERROR failed key=(?<key>\"(\\\\.|[^\"\\\\])*\") (?<reason>.*)") | .key |= fromjson]
      | {count: length,
         newest: (group_by(.key) | map(max_by(.at) + {times: length}) | sort_by(.at) | reverse | .[:$shown])}'
}

# Seconds from the event to the copy, over the newest copies of the last hour.
last_lags() {
  query "$WORKER_LOG_GROUP" 3600 \
    "fields @message | filter @message like /synced key=.* lag=/ | sort @timestamp desc | limit $LAG_SAMPLE" \
    | jq '[.[]["@message"] | capture(" lag=(?<lag>[0-9.]+)$").lag | tonumber] | sort
      | {count: length, p50: .[(length - 1) * 0.5 | round], p99: .[(length - 1) * 0.99 | round]}'
}

# Whether the rule runs the starter, and how many minutes apart; null where there is none.
describe_rule() {
  lookup events describe-rule --name "$RULE_NAME" | jq -s '.[0] | if . then {
    enabled: (.State == "ENABLED"), minutes: (.ScheduleExpression | capture("(?<n>\\d+)").n | tonumber)} else . end'
}

# Seconds since deploy.sh made or changed the function that starts workers, or null where there is none.
function_age() {
  lookup lambda get-function-configuration --function-name "$STARTER_NAME" \
    | jq -s '.[0] | if . then now - (.LastModified | sub("[.+].*"; "Z") | fromdateiso8601) | floor else . end'
}

# Reads the parts and adds the one word and the reasons for it.
judge() {
  jq --argjson behind "$BEHIND_SECONDS" '
    (.queue | .visible + .in_flight + .delayed) as $messages
    | (180 * (.rule.minutes // 1)) as $silence
    | [(.source, .destination | select(.error != "") | "the bucket \(.name) does not answer: \(.error)"),
       (.rule | select(. == null) | "no rule runs the starter: ./deploy.sh"),
       (.rule | select(. and (.enabled | not)) | "the rule that runs the starter is disabled: ./deploy.sh"),
       (.function_age | select(. == null) | "there is no function that starts workers: ./deploy.sh"),
       (select(.starter == null and $silence <= 3600 and (.function_age // 0) > $silence)
         | "the starter has not run for an hour"),
       (.starter | select(. and .error != "") | "the starter failed: \(.error)"),
       (.starter | select(. and .seconds_ago > $silence) | "the starter has not run for \(.seconds_ago) s"),
       (.dead_letters.visible | select(. > 0) | "\(.) messages in the dead-letter queue: ./sync.sh redrive")]
      as $failing
    | [(.queue.oldest_seconds | select(. and . > $behind) | "the oldest message waits for \(.) s"),
       (.starter.decision | select(.) | .failures[] | "a worker was not started: \(.)")] as $late
    | if $failing != [] then {state: "failing", reasons: ($failing + $late)}
      elif $late != [] and $messages > 0 then {state: "behind", reasons: $late}
      elif $messages > 0 or .workers != [] then {state: "working", reasons: []}
      else {state: "idle", reasons: []} end + .'
}

# gather NAME COMMAND...: keeps what the command prints as the part NAME of the status.
gather() { "${@:2}" | jq --arg name "$1" '{($name): .}' >"$TEMP_DIR/status.$1"; }

# All parts at once, because each call of the AWS CLI takes about a second to begin.
collect_status() {
  local job
  gather source describe_bucket "$SRC_BUCKET" &
  gather destination describe_bucket "$DST_BUCKET" &
  gather queue describe_queue "$QUEUE_NAME" &
  gather dead_letters describe_queue "$DLQ_NAME" &
  gather oldest oldest_message &
  gather workers list_tasks --desired-status RUNNING &
  gather rule describe_rule &
  gather function_age function_age &
  gather starter last_start &
  gather failures last_failures &
  gather lag last_lags &
  for job in $(jobs -p); do wait "$job"; done
  jq -s 'add | .queue.oldest_seconds = .oldest | del(.oldest)' "$TEMP_DIR"/status.* | judge
}

print_status() {
  jq -r '
    def bucket: "s3://\(.name)  \(if .error == "" then "answers" else .error end)";
    def counted: group_by(.) | map("\(length) \(.[0])") | join(", ");
    def row($name; $text): "\($name + " " * (14 - ($name | length)))\($text)";
    .state, (.reasons[] | "  \(.)"), "",
    row("source"; .source | bucket), row("destination"; .destination | bucket),
    row("queue"; .queue | "\(.visible) waiting, \(.in_flight) in work, \(.delayed) delayed\(
      if .visible + .in_flight + .delayed == 0 then "" elif .oldest_seconds then ", the oldest for \(.oldest_seconds) s"
      else "" end)"),
    row("dead letters"; .dead_letters.visible),
    row("workers"; if .workers == [] then "none" else .workers | map("\(.capacity) \(.status)") | counted end),
    row("starter"; .starter | if . == null then "no run in the last hour"
      elif .decision == null then "\(.at): \(.error)"
      else "\(.seconds_ago) s ago: \(.decision | "saw \(.visible + .in_flight) messages and \(.running
        ) workers, wanted \(.wanted), started \(.started | to_entries | map("\(.value) \(.key)") | join(", ")
        | if . == "" then "none" else . end)")" end),
    row("lag"; .lag | if .count == 0 then "nothing synced in the last hour"
      else "from event to copy p50 \(.p50) s, p99 \(.p99) s of the newest \(.count) keys" end),
    row("failures"; "\(.failures.count) in the last hour"),
    (.failures.newest[] | "  \(.key | tojson) failed \(.times) times, the last at \(.at): \(.reason)")'
}

status() {
  local format=text found
  while (($#)); do
    case "$1" in
      --json) format=json ;;
      --help) print_status_help && return ;;
      *) usage "status: unknown option $1" ;;
    esac
    shift
  done
  start
  found=$(collect_status)
  if [[ $format == json ]]; then printf '%s\n' "$found"; else print_status <<<"$found"; fi
  [[ $(jq -r .state <<<"$found") != failing ]]
}

# --- logs ---------------------------------------------------------------------------------------------------------

logs() {
  local group=worker since=15m follow=false seconds
  FORMAT=text
  while (($#)); do
    case "$1" in
      worker | starter) group=$1 ;;
      --since) need_value "$1" "$#" && since=$2 && shift ;;
      --follow) follow=true ;;
      --json) FORMAT=json ;;
      --help) print_logs_help && return ;;
      *) usage "logs: unknown option $1" ;;
    esac
    shift
  done
  seconds=$(seconds_of "$since") || usage "logs: --since $since is no duration such as 15m"
  start
  show_log_of "$group" "$seconds" "$follow"
}

# show_log_of worker|starter SECONDS FOLLOW
show_log_of() {
  local -A SEEN=() groups=([worker]=$WORKER_LOG_GROUP [starter]=$STARTER_LOG_GROUP)
  local LOG_FROM
  LOG_FROM=$((($(now) - $2) * 1000))
  while :; do
    print_new "${groups[$1]}"
    [[ $3 == true ]] || return 0
    sleep "$FOLLOW_PAUSE"
  done
}

# --- reconcile ----------------------------------------------------------------------------------------------------

network_configuration() {
  jq -n --arg subnets "$(starter_setting SUBNETS)" --arg groups "$(starter_setting SECURITY_GROUPS)" \
    --arg public "$(starter_setting ASSIGN_PUBLIC_IP)" '{awsvpcConfiguration: {
      subnets: ($subnets | split(",")), securityGroups: ($groups | split(",")), assignPublicIp: $public}}'
}

# start_reconcile ARGUMENT...: leaves the task's id in TASK. On demand, as an interruption would begin it all over; and
# startedBy is not the starter's, which counts its own tasks only.
start_reconcile() {
  local answer overrides
  overrides=$(printf '%s\n' reconcile "$@" | jq -Rnc '{containerOverrides: [{name: "worker", command: [inputs]}]}')
  answer=$(call ecs run-task --cluster "$CLUSTER_NAME" --task-definition "$(starter_setting TASK_DEFINITION)" \
    --capacity-provider-strategy capacityProvider=FARGATE,weight=1 --started-by "$RECONCILE_STARTED_BY" \
    --network-configuration "$(network_configuration)" --overrides "$overrides")
  TASK=$(jq -r '.tasks[0].taskArn // "" | split("/")[-1] // ""' <<<"$answer")
  [[ -n $TASK ]] || die "the task was not started: $(jq -c .failures <<<"$answer"); try again in a few minutes"
  say "task $TASK compares s3://$SRC_BUCKET and s3://$DST_BUCKET; its log:"
}

# Two at once would do no harm, and all the work twice.
refuse_second() {
  local running
  running=$(list_tasks --started-by "$RECONCILE_STARTED_BY" | jq -r 'map(.id) | join(", ")')
  [[ -z $running ]] || die "task $running compares already: watch it with ./sync.sh logs --follow"
}

# Leaves what ECS says of the task in TASK_STATE.
look_at_task() {
  TASK_STATE=$(call ecs describe-tasks --cluster "$CLUSTER_NAME" --tasks "$TASK" \
    | jq '.tasks[0] // {lastStatus: "STOPPED"}')
}

task_has_ended() { [[ $(jq -r .lastStatus <<<"$TASK_STATE") == STOPPED ]]; }

# Prints the task's log until its summary, which is left in LAST_TEXT. The last lines of a task that has ended reach
# CloudWatch some seconds later; a task that was ended by something else has no summary.
follow_task() {
  local -A SEEN=()
  local LOG_FROM=0 tries=0
  LAST_TEXT=""
  while ((tries < LAST_LINES_TRIES)) && [[ $LAST_TEXT != *" reconciled end="* ]]; do
    look_at_task
    if task_has_ended; then tries=$((tries + 1)); fi
    print_new "$WORKER_LOG_GROUP" "worker/worker/$TASK"
    sleep "$FOLLOW_PAUSE"
  done
}

# The summary as JSON.
summary() {
  jq -Rc '[scan("([a-z_/]+)=(\\S+)")] | map({key: .[0], value: (.[1] as $text | try ($text | fromjson) catch $text)})
    | from_entries' <<<"${1#* reconciled }"
}

# Without a summary the task ended because of a wrong argument, or something ended it.
exit_status_of_task() {
  look_at_task
  say "the task ended without a summary: $(jq -r '.stoppedReason // "no reason is known"' <<<"$TASK_STATE")"
  jq '.containers[0].exitCode // 3 | if IN(1, 2) then . else 3 end' <<<"$TASK_STATE"
}

hint_at_waiting() {
  find_queue "$QUEUE_NAME"
  describe_queue "$QUEUE_NAME" | jq -r '(.visible + .in_flight + .delayed) as $all | select($all > 0)
    | "\($all) messages are in the queue: part of what differs may be on its way"' >&2
}

reconcile() {
  local arguments=() json=false status
  FORMAT=text
  while (($#)); do
    case "$1" in
      --prefix | --max-delete | --examples) need_value "$1" "$#" && arguments+=("$1" "$2") && shift ;;
      --dry-run | --deep) arguments+=("$1") ;;
      --json) json=true ;;
      --help) print_reconcile_help && return ;;
      *) usage "reconcile: unknown option $1" ;;
    esac
    shift
  done
  start
  find_starter
  refuse_second
  start_reconcile ${arguments[@]+"${arguments[@]}"}
  if [[ $json == true ]]; then follow_task >&2; else follow_task; fi
  if [[ $LAST_TEXT != *" reconciled end="* ]]; then return "$(exit_status_of_task)"; fi
  hint_at_waiting
  [[ $json == false ]] || summary "$LAST_TEXT"
  return "$(summary "$LAST_TEXT" | jq .status)"
}

# --- redrive ------------------------------------------------------------------------------------------------------

# Takes up to 10 messages from the dead-letter queue for a moment, and makes them visible again.
look_at_ten() {
  local answer entries
  answer=$(call sqs receive-message --queue-url "$QUEUE_URL" --max-number-of-messages 10 --wait-time-seconds 1 \
    --visibility-timeout "$REDRIVE_LOOK_SECONDS" --attribute-names All)
  jq -c '.Messages // [] | .[] | {id: .MessageId, handle: .ReceiptHandle, body: .Body,
    sent: (.Attributes.SentTimestamp | tonumber / 1000 | floor)}' <<<"${answer:-null}"
}

# The first messages as a JSON list. None is seen twice, because those already seen stay invisible meanwhile.
look_at_messages() {
  local found=() ten
  while ((${#found[@]} < REDRIVE_SHOWN)); do
    ten=$(look_at_ten)
    [[ -n $ten ]] || break
    mapfile -t -O "${#found[@]}" found <<<"$ten"
  done
  show_again <<<"$(printf '%s\n' ${found[@]+"${found[@]}"})"
  printf '%s\n' ${found[@]+"${found[@]}"} | jq -s .
}

# Makes messages visible again, ten at a time.
show_again() {
  local entries
  while read -r entries; do
    call sqs change-message-visibility-batch --queue-url "$QUEUE_URL" --entries "$entries" >/dev/null
  done < <(jq -sc 'map({Id: .id, ReceiptHandle: .handle, VisibilityTimeout: 0}) | range(0; length; 10) as $i
    | .[$i:$i + 10]')
}

# Adds the keys that each message names; keys arrive form-urlencoded (S3 User Guide, "Event message structure").
with_keys() {
  python3 -c '
import json, sys
from urllib.parse import unquote_plus

messages = json.load(sys.stdin)
for message in messages:
    try:
        records = json.loads(message["body"])["Records"]
        message["keys"] = [unquote_plus(record["s3"]["object"]["key"]) for record in records]
    except (KeyError, TypeError, ValueError):
        message["keys"] = []
print(json.dumps(messages))'
}

# Adds why and when each key failed last, from the log since the oldest of the messages was sent.
with_reasons() {
  local messages failures oldest lines='filter @message like /ERROR failed key=/'
  messages=$(cat)
  oldest=$(jq 'map(.sent) | min // now | floor' <<<"$messages")
  failures=$(query "$WORKER_LOG_GROUP" $(($(now) - oldest + 60)) \
    "fields @message | $lines | sort @timestamp desc | limit 10000" \
    | jq -c '[.[]["@message"] | capture(
      "^(?<at>\\S+) ERROR failed key=(?<key>\"(\\\\.|[^\"\\\\])*\") (attempt=\\S+ )?(?<reason>.*)")
      | .key |= fromjson]')
  jq -c --argjson failures "$failures" 'map(.keys as $keys | {id, sent: (.sent | todate), keys: [$keys[] as $key
      | ([$failures[] | select(.key == $key)][0] // {at: null, reason: "not in the log any more"}) + {key: $key}]}
    + if $keys == [] then {body: .body[:200]} else {} end)' <<<"$messages"
}

print_messages() {
  jq -r '([.[].keys[]] | group_by(.key)[]
      | (if length > 1 then " (\(length) messages)" else "" end) as $many
      | .[0] | "\(.key | tojson)\($many)\n  \(if .at then "failed \(.at)" else "the failure is" end) \(.reason)"),
    (.[] | select(.body) | "no S3 event, sent \(.sent): \(.body)")'
}

# Moves all messages back to the queue; prints how many.
move_back() {
  local move
  call sqs start-message-move-task --source-arn "$1" --destination-arn "$2" >/dev/null
  while :; do
    move=$(call sqs list-message-move-tasks --source-arn "$1" --max-results 1 | jq '.Results[0]')
    [[ $(jq -r .Status <<<"$move") == RUNNING ]] || break
    sleep 1
  done
  [[ $(jq -r .Status <<<"$move") == COMPLETED ]] || die "moving the messages back did not end well: $move"
  jq '.ApproximateNumberOfMessagesMoved' <<<"$move"
}

confirm_purge() {
  local answer
  [[ -t 0 ]] || die "nothing was deleted: there is nobody to ask; use --yes"
  read -r -p "Delete all messages of $DLQ_NAME? Their keys stay as they are until they change again. [y/N] " answer
  [[ $answer == [yY]* ]] || die "nothing was deleted"
}

# act_on_messages list|move|purge ASSUME_YES: prints what was done.
act_on_messages() {
  case "$1" in
    list) printf 'nothing was moved\n' ;;
    move)
      printf '%s messages are back in the queue; the next worker tries them\n' "$(move_back "$DLQ_ARN" "$QUEUE_ARN")"
      ;;
    purge)
      [[ $2 == true ]] || confirm_purge
      call sqs purge-queue --queue-url "$QUEUE_URL"
      printf 'all messages of %s are deleted; ./sync.sh reconcile finds what they stood for\n' "$DLQ_NAME"
      ;;
  esac
}

redrive() {
  local action=move yes=false json=false messages
  while (($#)); do
    case "$1" in
      --list) action=list ;;
      --purge) action=purge ;;
      --yes) yes=true ;;
      --json) json=true ;;
      --help) print_redrive_help && return ;;
      *) usage "redrive: unknown option $1" ;;
    esac
    shift
  done
  start
  find_queue "$DLQ_NAME"
  messages=$(look_at_messages | with_keys | with_reasons)
  if [[ $json == true ]]; then printf '%s\n' "$messages"; else print_messages <<<"$messages"; fi
  [[ $messages != '[]' ]] || { say "the dead-letter queue is empty" && return; }
  act_on_messages "$action" "$yes" >&2
}

# --- start --------------------------------------------------------------------------------------------------------

start() {
  start_run
  check_tools
  check_account
  stop_on_problems
  RECONCILE_STARTED_BY=$APP_NAME-reconcile
}

use_local_cloud() {
  # shellcheck source=local/local.sh
  source "$PROJECT_DIR/local/local.sh"
  cloud_is_up || die "no local cloud is up: start it with ./deploy.sh --local"
  choose_settings
  use_cloud
  PATH="$LOCAL_DIR/bin:$PATH"
}

main() {
  if [[ ${1:-} == --local ]]; then
    use_local_cloud
    shift
  fi
  case "${1:-}" in
    status | logs | reconcile | redrive) "$@" ;;
    --help) print_help ;;
    '') usage "name a verb" ;;
    *) usage "unknown verb $1" ;;
  esac
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
