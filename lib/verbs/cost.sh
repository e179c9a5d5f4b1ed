# shellcheck shell=bash
# usage: ./sync.sh cost [--prices FILE] [--days N] [--json]
#        ./sync.sh cost --estimate [--files N] [--size SIZE]
#                       [--arrival spread|burst|once] [--keep GB]
#                       [--prices FILE] [--json]
#        ./sync.sh cost --reads DAYS [--top N | --folders LIST] [--yes]
#                       [--stop] [--prices FILE] [--json]
#
# What this deployment costs a month, and what settings would save.
#
# Prints it item by item. A task, which needs about a minute to start, lists both
# buckets once; meanwhile the logs are queried. That costs one list request for
# each 1,000 objects (0.005 USD for 1,000 requests to the source), a task of some
# minutes, and 0.005 USD for each GB of log, which is read four times. Nothing is
# changed. Ctrl-C stops the task, too.
#
#   --prices FILE  your own prices, all or some, in the format of
#                  lib/prices.json; also PRICES_FILE
#   --days N       the figures of the last N days (default 30, at most
#                  LOG_RETENTION_DAYS and 455)
#   --json         the same as JSON on stdout, everything else on stderr
#   --estimate     a month before anything is deployed, without AWS, from the
#                  settings and from: files a day, the size of each (100KB, 1GB),
#                  how they arrive (spread, burst; or once, as a backfill), GB
#                  kept (default: those of a month); asks for missing values
#   --reads DAYS   turns on S3's request metrics of the ten largest folders of the
#                  destination (--top N, or --folders a/,b/) for DAYS days, after
#                  it has shown the price and asked (--yes: without asking);
#                  while they are on: reports what is read, and turns them off
#                  after those days, or at once with --stop
#
# Each figure is marked: measured, rule (calculated from measured ones as in
# docs/costs.md), or assumed. The free tier belongs to the account, so it is
# shown in a line of its own. Taxes, KMS, and requests of audits are left out.
#
# Exit status: 0 done; 1 AWS refused something; 2 wrong usage; 3 the buckets
# could not be counted.

readonly IMAGE_GB=0.06 # about what the image takes in ECR

# Prices

# price_problems OURS THEIRS: what is wrong with a user's file, a line each.
price_problems() {
  jq -rs '. as [$ours, $theirs] | if ($theirs | type) != "object" then "it is not an object with the same fields" else
    ($theirs | keys - ($ours | keys) | .[] | "\(.) is not a field of it"),
    ("prices", "free_a_month") as $part | $theirs[$part] // {} | if type != "object" then "\($part) is not an object" else
      (keys - ($ours[$part] | keys) | .[] | "\(.) is not a name in its \($part)"),
      (to_entries[] | select(.value | type != "number" or . < 0)
        | "\(.key) is not a number such as 0.01: \(.value | tojson)")
    end end' "$@"
}

# merged_prices FILE: ours, or those of the user above ours. Ends the run if there is something wrong with them.
merged_prices() {
  local ours=$PROJECT_DIR/lib/prices.json said problems
  [[ -n $1 ]] || { cat "$ours" && return; }
  [[ -r $1 && ! -d $1 ]] || usage "cost: the prices cannot be read: there is no file $1"
  said=$(jq -s 'if length == 1 then empty else error("it has \(length) values instead of one") end' "$1" 2>&1) \
    || usage "cost: the prices in $1 are not JSON: $said"
  problems=$(price_problems "$ours" "$1")
  [[ -z $problems ]] || usage "cost: the prices in $1 do not match lib/prices.json: ${problems//$'\n'/; }"
  jq -s '. as [$ours, $theirs] | $ours * $theirs | .given = ($theirs.prices // {} | length)' "$ours" "$1"
}

# Figures

# metric_sum NAMESPACE METRIC NAME=VALUE: of the last COST_SECONDS, or null if CloudWatch has none.
metric_sum() {
  local end begin
  end=$(now)
  begin=$((end - COST_SECONDS))
  aws_or_die cloudwatch get-metric-statistics --namespace "$1" --metric-name "$2" --statistics Sum --period 86400 \
    --dimensions "Name=${3%%=*},Value=${3#*=}" --start-time "$(iso "$begin")" --end-time "$(iso "$end")" \
    | jq '[.Datapoints[]?.Sum] | add'
}

# Seconds of the figures: those asked for, or less if the queue is younger than that. Sets COST_SECONDS.
set_cost_seconds() {
  local url made
  url=$(existing_queue_url "$QUEUE_NAME")
  made=$(aws_or_die sqs get-queue-attributes --queue-url "$url" --attribute-names CreatedTimestamp \
    | jq -r '.Attributes.CreatedTimestamp | tonumber | floor')
  COST_SECONDS=$(($1 * 86400))
  if (($(now) - made < COST_SECONDS)); then
    COST_SECONDS=$(($(now) - made + 1))
    say "the deployment is younger than $1 days: the figures cover its whole time"
  fi
}

# What was copied and deleted; of large objects how many parts, at most.
synced_figures() {
  local all large
  all=$(query keys "$COST_SECONDS" "$(count_synced)")
  large=$(query keys "$COST_SECONDS" "$(count_synced "${MULTIPART_THRESHOLD:-${OTHERWISE[MULTIPART_THRESHOLD]}}")")
  printf '%s\n' "$all" "$large" | jq -s --argjson part "${PART_SIZE:-${OTHERWISE[PART_SIZE]}}" '
    def of($action; $field): [.[] | select(.action == $action)[$field] | tonumber] | add // 0;
    .[1] as $large | .[0] | {copies: of("copied"; "keys"), deletes: of("deleted"; "keys"),
      skipped: of("skipped"; "keys"), bytes: of("copied"; "bytes")}
    + ($large | of("copied"; "keys") as $count | {large: $count,
        parts: (of("copied"; "bytes") / $part + $count | floor)})'
}

# Tasks, and the seconds from the first line of each to its last.
task_figures() {
  local spans
  spans=$(query worker "$COST_SECONDS" \
    'stats min(@timestamp) as first, max(@timestamp) as last by @logStream | limit 10000')
  [[ $(jq length <<<"$spans") != 10000 ]] || say "there were more than 10,000 tasks: only 10,000 are counted"
  jq '
    def seconds: if test("^[0-9.Ee+]+$") then tonumber / 1000 else
      capture("^(?<day>\\S+)[ T](?<time>[0-9:]+)(?<part>[.][0-9]+)?")
      | ("\(.day)T\(.time)Z" | fromdateiso8601) + ("0" + (.part // "") | tonumber) end;
    {tasks: length, worker_seconds: (map((.last | seconds) - (.first | seconds)) | add // 0)}' <<<"$spans"
}

# All that was used in COST_SECONDS.
used_figures() {
  {
    synced_figures
    task_figures
    # The share of Spot among the workers that were started; null if none was.
    query starter "$COST_SECONDS" "fields @message | $(like "$STARTED_LINE") | sort @timestamp desc | limit 10000" \
      | jq '[.[]["@message"] | fromjson.started] | (map(.FARGATE_SPOT // 0) | add) as $spot
        | ($spot + (map(.FARGATE // 0) | add)) as $all
        | {spot_share: (if ($all // 0) > 0 then $spot / $all else null end)}'
    metric_sum AWS/Lambda Invocations "FunctionName=$STARTER_NAME" | jq '{runs: .}'
    metric_sum AWS/Lambda Duration "FunctionName=$STARTER_NAME" | jq '{run_seconds: (if . then . / 1000 else . end)}'
    {
      metric_sum AWS/Logs IncomingBytes "LogGroupName=$WORKER_LOG_GROUP"
      metric_sum AWS/Logs IncomingBytes "LogGroupName=$STARTER_LOG_GROUP"
    } | jq -s '{log_bytes: add}'
    starter_setting ANNOUNCE | jq -R '{announce: .}'
  } | jq -s 'add | .announced = (if .announce // "" | startswith("all") then .copies + .deletes else 0 end) | del(.announce)'
}

# Reads the rule that runs the starter, prints whether it is enabled, and how many minutes apart it fires; null if there
# is none.
shown_rule() {
  jq -s '.[0] | if . then {
    enabled: (.State | startswith("ENABLED")), minutes: (.ScheduleExpression | capture("(?<n>\\d+)").n | tonumber)} else . end'
}

# setup_of TASK: how the deployment is set up, by its resources and the task that runs.
setup_of() {
  local rule poll starter task image=$IMAGE_GB endpoints=0 dashboards=1
  rule=$(fact rule "$EVENT_RULE_NAME")
  poll=$(fact rule "$RULE_NAME" | shown_rule)
  starter=$(fact starter)
  task=$(describe_task "$1")
  [[ -z $IMAGE_URI ]] || image=0
  [[ $CREATE_VPC_ENDPOINTS == false ]] || endpoints=2
  [[ $DASHBOARD == true ]] || dashboards=0
  printf '%s\n' "${rule:-null}" "${poll:-null}" "$starter" "$task" \
    | jq -s --argjson image "$image" --argjson endpoints "$endpoints" --argjson dashboards "$dashboards" \
      --arg region "$REGION" --arg arch "$TASK_ARCH" --arg cpu "$TASK_CPU" --arg memory "$TASK_MEMORY" --arg rate "$LAMBDA_POLL_RATE" \
      "$(<"$PROJECT_DIR/lib/cost.jq")"'
    . as [$rule, $poll, $starter, $task] | ($starter.Environment.Variables // {}) as $given
    | {vcpus: ($task.cpu // $cpu | tonumber / 1024), memory_gb: ($task.memory // $memory | tonumber / 1024),
       function_gb: ($starter.MemorySize / 1024), poll_minutes: ($poll.minutes // ($rate | tonumber)),
       min_workers: ($given.MIN_WORKERS // "0" | tonumber), has_events: ($rule != null),
       alarms: alarms($rule != null; $given.AUDIT_DAYS != null; $given.METRICS != null), $dashboards,
       metrics: (if $given.METRICS then metrics else 0 end), function_copies: ($given.STARTER_COPIES == "true"),
       image_gb: $image, has_public_ip: ($given.ASSIGN_PUBLIC_IP == "ENABLED"), $endpoints, $region, $arch}'
}

# tell_cost DAYS PRICES_FILE JSON
tell_cost() {
  local prices setup used stored form='bill | table | folded(51)'
  prices=$(merged_prices "$2")
  start_verb
  need_starter
  set_cost_seconds "$1"
  trap 'stop_own_task cost' EXIT
  start_own_task "$APP_NAME-cost" measure
  say "task $OWN_TASK lists s3://$SRC_BUCKET and s3://$DST_BUCKET once; meanwhile the logs are read; its log:"
  setup=$(setup_of "$OWN_TASK")
  used=$(used_figures)
  follow_task "$OWN_TASK" >&2
  stored=$(summary_of_task "$OWN_TASK")
  OWN_TASK=""
  if [[ $(jq .status <<<"$stored") != 0 ]]; then
    say "cost: the buckets could not be counted, see above"
    return 3
  fi
  [[ $3 == false ]] || form='bill | rounded'
  printf '%s\n' "$prices" "$setup" "$used" "$stored" | jq -s --argjson seconds "$COST_SECONDS" '
    {prices: .[0], hours: ($seconds / 3600), setup: .[1], used: .[2], stored: .[3]}' \
    | jq -r "$JQ_TEXT $(<"$PROJECT_DIR/lib/cost.jq") $form"
}

verb_cost() {
  case " $* " in
    *" --estimate "*)
      estimate_cost "$@"
      return
      ;;
    *" --reads "*)
      reads_cost "$@"
      return
      ;;
  esac
  local days="" prices=${PRICES_FILE:-} json=false
  while (($#)); do
    case "$1" in
      --days)
        need_value "$1" "$#"
        days=$2
        [[ $days =~ ^[1-9][0-9]{0,3}$ ]] || usage "cost: --days $days is not a number of days such as 30"
        ((days <= LOG_RETENTION_DAYS)) \
          || usage "cost: --days $days is more than LOG_RETENTION_DAYS=$LOG_RETENTION_DAYS: older lines are gone"
        # CloudWatch User Guide, "Metrics retention"
        ((days <= 455)) || usage "cost: --days $days is more than 455: CloudWatch has no older figures"
        shift
        ;;
      --prices) need_value "$1" "$#" && prices=$2 && shift ;;
      --json) json=true ;;
      *) usage "cost: unknown option $1" ;;
    esac
    shift
  done
  tell_cost "${days:-$((LOG_RETENTION_DAYS < 30 ? LOG_RETENTION_DAYS : 30))}" "$prices" "$json"
}
