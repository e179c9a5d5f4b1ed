# shellcheck shell=bash
# Checks of the settings that need no account.

# Setting, lowest and highest value, the same as in worker.py and starter.py, which would refuse others at every start.
readonly NUMBERS=(
  'LAMBDA_POLL_RATE 1 1440' 'MAX_WORKERS 1 1000' 'MIN_WORKERS 0 1000' 'MESSAGES_PER_WORKER 1 1000000' 'EMPTY_POLLS_BEFORE_EXIT 1 1000'
  'VISIBILITY_TIMEOUT 2 43200' 'VISIBILITY_EXTEND_INTERVAL 1 43200' 'MAX_RECEIVES 1 1000'
  'TASK_CPU 256 32768' 'TASK_MEMORY 512 249856' 'WAIT_TIME_SECONDS 1 20' 'RETRY_BASE_SECONDS 1 3600'
  'COPY_TIMEOUT 1 900' 'MULTIPART_THRESHOLD 5242880 5368709120' 'PART_SIZE 5242880 5368709120'
  'MAX_CONCURRENT_PARTS 1 1024' 'MAX_CONCURRENT_KEYS 1 1024' 'PROCESSES 1 64' 'ALARM_AGE_SECONDS 60 1209600'
  'ALARM_LAG_SECONDS 60 1209600'
  'RETRY_LIMIT 1 10000' 'CHANGEOVER_SECONDS 0 3600' 'STARTER_MAX_SIZE 1 5368709120' 'AUDIT_DAYS 1 90'
  'KEEP_DAYS 1 3650'
)

# vCPU units and the memory that Fargate has for them, in MiB: from, to, step (Amazon ECS Developer Guide, "Task size").
readonly FARGATE_SIZES=(
  '256 512 1024 512' '256 2048 2048 1' '512 1024 4096 1024' '1024 2048 8192 1024' '2048 4096 16384 1024'
  '4096 8192 30720 1024' '8192 16384 61440 4096' '16384 32768 122880 8192'
  '32768 61440 61440 1' '32768 122880 122880 1' '32768 249856 249856 1'
)

# CloudWatch Logs API reference, PutRetentionPolicy.
readonly RETENTION_DAYS=' 1 3 5 7 14 30 60 90 120 150 180 365 400 545 731 1096 1827 2192 2557 2922 3288 3653 '

readonly SWITCHES=(DRY_RUN CREATE_VPC_ENDPOINTS STARTER_COPIES METRICS DASHBOARD ROLLBACKS)

# Regions of other partitions than aws: China, GovCloud, the European Sovereign Cloud, and those nobody can see.
readonly OTHER_PARTITIONS='(cn|us-gov|us-iso[a-z]?|eu-iso[a-z]?|eusc)-.*'

# An inline policy of a role holds 10,240 characters (IAM User Guide, "IAM and AWS STS quotas"), a key's ARN has 75.
readonly MOST_KMS_KEYS=50

# ask_settings FILE: prints the settings of the worker, or of the starter, that deploy.sh has, too.
ask_settings() {
  {
    sed -En 's/^: "\$\{([A-Z_0-9]+):=.*/\1/p' "$PROJECT_DIR/deploy.sh"
    sed -En 's/^    "([A-Z_0-9]+)": \(.*/\1/p' "$PROJECT_DIR/$1"
  } | sort | uniq -d
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

# The settings that decide whether anything is written, and which AWS is called: all three scripts check them before
# their first call.
check_before_calls() {
  local switch
  for switch in "${SWITCHES[@]}"; do check_pattern "$switch" 'true|false' "true or false"; done
  [[ ! $REGION =~ ^$OTHER_PARTITIONS$ ]] || problem "REGION=$REGION: S3 Express One Zone exists only in the partition" \
    "aws, not in China, GovCloud or a sovereign cloud: set a Region such as eu-west-1"
}

# With these, cleanup.sh and sync.sh find a deployment. They accept every name that an older deploy.sh accepted.
check_identity() {
  check_pattern REGION '[a-z]{2}(-[a-z]+)+-[0-9]' "a Region such as eu-west-1"
  check_pattern SRC_BUCKET '[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]' "the name of a standard bucket"
  check_pattern APP_NAME '[a-z][a-z0-9-]{1,49}' "2 to 50 lower-case letters, digits and hyphens"
  check_pattern SRC_BUCKET_OWNER '([0-9]{12})?' "the 12 digits of an AWS account, or nothing"
  check_pattern DST_BUCKET_OWNER '([0-9]{12})?' "the 12 digits of an AWS account, or nothing"
}

# The repository's name is APP_NAME, and no name of ECR ends in a hyphen (ECR API reference, CreateRepository); that of
# the security group begins with it, and "sg-" is for ids (EC2 API reference, CreateSecurityGroup). With the longest
# ending, -starter-rule, 50 characters keep within the 64 of a role, a rule and a function.
check_new_name() {
  [[ $APP_NAME != *- ]] || problem "APP_NAME=$APP_NAME: set a name that does not end in a hyphen, which ECR refuses"
  [[ $APP_NAME != sg-* ]] || problem "APP_NAME=$APP_NAME: set a name that does not begin with sg-, which EC2 refuses" \
    "for a security group"
}

# check_kms_keys NAME MOST WHAT: a comma list of ARNs, or nothing. S3 takes keys of the bucket's own Region.
check_kms_keys() {
  local arn arns
  IFS=', ' read -ra arns <<<"${!1}"
  ((${#arns[@]} <= $2)) || problem "$1: set at most $2 $3"
  for arn in ${arns[@]+"${arns[@]}"}; do
    [[ $arn =~ ^arn:aws:kms:$REGION:[0-9]{12}:key/[A-Za-z0-9-]+$ ]] \
      || problem "$1=${!1}: $arn is not the ARN of a KMS key (not of an alias) in REGION=$REGION"
  done
}

# What all services accept as a tag (their API references, Tag). Keys of roles have to differ by more than case; ECS
# refuses "aws:" at the beginning of a value, too.
check_tags() {
  local given problems line
  [[ -n $TAGS ]] || return 0
  given=$(given_tags)
  problems=$(jq -r --argjson most "$MOST_TAGS" --arg own "${OWN_TAG_KEYS[*]}" '
    def is_written: test("\\A[\\p{L}\\p{Z}\\p{N}_.:/=+@-]*\\z");
    (if length > $most then "set at most \($most) tags, because a resource can have 50 in all" else empty end),
    (group_by(.key | ascii_downcase)[] | select(length > 1)
      | "\(map(.key) | join(" and ")) are the same tag for IAM, which ignores case: set only one"),
    (.[] | (.key | ascii_downcase) as $key |
      if .value == null or .key == "" then "\(.key | tojson) is not a tag: write KEY=VALUE, separated by commas"
      elif (.key | is_written and length <= 128 | not) or (.value | is_written and length <= 256 | not)
      then "\(.key)=\(.value) is not a tag: a key has up to 128 and a value up to 256 letters, digits, spaces and _.:/=+@-"
      elif any($key, (.value | ascii_downcase); startswith("aws:"))
      then "\(.key)=\(.value): keys and values that begin with aws: are reserved for AWS"
      elif $key | IN($own | splits(" ")) then "the tag \(.key) is set by deploy.sh itself: leave it out"
      else empty end)' <<<"$given")
  while read -r line; do
    [[ -z $line ]] || problem "TAGS=$TAGS: $line"
  done <<<"$problems"
}

# The images of .github/workflows/release.yml have the release as their tag, and belong to its scripts.
check_image_name() {
  [[ ! $IMAGE_URI =~ /s3-to-s3express-sync:([0-9]+(\.[0-9]+){2}(-dev)?)(@|$) || ${BASH_REMATCH[1]} == "$VERSION" ]] \
    || problem "IMAGE_URI=$IMAGE_URI is the image of ${BASH_REMATCH[1]}, but this checkout is $VERSION: check out" \
      "${BASH_REMATCH[1]}, name an image of $VERSION, or leave IMAGE_URI empty to build one"
  [[ ! $IMAGE_URI =~ ^[^/]*/[^:@]*[[:upper:]] ]] \
    || problem "IMAGE_URI=$IMAGE_URI: write the path in lower case, as every registry does"
}

check_words() {
  check_pattern EVENT_SOURCE 'sqs|eventbridge' "sqs or eventbridge"
  check_pattern ANNOUNCE '(none|markers|all|failures)(,failures)?' \
    "none, markers, all or failures, or markers,failures or all,failures"
  check_pattern COPY_LAST '[^[:cntrl:]]{0,500}' "at most 500 characters of patterns, separated by commas"
  [[ $ANNOUNCE != markers* || -n $COPY_LAST ]] || problem "ANNOUNCE=markers: set COPY_LAST, which says what a marker is"
  check_pattern TABLES '(delta)?' "delta, or nothing"
  check_pattern TASK_ARCH 'ARM64|X86_64' "ARM64 or X86_64"
  check_pattern ASSIGN_PUBLIC_IP 'ENABLED|DISABLED' "ENABLED or DISABLED"
  check_pattern IMAGE_URI '([A-Za-z0-9][A-Za-z0-9._:/@-]{0,254})?' "the name of an image, or nothing"
  check_pattern BASE_IMAGE '[a-z0-9][A-Za-z0-9._:/-]{0,150}(@sha256:[0-9a-f]{64})?' "the name of an image with Python 3.13"
  check_pattern ECR_REGISTRY '([A-Za-z0-9][A-Za-z0-9.:-]*)?' "the host of a registry, or nothing"
  check_pattern S3_CLIENT '(crt|boto3)?' "crt or boto3, or nothing"
  check_pattern LOG_LEVEL '(DEBUG|INFO|WARNING|ERROR)?' "DEBUG, INFO, WARNING or ERROR, or nothing"
  check_pattern ALARM_EMAIL '([^][@[:space:],;:<>()"\]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)?' "a mail address, or nothing"
  # Of a path, what both IAM and Lambda take (their API references, CreateRole and CreateFunction).
  check_pattern ROLE_PATH '/([A-Za-z0-9_+=,.@-]+/)*' "a path that begins and ends with a slash, such as /ml/"
  ((${#ROLE_PATH} <= 512)) || problem "ROLE_PATH=$ROLE_PATH: set at most 512 characters"
  check_pattern ROLE_BOUNDARY_ARN '(arn:aws:iam::(aws|[0-9]{12}):policy/[A-Za-z0-9_+=,.@/-]{1,512})?' \
    "the ARN of an IAM policy, or nothing"
  check_pattern RETRY_PAUSE '[0-9]+(\.[0-9]+)?' "seconds"
  if ! is_number "$LOG_RETENTION_DAYS" || [[ $RETENTION_DAYS != *" $LOG_RETENTION_DAYS "* ]]; then
    problem "LOG_RETENTION_DAYS=$LOG_RETENTION_DAYS: set one of$RETENTION_DAYS"
  fi
}

# A message of a worker that died must not come back while its copy may still be running in S3 (worker.py has the same
# check, with the same default).
check_timeouts() {
  local lowest=${COPY_TIMEOUT:-900}
  is_number "$VISIBILITY_TIMEOUT" && is_number "$VISIBILITY_EXTEND_INTERVAL" && is_number "$lowest" || return 0
  lowest=$((lowest + VISIBILITY_EXTEND_INTERVAL))
  ((lowest <= VISIBILITY_TIMEOUT)) || problem "VISIBILITY_TIMEOUT=$VISIBILITY_TIMEOUT: set at least $lowest," \
    "VISIBILITY_EXTEND_INTERVAL plus COPY_TIMEOUT, or messages come back while their copies are still running"
}

# The starter refuses the same.
check_min_workers() {
  is_number "$MIN_WORKERS" && is_number "$MAX_WORKERS" || return 0
  ((MIN_WORKERS <= MAX_WORKERS)) || problem "MIN_WORKERS=$MIN_WORKERS is more than MAX_WORKERS=$MAX_WORKERS: lower the" \
    "one or raise the other"
}

# The starter starts an audit within three quarters of an hour (launch/audit.py), and status looks for its line in the
# log.
check_audit_days() {
  is_number "$AUDIT_DAYS" && is_number "$LAMBDA_POLL_RATE" && is_number "$LOG_RETENTION_DAYS" || return 0
  ((LAMBDA_POLL_RATE <= 15)) || problem "AUDIT_DAYS=$AUDIT_DAYS with LAMBDA_POLL_RATE=$LAMBDA_POLL_RATE: the starter" \
    "would miss the time of an audit: set LAMBDA_POLL_RATE to 15 or less, or leave AUDIT_DAYS empty"
  ((LOG_RETENTION_DAYS > AUDIT_DAYS)) || problem "AUDIT_DAYS=$AUDIT_DAYS with LOG_RETENTION_DAYS=$LOG_RETENTION_DAYS:" \
    "the log would not keep what an audit found until the next one: raise the latter, or lower the former"
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
  problem "TASK_CPU=$TASK_CPU with TASK_MEMORY=$TASK_MEMORY is not a size of Fargate: for this CPU, set TASK_MEMORY to" \
    "${sizes[*]:-nothing; TASK_CPU has to be 256, 512, 1024, 2048, 4096, 8192, 16384 or 32768}"
}

# What deploy.sh checks beside check_before_calls; nothing of it needs an account.
check_settings() {
  check_numbers
  check_identity
  check_new_name
  check_words
  check_image_name
  check_prefix
  check_exclude
  check_tables
  check_patterns_together
  check_tags
  check_kms_keys SRC_KMS_KEY_ARN "$MOST_KMS_KEYS" "keys, because the policy of a role cannot hold more"
  check_kms_keys DST_KMS_KEY_ARN 1 "key, because a directory bucket keeps one for its whole life"
  check_timeouts
  check_min_workers
  check_audit_days
  check_task_size
}
