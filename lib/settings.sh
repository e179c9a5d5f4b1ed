# shellcheck shell=bash
# The table of settings, and the checks of them that need no account.

# Of mirror/model/settings.table, whose head says what its columns mean, by the name of a setting. SHIPPED: what deploy.sh
# has.
SETTINGS=()
declare -A KEPT_FOR=() READER=() SHIPPED=() VALID=() MEANING=()

read_settings_table() {
  local name kept reader default values meaning
  while read -r name kept reader default values meaning; do
    [[ $name != "#" ]] || continue
    SETTINGS+=("$name")
    [[ $values != [0-9]*/* ]] || values=${values#*/}
    [[ $default != - && $default != \(* ]] || default=""
    KEPT_FOR[$name]=$kept READER[$name]=$reader SHIPPED[$name]=$default VALID[$name]=$values MEANING[$name]=$meaning
  done <"$PROJECT_DIR/mirror/model/settings.table"
}
read_settings_table

# vCPU units and the memory that Fargate has for them, in MiB: from, to, step (Amazon ECS Developer Guide, "Task size").
readonly FARGATE_SIZES=(
  '256 512 1024 512' '256 2048 2048 1' '512 1024 4096 1024' '1024 2048 8192 1024' '2048 4096 16384 1024'
  '4096 8192 30720 1024' '8192 16384 61440 4096' '16384 32768 122880 8192'
  '32768 61440 61440 1' '32768 122880 122880 1' '32768 249856 249856 1'
)

# settings_of READER: prints the settings that the worker, or the starter, is given.
settings_of() {
  local name
  for name in "${SETTINGS[@]}"; do [[ ${READER[$name]} != @("$1"|both) ]] || printf '%s\n' "$name"; done
}

is_number() { [[ $1 =~ ^(0|[1-9][0-9]{0,11})$ ]]; }

# check_values NAME...: nothing is a value of each setting that deploy.sh is shipped without.
check_values() {
  local name value lowest highest
  for name in "$@"; do
    value=${!name}
    if [[ -z $value || ${VALID[$name]} == "*" ]]; then
      continue
    elif [[ ${VALID[$name]} =~ ^([0-9]+)\.\.([0-9]+)$ ]]; then
      lowest=${BASH_REMATCH[1]} highest=${BASH_REMATCH[2]}
      if ! is_number "$value" || ((value < lowest || value > highest)); then
        problem "$name=$value: set a whole number from $lowest to $highest"
      fi
    else
      [[ $value =~ ^(${VALID[$name]})$ ]] || problem "$name=$value: set ${MEANING[$name]}"
    fi
  done
}

# has_control_character TEXT: of ASCII, of U+0080 to U+009F, or one that ends a line, U+2028 and U+2029. By bytes, so that
# every locale has the same rule.
has_control_character() {
  local LC_ALL=C
  [[ $1 == *[[:cntrl:]]* || $1 == *$'\xc2'[$'\x80'-$'\x9f']* || $1 == *$'\xe2\x80'[$'\xa8\xa9']* ]]
}

# check_characters NAME...: what reads settings by lines would take the first line of a value for all of it.
check_characters() {
  local name shown
  for name in "$@"; do
    has_control_character "${!name}" || continue
    printf -v shown '%s=%q' "$name" "${!name}"
    [[ $name != DOCKER_BUILD_FLAGS ]] || shown=$name # it may hold a password
    problem "$shown has a control character, such as a newline or a tab: set a value without any"
  done
}

# check_before_calls NAME...: what all three scripts check before their first call: the characters of the settings that
# they go by, and those that decide whether anything is written, and which AWS is called.
check_before_calls() {
  local name
  check_characters "$@"
  stop_on_problems
  for name in "${SETTINGS[@]}"; do [[ ${VALID[$name]} != "true|false" ]] || check_values "$name"; done
  # China, GovCloud, the European Sovereign Cloud, and those nobody can see.
  [[ ! $REGION =~ ^(cn|us-gov|us-iso[a-z]?|eu-iso[a-z]?|eusc)-.*$ ]] || problem "REGION=$REGION: S3 Express One Zone exists only in the partition" \
    "aws, not in China, GovCloud or a sovereign cloud: set a Region such as eu-west-1"
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
# refuses "aws:" at the beginning of a value, too. A resource takes 50, and three of ours are on some.
check_tags() {
  local given problems line
  [[ -n $TAGS ]] || return 0
  given=$(given_tags)
  problems=$(jq -r --argjson most 47 --arg own "${OWN_TAG_KEYS[*]}" '
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
  [[ ! $IMAGE_URI =~ (^|/)s3-to-s3express-sync:([0-9]+(\.[0-9]+){2}(-dev)?)(@|$) || ${BASH_REMATCH[2]} == "$VERSION" ]] \
    || problem "IMAGE_URI=$IMAGE_URI is the image of ${BASH_REMATCH[2]}, but this checkout is $VERSION: check out" \
      "v${BASH_REMATCH[2]}, name an image of $VERSION, or leave IMAGE_URI empty to build one"
  [[ ! $IMAGE_URI =~ ^[^/]*/[^:@]*[[:upper:]] ]] \
    || problem "IMAGE_URI=$IMAGE_URI: write the path in lower case, as every registry does"
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
  check_values "${SETTINGS[@]}"
  ((${#COPY_LAST} <= 500)) || problem "COPY_LAST=$COPY_LAST: set at most 500 characters of patterns," \
    "separated by commas"
  ((${#ROLE_PATH} <= 512)) || problem "ROLE_PATH=$ROLE_PATH: set at most 512 characters"
  # The repository's name is APP_NAME, and no name of ECR ends in a hyphen (ECR API reference, CreateRepository); that of
  # the security group begins with it, and "sg-" is for ids (EC2 API reference, CreateSecurityGroup). With the longest
  # ending, -starter-rule, 50 characters keep within the 64 of a role, a rule and a function.
  [[ $APP_NAME != *- ]] || problem "APP_NAME=$APP_NAME: set a name that does not end in a hyphen, which ECR refuses"
  [[ $APP_NAME != sg-* ]] || problem "APP_NAME=$APP_NAME: set a name that does not begin with sg-, which EC2 refuses" \
    "for a security group"
  check_image_name
  check_wanted
  check_tags
  # An inline policy of a role holds 10,240 characters (IAM User Guide, "IAM and AWS STS quotas"), a key's ARN has 75.
  check_kms_keys SRC_KMS_KEY_ARN 50 "keys, because the policy of a role cannot hold more"
  check_kms_keys DST_KMS_KEY_ARN 1 "key, because a directory bucket keeps one for its whole life"
  check_audit_days
  check_task_size
}
