#!/usr/bin/env bash
# usage: ./deploy.sh [--dry-run [--json] [--detailed-exitcode]]
#        ./deploy.sh --local [--once]
#        ./deploy.sh --policy ROLE [--account ID]
#        ./deploy.sh --help, -h or help
#        ./deploy.sh --version
#
# Brings every AWS resource of the sync to the desired state. Safe to run again:
# the second run changes nothing.
#
#   --dry-run  print what exists, what would be created, and what would be
#              changed from what to what; write nothing
#   --json     with --dry-run: the same as JSON
#   --detailed-exitcode
#              with --dry-run: end with 0 if nothing would be changed, with 2
#              if something would, with 1 on an error
#   --local    run the whole chain on this machine, without an AWS account;
#              ./cleanup.sh --local ends it
#   --once     with --local: clean up at the end
#   --policy ROLE
#              print what IAM has to allow a deployer, an operator or a reader;
#              write nothing
#   --account ID
#              with --policy: the account, instead of that of your credentials
#   --version  print the release of this checkout
#
# Wrong usage, like a wrong setting, ends with exit status 2, or with 1 if
# --detailed-exitcode is given.
#
# The settings are at the top of deploy.sh, and each can be set in the
# environment instead. A deployment keeps them: the next run needs only REGION
# and APP_NAME, and NAME= ./deploy.sh takes the value of deploy.sh again.

# cleanup.sh and sync.sh source this file for its settings and for lib/; main runs only when it is executed.

# What is set already, as NAME=set, or NAME= for nothing: an empty name takes the value below (lib/record.sh).
NAMED=$(compgen -v | while read -r name; do printf '%s=%s\n' "$name" "${!name:+set}"; done)

# --- settings: edit here, or set the same name in the environment -----------------------------------------------

: "${REGION:=eu-west-1}"
: "${SRC_BUCKET:=your-standard-bucket}"
: "${DST_BUCKET:=your-express-bucket--euw1-az1--x-s3}"
: "${PREFIX_FILTER:=}"   # only keys under these prefixes, separated by commas; empty: all
: "${EXCLUDE:=}"         # no keys that match these, such as *.tmp,*/_temporary/*
: "${KEEP_DAYS:=}"       # only what changed within this many days; empty: everything
: "${EVENT_SOURCE:=sqs}" # sqs: the bucket's notification; eventbridge: a rule, which starts the starter at once
: "${COPY_LAST:=}"       # marker files, such as _SUCCESS,*.done: copied when everything else in their folder has been
: "${TABLES:=}"          # delta: a commit of a Delta table is copied after its files and the commit before it
: "${ANNOUNCE:=none}"    # events to EventBridge: none, markers, all (when in sync), failures (when given up)
: "${ROLLBACKS:=true}"   # false: trust listings (only if nobody permanently deletes versions)
: "${AUDIT_DAYS:=}"      # days between two comparisons of both buckets; empty: no automatic audits

: "${LAMBDA_POLL_RATE:=1}" # minutes between two checks of the queue
: "${MAX_WORKERS:=2}"
: "${MIN_WORKERS:=0}"          # this many workers always run, even if the queue is empty
: "${MESSAGES_PER_WORKER:=10}" # one worker is started for this many waiting messages
: "${EMPTY_POLLS_BEFORE_EXIT:=3}"
: "${VISIBILITY_TIMEOUT:=7200}"        # seconds
: "${VISIBILITY_EXTEND_INTERVAL:=300}" # seconds
: "${MAX_RECEIVES:=3}"                 # failed attempts before a message goes to the dead-letter queue
: "${TASK_CPU:=2048}"                  # 1024 is one vCPU
: "${TASK_MEMORY:=4096}"               # MiB
: "${TASK_ARCH:=ARM64}"                # ARM64 or X86_64
: "${STARTER_COPIES:=false}"           # true: while no worker runs, the function copies small objects itself
: "${STARTER_MAX_SIZE:=67108864}"      # bytes; larger objects are left to a worker

: "${SUBNETS:=}" # subnet IDs, separated by commas; empty: the public subnets of the default VPC
: "${ASSIGN_PUBLIC_IP:=ENABLED}"
: "${CREATE_VPC_ENDPOINTS:=false}"  # true: gateway endpoints for s3 and s3express in the subnets' route tables
: "${IMAGE_URI:=}"                  # an existing worker image; empty: build and push one
: "${BASE_IMAGE:=python:3.13-slim}" # what the image is built on; built again if this has a new digest
: "${ECR_REGISTRY:=}"               # empty: the account's own registry
: "${DOCKER_BUILD_FLAGS:=}"         # additional arguments for docker buildx build; never kept
: "${SRC_KMS_KEY_ARN:=}"            # the keys of an SSE-KMS source bucket, separated by commas
: "${DST_KMS_KEY_ARN:=}"            # the key of an SSE-KMS destination bucket
: "${SRC_BUCKET_OWNER:=}"           # account ID; empty: the account that deploys
: "${DST_BUCKET_OWNER:=}"
: "${LOG_RETENTION_DAYS:=30}"
: "${ALARM_EMAIL:=}"                  # alarms are sent to this address; empty: they are only displayed
: "${ALARM_AGE_SECONDS:=3600}"        # an alarm goes off if the oldest message is older
: "${METRICS:=false}"                 # true: metrics of the sync, and an alarm on keys that are late
: "${ALARM_LAG_SECONDS:=900}"         # a key is late if it is copied more than this long after its event
: "${DASHBOARD:=true}"                # false: no dashboard, which costs 3 USD a month if the account has three others
: "${APP_NAME:=s3-to-s3express-sync}" # every resource's name begins with it
: "${TAGS:=}"                         # on every resource, including tasks, such as team=ml,cost-center=42
: "${ROLE_PATH:=/}"                   # of the three roles, such as /ml/; it cannot be changed later
: "${ROLE_BOUNDARY_ARN:=}"            # a policy that limits what the three roles may do; empty: none

# Worker settings that reach the task only when they are set here; worker.py says what they mean.
: "${WAIT_TIME_SECONDS:=}"
: "${MULTIPART_THRESHOLD:=}"
: "${PART_SIZE:=}"
: "${MAX_CONCURRENT_PARTS:=}"
: "${MAX_CONCURRENT_KEYS:=}"
: "${RETRY_BASE_SECONDS:=}"
: "${COPY_TIMEOUT:=}"
: "${S3_CLIENT:=}"
: "${PROCESSES:=}" # empty: one for each vCPU of TASK_CPU
: "${LOG_LEVEL:=}"

: "${RETRY_PAUSE:=5}"  # seconds between two attempts of a call that AWS refuses temporarily
: "${RETRY_LIMIT:=60}" # attempts before giving up
: "${DRY_RUN:=false}"

# --- end of settings ----------------------------------------------------------------------------------------------

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  printf '%s needs Bash 4.4 or newer, this is %s (macOS: brew install bash)\n' "$0" "$BASH_VERSION" >&2
  exit 2
fi
set -euo pipefail
shopt -s inherit_errexit

# Standard error that was closed (2>&-): nobody wants messages, which is no error. Bash has read the script through it.
if [[ ! -e /dev/fd/2 || /dev/fd/2 -ef $0 ]]; then exec 2>/dev/null; fi

# Also through a symbolic link; readlink has no -f on macOS.
script=${BASH_SOURCE[0]}
while [[ -L $script ]]; do
  link=$(readlink "$script")
  [[ $link == /* ]] || link=$(dirname "$script")/$link
  script=$link
done
PROJECT_DIR=$(CDPATH="" cd "$(dirname "$script")" && pwd)
readonly PROJECT_DIR
unset script link

# Each file of lib/ only defines functions and constants; lib/ sources nothing, so all arrows go down from here. What
# only the operator's verbs need is sourced as well: it costs some milliseconds. ShellCheck follows no loop, but the one
# file that reads what stands above; tests/setup.sh has it read all of them.
for part in "$PROJECT_DIR"/lib/*.sh "$PROJECT_DIR"/lib/*/*.sh; do
  # shellcheck source=lib/record.sh
  source "$part"
done
unset part

# --- what is asked, checked and made, in this order ------------------------------------------------------------------

# Steps and checks go by these facts. What others may change at any time, and a step replaces as a whole, the step asks
# for again just before: the bucket's notifications, the lifecycle and its policy.
look_at_what_exists() {
  local questions=(
    source_location notifications directory_buckets bucket_lifecycle bucket_policy quota task_definition
    request_metrics all_of_function security_group alarms dashboard ecs_roles cluster "targets $RULE_NAME"
    "queue_attributes $QUEUE_NAME" "queue_attributes $DLQ_NAME"
    "role_policy $STARTER_ROLE" "role_policy $TASK_ROLE" "role_policy $EXEC_ROLE"
    "log_groups $STARTER_LOG_GROUP" "log_groups $WORKER_LOG_GROUP" "metric_filter $WORKER_LOG_GROUP $OUTAGE_ALARM"
  )
  [[ -n $IMAGE_URI ]] || questions+=(image repository_lifecycle)
  [[ $EVENT_SOURCE == sqs ]] || questions+=("targets $EVENT_RULE_NAME")
  [[ $CREATE_VPC_ENDPOINTS == false ]] || questions+=("of_vpc describe-vpc-endpoints" "of_vpc describe-route-tables")
  [[ -z $AUDIT_DAYS ]] \
    || questions+=("metric_filter $WORKER_LOG_GROUP $AUDIT_ALARM" "metric_filter $STARTER_LOG_GROUP $AUDIT_ALARM")
  if [[ -n $ALARM_EMAIL ]]; then questions+=(subscriptions); else questions+=(own_topic); fi
  say_while "      looking at what exists" ask_ahead "${questions[@]}"
}

# Prints the steps, one per line; each finds out for itself whether it is for this deployment. Alarms stop using a topic
# before it is removed. The sync works without what comes after the dashboard. The old way after a change of EVENT_SOURCE
# goes last, when the new one works.
list_steps() {
  local new_way=(ensure_notification) old_way=ensure_event_rule alarms=(ensure_topic ensure_alarms) endpoints=()
  [[ $EVENT_SOURCE == sqs ]] || new_way=(ensure_event_rule ensure_event_switch) old_way=ensure_notification
  [[ -n $ALARM_EMAIL ]] || alarms=(ensure_alarms ensure_topic)
  [[ $CREATE_VPC_ENDPOINTS == false ]] || endpoints=("ensure_vpc_endpoint s3" "ensure_vpc_endpoint s3express")
  printf '%s\n' "ensure_log_group $STARTER_LOG_GROUP" "ensure_log_group $WORKER_LOG_GROUP" "ensure_queue $DLQ_NAME" \
    "ensure_queue $QUEUE_NAME" "ensure_role $STARTER_ROLE" "ensure_role $TASK_ROLE" "ensure_role $EXEC_ROLE" \
    ensure_repository ensure_image ensure_ecs_role ensure_cluster ensure_loosened_lifecycle ensure_task_definition \
    ensure_security_group ${endpoints[@]+"${endpoints[@]}"} ensure_function ensure_rule \
    "${new_way[@]}" ensure_rights_ended "${alarms[@]}" ensure_dashboard ensure_version_tag \
    ensure_lifecycle ensure_no_overdue_reads "$old_way"
}

# All problems are reported at once, before anything is written. Checks of resources go by the facts; the others need no
# account.
look_and_check() {
  local check
  check_before_calls "${SETTINGS[@]}"
  stop_on_problems
  check_tools
  check_account deploys
  if ((${#PROBLEMS[@]} == 0)); then
    wanted >/dev/null # from now on it is known
    look_at_what_exists
    for check in check_source_bucket check_destination_bucket check_previous_source check_previous_destination \
      check_release check_roles check_network check_quota check_image; do
      "$check"
    done
  fi
  check_settings
  check_archive
  stop_on_problems
}

# --- deploying ----------------------------------------------------------------------------------------------------

print_next_commands() {
  printf '\nFrom now on, changes in\n  %s\nare copied to\n  s3://%s\nNext:\n' "$(synced_part)" "$DST_BUCKET"
  printf '  %-19s  %s\n' \
    "./sync.sh reconcile" "copies existing objects, and those that change in the" \
    "" "first five minutes: S3 may not send events yet; deletes" \
    "" "copies of ours that the source no longer has, and lists" \
    "" "what others wrote there" \
    "./sync.sh status" "shows whether everything works" \
    "./sync.sh logs" "shows what the workers do"
  [[ $DASHBOARD == false ]] || printf 'Dashboard:\nhttps://%s.console.aws.amazon.com/cloudwatch/home?region=%s#dashboards:name=%s\n' \
    "$REGION" "$REGION" "$DASHBOARD_NAME"
}

PLAN_FORMAT=text # or json: what a dry run prints on standard output

# EXIT trap of a run with --detailed-exitcode: 2 is not the status of a tool that failed, such as jq on a full disk.
end_in_detail() {
  local status=$?
  [[ $BASHPID == "$RUN_PID" ]] || return 0
  end_run
  ((status == 0 || status > 128)) || status=1
  exit "$status"
}

# Looks, plans, and carries the plan out. A subshell, so that a caller keeps its own variables and traps.
deploy_all() (
  local changes listed steps
  start_run
  [[ $DETAILED_EXITCODE == false ]] || trap end_in_detail EXIT
  [[ $PLAN_FORMAT == text ]] || exec {plan}>&1 >&2
  look_and_check
  tell_of_kept
  tell_of_lists
  listed=$(list_steps)
  mapfile -t steps <<<"$listed"
  make_plan "${steps[@]}"
  carry_out
  changes=$(plan_rows | jq 'any(.[]; .action != "none")')
  [[ $DRY_RUN == true || $changes == false ]] || tell_of_other_deployment
  [[ $DRY_RUN == true || -n ${LOCAL_ENGINE:-} ]] || print_next_commands # a local run ends with its own
  tell_of_change
  print_left
  [[ $PLAN_FORMAT == text ]] || print_plan >&"$plan"
  [[ $DETAILED_EXITCODE == false || $changes == false ]] || { trap end_run EXIT && exit 2; }
)

main() {
  local option local=false once=()
  [[ " $* " != *" --detailed-exitcode "* ]] || DETAILED_EXITCODE=true # also of what is wrong before it
  for option in "$@"; do
    case "$option" in
      --local) local=true ;;
      --once) once=("$option") ;;
      --dry-run) DRY_RUN=true ;;
      --json) PLAN_FORMAT=json ;;
      --detailed-exitcode) ;;
      --policy | --account)
        print_policy_of "$@"
        return
        ;;
      -h | --help | help)
        print_help "$PROJECT_DIR/deploy.sh"
        # The settings: what is too long for a line has its end in the next one.
        printf '\n'
        sed -En '/^# --- settings/,/^# --- end of settings/s/^: "\$\{(.*):=(.*)\}" *(.*)/  \1=\2  \3/p' \
          "$PROJECT_DIR/deploy.sh" | sed -E -e 's/ *$//' -e '/^.{81}/s/^(.{1,80}) +/\1\n      # /'
        return
        ;;
      --version)
        print_version
        return
        ;;
      *) usage "unknown option: $option" ;;
    esac
  done
  [[ $DRY_RUN == true || $PLAN_FORMAT$DETAILED_EXITCODE == textfalse ]] \
    || usage "--json and --detailed-exitcode need --dry-run"
  if [[ $local == true ]]; then
    [[ $DRY_RUN == false ]] || usage "--local has no dry run: leave out --dry-run, and unset DRY_RUN or set it to false"
    # shellcheck source=local/local.sh
    source "$PROJECT_DIR/local/local.sh"
    local_deploy ${once[@]+"${once[@]}"}
  else
    ((${#once[@]} == 0)) || usage "--once needs --local"
    say "deploy.sh: checking the settings, the account, and what exists"
    deploy_all
  fi
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
