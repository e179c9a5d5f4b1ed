# shellcheck shell=bash
# The settings of a deployment that has no record of them (lib/record.sh), because release 1.2.0 or an older one made it:
# what its resources show. Attributes that somebody may have changed by accident, such as those of queues, are no settings.

# These nothing shows.
readonly NOT_SHOWN=(BASE_IMAGE IMAGE_URI ECR_REGISTRY DOCKER_BUILD_FLAGS CREATE_VPC_ENDPOINTS ROLE_BOUNDARY_ARN)

# part NAME FACT...: prints the fact as a member of an object; null if there is none.
part() { fact "${@:2}" | jq -n --arg name "$1" '{($name): [inputs][0]}'; }

# shown_parts [deploys]: prints what lib/shown.jq reads. A run that does not deploy needs no more than a task definition shows.
shown_parts() {
  part definition task_definition
  [[ ${1-} == deploys ]] || return 0
  part function function
  part tags starter_tags
  part rule rule "$RULE_NAME"
  part event_rule rule "$EVENT_RULE_NAME"
  part subscriptions subscriptions
  part policy role_policy "$TASK_ROLE"
  part alarms alarms
  part logs log_groups "$WORKER_LOG_GROUP"
}

# default_subnets ARCH: prints what an empty SUBNETS comes to, or nothing.
default_subnets() {
  local SUBNETS="" TASK_ARCH=$1
  ! fact_or_reason subnets "" >/dev/null || task_subnets
}

# Prints the shipped defaults as JSON.
shipped_settings() {
  local name
  for name in "${SETTINGS[@]}"; do printf '%s=%s\n' "$name" "${SHIPPED[$name]}"; done \
    | jq -Rnc '[inputs | capture("^(?<key>[^=]*)=(?<value>.*)$")] | from_entries'
}

# shown_settings [deploys]: prints those that are not the default, as JSON.
shown_settings() {
  local parts subnets=""
  parts=$(shown_parts "$@" | jq -cs add)
  if [[ ${1-} == deploys ]]; then
    subnets=$(default_subnets "$(jq -r .definition.runtimePlatform.cpuArchitecture <<<"$parts")")
  fi
  jq -c --argjson shipped "$(shipped_settings)" --arg account "$ACCOUNT" --arg subnets "$subnets" \
    --arg own "${OWN_TAG_KEYS[*]}" --arg age "$AGE_ALARM" --arg log "$WORKER_LOG_GROUP" "$(jq_record)
    (\$shipped + {SUBNETS: \$subnets, SRC_BUCKET_OWNER: \$account, DST_BUCKET_OWNER: \$account}) as \$default |
    $(<"$PROJECT_DIR/lib/shown.jq")" <<<"$parts"
}

# Prints what was taken from a deployment without a record, and what was not, because nothing shows it.
shown_lines() {
  local name taken="" unknown=""
  for name in "${SETTINGS[@]}"; do [[ ! -v KEPT[$name] ]] || taken+=" $name=${!name}"; done
  for name in "${NOT_SHOWN[@]}"; do is_chosen "$name" || unknown+="${unknown:+, }$name"; done
  printf '%s\n' "the deployment has no record of its settings yet: this run takes what it shows, and records it:${taken:- nothing but defaults}"
  [[ -z $unknown ]] || printf '%s\n' "nothing shows $unknown: deploy.sh's own values are used; if you had set any, name them"
}
