# shellcheck shell=bash
# The settings of a deployment, which it keeps: each ./deploy.sh records what is named in the environment or edited in
# deploy.sh, and what it kept of the record before, so that nobody has to name everything again. A setting is, in this
# order, what the environment names, what deploy.sh has been edited to, what is recorded, or the shipped default.

# One entry of dockerLabels of the worker's container: it is read and removed with the task definition, so that it needs no
# right or resource of its own.
readonly RECORD_LABEL=s3-to-s3express-sync.settings

RECORD=""              # what the deployment says of its settings, as JSON
HAS_BUILD_FLAGS=false  # whether that had DOCKER_BUILD_FLAGS
declare -A RECORDED=() # the same
declare -A KEPT=()     # what deploy.sh says of those for which this run goes by RECORDED
KNOWS_DEPLOYMENT=true  # whether the task definition could be read

# name_settings NAME...: what a script assigns counts as named in the environment.
name_settings() { NAMED+=$(printf '\n%s=set' "$@"); }

# names set|empty NAME: whether the environment names it, with a value or with none. No bucket is set to none.
names() {
  [[ $1 == set || $2 != ???_BUCKET ]] && [[ $'\n'$NAMED$'\n' == *$'\n'"$2=${1#empty}"$'\n'* ]]
}

# is_chosen NAME: whether it has its value from the environment, from an edited deploy.sh, or from the record.
is_chosen() {
  names set "$1" || [[ -v KEPT[$1] ]] || [[ ${!1} != "${SHIPPED[$1]}" && $1=${!1} != ???_BUCKET_OWNER=${ACCOUNT-} ]]
}

# is_kept NAME: not by another release, and not what belongs to another bucket.
is_kept() {
  local bucket=${1%%_*}_BUCKET
  case "${KEPT_FOR[$1]}" in
    deployment) ;;
    release) [[ ${RECORDED[VERSION]-} == "$VERSION" ]] || return ;;
    *) return 1 ;;
  esac
  [[ $1 != @(SRC|DST)_* || $1 == "$bucket" || ${RECORDED[$bucket]-} == "${!bucket}" ]]
}

# Prints what a run records, as JSON on one line, with the release.
settings_record() {
  local name chosen=()
  for name in "${SETTINGS[@]}"; do
    [[ ${KEPT_FOR[$name]} == @(target|run) ]] || ! is_chosen "$name" || chosen+=("$name")
  done
  settings_json VERSION ${chosen[@]+"${chosen[@]}"} | jq -cS .
}

# Reads a record; prints the labels that hold it, as a JSON object. containerd refuses a label of more than 4,096 bytes
# with its key. One label is what release 1.3.0 reads, so only a longer record is cut into numbered ones, between
# characters; their keys are at most three bytes longer.
record_labels() {
  jq --arg name "$RECORD_LABEL" --argjson most 4096 '
    ($most - ($name | utf8bytelength)) as $room | tojson
    | if utf8bytelength <= $room then {($name): .}
      else
        reduce split("")[] as $char ([""];
          if (.[-1] + $char | utf8bytelength) > $room - 3 then . + [$char] else .[-1] += $char end)
        | to_entries | map({key: "\($name).\(.key + 1)", value}) | from_entries end'
}

# For jq: the record of a container, as an object; null if there is none, or one that somebody has broken.
jq_record() {
  cat <<JQ
  def record_from(\$number): "$RECORD_LABEL.\(\$number)" as \$name
    | if has(\$name) then .[\$name], record_from(\$number + 1) else empty end;
  def record: (.dockerLabels // {}) | [.["$RECORD_LABEL"] // record_from(1)]
    | (try (add | fromjson) catch null) | if type == "object" then map_values(tostring) else null end;
  def worker: [.containerDefinitions[] | select(.name == "worker")][0];
JQ
}

# Releases up to 1.3.0 recorded DOCKER_BUILD_FLAGS, which may hold the password of a proxy. The next deployment still
# builds with them, so that an upgrade needs nothing more than before, and leaves them out of its record.
drop_build_flags() {
  local flags
  [[ $RECORD == *DOCKER_BUILD_FLAGS* ]] || return 0
  flags=$(jq -r '.DOCKER_BUILD_FLAGS // empty' <<<"$RECORD")
  [[ -n $flags ]] || return 0
  HAS_BUILD_FLAGS=true
  RECORD=$(jq -c 'del(.DOCKER_BUILD_FLAGS)' <<<"$RECORD")
  is_chosen DOCKER_BUILD_FLAGS || names empty DOCKER_BUILD_FLAGS || DOCKER_BUILD_FLAGS=$flags
}

had_build_flags() { [[ $HAS_BUILD_FLAGS == true ]]; }

# Reads RECORD into RECORDED.
read_record() {
  local lines name value
  lines=$(jq -r 'to_entries[] | [.key, .value] | @tsv' <<<"$RECORD")
  while IFS=$'\t' read -r name value; do
    [[ " VERSION ${SETTINGS[*]} " == *" $name "* ]] || continue
    printf -v value %b "$value"
    RECORDED[$name]=$value
  done <<<"$lines"
}

# Gives this run the values in RECORDED of all settings that it does not name. Buckets come before what belongs to them.
keep_settings() {
  local name
  for name in "${SETTINGS[@]}"; do
    if [[ -v RECORDED[$name] ]] && ! is_chosen "$name" && ! names empty "$name" && is_kept "$name"; then
      KEPT[$name]=${!name}
      printf -v "$name" %s "${RECORDED[$name]}"
    fi
  done
}

# learn_settings [deploys]: asks for the deployment of APP_NAME, and keeps its settings. What may not be read is no
# deployment with defaults: a deployment ends then, and any other run goes on with what its environment names.
learn_settings() {
  local definition starter
  if [[ ${1-} == deploys ]]; then
    definition=$(fact last_definition)
  else
    run_apart "$TEMP_DIR/definition" fact last_definition
    if has_failed "$TEMP_DIR/definition"; then
      KNOWS_DEPLOYMENT=false
      return
    fi
    definition=$(<"$TEMP_DIR/definition")
  fi
  if [[ -n $definition ]]; then
    RECORD=$(jq -c "$(jq_record)"'worker | record // empty' <<<"$definition")
  else
    starter=$(fact starter)
    [[ -n $starter ]] || return 0
  fi
  tell_of_revision "$definition"
  [[ -n $RECORD ]] || RECORD=$(shown_settings "$@")
  drop_build_flags
  read_record
  keep_settings
}

# tell_of_revision DEFINITION: says what the settings are taken from, unless that is what tasks are started with.
tell_of_revision() {
  local inactive
  if [[ -z $1 ]]; then
    say "no revision of the task definition $TASK_FAMILY is left: the settings are what the function and other resources" \
      "show"
    return
  fi
  [[ $1 == *'"INACTIVE"'* ]] || return 0
  inactive=$(jq -r 'select(.status == "INACTIVE").taskDefinitionArn | split("/")[-1]' <<<"$1")
  [[ -z $inactive ]] || say "no revision of the task definition $TASK_FAMILY is active: the settings are those of" \
    "$inactive, the newest inactive one"
}

# --- a deployment without a record ----------------------------------------------------------------------------------
#
# Release 1.2.0 or an older one made it. Attributes that somebody may have changed by accident, such as those of queues,
# are no settings.

# part NAME FACT...: prints the fact as a member of an object; null if there is none.
part() { fact "${@:2}" | jq -n --arg name "$1" '{($name): [inputs][0]}'; }

# default_subnets ARCH: prints what an empty SUBNETS comes to, or nothing.
default_subnets() {
  local SUBNETS="" TASK_ARCH=$1
  ! fact_or_reason subnets_of_default_vpc >/dev/null || task_subnets
}

# shown_settings [deploys]: prints those that are not the default, as JSON. A run that does not deploy needs no more than
# a task definition shows, or, if no revision is left, the function and the role of the tasks.
shown_settings() {
  local parts defaults arch subnets="" name definition minutes="" usual=""
  definition=$(fact last_definition)
  parts=$({
    part definition last_definition
    if [[ ${1-} == deploys ]]; then
      part function function
      part tags starter_tags
      part rule rule "$RULE_NAME"
      part event_rule rule "$EVENT_RULE_NAME"
      part subscriptions subscriptions
      part policy role_policy "$TASK_ROLE"
      part alarms alarms
      part logs log_groups "$WORKER_LOG_GROUP"
      part dashboard dashboard
    elif [[ -z $definition ]]; then
      part function starter
      run_apart "$TEMP_DIR/policy" part policy role_policy "$TASK_ROLE" # which not everybody may read
      cat "$TEMP_DIR/policy"
    fi
  } | jq -cs add)
  defaults=$(for name in "${SETTINGS[@]}"; do printf '%s=%s\n' "$name" "${SHIPPED[$name]}"; done \
    | jq -Rnc '[inputs | capture("^(?<key>[^=]*)=(?<value>.*)$")] | from_entries')
  if [[ ${1-} == deploys ]]; then
    arch=$(jq -r --arg arch "${SHIPPED[TASK_ARCH]}" '.definition.runtimePlatform.cpuArchitecture // $arch' <<<"$parts")
    subnets=$(default_subnets "$arch")
    minutes=$(jq -r '.rule.ScheduleExpression // "" | match("^rate\\((\\d+) minutes?\\)$").captures[0].string' <<<"$parts")
    # What the alarm has without a setting.
    usual=$(rates_of "${minutes:-${SHIPPED[LAMBDA_POLL_RATE]}}" "${SHIPPED[ALARM_AGE_SECONDS]}" | jq .age)
  fi
  jq -c --argjson defaults "$defaults" --arg account "$ACCOUNT" --arg subnets "$subnets" \
    --arg own "${OWN_TAG_KEYS[*]}" --arg age "$AGE_ALARM" --arg usual "$usual" --arg minutes "$minutes" \
    --arg log "$WORKER_LOG_GROUP" "$(jq_record)"'
    ($defaults + {SUBNETS: $subnets, SRC_BUCKET_OWNER: $account, DST_BUCKET_OWNER: $account}) as $default |
    def one_text: if type == "array" then join(",") else . end;
    def path_of_role: "/" + (. // "" | split("/")[1:-1] | map(. + "/") | join(""));
    # What the workers are given. By itself, PROCESSES is one for each vCPU.
    def of_workers: (worker.environment // [] | map({(.name): .value}) | add // {})
      + {TASK_CPU: .cpu, TASK_MEMORY: .memory, TASK_ARCH: .runtimePlatform.cpuArchitecture,
         ROLE_PATH: (.taskRoleArn | path_of_role)}
      | ([.TASK_CPU // "0" | tonumber / 1024 | floor, 1] | max | tostring) as $processes
      | if .PROCESSES == $processes then del(.PROCESSES) else . end;
    # Without a task definition: what the function has of the settings of workers, and what their role may write to.
    def of_function: {ROLE_PATH: (.function.Role | path_of_role), DST_BUCKET: ([.policy.PolicyDocument.Statement[]?
        | select(.Action == "s3express:CreateSession").Resource | strings | split("/")[-1]][0])}
      + (.function.Environment.Variables // {} | del(.PROCESSES));
    def of_starter: .Environment.Variables // {} | {SUBNETS, ASSIGN_PUBLIC_IP, MAX_WORKERS, MIN_WORKERS, MESSAGES_PER_WORKER,
      AUDIT_DAYS, STARTER_COPIES, STARTER_MAX_SIZE};
    def given_tags: .Tags // {} | to_entries | map(select(.key | IN($own | splits(" ")) | not) | "\(.key)=\(.value)") | join(",");
    def of_the_rest: [.policy.PolicyDocument.Statement[]?] as $rights | {
      ALARM_EMAIL: [.subscriptions.Subscriptions[]? | select(.Protocol == "email" and .SubscriptionArn != "Deleted").Endpoint][0],
      ALARM_AGE_SECONDS: [.alarms[]? | select(.AlarmName == $age).Threshold | numbers | floor | tostring
        | select(. != $usual)][0],
      EVENT_SOURCE: (if .event_rule then "eventbridge" else null end),
      LAMBDA_POLL_RATE: (if $minutes == "" then null else $minutes end),
      LOG_RETENTION_DAYS: [.logs.logGroups[]? | select(.logGroupName == $log).retentionInDays | numbers | tostring][0],
      SRC_KMS_KEY_ARN: [$rights[] | select(.Action == "kms:Decrypt").Resource | one_text][0],
      DST_KMS_KEY_ARN: [$rights[] | select(.Action | type == "array" and any(. == "kms:GenerateDataKey")).Resource
        | one_text][0],
      DASHBOARD: (if has("dashboard") and .dashboard == null then "false" else null end),
      TAGS: (if .function.Environment.Variables.TAG_TASKS == "true" then .tags | given_tags else null end)};
    (if .definition then .definition | of_workers else of_function end) + (.function | of_starter) + of_the_rest
    | with_entries(select(.value != null and (.key | in($default)) and .value != $default[.key]))
    | del(.REGION, .APP_NAME)' <<<"$parts"
}

# Without a task definition, the function shows these only if it copies.
readonly OF_WORKERS_ALONE=(
  TASK_CPU TASK_MEMORY TASK_ARCH ROLLBACKS EMPTY_POLLS_BEFORE_EXIT VISIBILITY_TIMEOUT VISIBILITY_EXTEND_INTERVAL
  MAX_RECEIVES ALARM_LAG_SECONDS WAIT_TIME_SECONDS MULTIPART_THRESHOLD PART_SIZE MAX_CONCURRENT_PARTS RETRY_BASE_SECONDS
  COPY_TIMEOUT S3_CLIENT PROCESSES LOG_LEVEL DST_BUCKET_OWNER
)

# Prints what was taken from a deployment without a record, and what was not, because nothing shows it.
shown_lines() {
  local name taken="" unknown="" definition names=(BASE_IMAGE IMAGE_URI ECR_REGISTRY CREATE_VPC_ENDPOINTS ROLE_BOUNDARY_ARN)
  for name in "${SETTINGS[@]}"; do [[ ! -v KEPT[$name] ]] || taken+=" $name=${!name}"; done
  definition=$(fact last_definition)
  [[ -n $definition ]] || names+=("${OF_WORKERS_ALONE[@]}")
  for name in "${names[@]}"; do
    is_chosen "$name" || unknown+="${unknown:+, }$name"
  done
  printf '%s\n' "the deployment has no record of its settings yet: this run takes what it shows, and records it:${taken:- nothing but defaults}"
  [[ -z $unknown ]] || printf '%s\n' "nothing shows $unknown: deploy.sh's own values are used; if you had set any, name them"
}

# --- what a run says of it ------------------------------------------------------------------------------------------

# Prints a line for each setting that has another value than deploy.sh gives it.
kept_lines() {
  local name
  for name in "${SETTINGS[@]}"; do
    [[ -v KEPT[$name] && ${KEPT[$name]-} != "${!name}" ]] || continue
    if [[ $name == ???_BUCKET ]]; then
      printf 'kept: %s=%s\n' "$name" "${!name}"
    else
      printf 'kept: %s=%s (deploy.sh says %s; %s= ./deploy.sh%s takes it)\n' \
        "$name" "${!name}" "${KEPT[$name]:-nothing}" "$name" "$VIA"
    fi
  done
}

# Releases up to 1.2.0 keep no record. If one of them changes nothing of the task definition, the record of a newer one
# stays, without what was named then. The tag of the function says which release was the last.
older_release_lines() {
  local tags last
  [[ -v RECORDED[VERSION] ]] || return 0
  tags=$(fact starter_tags)
  [[ -n $tags ]] || return 0
  last=$(version_of_tags <<<"$tags")
  [[ $last == @(1.0|1.1|1.2).* ]] || return 0
  printf 'the settings are what release %s recorded. By the tags, release %s was deployed last, which records none: %s\n' \
    "${RECORDED[VERSION]}" "$last" "if you have changed a setting with it, name it again, or this run takes it back"
}

# Says what a deployment keeps, and what it does not.
tell_of_kept() {
  local line lines
  lines=$(
    {
      if [[ -n $RECORD && ! -v RECORDED[VERSION] ]]; then shown_lines; else kept_lines; fi
      older_release_lines
      if [[ -n ${RECORDED[IMAGE_URI]-} && -z $IMAGE_URI && ${RECORDED[VERSION]} != "$VERSION" ]]; then
        printf 'not kept: IMAGE_URI=%s, because release %s was deployed: %s\n' "${RECORDED[IMAGE_URI]}" \
          "${RECORDED[VERSION]}" "an image of this release is built, unless IMAGE_URI names one"
      fi
    } | visible_lines
  )
  while IFS= read -r line; do
    [[ -z $line ]] || say "$line"
  done <<<"$lines"
}

# Prints the command that deploys the same again.
deploy_command() {
  settings_json REGION APP_NAME | jq -r --argjson record "$RECORD" --arg app "${SHIPPED[APP_NAME]}" "$JQ_TEXT"'
    with_entries(select(.key != "APP_NAME" or .value != $app)) + $record | del(.VERSION) | to_entries
    | map("\(.key)=\(.value | if test("\\A[\\w@%+=:,./-]+\\z") then . else @sh end) ") | add + "./deploy.sh" | visible'
}

# Buckets are what a run is about. One that this run names has to be that of the deployment; without a deployment, both
# have to be named.
check_buckets() {
  local source="" destination="" why="could not be read in account $ACCOUNT, $REGION, see above" cure="run this again"
  if [[ $KNOWS_DEPLOYMENT == true ]]; then
    destination=$(deployed_setting DST_BUCKET)
    why="was not found in account $ACCOUNT, $REGION" cure="run ./deploy.sh$VIA first, or set REGION and APP_NAME"
  fi
  if [[ -z $destination ]]; then
    [[ $SRC_BUCKET != "${SHIPPED[SRC_BUCKET]}" && $DST_BUCKET != "${SHIPPED[DST_BUCKET]}" ]] \
      || problem "the task definition $TASK_FAMILY, which would say what SRC_BUCKET and DST_BUCKET are, $why: $cure, or" \
        "set both buckets"
    return
  fi
  source=$(deployed_setting SRC_BUCKET)
  [[ $source == "$SRC_BUCKET" ]] \
    || problem "SRC_BUCKET=$SRC_BUCKET, but what is deployed has $source: leave SRC_BUCKET out"
  [[ $destination == "$DST_BUCKET" ]] \
    || problem "DST_BUCKET=$DST_BUCKET, but what is deployed has $destination: leave DST_BUCKET out"
}
