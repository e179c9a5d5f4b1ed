#!/usr/bin/env bash
# Brings every AWS resource of the sync to the wanted state. Safe to run again: the second run changes nothing.
# cleanup.sh and sync.sh source this file for its settings, names and helpers; main runs only when it is executed.

# --- settings: edit here, or set the same name in the environment -----------------------------------------------

: "${REGION:=eu-west-1}"
: "${SRC_BUCKET:=your-standard-bucket}"
: "${DST_BUCKET:=your-express-bucket--euw1-az1--x-s3}"
: "${PREFIX_FILTER:=}" # only keys under this prefix; empty: all

: "${LAMBDA_POLL_RATE:=1}" # minutes between two looks at the queue
: "${MAX_WORKERS:=2}"
: "${MESSAGES_PER_WORKER:=10}" # one worker is started per so many messages
: "${EMPTY_POLLS_BEFORE_EXIT:=3}"
: "${VISIBILITY_TIMEOUT:=7200}"        # seconds
: "${VISIBILITY_EXTEND_INTERVAL:=300}" # seconds
: "${MAX_RECEIVES:=3}"                 # failures of a message before it goes to the dead-letter queue
: "${TASK_CPU:=2048}"                  # 1024 is one vCPU
: "${TASK_MEMORY:=4096}"               # MiB
: "${TASK_ARCH:=ARM64}"                # ARM64 or X86_64

: "${SUBNETS:=}" # subnet ids, comma separated; empty: the public subnets of the default VPC
: "${ASSIGN_PUBLIC_IP:=ENABLED}"
: "${CREATE_VPC_ENDPOINTS:=false}" # true: gateway endpoints for s3 and s3express in the subnets' route tables
: "${IMAGE_URI:=}"                 # a worker image that exists already; empty: build and push one
: "${ECR_REGISTRY:=}"              # empty: the account's own registry
: "${DOCKER_BUILD_FLAGS:=}"        # more words for docker buildx build
: "${SRC_KMS_KEY_ARN:=}"           # the key of an SSE-KMS source bucket
: "${DST_KMS_KEY_ARN:=}"           # the key of an SSE-KMS destination bucket
: "${SRC_BUCKET_OWNER:=}"          # account id; empty: the account that deploys
: "${DST_BUCKET_OWNER:=}"
: "${LOG_RETENTION_DAYS:=30}"
: "${ALARM_EMAIL:=}"                  # the alarms write to this address; empty: they only show
: "${ALARM_AGE_SECONDS:=3600}"        # older than that, the oldest message is an alarm
: "${APP_NAME:=s3-to-s3express-sync}" # every resource's name begins with it

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

: "${RETRY_PAUSE:=5}"  # seconds between two tries of a call that AWS refuses for the moment
: "${RETRY_LIMIT:=60}" # tries before giving up
: "${DRY_RUN:=false}"

# --- end of settings ----------------------------------------------------------------------------------------------

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  printf '%s needs Bash 4.4 or newer, this is %s (macOS: brew install bash)\n' "$0" "$BASH_VERSION" >&2
  exit 2
fi
set -euo pipefail
shopt -s inherit_errexit

PROJECT_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly PROJECT_DIR

# Those that are set reach the task.
readonly WORKER_SETTINGS=(
  REGION SRC_BUCKET DST_BUCKET QUEUE_URL PREFIX_FILTER SRC_BUCKET_OWNER DST_BUCKET_OWNER
  VISIBILITY_TIMEOUT VISIBILITY_EXTEND_INTERVAL EMPTY_POLLS_BEFORE_EXIT MAX_RECEIVES
  WAIT_TIME_SECONDS MULTIPART_THRESHOLD PART_SIZE MAX_CONCURRENT_PARTS MAX_CONCURRENT_KEYS
  RETRY_BASE_SECONDS COPY_TIMEOUT S3_CLIENT PROCESSES LOG_LEVEL
)
readonly IMAGE_INPUTS=(Dockerfile requirements.txt worker.py)
readonly NO_ARM64_ZONES='["use1-az3"]' # Amazon ECS Developer Guide, "64-bit ARM workloads": no Fargate there

# The oldest AWS CLI of each generation that knows directory buckets.
readonly OLDEST_AWS_CLI=('1 1.31.2' '2 2.14.2')
readonly OLDEST_BUILDX=0.10.0 # the first that can leave out attestations

# Setting, lowest and highest value, the same as in worker.py and starter.py, which would refuse others at every start.
readonly NUMBERS=(
  'LAMBDA_POLL_RATE 1 1440' 'MAX_WORKERS 1 1000' 'MESSAGES_PER_WORKER 1 1000000' 'EMPTY_POLLS_BEFORE_EXIT 1 1000'
  'VISIBILITY_TIMEOUT 2 43200' 'VISIBILITY_EXTEND_INTERVAL 1 43200' 'MAX_RECEIVES 1 1000'
  'TASK_CPU 256 32768' 'TASK_MEMORY 512 249856' 'WAIT_TIME_SECONDS 1 20' 'RETRY_BASE_SECONDS 1 3600'
  'COPY_TIMEOUT 1 900' 'MULTIPART_THRESHOLD 5242880 5368709120' 'PART_SIZE 5242880 5368709120'
  'MAX_CONCURRENT_PARTS 1 1024' 'MAX_CONCURRENT_KEYS 1 1024' 'PROCESSES 1 64' 'ALARM_AGE_SECONDS 60 1209600'
)

# vCPU units and the memory that Fargate has for them, in MiB: from, to, step (Amazon ECS Developer Guide, "Task size").
readonly FARGATE_SIZES=(
  '256 512 1024 512' '256 2048 2048 1' '512 1024 4096 1024' '1024 2048 8192 1024' '2048 4096 16384 1024'
  '4096 8192 30720 1024' '8192 16384 61440 4096' '16384 32768 122880 8192'
  '32768 61440 61440 1' '32768 122880 122880 1' '32768 249856 249856 1'
)
readonly SPOT_VCPU_QUOTA=L-36FBB829 # Service Quotas, AWS Fargate: Fargate Spot vCPU resource count

# CloudWatch Logs API reference, PutRetentionPolicy.
readonly RETENTION_DAYS=' 1 3 5 7 14 30 60 90 120 150 180 365 400 545 731 1096 1827 2192 2557 2922 3288 3653 '

# Error codes by which AWS says that a resource does not exist.
readonly NOT_FOUND=(
  ResourceNotFoundException NoSuchEntity AWS.SimpleQueueService.NonExistentQueue QueueDoesNotExist
  RepositoryNotFoundException ImageNotFoundException LifecyclePolicyNotFoundException ClusterNotFoundException
  NoSuchBucket NoSuchLifecycleConfiguration NoSuchBucketPolicy InvalidGroup.NotFound InvalidVpcEndpointId.NotFound
  DashboardNotFoundError ResourceNotFound NotFound
)

# Refusals that pass by themselves, as "call|error|what is waited for"; call and error are regular expressions.
readonly TRANSIENT=(
  'sqs create-queue|QueueDeletedRecently|the queue of this name was deleted less than 60 s ago'
  'ecs create-cluster|nable to assume the service linked role|ECS cannot use its service-linked role yet'
  'ecs .*-cluster.*|UpdateInProgressException|the cluster is being changed'
  'ecs delete-cluster|ClusterContainsTasksException|the last tasks are still ending'
  'lambda .*-function.*|cannot be assumed by Lambda|Lambda cannot assume the new role yet'
  'lambda .*|ResourceConflictException.*(in progress|Pending)|the function is being changed'
  's3api put-bucket-notification.*|Unable to validate the following destination|S3 does not see the queue policy yet, or another notification goes to what is gone'
  's3api put-bucket-.*|OperationAborted|another change of the bucket is in progress'
  'ec2 delete-security-group|DependencyViolation|the network interfaces of the last tasks are still there'
  'iam put-role-policy|NoSuchEntity|IAM does not see the new role yet'
  'iam delete-role|DeleteConflict|IAM does not see yet that the policies are gone'
)

# --- names --------------------------------------------------------------------------------------------------------

# Names follow from the settings when a command runs, so that a caller may still change the settings after sourcing.
set_names() {
  QUEUE_NAME=$APP_NAME-q
  DLQ_NAME=$APP_NAME-dlq
  STARTER_NAME=$APP_NAME-starter
  RULE_NAME=$APP_NAME-starter-rule
  CLUSTER_NAME=$APP_NAME-cluster
  TASK_FAMILY=$APP_NAME-task
  STARTER_ROLE=$APP_NAME-starter-role
  TASK_ROLE=$APP_NAME-task-role
  EXEC_ROLE=$APP_NAME-exec-role
  SECURITY_GROUP_NAME=$APP_NAME-sg
  DLQ_ALARM=$APP_NAME-dead-letters
  AGE_ALARM=$APP_NAME-behind
  STARTER_ALARM=$APP_NAME-starter-fails
  TOPIC_NAME=$APP_NAME-alarms
  DASHBOARD_NAME=$APP_NAME
  STARTER_LOG_GROUP=/aws/lambda/$STARTER_NAME
  WORKER_LOG_GROUP=/ecs/$TASK_FAMILY
  STARTED_BY=$APP_NAME-starter
  NOTIFICATION_ID=$APP_NAME
  LIFECYCLE_RULE_ID=$APP_NAME-abort-incomplete-uploads
}

# ARNs are made of names and the account, so that a dry run and a clean-up know them without the resource.
set_account() {
  ACCOUNT=$1
  : "${SRC_BUCKET_OWNER:=$ACCOUNT}" "${DST_BUCKET_OWNER:=$ACCOUNT}"
  QUEUE_ARN=arn:aws:sqs:$REGION:$ACCOUNT:$QUEUE_NAME
  DLQ_ARN=arn:aws:sqs:$REGION:$ACCOUNT:$DLQ_NAME
  STARTER_ARN=arn:aws:lambda:$REGION:$ACCOUNT:function:$STARTER_NAME
  RULE_ARN=arn:aws:events:$REGION:$ACCOUNT:rule/$RULE_NAME
  CLUSTER_ARN=arn:aws:ecs:$REGION:$ACCOUNT:cluster/$CLUSTER_NAME
  TASK_ROLE_ARN=arn:aws:iam::$ACCOUNT:role/$TASK_ROLE
  EXEC_ROLE_ARN=arn:aws:iam::$ACCOUNT:role/$EXEC_ROLE
  STARTER_ROLE_ARN=arn:aws:iam::$ACCOUNT:role/$STARTER_ROLE
  TOPIC_ARN=arn:aws:sns:$REGION:$ACCOUNT:$TOPIC_NAME
  REPOSITORY_ARN=arn:aws:ecr:$REGION:$ACCOUNT:repository/$APP_NAME
  DST_BUCKET_ARN=arn:aws:s3express:$REGION:$DST_BUCKET_OWNER:bucket/$DST_BUCKET
}

# --- calls to AWS -------------------------------------------------------------------------------------------------

# CLI v1 ignores AWS_ENDPOINT_URL for SQS, and would use a legacy endpoint there, which gives queues other URLs than
# CLI v2 does: an option says it to both. error_code() reads errors in the legacy format, whatever a user has chosen.
aws() {
  local url=${AWS_ENDPOINT_URL:-}
  if [[ -z $url && $1 == sqs ]]; then url=${AWS_ENDPOINT_URL_SQS:-https://sqs.$REGION.amazonaws.com}; fi
  AWS_PAGER="" AWS_CLI_ERROR_FORMAT=legacy command aws ${url:+--endpoint-url "$url"} --region "$REGION" --output json "$@"
}

say() { printf '%s\n' "$*" >&2; }

die() {
  say "${0##*/}: $*"
  exit 1
}

# Runs aws "$@": what it prints goes through, what it complains about is kept in AWS_ERROR.
try_aws() {
  AWS_ERROR=""
  { AWS_ERROR=$(aws "$@" 2>&1 >&3); } 3>&1
}

error_code() {
  local pattern='An error occurred \(([^)]*)\) when calling'
  if [[ $AWS_ERROR =~ $pattern ]]; then printf '%s\n' "${BASH_REMATCH[1]}"; fi
}

aws_failed() { die "${RESOURCE:+$RESOURCE: }aws $1 $2 failed: $(sed '/^$/d' <<<"$AWS_ERROR")"; }

is_not_found() { [[ " ${NOT_FOUND[*]} " == *" $(error_code) "* ]]; }

# Prints what AWS is waited for, or nothing when the error of aws "$@" is final.
transient_reason() {
  local row operation error reason
  for row in "${TRANSIENT[@]}"; do
    operation=${row%%|*} reason=${row##*|} error=${row#*|}
    error=${error%|*}
    if [[ "$1 $2" =~ ^$operation$ && $AWS_ERROR =~ $error ]]; then
      printf '%s\n' "$reason"
      return
    fi
  done
}

# pause TRY REASON: the visible wait between two tries; fails after the last one.
pause() {
  (($1 < RETRY_LIMIT)) || return 1
  say "      waiting: $2 (try $1 of $RETRY_LIMIT, next in $RETRY_PAUSE s)"
  sleep "$RETRY_PAUSE"
}

# Runs aws "${@:2}" until it succeeds; only the refusals in TRANSIENT are tried again. With "missing-is-fine" as the
# first argument the answer that the resource does not exist is a success without output.
request() {
  local reason try
  for ((try = 1; ; try++)); do
    if try_aws "${@:2}"; then return; fi
    if [[ $1 == missing-is-fine ]] && is_not_found; then return; fi
    reason=$(transient_reason "${@:2}")
    if [[ -z $reason ]] || ! pause "$try" "$reason"; then aws_failed "${@:2}"; fi
  done
}

# Prints what aws "$@" answers; any error ends the run.
call() { request missing-is-an-error "$@"; }

# The same, but prints nothing when the resource does not exist.
lookup() { request missing-is-fine "$@"; }

# Prints what aws "$@" answers; fails and prints the error when AWS refuses.
ask() {
  try_aws "$@" || {
    sed '/^$/d' <<<"$AWS_ERROR"
    return 1
  }
}

# --- one line per resource ----------------------------------------------------------------------------------------

begin() {
  RESOURCE="$1 $2"
  CREATED=false
  CHANGES=()
  STEP=$((STEP + 1))
}

# Every write goes through here; a dry run makes none. What the command prints is left in OUTPUT.
write() {
  OUTPUT=""
  [[ $DRY_RUN == true ]] || OUTPUT=$("$@")
}

# create COMMAND...: the resource does not exist, the command makes it.
create() {
  CREATED=true
  write "$@"
}

# change WHAT COMMAND...: the resource differs in WHAT, the command mends it.
change() {
  CHANGES+=("$1")
  write "${@:2}"
}

# finish [STATE]: prints the line; STATE is what it says of a resource that was neither created nor changed.
finish() {
  local state=${1:-exists} created=created changed=changed
  [[ $DRY_RUN == false ]] || created="would create" changed="would change"
  if [[ $CREATED == true ]]; then
    state=$created
  elif ((${#CHANGES[@]})); then
    state="$changed ($(join ', ' "${CHANGES[@]}"))"
  fi
  printf '[%d/%d] %s: %s\n' "$STEP" "$STEPS_TOTAL" "$RESOURCE" "$state"
  RESOURCE=""
}

join() {
  local separator=$1 joined=$2
  shift 2
  joined+=$(printf '%s' "${@/#/$separator}")
  printf '%s\n' "$joined"
}

# --- comparing ----------------------------------------------------------------------------------------------------

same_json() { jq -ne --argjson one "${1:-null}" --argjson two "${2:-null}" '$one == $two' >/dev/null; }

# Prints the members of object WANT that differ in HAVE; members that only HAVE has (defaults of AWS) do not count.
differing() {
  jq -rn --argjson want "$1" --argjson have "${2:-null}" '
    def same($have): . as $want |
      if type == "object" then ($have | type) == "object" and all(keys[]; . as $k | $want[$k] | same($have[$k]))
      elif type == "array" then ($have | type) == "array" and length == ($have | length)
        and all(range(length); . as $i | $want[$i] | same($have[$i]))
      else . == $have end;
    [$want | keys[] | select(. as $k | $want[$k] | same($have[$k]) | not)] | join(", ")'
}

# Prints the settings named by the arguments as a JSON object.
settings_json() {
  local name pairs=()
  for name in "$@"; do pairs+=("$name=${!name}"); done
  printf '%s\n' "${pairs[@]}" | jq -Rn '[inputs | capture("^(?<key>[^=]*)=(?<value>.*)$")] | from_entries'
}

# --- checks: all of them run before the first write, and all problems are told at once ------------------------------

problem() { PROBLEMS+=("$*"); }

# is_at_least VERSION OLDEST
is_at_least() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]; }

# "command -v" would find the function aws.
check_tool() { type -P "$1" >/dev/null || problem "$1 is not installed: $2"; }

check_aws_cli() {
  local version row generation oldest
  if ! type -P aws >/dev/null; then
    problem "the AWS CLI (aws) is not installed: install version 1 or 2"
    return
  fi
  if ! version=$(command aws --version 2>&1) || [[ ! $version =~ aws-cli/([0-9]+\.[0-9.]+) ]]; then
    problem "aws --version says \"$version\": not an AWS CLI that works"
    return
  fi
  version=${BASH_REMATCH[1]}
  for row in "${OLDEST_AWS_CLI[@]}"; do
    read -r generation oldest <<<"$row"
    [[ ${version%%.*} != "$generation" ]] || is_at_least "$version" "$oldest" \
      || problem "AWS CLI $version does not know directory buckets: install $oldest or newer"
  done
}

check_tools() {
  check_aws_cli
  check_tool jq "install the package jq"
  check_tool python3 "install Python 3 (it packs starter.py)"
}

check_docker() {
  local version
  version=$(docker buildx version 2>&1) || version="not found"
  if [[ ! $version =~ [\ v]([0-9]+\.[0-9.]+) ]]; then # "v0.13.1", Debian says "0.13.1+ds1"
    problem "docker buildx ($version) is needed to build the image: install Docker with buildx, or set IMAGE_URI"
  elif ! is_at_least "${BASH_REMATCH[1]}" "$OLDEST_BUILDX"; then
    problem "docker buildx ${BASH_REMATCH[1]} is too old: install $OLDEST_BUILDX or newer, or set IMAGE_URI"
  elif ! version=$(docker version --format '{{.Server.Version}}' 2>&1); then
    problem "no Docker engine answers (${version##*$'\n'}): start it, or set IMAGE_URI"
  fi
}

is_number() { [[ $1 =~ ^(0|[1-9][0-9]{0,11})$ ]]; }

check_numbers() {
  local row name lowest highest
  for row in "${NUMBERS[@]}"; do
    read -r name lowest highest <<<"$row"
    [[ -n ${!name} ]] || continue
    if ! is_number "${!name}" || ((${!name} < lowest || ${!name} > highest)); then
      problem "$name=${!name}: set a whole number from $lowest to $highest"
    fi
  done
}

# check_pattern NAME PATTERN MEANING
check_pattern() { [[ ${!1} =~ ^($2)$ ]] || problem "$1=${!1}: set $3"; }

check_words() {
  check_pattern REGION '[a-z]{2}(-[a-z]+)+-[0-9]' "a Region such as eu-west-1"
  check_pattern SRC_BUCKET '[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]' "the name of a standard bucket"
  check_pattern APP_NAME '[a-z][a-z0-9-]{1,49}' "2 to 50 lower-case letters, digits and hyphens"
  check_pattern TASK_ARCH 'ARM64|X86_64' "ARM64 or X86_64"
  check_pattern ASSIGN_PUBLIC_IP 'ENABLED|DISABLED' "ENABLED or DISABLED"
  check_pattern CREATE_VPC_ENDPOINTS 'true|false' "true or false"
  check_pattern SRC_BUCKET_OWNER '([0-9]{12})?' "the 12 digits of an AWS account, or nothing"
  check_pattern DST_BUCKET_OWNER '([0-9]{12})?' "the 12 digits of an AWS account, or nothing"
  check_pattern PREFIX_FILTER '[^*?$]*' "a prefix without * ? and \$, which IAM would read as wildcards"
  check_pattern SRC_KMS_KEY_ARN '(arn:aws:kms:[^:]+:[0-9]{12}:key/.+)?' "the ARN of a KMS key (not of an alias)"
  check_pattern DST_KMS_KEY_ARN '(arn:aws:kms:[^:]+:[0-9]{12}:key/.+)?' "the ARN of a KMS key (not of an alias)"
  check_pattern S3_CLIENT '(crt|boto3)?' "crt or boto3, or nothing"
  check_pattern LOG_LEVEL '(DEBUG|INFO|WARNING|ERROR)?' "DEBUG, INFO, WARNING or ERROR, or nothing"
  check_pattern ALARM_EMAIL '([^@[:space:]]+@[^@[:space:]]+)?' "a mail address, or nothing"
  [[ $RETENTION_DAYS == *" $LOG_RETENTION_DAYS "* ]] \
    || problem "LOG_RETENTION_DAYS=$LOG_RETENTION_DAYS: set one of$RETENTION_DAYS"
}

# A message of a worker that died must not come back while its copy may still be running in S3 (worker.py has the same
# check, with the same default).
check_timeouts() {
  local lowest=${COPY_TIMEOUT:-900}
  is_number "$VISIBILITY_TIMEOUT" && is_number "$VISIBILITY_EXTEND_INTERVAL" && is_number "$lowest" || return 0
  lowest=$((lowest + VISIBILITY_EXTEND_INTERVAL))
  ((lowest <= VISIBILITY_TIMEOUT)) || problem "VISIBILITY_TIMEOUT=$VISIBILITY_TIMEOUT: set at least $lowest," \
    "VISIBILITY_EXTEND_INTERVAL plus COPY_TIMEOUT, or messages come back while their copies still run"
}

check_task_size() {
  local row cpu from to step sizes=()
  is_number "$TASK_CPU" && is_number "$TASK_MEMORY" || return 0
  for row in "${FARGATE_SIZES[@]}"; do
    read -r cpu from to step <<<"$row"
    ((cpu == TASK_CPU)) || continue
    ((TASK_MEMORY < from || TASK_MEMORY > to || (TASK_MEMORY - from) % step)) || return 0
    sizes+=("$from to $to in steps of $step")
  done
  problem "TASK_CPU=$TASK_CPU with TASK_MEMORY=$TASK_MEMORY is no Fargate size: for this CPU set TASK_MEMORY to" \
    "${sizes[*]:-nothing; TASK_CPU has to be 256, 512, 1024, 2048, 4096, 8192, 16384 or 32768}"
}

check_settings() {
  check_numbers
  check_words
  check_timeouts
  check_task_size
}

# Leaves the account in ACCOUNT and all ARNs.
check_account() {
  local identity
  ((${#PROBLEMS[@]} == 0)) || return 0 # a tool is missing
  if ! identity=$(ask sts get-caller-identity); then
    problem "no usable AWS credentials: $identity; run aws configure, or set AWS_PROFILE"
    return
  fi
  set_account "$(jq -r .Account <<<"$identity")"
}

check_source_bucket() {
  local answer region
  if ! answer=$(ask s3api get-bucket-location --bucket "$SRC_BUCKET" --expected-bucket-owner "$SRC_BUCKET_OWNER"); then
    problem "SRC_BUCKET=$SRC_BUCKET: $answer; set a bucket that exists and belongs to account $SRC_BUCKET_OWNER" \
      "(SRC_BUCKET_OWNER)"
    return
  fi
  region=$(jq -r '.LocationConstraint // "us-east-1" | if . == "EU" then "eu-west-1" else . end' <<<"$answer")
  [[ $region == "$REGION" ]] || problem "SRC_BUCKET=$SRC_BUCKET is in $region, and S3 sends events only to a queue in" \
    "its own Region: set REGION=$region and a destination there"
  check_notifications
}

# Zone ids begin with a short form of the Region: eu-north-1 has eun1-az1.
zone_prefix() { sed -E 's/north/n/; s/south/s/; s/east/e/; s/west/w/; s/central/c/; s/-//g' <<<"$REGION"; }

check_destination_bucket() {
  local buckets
  if [[ ! $DST_BUCKET =~ ^[a-z0-9][a-z0-9-]*--([a-z0-9]+-az[0-9]+)--x-s3$ ]]; then
    problem "DST_BUCKET=$DST_BUCKET: set the name of a directory bucket, such as mirror--$(zone_prefix)-az1--x-s3"
  elif [[ ${BASH_REMATCH[1]%-*} != "$(zone_prefix)" ]]; then
    problem "DST_BUCKET=$DST_BUCKET is in the zone ${BASH_REMATCH[1]}, which is not in REGION=$REGION: both buckets" \
      "have to be in one Region"
  elif [[ $DST_BUCKET_OWNER != "$ACCOUNT" ]]; then
    say "      DST_BUCKET=$DST_BUCKET is not checked: it belongs to account $DST_BUCKET_OWNER"
  elif ! buckets=$(ask s3api list-directory-buckets); then
    problem "DST_BUCKET=$DST_BUCKET: $buckets"
  elif ! jq -e --arg name "$DST_BUCKET" 'any(.Buckets[]?; .Name == $name)' <<<"$buckets" >/dev/null; then
    problem "DST_BUCKET=$DST_BUCKET does not exist in account $ACCOUNT: create it, or set DST_BUCKET"
  fi
}

# Two notifications for the same event may not cover the same key (S3 User Guide, "Configuring event notifications
# using object key name filtering"); S3 would refuse ours as the last step.
overlapping_notifications() {
  jq -r --argjson ours "$(notification)" '
    def filters($name): [.Filter.Key.FilterRules[]? | select(.Name | ascii_downcase == $name).Value][0] // "";
    def meet($one; $two): ($one | startswith($two)) or ($two | startswith($one));
    def same_event($one; $two): ($one == $two)
      or (($one | split(":")[1]) == ($two | split(":")[1]) and any($one, $two; endswith(":*")));
    (.QueueConfigurations // []) + (.TopicConfigurations // []) + (.LambdaFunctionConfigurations // [])
    | map(select(.Id != $ours.Id and meet(filters("prefix"); $ours | filters("prefix"))
      and any(.Events[] as $one | $ours.Events[] as $two | same_event($one; $two); .)))[]
    | "\(.Id) (\(.Events | join(", ")), prefix \"\(filters("prefix"))\")"' <<<"$1"
}

# Prints the queue that a notification of our name goes to, where that is not ours.
foreign_queue() {
  jq -r --argjson ours "$(notification)" '.QueueConfigurations[]?
    | select(.Id == $ours.Id and .QueueArn != $ours.QueueArn).QueueArn' <<<"$1"
}

check_notifications() {
  local have overlap other
  if ! have=$(ask s3api get-bucket-notification-configuration --bucket "$SRC_BUCKET" \
    --expected-bucket-owner "$SRC_BUCKET_OWNER"); then
    problem "SRC_BUCKET=$SRC_BUCKET: $have"
    return
  fi
  other=$(foreign_queue "${have:-"{}"}")
  [[ -z $other ]] || problem "APP_NAME=$APP_NAME: SRC_BUCKET=$SRC_BUCKET has a notification of this name already, to" \
    "the queue $other of another deployment: set another APP_NAME"
  while read -r overlap; do
    [[ -z $overlap ]] || problem "SRC_BUCKET=$SRC_BUCKET has the notification $overlap, and S3 allows only one per" \
      "event and key: set PREFIX_FILTER to keys it does not cover, or let it publish to SNS and subscribe both"
  done <<<"$(overlapping_notifications "${have:-"{}"}")"
}

# Queue of an earlier run with another SRC_BUCKET, whose notification nobody would remove.
check_previous_source() {
  local url attributes bucket
  url=$(lookup sqs get-queue-url --queue-name "$QUEUE_NAME" | jq -r .QueueUrl)
  [[ -n $url ]] || return 0
  attributes=$(lookup sqs get-queue-attributes --queue-url "$url" --attribute-names Policy)
  bucket=$(jq -r '.Attributes.Policy // "{}" | fromjson | .Statement[0].Condition.ArnLike["aws:SourceArn"] // ""
    | split(":")[-1] // ""' <<<"${attributes:-null}")
  [[ -z $bucket || $bucket == "$SRC_BUCKET" ]] || problem "SRC_BUCKET=$SRC_BUCKET, but the queue $QUEUE_NAME gets the" \
    "events of $bucket: to leave that, run cleanup.sh with SRC_BUCKET=$bucket first; or set another APP_NAME"
}

# Role names are the account's, all other names are the Region's.
check_roles() {
  local name role
  for name in "$STARTER_ROLE" "$TASK_ROLE" "$EXEC_ROLE"; do
    role=$(lookup iam get-role --role-name "$name")
    [[ -z $role ]] || jq -e --arg app "$APP_NAME" --arg region "$REGION" \
      '.Role.Tags // [] | from_entries | .app == $app and .region == $region' <<<"$role" >/dev/null \
      || problem "APP_NAME=$APP_NAME: its role $name belongs to someone else or to another Region, where role names" \
        "are the same (it lacks the tags app=$APP_NAME region=$REGION): set another APP_NAME"
  done
}

find_subnets() {
  local ids vpc
  if [[ -n $SUBNETS ]]; then
    IFS=', ' read -ra ids <<<"$SUBNETS"
    ask ec2 describe-subnets --subnet-ids "${ids[@]}"
  else
    vpc=$(ask ec2 describe-vpcs --filters Name=is-default,Values=true) || { printf '%s\n' "$vpc" && return 1; }
    vpc=$(jq -r '.Vpcs[0].VpcId // empty' <<<"$vpc")
    [[ -n $vpc ]] || { printf 'the account has no default VPC in %s\n' "$REGION" && return 1; }
    ask ec2 describe-subnets --filters "Name=vpc-id,Values=$vpc"
  fi
}

# Leaves the subnets for tasks in TASK_SUBNETS (at most 16, comma separated) and their VPC in VPC.
check_network() {
  local answer usable
  if ! answer=$(find_subnets); then
    problem "SUBNETS=$SUBNETS: $answer; set SUBNETS to subnets that reach the internet or AWS's endpoints"
    return
  fi
  usable=$(jq -c --argjson zones "$NO_ARM64_ZONES" --arg arch "$TASK_ARCH" --arg chosen "$SUBNETS" '[.Subnets[]
    | select($chosen != "" or .MapPublicIpOnLaunch)
    | select($arch != "ARM64" or ([.AvailabilityZoneId] | inside($zones) | not))]' <<<"$answer")
  VPC=$(jq -r 'map(.VpcId) | unique | join(" ")' <<<"$usable")
  TASK_SUBNETS=$(jq -r 'map(.SubnetId) | sort | .[:16] | join(",")' <<<"$usable")
  [[ $VPC != *" "* ]] || problem "SUBNETS=$SUBNETS are in several VPCs ($VPC): set subnets of one"
  [[ -n $VPC ]] || problem "SUBNETS=$SUBNETS: no public subnet of the default VPC, or none of these, has $TASK_ARCH" \
    "capacity: set SUBNETS to subnets in other zones, or TASK_ARCH=X86_64"
}

check_quota() {
  local answer quota
  is_number "$MAX_WORKERS" && is_number "$TASK_CPU" || return 0
  if ! answer=$(ask service-quotas get-service-quota --service-code fargate --quota-code "$SPOT_VCPU_QUOTA"); then
    say "      the Fargate Spot quota is not checked: $answer"
    return
  fi
  quota=$(jq '.Quota.Value | floor' <<<"$answer")
  ((MAX_WORKERS * TASK_CPU <= quota * 1024)) || problem "MAX_WORKERS=$MAX_WORKERS with TASK_CPU=$TASK_CPU needs" \
    "$(((MAX_WORKERS * TASK_CPU + 1023) / 1024)) vCPUs, the account's Fargate Spot quota is $quota: lower one of" \
    "them, or ask for more (Service Quotas, $SPOT_VCPU_QUOTA)"
}

check_image() {
  local image
  [[ -z $IMAGE_URI ]] || return 0
  image=$(find_image)
  [[ -n $image ]] || check_docker
}

# Needs an account, and leaves what the steps need: its ARNs, the subnets, the image's name.
check_resources() {
  check_source_bucket
  check_destination_bucket
  check_previous_source
  check_roles
  check_network
  check_quota
  set_image
  check_image
}

check_all() {
  check_tools
  check_account
  ((${#PROBLEMS[@]})) || check_resources
  check_settings
  stop_on_problems
}

stop_on_problems() {
  ((${#PROBLEMS[@]})) || return 0
  say "${0##*/}: nothing was changed, because"
  printf -- '- %s\n' "${PROBLEMS[@]}" >&2
  exit 2
}

# --- steps: log groups --------------------------------------------------------------------------------------------

ensure_log_group() {
  local group
  begin "log group" "$1"
  group=$(lookup logs describe-log-groups --log-group-name-prefix "$1")
  group=$(jq -c --arg name "$1" '.logGroups[] | select(.logGroupName == $name)' <<<"$group")
  [[ -n $group ]] || create call logs create-log-group --log-group-name "$1" --tags "app=$APP_NAME"
  [[ $(jq '.retentionInDays' <<<"${group:-null}") == "$LOG_RETENTION_DAYS" ]] \
    || change retention call logs put-retention-policy --log-group-name "$1" --retention-in-days "$LOG_RETENTION_DAYS"
  finish
}

ensure_starter_log_group() { ensure_log_group "$STARTER_LOG_GROUP"; }

ensure_worker_log_group() { ensure_log_group "$WORKER_LOG_GROUP"; }

# --- steps: queues ------------------------------------------------------------------------------------------------

# An expiring message is counted from its first queue on, so both queues keep messages for the 14 days that SQS allows.
dlq_attributes() {
  jq -n '{MessageRetentionPeriod: "1209600", ReceiveMessageWaitTimeSeconds: "20", SqsManagedSseEnabled: "true"}'
}

queue_policy() {
  jq -nc --arg queue "$QUEUE_ARN" --arg bucket "$SRC_BUCKET" --arg owner "$SRC_BUCKET_OWNER" '{
    Version: "2012-10-17",
    Statement: [{
      Sid: "s3-events", Effect: "Allow", Principal: {Service: "s3.amazonaws.com"},
      Action: "sqs:SendMessage", Resource: $queue,
      Condition: {
        ArnLike: {"aws:SourceArn": "arn:aws:s3:*:*:\($bucket)"},
        StringEquals: {"aws:SourceAccount": $owner}}}]}'
}

queue_attributes() {
  jq -n --argjson base "$(dlq_attributes)" --arg visibility "$VISIBILITY_TIMEOUT" --arg policy "$(queue_policy)" \
    --arg dlq "$DLQ_ARN" --arg receives "$MAX_RECEIVES" '$base + {
      VisibilityTimeout: $visibility, Policy: $policy,
      RedrivePolicy: ({deadLetterTargetArn: $dlq, maxReceiveCount: $receives | tonumber} | tojson)}'
}

# SQS may print the JSON inside an attribute in its own way; differing() compares what it says.
parsed_attributes() {
  jq -c '.Attributes // . | with_entries(select(.key == "Policy" or .key == "RedrivePolicy").value |= fromjson)
    | if .RedrivePolicy then .RedrivePolicy.maxReceiveCount |= tonumber else . end' <<<"$1"
}

# ensure_queue KIND NAME ATTRIBUTES: leaves the queue's URL in QUEUE_URL. A queue that was deleted a moment ago may
# still have a URL, but no attributes.
ensure_queue() {
  local have="" different
  begin "$1" "$2"
  QUEUE_URL=$(lookup sqs get-queue-url --queue-name "$2" | jq -r .QueueUrl)
  [[ -z $QUEUE_URL ]] || have=$(lookup sqs get-queue-attributes --queue-url "$QUEUE_URL" --attribute-names All)
  if [[ -z $have ]]; then
    create call sqs create-queue --queue-name "$2" --attributes "$3" --tags "app=$APP_NAME"
    QUEUE_URL=$(jq -rn --argjson made "${OUTPUT:-null}" --arg later "https://sqs.$REGION.amazonaws.com/$ACCOUNT/$2" \
      '$made.QueueUrl // $later')
  else
    different=$(differing "$(parsed_attributes "$3")" "$(parsed_attributes "$have")")
    [[ -z $different ]] \
      || change "$different" call sqs set-queue-attributes --queue-url "$QUEUE_URL" --attributes "$3"
  fi
  finish
}

ensure_dlq() { ensure_queue "dead-letter queue" "$DLQ_NAME" "$(dlq_attributes)"; }

ensure_source_queue() { ensure_queue queue "$QUEUE_NAME" "$(queue_attributes)"; }

# --- steps: roles -------------------------------------------------------------------------------------------------

lambda_trust() {
  jq -n '{Version: "2012-10-17", Statement: [
    {Effect: "Allow", Principal: {Service: "lambda.amazonaws.com"}, Action: "sts:AssumeRole"}]}'
}

# Amazon ECS Developer Guide, "Task IAM role": one cluster cannot be named, the account's ECS in this region can.
ecs_trust() {
  jq -n --arg account "$ACCOUNT" --arg ecs "arn:aws:ecs:$REGION:$ACCOUNT:*" '{Version: "2012-10-17", Statement: [
    {Effect: "Allow", Principal: {Service: "ecs-tasks.amazonaws.com"}, Action: "sts:AssumeRole",
     Condition: {ArnLike: {"aws:SourceArn": $ecs}, StringEquals: {"aws:SourceAccount": $account}}}]}'
}

starter_policy() {
  jq -n --arg queue "$QUEUE_ARN" --arg cluster "$CLUSTER_ARN" \
    --arg definition "arn:aws:ecs:$REGION:$ACCOUNT:task-definition/$TASK_FAMILY:*" \
    --arg task_role "$TASK_ROLE_ARN" --arg exec_role "$EXEC_ROLE_ARN" \
    --arg logs "arn:aws:logs:$REGION:$ACCOUNT:log-group:$STARTER_LOG_GROUP:*" '
    {ArnEquals: {"ecs:cluster": $cluster}} as $our_cluster |
    {Version: "2012-10-17", Statement: [
      {Effect: "Allow", Action: "sqs:GetQueueAttributes", Resource: $queue},
      {Effect: "Allow", Action: "ecs:RunTask", Resource: $definition, Condition: $our_cluster},
      {Effect: "Allow", Action: "ecs:ListTasks", Resource: "*", Condition: $our_cluster},
      {Effect: "Allow", Action: "iam:PassRole", Resource: [$task_role, $exec_role],
       Condition: {StringEquals: {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}},
      {Effect: "Allow", Action: ["logs:CreateLogStream", "logs:PutLogEvents"], Resource: $logs}]}'
}

# Without s3:ListBucket a missing key answers 403 instead of 404 (S3 API reference, HeadObject).
task_policy() {
  jq -n --arg queue "$QUEUE_ARN" --arg source "arn:aws:s3:::$SRC_BUCKET" --arg prefix "$PREFIX_FILTER" \
    --arg destination "$DST_BUCKET_ARN" --arg source_key "$SRC_KMS_KEY_ARN" --arg destination_key "$DST_KMS_KEY_ARN" '
    {Version: "2012-10-17", Statement: ([
      {Effect: "Allow", Resource: $queue,
       Action: ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:SendMessage"]},
      {Effect: "Allow", Action: "s3:GetObject", Resource: "\($source)/\($prefix)*"},
      {Effect: "Allow", Action: "s3:ListBucket", Resource: $source},
      {Effect: "Allow", Action: "s3express:CreateSession", Resource: $destination}]
      + if $source_key == "" then [] else
        [{Effect: "Allow", Action: "kms:Decrypt", Resource: $source_key}] end
      + if $destination_key == "" then [] else
        [{Effect: "Allow", Action: ["kms:GenerateDataKey", "kms:Decrypt"], Resource: $destination_key}] end)}'
}

# Prints the ARN of the repository that the worker's image is pulled from, or nothing for an image outside ECR.
image_repository_arn() {
  if [[ $WORKER_IMAGE =~ ^([0-9]{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com/([^:@]+) ]]; then
    printf 'arn:aws:ecr:%s:%s:repository/%s\n' "${BASH_REMATCH[2]}" "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]}"
  elif [[ -z $IMAGE_URI ]]; then
    printf '%s\n' "$REPOSITORY_ARN"
  fi
}

exec_policy() {
  jq -n --arg logs "arn:aws:logs:$REGION:$ACCOUNT:log-group:$WORKER_LOG_GROUP:*" \
    --arg repository "$(image_repository_arn)" '
    {Version: "2012-10-17", Statement: (
      [{Effect: "Allow", Action: ["logs:CreateLogStream", "logs:PutLogEvents"], Resource: $logs}]
      + if $repository == "" then [] else [
        {Effect: "Allow", Action: "ecr:GetAuthorizationToken", Resource: "*"},
        {Effect: "Allow", Resource: $repository,
         Action: ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]}] end)}'
}

# ensure_role NAME TRUST POLICY
ensure_role() {
  local role policy
  begin role "$1"
  role=$(lookup iam get-role --role-name "$1")
  if [[ -z $role ]]; then
    create call iam create-role --role-name "$1" --assume-role-policy-document "$2" \
      --tags "Key=app,Value=$APP_NAME" "Key=region,Value=$REGION"
  else
    same_json "$2" "$(jq .Role.AssumeRolePolicyDocument <<<"$role")" \
      || change trust call iam update-assume-role-policy --role-name "$1" --policy-document "$2"
    policy=$(lookup iam get-role-policy --role-name "$1" --policy-name "$APP_NAME")
  fi
  same_json "$3" "$(jq .PolicyDocument <<<"${policy:-null}")" \
    || change policy call iam put-role-policy --role-name "$1" --policy-name "$APP_NAME" --policy-document "$3"
  finish
}

ensure_starter_role() {
  ensure_role "$STARTER_ROLE" "$(lambda_trust)" "$(starter_policy)"
  STARTER_ROLE_IS_NEW=$CREATED
}

ensure_task_role() { ensure_role "$TASK_ROLE" "$(ecs_trust)" "$(task_policy)"; }

ensure_exec_role() { ensure_role "$EXEC_ROLE" "$(ecs_trust)" "$(exec_policy)"; }

# --- steps: image -------------------------------------------------------------------------------------------------

repository_lifecycle() {
  jq -nc '{rules: [{
    rulePriority: 1, description: "keep the last 5 images",
    selection: {tagStatus: "any", countType: "imageCountMoreThan", countNumber: 5}, action: {type: "expire"}}]}'
}

ensure_repository() {
  local repository lifecycle=""
  begin repository "$APP_NAME"
  repository=$(lookup ecr describe-repositories --repository-names "$APP_NAME")
  if [[ -z $repository ]]; then
    create call ecr create-repository --repository-name "$APP_NAME" --image-tag-mutability IMMUTABLE \
      --image-scanning-configuration scanOnPush=true --tags "Key=app,Value=$APP_NAME"
  else
    [[ $(jq '.repositories[0].imageScanningConfiguration.scanOnPush' <<<"$repository") == true ]] \
      || change "scan on push" call ecr put-image-scanning-configuration --repository-name "$APP_NAME" \
        --image-scanning-configuration scanOnPush=true
    lifecycle=$(lookup ecr get-lifecycle-policy --repository-name "$APP_NAME" | jq -r .lifecyclePolicyText)
  fi
  same_json "$(repository_lifecycle)" "$lifecycle" \
    || change lifecycle call ecr put-lifecycle-policy --repository-name "$APP_NAME" \
      --lifecycle-policy-text "$(repository_lifecycle)"
  finish
}

sha256() { python3 -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'; }

image_tag() {
  (cd "$PROJECT_DIR" && printf '%s\n' "$TASK_ARCH" "$DOCKER_BUILD_FLAGS" | cat - "${IMAGE_INPUTS[@]}") | sha256 \
    | cut -c 1-16
}

set_image() {
  WORKER_IMAGE=$IMAGE_URI
  [[ -z $IMAGE_URI ]] || return 0
  REGISTRY=${ECR_REGISTRY:-$ACCOUNT.dkr.ecr.$REGION.amazonaws.com}
  IMAGE_TAG=$(image_tag)
  WORKER_IMAGE=$REGISTRY/$APP_NAME:$IMAGE_TAG
}

docker_platform() {
  case "$TASK_ARCH" in
    ARM64) printf 'linux/arm64\n' ;;
    X86_64) printf 'linux/amd64\n' ;;
  esac
}

# --load and push instead of --push: the engine, not the builder, then talks to the registry, and knows which are plain
# HTTP. Attestations would leave manifests in the repository that its lifecycle policy cannot expire.
build_image() {
  local flags
  read -ra flags <<<"$DOCKER_BUILD_FLAGS"
  docker buildx build --load --provenance=false --sbom=false --platform "$(docker_platform)" --tag "$WORKER_IMAGE" \
    ${flags[@]+"${flags[@]}"} "$PROJECT_DIR" >&2
}

push_image() {
  local password
  build_image
  password=$(call ecr get-login-password --output text)
  docker login --username AWS --password-stdin "$REGISTRY" <<<"$password" >&2
  docker push "$WORKER_IMAGE" >&2
}

find_image() {
  lookup ecr describe-images --repository-name "$APP_NAME" --image-ids "imageTag=$IMAGE_TAG" \
    | jq -r '.imageDetails[].imageDigest'
}

ensure_image() {
  local image
  begin image "$WORKER_IMAGE"
  image=$(find_image)
  [[ -n $image ]] || create push_image
  finish
}

# --- steps: ECS ---------------------------------------------------------------------------------------------------

# The role is the account's, not ours: it has no tag and stays at clean-up.
ensure_ecs_role() {
  local roles
  begin "service-linked role" AWSServiceRoleForECS
  roles=$(lookup iam list-roles --path-prefix /aws-service-role/ecs.amazonaws.com/)
  [[ $(jq '.Roles | length' <<<"$roles") != 0 ]] \
    || create call iam create-service-linked-role --aws-service-name ecs.amazonaws.com
  finish
}

find_cluster() {
  lookup ecs describe-clusters --clusters "$CLUSTER_NAME" | jq -c '.clusters[] | select(.status != "INACTIVE")'
}

# Prints the cluster, or nothing, as soon as it is neither being made nor being deleted.
settled_cluster() {
  local try cluster status
  for ((try = 1; ; try++)); do
    cluster=$(find_cluster)
    status=$(jq -r '.status' <<<"${cluster:-null}")
    [[ $status == *PROVISIONING ]] || break
    pause "$try" "the cluster is $status" || die "$RESOURCE: still $status; look at it in the ECS console"
  done
  printf '%s\n' "$cluster"
}

create_cluster() {
  call ecs create-cluster --cluster-name "$CLUSTER_NAME" --capacity-providers FARGATE FARGATE_SPOT \
    --settings name=containerInsights,value=disabled --tags "key=app,value=$APP_NAME"
  settled_cluster
}

ensure_cluster() {
  local cluster
  begin cluster "$CLUSTER_NAME"
  cluster=$(settled_cluster)
  if [[ -z $cluster ]]; then
    create create_cluster
  elif ! jq -e '.capacityProviders | contains(["FARGATE", "FARGATE_SPOT"])' <<<"$cluster" >/dev/null; then
    change "capacity providers" call ecs put-cluster-capacity-providers --cluster "$CLUSTER_NAME" \
      --capacity-providers FARGATE FARGATE_SPOT --default-capacity-provider-strategy '[]'
  fi
  finish
}

worker_environment() {
  local name names=() PROCESSES=${PROCESSES:-$((TASK_CPU > 1024 ? TASK_CPU / 1024 : 1))}
  for name in "${WORKER_SETTINGS[@]}"; do
    [[ -z ${!name} ]] || names+=("$name")
  done
  settings_json "${names[@]}" | jq 'to_entries | map({name: .key, value}) | sort_by(.name)'
}

container_definition() {
  jq -n --arg image "$WORKER_IMAGE" --arg group "$WORKER_LOG_GROUP" --arg region "$REGION" \
    --argjson environment "$(worker_environment)" '{
      name: "worker", image: $image, essential: true, environment: $environment,
      stopTimeout: 120, readonlyRootFilesystem: true, linuxParameters: {initProcessEnabled: true},
      logConfiguration: {logDriver: "awslogs", options: {
        "awslogs-group": $group, "awslogs-region": $region, "awslogs-stream-prefix": "worker"}}}'
}

task_definition() {
  jq -n --arg family "$TASK_FAMILY" --arg cpu "$TASK_CPU" --arg memory "$TASK_MEMORY" --arg arch "$TASK_ARCH" \
    --arg task_role "$TASK_ROLE_ARN" --arg exec_role "$EXEC_ROLE_ARN" \
    --argjson container "$(container_definition)" '{
      family: $family, requiresCompatibilities: ["FARGATE"], networkMode: "awsvpc", cpu: $cpu, memory: $memory,
      runtimePlatform: {cpuArchitecture: $arch, operatingSystemFamily: "LINUX"},
      taskRoleArn: $task_role, executionRoleArn: $exec_role, containerDefinitions: [$container]}'
}

# list_revisions STATUS: the ARNs of the family's revisions, the newest first, one per line.
list_revisions() {
  lookup ecs list-task-definitions --family-prefix "$TASK_FAMILY" --status "$1" --sort DESC \
    | jq -r --arg family "$TASK_FAMILY" '.taskDefinitionArns[] | select(split("/")[1] | split(":")[0] == $family)'
}

# Prints the newest active revision, or nothing: describe-task-definition has no error code of its own for "none".
find_task_definition() {
  local arns
  arns=$(list_revisions ACTIVE)
  [[ -n $arns ]] || return 0
  lookup ecs describe-task-definition --task-definition "${arns%%$'\n'*}" \
    | jq '.taskDefinition | .containerDefinitions |= map(.environment |= sort_by(.name))'
}

ensure_task_definition() {
  local have want different
  begin "task definition" "$TASK_FAMILY"
  want=$(task_definition)
  have=$(find_task_definition)
  different=$(differing "$want" "$have")
  if [[ -z $have ]]; then
    create call ecs register-task-definition --cli-input-json "$want" --tags "key=app,value=$APP_NAME"
  elif [[ -n $different ]]; then
    change "$different" call ecs register-task-definition --cli-input-json "$want" --tags "key=app,value=$APP_NAME"
  fi
  finish
}

# --- steps: network -----------------------------------------------------------------------------------------------

# A new security group lets nothing in and everything out, which is what a worker needs.
ensure_security_group() {
  begin "security group" "$SECURITY_GROUP_NAME"
  SECURITY_GROUP_ID=$(lookup ec2 describe-security-groups \
    --filters "Name=vpc-id,Values=$VPC" "Name=group-name,Values=$SECURITY_GROUP_NAME" \
    | jq -r '.SecurityGroups[0].GroupId // empty')
  if [[ -z $SECURITY_GROUP_ID ]]; then
    create call ec2 create-security-group --group-name "$SECURITY_GROUP_NAME" --vpc-id "$VPC" \
      --description "Workers of $APP_NAME: no way in" \
      --tag-specifications "ResourceType=security-group,Tags=[{Key=app,Value=$APP_NAME}]"
    SECURITY_GROUP_ID=$(jq -rn --argjson made "${OUTPUT:-null}" '$made.GroupId // "sg-made-later"')
  fi
  finish
}

# Prints the route tables of the subnets for tasks as a JSON list of ids: their own, else the main one of the VPC.
task_route_tables() {
  local tables
  tables=$(call ec2 describe-route-tables --filters "Name=vpc-id,Values=$VPC")
  jq -c --arg subnets "$TASK_SUBNETS" '.RouteTables as $tables
    | [$subnets | split(",")[] as $subnet
      | [$tables[] | select(any(.Associations[]; .SubnetId == $subnet))] as $own
      | (if $own != [] then $own else [$tables[] | select(any(.Associations[]; .Main))] end)[].RouteTableId]
    | unique' <<<"$tables"
}

# find_endpoints SERVICE: the gateway endpoints for it in the VPC, of whomever, as a JSON list.
find_endpoints() {
  call ec2 describe-vpc-endpoints --filters "Name=vpc-id,Values=$VPC" \
    | jq -c --arg service "$1" '[.VpcEndpoints[]
      | select(.ServiceName == $service and .VpcEndpointType == "Gateway")
      | select(.State | ascii_downcase | IN("available", "pending"))]'
}

# A route table takes one endpoint per service, so tables that have one already, of whomever, are left as they are.
ensure_vpc_endpoint() {
  local service=com.amazonaws.$REGION.$1 endpoints missing ours
  begin "gateway endpoint" "$service"
  endpoints=$(find_endpoints "$service")
  missing=$(jq -rn --argjson wanted "$(task_route_tables)" --argjson endpoints "$endpoints" \
    '$wanted - [$endpoints[].RouteTableIds[]] | join(" ")')
  read -ra missing <<<"$missing"
  ours=$(jq -r --arg app "$APP_NAME" '[.[] | select(any(.Tags[]?; .Key == "app" and .Value == $app))][0].VpcEndpointId
    // empty' <<<"$endpoints")
  if ((${#missing[@]} == 0)); then
    finish
    return
  fi
  if [[ -n $ours ]]; then
    change "route tables" call ec2 modify-vpc-endpoint --vpc-endpoint-id "$ours" --add-route-table-ids "${missing[@]}"
  else
    create call ec2 create-vpc-endpoint --vpc-endpoint-type Gateway --vpc-id "$VPC" --service-name "$service" \
      --route-table-ids "${missing[@]}" \
      --tag-specifications "ResourceType=vpc-endpoint,Tags=[{Key=app,Value=$APP_NAME}]"
  fi
  finish
}

ensure_s3_endpoint() { ensure_vpc_endpoint s3; }

ensure_s3express_endpoint() { ensure_vpc_endpoint s3express; }

# --- steps: starter -----------------------------------------------------------------------------------------------

# Stored, not compressed, and without the file's time: the same starter.py is the same archive on every machine.
zip_starter() {
  python3 - "$PROJECT_DIR/starter.py" "$1" <<'PYTHON'
import base64, hashlib, pathlib, sys, zipfile

source, archive = map(pathlib.Path, sys.argv[1:])
member = zipfile.ZipInfo("starter.py", (1980, 1, 1, 0, 0, 0))
member.external_attr = 0o644 << 16
with zipfile.ZipFile(archive, "w") as file:
    file.writestr(member, source.read_bytes())
print(base64.b64encode(hashlib.sha256(archive.read_bytes()).digest()).decode())
PYTHON
}

starter_environment() {
  settings_json QUEUE_URL ASSIGN_PUBLIC_IP MAX_WORKERS MESSAGES_PER_WORKER \
    | jq --arg cluster "$CLUSTER_NAME" --arg family "$TASK_FAMILY" --arg subnets "$TASK_SUBNETS" \
      --arg group "$SECURITY_GROUP_ID" --arg started_by "$STARTED_BY" '. + {
        CLUSTER: $cluster, TASK_DEFINITION: $family, SUBNETS: $subnets, SECURITY_GROUPS: $group,
        STARTED_BY: $started_by}'
}

function_configuration() {
  jq -n --arg name "$STARTER_NAME" --arg role "$STARTER_ROLE_ARN" --argjson variables "$(starter_environment)" '{
    FunctionName: $name, Role: $role, Runtime: "python3.13", Handler: "starter.handler", MemorySize: 128, Timeout: 60,
    Environment: {Variables: $variables}}'
}

await_function() { call lambda wait "$1" --function-name "$STARTER_NAME"; }

create_function() {
  call lambda create-function --cli-input-json "$1" --zip-file "fileb://$TEMP_DIR/starter.zip" --architectures arm64 \
    --tags "app=$APP_NAME"
  await_function function-active-v2
}

# Lambda refuses a second update while the first is in progress.
update_code() {
  call lambda update-function-code --function-name "$STARTER_NAME" --zip-file "fileb://$TEMP_DIR/starter.zip" \
    --architectures arm64
  await_function function-updated-v2
}

update_configuration() {
  call lambda update-function-configuration --cli-input-json "$1"
  await_function function-updated-v2
}

ensure_function() {
  local have want code different
  begin function "$STARTER_NAME"
  code=$(zip_starter "$TEMP_DIR/starter.zip")
  want=$(function_configuration)
  have=$(lookup lambda get-function --function-name "$STARTER_NAME" | jq -c .Configuration)
  # Only the role that it was made with may decrypt its environment, and not a new one of the same name (re:Post, "How
  # do I resolve KMSAccessDeniedException errors from AWS Lambda").
  if [[ -n $have && $STARTER_ROLE_IS_NEW == true ]]; then
    change "made anew" call lambda delete-function --function-name "$STARTER_NAME"
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

# A start that failed is tried by the next minute's event anyway; a replayed one would start workers for a stale count.
ensure_no_retries() {
  local want='{"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}' have
  have=$(lookup lambda get-function-event-invoke-config --function-name "$STARTER_NAME")
  [[ -z $(differing "$want" "$have") ]] || change "async retries" call lambda put-function-event-invoke-config \
    --function-name "$STARTER_NAME" --maximum-retry-attempts 0 --maximum-event-age-in-seconds 60
}

# Two starters at once could both see no worker. An account must keep 100 executions unreserved (Lambda API
# reference, PutFunctionConcurrency), so a new account with its limit of 10 goes without.
ensure_concurrency() {
  local have unreserved
  have=$(lookup lambda get-function-concurrency --function-name "$STARTER_NAME")
  [[ $(jq '.ReservedConcurrentExecutions' <<<"${have:-null}") != 1 ]] || return 0
  unreserved=$(lookup lambda get-account-settings | jq .AccountLimit.UnreservedConcurrentExecutions)
  if ((unreserved > 100)); then
    change concurrency call lambda put-function-concurrency --function-name "$STARTER_NAME" \
      --reserved-concurrent-executions 1
  else
    say "      no concurrency is reserved for $STARTER_NAME: the account has only $unreserved unreserved executions"
  fi
}

# --- steps: rule --------------------------------------------------------------------------------------------------

rate_expression() {
  if ((LAMBDA_POLL_RATE == 1)); then
    printf 'rate(1 minute)\n'
  else
    printf 'rate(%d minutes)\n' "$LAMBDA_POLL_RATE"
  fi
}

# put-rule resets what it is not given, and takes tags only for a new rule.
ensure_rule() {
  local want have different
  begin rule "$RULE_NAME"
  want=$(jq -n --arg name "$RULE_NAME" --arg rate "$(rate_expression)" '{
    Name: $name, ScheduleExpression: $rate, State: "ENABLED", Description: "Looks at the queue and starts workers"}')
  have=$(lookup events describe-rule --name "$RULE_NAME")
  different=$(differing "$want" "$have")
  if [[ -z $have ]]; then
    create call events put-rule --cli-input-json "$want" --tags "Key=app,Value=$APP_NAME"
  elif [[ -n $different ]]; then
    change "$different" call events put-rule --cli-input-json "$want"
  fi
  ensure_permission
  ensure_target
  finish
}

permission_statement() {
  lookup lambda get-policy --function-name "$STARTER_NAME" \
    | jq -c --arg sid "$RULE_NAME" '.Policy | fromjson | .Statement[] | select(.Sid == $sid)'
}

ensure_permission() {
  local statement
  statement=$(permission_statement)
  [[ -z $statement ]] || return 0
  change permission call lambda add-permission --function-name "$STARTER_NAME" --statement-id "$RULE_NAME" \
    --action lambda:InvokeFunction --principal events.amazonaws.com --source-arn "$RULE_ARN"
}

put_target() {
  local answer
  answer=$(call events put-targets --rule "$RULE_NAME" --targets "Id=starter,Arn=$STARTER_ARN")
  [[ $(jq .FailedEntryCount <<<"$answer") == 0 ]] || die "$RESOURCE: put-targets was refused: $answer"
}

ensure_target() {
  local targets
  targets=$(lookup events list-targets-by-rule --rule "$RULE_NAME")
  [[ $(jq -r '.Targets[]? | select(.Id == "starter").Arn' <<<"$targets") == "$STARTER_ARN" ]] \
    || change target put_target
}

# --- steps: buckets -----------------------------------------------------------------------------------------------

lifecycle_rules() {
  jq -n --arg id "$LIFECYCLE_RULE_ID" '{Rules: [{
    ID: $id, Status: "Enabled", Filter: {Prefix: ""}, AbortIncompleteMultipartUpload: {DaysAfterInitiation: 1}}]}'
}

# S3 User Guide, "Working with S3 Lifecycle for directory buckets": lifecycle acts only through a session of its own.
lifecycle_policy() {
  jq -nc --arg bucket "$DST_BUCKET_ARN" '{Version: "2012-10-17", Statement: [{
    Effect: "Allow", Principal: {Service: "lifecycle.s3.amazonaws.com"},
    Action: "s3express:CreateSession", Resource: $bucket,
    Condition: {StringEquals: {"s3express:SessionMode": "ReadWrite"}}}]}'
}

find_lifecycle() { lookup s3api get-bucket-lifecycle-configuration --bucket "$DST_BUCKET"; }

find_bucket_policy() { lookup s3api get-bucket-policy --bucket "$DST_BUCKET" | jq -r .Policy; }

ensure_bucket_policy() {
  local have
  have=$(find_bucket_policy)
  if [[ -z $have ]]; then
    change "policy for it" call s3api put-bucket-policy --bucket "$DST_BUCKET" --policy "$(lifecycle_policy)"
  elif [[ $have != *lifecycle.s3.amazonaws.com* ]]; then
    say "      the policy of $DST_BUCKET is someone else's and stays as it is;" \
      "incomplete uploads are aborted only once it also has the statement of $(lifecycle_policy)"
  fi
}

# Someone else's lifecycle stays as it is. Lifecycle cannot be set from another account (S3 API reference).
ensure_lifecycle() {
  local have
  begin "bucket lifecycle" "$DST_BUCKET"
  have=$(find_lifecycle)
  if [[ -z $have ]]; then
    create call s3api put-bucket-lifecycle-configuration --bucket "$DST_BUCKET" \
      --lifecycle-configuration "$(lifecycle_rules)"
  fi
  if [[ -z $have || $have == *"\"$LIFECYCLE_RULE_ID\""* ]]; then ensure_bucket_policy; fi
  finish
}

notification() {
  jq -n --arg id "$NOTIFICATION_ID" --arg queue "$QUEUE_ARN" --arg prefix "$PREFIX_FILTER" '
    {Id: $id, QueueArn: $queue,
     Events: ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*", "s3:ObjectRestore:Completed"]}
    + if $prefix == "" then {} else
      {Filter: {Key: {FilterRules: [{Name: "prefix", Value: ($prefix | split("/") | map(@uri) | join("/"))}]}}} end'
}

find_notifications() {
  local have
  have=$(lookup s3api get-bucket-notification-configuration --bucket "$SRC_BUCKET" \
    --expected-bucket-owner "$SRC_BUCKET_OWNER")
  jq 'del(.ResponseMetadata)' <<<"${have:-"{}"}"
}

# put_notifications CONFIGURATION OPTION...
put_notifications() {
  call s3api put-bucket-notification-configuration --bucket "$SRC_BUCKET" --expected-bucket-owner "$SRC_BUCKET_OWNER" \
    --notification-configuration "$1" "${@:2}"
}

# S3 answers event and filter names in its own order and case.
comparable_notification() {
  jq -c 'if . then .Events |= sort | if .Filter then .Filter.Key.FilterRules |= map(.Name |= ascii_downcase) else . end
    else . end' <<<"$1"
}

# Prints our notification in a bucket's configuration, or null.
our_notification() {
  jq --arg id "$NOTIFICATION_ID" --arg queue "$QUEUE_ARN" \
    '[.QueueConfigurations[]? | select(.Id == $id and .QueueArn == $queue)][0]' <<<"$1"
}

# Prints the configuration without it.
other_notifications() {
  jq --argjson ours "$(our_notification "$1")" '.QueueConfigurations = ((.QueueConfigurations // []) - [$ours])' <<<"$1"
}

# The call replaces the bucket's whole configuration, so ours is put among those that are there.
ensure_notification() {
  local have ours merged
  begin notification "$SRC_BUCKET $NOTIFICATION_ID"
  have=$(find_notifications)
  ours=$(our_notification "$have")
  merged=$(other_notifications "$have" | jq --argjson ours "$(notification)" '.QueueConfigurations += [$ours]')
  if [[ $ours == null ]]; then
    create put_notifications "$merged"
  else
    same_json "$(comparable_notification "$(notification)")" "$(comparable_notification "$ours")" \
      || change "events or filter" put_notifications "$merged"
  fi
  finish
}

# --- steps: alarms and dashboard ----------------------------------------------------------------------------------

subscribe_email() {
  call sns subscribe --topic-arn "$TOPIC_ARN" --protocol email --notification-endpoint "$ALARM_EMAIL"
  say "      $ALARM_EMAIL gets a mail from AWS now, and no alarm until it has confirmed that"
}

unsubscribe() {
  local arn
  for arn in "$@"; do call sns unsubscribe --subscription-arn "$arn"; done
}

# ensure_subscription SUBSCRIPTIONS: those of other kinds are someone's own. One that waits for its confirmation has no
# ARN, and AWS drops it.
ensure_subscription() {
  local mails others
  mails=$(jq -c '[.Subscriptions[]? | select(.Protocol == "email" and .SubscriptionArn != "Deleted")]' <<<"$1")
  jq -e --arg email "$ALARM_EMAIL" 'any(.[]; .Endpoint == $email)' <<<"$mails" >/dev/null \
    || change "subscription of $ALARM_EMAIL" subscribe_email
  others=$(jq -r --arg email "$ALARM_EMAIL" '[.[] | select(.Endpoint != $email).SubscriptionArn
    | select(startswith("arn:"))] | join(" ")' <<<"$mails")
  read -ra others <<<"$others"
  ((${#others[@]} == 0)) || change "other addresses" unsubscribe "${others[@]}"
}

ensure_topic() {
  local subscriptions
  begin topic "$TOPIC_NAME"
  subscriptions=$(lookup sns list-subscriptions-by-topic --topic-arn "$TOPIC_ARN")
  [[ -n $subscriptions ]] || create call sns create-topic --name "$TOPIC_NAME" --tags "Key=app,Value=$APP_NAME"
  ensure_subscription "${subscriptions:-null}"
  finish
}

# Prints the topic's ARN if it is there and deploy.sh made it.
find_our_topic() {
  lookup sns list-tags-for-resource --resource-arn "$TOPIC_ARN" | jq -r --arg app "$APP_NAME" --arg arn "$TOPIC_ARN" \
    'select(any(.Tags[]; .Key == "app" and .Value == $app)) | $arn'
}

ensure_no_topic() {
  local topic
  begin topic "$TOPIC_NAME"
  topic=$(find_our_topic)
  [[ -z $topic ]] || change "removed, as ALARM_EMAIL is empty" call sns delete-topic --topic-arn "$topic"
  finish "none, as ALARM_EMAIL is empty"
}

find_alarms() {
  call cloudwatch describe-alarms --alarm-names "$DLQ_ALARM" "$AGE_ALARM" "$STARTER_ALARM" | jq -c .MetricAlarms
}

# alarm NAME METRIC DIMENSION STATISTIC THRESHOLD PERIODS DESCRIPTION: METRIC with its namespace before the last slash,
# DIMENSION as NAME=VALUE, periods of five minutes. No data is no alarm, because an idle queue reports nothing.
alarm() {
  jq -n --arg name "$1" --arg metric "$2" --arg dimension "$3" --arg statistic "$4" --argjson threshold "$5" \
    --argjson periods "$6" --arg description "$7" --arg topic "${ALARM_EMAIL:+$TOPIC_ARN}" '
    ($metric | split("/")) as $path | ($dimension | split("=")) as $pair | {
      AlarmName: $name, AlarmDescription: $description,
      ActionsEnabled: true, AlarmActions: [$topic | select(. != "")],
      Namespace: ($path[:-1] | join("/")), MetricName: $path[-1], Dimensions: [{Name: $pair[0], Value: $pair[1]}],
      Statistic: $statistic, Period: 300, EvaluationPeriods: $periods, DatapointsToAlarm: $periods,
      Threshold: $threshold, ComparisonOperator: "GreaterThanThreshold", TreatMissingData: "notBreaching"}'
}

# ensure_alarm ALARM: the first call leaves all alarms that are there in ALARMS.
ensure_alarm() {
  local have different name
  name=$(jq -r .AlarmName <<<"$1")
  begin alarm "$name"
  [[ -n $ALARMS ]] || ALARMS=$(find_alarms)
  have=$(jq -c --arg name "$name" '.[] | select(.AlarmName == $name)' <<<"$ALARMS")
  different=$(differing "$1" "$have")
  if [[ -z $have ]]; then
    create call cloudwatch put-metric-alarm --cli-input-json "$1" --tags "Key=app,Value=$APP_NAME"
  elif [[ -n $different ]]; then
    change "$different" call cloudwatch put-metric-alarm --cli-input-json "$1"
  fi
  finish
}

ensure_dlq_alarm() {
  local why="Why: messages failed $MAX_RECEIVES times and were given up, so their keys are not in step."
  local cure="What to do: ./sync.sh redrive --list tells the keys and reasons; mend those, then ./sync.sh redrive."
  ensure_alarm "$(alarm "$DLQ_ALARM" AWS/SQS/ApproximateNumberOfMessagesVisible "QueueName=$DLQ_NAME" \
    Maximum 0 1 "$why $cure")"
}

ensure_age_alarm() {
  local why="Why: the sync is more than $ALARM_AGE_SECONDS s behind, as workers are missing, too few, or fail."
  local cure="What to do: ./sync.sh status tells which; if all of them work, raise MAX_WORKERS."
  ensure_alarm "$(alarm "$AGE_ALARM" AWS/SQS/ApproximateAgeOfOldestMessage "QueueName=$QUEUE_NAME" \
    Maximum "$ALARM_AGE_SECONDS" 3 "$why $cure")"
}

ensure_starter_alarm() {
  local why="Why: the function that starts workers fails, so soon nothing is synced."
  local cure="What to do: ./sync.sh logs starter tells the error; mend it, or run ./deploy.sh again."
  ensure_alarm "$(alarm "$STARTER_ALARM" AWS/Lambda/Errors "FunctionName=$STARTER_NAME" Sum 0 2 "$why $cure")"
}

# metric_widget X Y TITLE STATISTIC METRIC...: a metric is one word, NAMESPACE,NAME,DIMENSION,VALUE,LABEL.
metric_widget() {
  jq -nc --argjson x "$1" --argjson y "$2" --arg title "$3" --arg statistic "$4" --arg region "$REGION" \
    --arg metrics "${*:5}" '{type: "metric", x: $x, y: $y, width: 12, height: 6, properties: {
      title: $title, region: $region, view: "timeSeries", stat: $statistic, period: 60,
      metrics: [$metrics | splits(" ") | split(",") | .[:4] + [{label: .[4]}]]}}'
}

# log_widget X Y VIEW TITLE QUERY: a Logs Insights query on what the workers wrote; a table is twice as wide.
log_widget() {
  jq -nc --argjson x "$1" --argjson y "$2" --arg view "$3" --arg title "$4" --arg query "$5" --arg region "$REGION" \
    --arg group "$WORKER_LOG_GROUP" '{
      type: "log", x: $x, y: $y, width: (if $view == "table" then 24 else 12 end), height: 6, properties: {
      title: $title, region: $region, view: $view, query: "SOURCE \u0027\($group)\u0027 | \($query)"}}'
}

# Metrics of AWS, and queries on the log: nothing of it is a custom metric. Three dashboards are free; a query costs by
# what it reads (0.005 USD a GB), and only while somebody looks.
dashboard() {
  local synced='filter @message like / synced key=/' age=AWS/SQS,ApproximateAgeOfOldestMessage
  local visible=AWS/SQS,ApproximateNumberOfMessagesVisible in_work=AWS/SQS,ApproximateNumberOfMessagesNotVisible
  local copies='sum(strcontains(@message, " action=copied ")) as copies'
  local deletes='sum(strcontains(@message, " action=deleted ")) as deletes'
  local failures='sum(strcontains(@message, " ERROR failed key=")) as failures'
  {
    metric_widget 0 0 'Messages in the queue' Maximum "$visible,QueueName,$QUEUE_NAME,waiting" \
      "$in_work,QueueName,$QUEUE_NAME,in-work"
    metric_widget 12 0 'Age of the oldest message (s)' Maximum "$age,QueueName,$QUEUE_NAME,age"
    log_widget 0 6 timeSeries 'Copies, deletes and failures a minute' "stats $copies, $deletes, $failures by bin(1m)"
    log_widget 12 6 timeSeries 'Bytes a minute' \
      "$synced | parse @message ' action=* size=* seconds=' as action, size | stats sum(size) as bytes by bin(1m)"
    log_widget 0 12 timeSeries 'Lag from event to copy (s)' \
      "$synced | parse @message ' lag=*' as lag | stats pct(lag, 50) as p50, pct(lag, 99) as p99 by bin(1m)"
    log_widget 12 12 timeSeries 'Workers' 'stats count_distinct(@logStream) as workers by bin(1m)'
    metric_widget 0 18 'Dead letters' Maximum "$visible,QueueName,$DLQ_NAME,parked"
    metric_widget 12 18 'Starter: runs and errors' Sum "AWS/Lambda,Invocations,FunctionName,$STARTER_NAME,runs" \
      "AWS/Lambda,Errors,FunctionName,$STARTER_NAME,errors"
    log_widget 0 24 table 'Last failures' \
      'fields @timestamp, @message | filter @message like / ERROR failed key=/ | sort @timestamp desc | limit 20'
  } | jq -sc '{widgets: .}'
}

put_dashboard() {
  local answer
  answer=$(call cloudwatch put-dashboard --dashboard-name "$DASHBOARD_NAME" --dashboard-body "$1")
  [[ $(jq '.DashboardValidationMessages // [] | length' <<<"${answer:-null}") == 0 ]] \
    || die "$RESOURCE: refused: $answer"
}

find_dashboard() { lookup cloudwatch get-dashboard --dashboard-name "$DASHBOARD_NAME" | jq -r .DashboardBody; }

ensure_dashboard() {
  local want have
  begin dashboard "$DASHBOARD_NAME"
  want=$(dashboard)
  have=$(find_dashboard)
  if [[ -z $have ]]; then
    create put_dashboard "$want"
  else
    same_json "$want" "$have" || change widgets put_dashboard "$want"
  fi
  finish
}

# --- deploying ----------------------------------------------------------------------------------------------------

list_steps() {
  STEPS=(
    ensure_starter_log_group ensure_worker_log_group
    ensure_dlq ensure_source_queue
    ensure_starter_role ensure_task_role ensure_exec_role
  )
  [[ -n $IMAGE_URI ]] || STEPS+=(ensure_repository ensure_image)
  STEPS+=(ensure_ecs_role ensure_cluster ensure_task_definition ensure_security_group)
  [[ $CREATE_VPC_ENDPOINTS == false ]] || STEPS+=(ensure_s3_endpoint ensure_s3express_endpoint)
  STEPS+=(ensure_function ensure_rule)
  [[ $DST_BUCKET_OWNER != "$ACCOUNT" ]] || STEPS+=(ensure_lifecycle)
  STEPS+=(ensure_notification)
  # Alarms have to let go of a topic before it is removed.
  [[ -z $ALARM_EMAIL ]] || STEPS+=(ensure_topic)
  STEPS+=(ensure_dlq_alarm ensure_age_alarm ensure_starter_alarm)
  [[ -n $ALARM_EMAIL ]] || STEPS+=(ensure_no_topic)
  STEPS+=(ensure_dashboard)
}

print_next_commands() {
  local sync="./sync.sh${LOCAL_ENGINE:+ --local}" # set in a local run
  printf '\nWhat goes into s3://%s from now on arrives in s3://%s. Next:\n' "$SRC_BUCKET/$PREFIX_FILTER" "$DST_BUCKET"
  printf '  %s %-9s  %s\n' "$sync" reconcile "copies what was there before, and in the five minutes that S3 may take to begin" \
    "$sync" status "says whether all is well" \
    "$sync" logs "shows what the workers do"
  printf 'Dashboard: https://%s.console.aws.amazon.com/cloudwatch/home?region=%s#dashboards:name=%s\n' \
    "$REGION" "$REGION" "$DASHBOARD_NAME"
}

# What every run begins with.
start_run() {
  TEMP_DIR=$(mktemp -d)
  trap 'rm -rf "$TEMP_DIR"' EXIT
  RESOURCE=""
  PROBLEMS=()
  set_names
}

# All checks, then all steps. A subshell, so that a caller keeps its own variables and traps.
deploy_all() (
  start_run
  STEP=0
  ALARMS=""
  check_all
  list_steps
  STEPS_TOTAL=${#STEPS[@]}
  for step in "${STEPS[@]}"; do "$step"; done
  [[ $DRY_RUN == true ]] || print_next_commands
)

print_help() {
  cat <<'HELP'
usage: ./deploy.sh [--dry-run | --local [--once] | --help]

Brings every AWS resource of the sync to the wanted state; safe to run again.

  --dry-run  print what exists, what would be created and what would be changed; write nothing
  --local    run the whole chain on this machine, without an AWS account; ./cleanup.sh --local ends it
  --once     with --local: clean up at the end

The settings are at the top of deploy.sh, and each can be set in the environment instead:

HELP
  sed -En '/^# --- settings/,/^# --- end of settings/s/^: "\$\{(.*):=(.*)\}" *(.*)/  \1=\2  \3/p' "${BASH_SOURCE[0]}" \
    | sed 's/ *$//'
}

main() {
  case "${1:-}" in
    --local)
      # shellcheck source=local/local.sh
      source "$PROJECT_DIR/local/local.sh"
      local_deploy "${@:2}"
      ;;
    --dry-run)
      DRY_RUN=true
      deploy_all
      ;;
    --help) print_help ;;
    '') deploy_all ;;
    *) die "unknown option: $1 (use --help)" ;;
  esac
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
