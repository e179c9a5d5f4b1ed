# shellcheck shell=bash
# Checks of the settings that need no account.

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

# CloudWatch Logs API reference, PutRetentionPolicy.
readonly RETENTION_DAYS=' 1 3 5 7 14 30 60 90 120 150 180 365 400 545 731 1096 1827 2192 2557 2922 3288 3653 '

readonly SWITCHES=(CREATE_VPC_ENDPOINTS)

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
  local switch
  check_pattern REGION '[a-z]{2}(-[a-z]+)+-[0-9]' "a Region such as eu-west-1"
  check_pattern SRC_BUCKET '[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]' "the name of a standard bucket"
  check_pattern APP_NAME '[a-z][a-z0-9-]{1,49}' "2 to 50 lower-case letters, digits and hyphens"
  check_pattern TASK_ARCH 'ARM64|X86_64' "ARM64 or X86_64"
  check_pattern ASSIGN_PUBLIC_IP 'ENABLED|DISABLED' "ENABLED or DISABLED"
  for switch in "${SWITCHES[@]}"; do check_pattern "$switch" 'true|false' "true or false"; done
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
