# shellcheck shell=bash
# What a verb (operate/) needs of the scripts: it gets in one piece what they know of the deployment, and may have them
# change it. Each runs in a Bash of its own, which operate/scripts.py starts.

# Each is a field of operate/deployment.py, beside the settings and what hand_over asks for.
readonly HANDED_OVER=(
  ACCOUNT VERSION VIA KNOWS_DEPLOYMENT CLI_VERSION BASH BASH_VERSION
  QUEUE_NAME DLQ_NAME STARTER_NAME RULE_NAME EVENT_RULE_NAME CLUSTER_NAME TASK_FAMILY STARTER_ROLE TASK_ROLE
  STARTER_LOG_GROUP WORKER_LOG_GROUP STARTED_BY NOTIFICATION_ID
  QUEUE_ARN DLQ_ARN STARTER_ARN RULE_ARN EVENT_RULE_ARN TOPIC_ARN DST_BUCKET_ARN
  STARTER_MEMORY COPYING_MEMORY READS_ID
)

ASKS_AWS=true # whether the verb does, with its options

# Prints NAME=VALUE, and a NUL after each. Without AWS, nothing is known but the settings and the names.
hand_over() {
  local name definition="" policy="" number="" problem=""
  if [[ $ASKS_AWS == true ]]; then
    [[ $KNOWS_DEPLOYMENT == false ]] || definition=$(fact task_definition)
    policy=$(queue_policy "${EVENT_SENDERS[*]}")
    number=$(number_of_app)
    problem=$(problem_with_cli_of_metrics)
  fi
  for name in "${SETTINGS[@]}" "${HANDED_OVER[@]}"; do printf '%s=%s\0' "$name" "${!name-}"; done
  printf '%s\0' "TASK_DEFINITION=$definition" "QUEUE_POLICY=$policy" "APP_NUMBER=$number" "READS_PROBLEM=$problem"
}

# What a verb begins with that goes by the settings alone, as deploy.sh would take them.
start_without_aws() {
  start_run
  check_before_calls "${SETTINGS[@]}"
  check_values "${SETTINGS[@]}"
  check_task_size
  stop_on_problems
}

# start_and_hand_over ASKS_AWS VIA REFUSAL: what every verb begins with, once its options are right. REFUSAL: why it has
# no dry run, or nothing.
start_and_hand_over() {
  ASKS_AWS=$1 VIA=$2 PYTHON_RUNS=true
  [[ $DRY_RUN == false || -z $3 ]] || usage "$3; set DRY_RUN=false"
  if [[ $ASKS_AWS == true ]]; then start_verb; else start_without_aws; fi
  hand_over
}

# What a verb in Python may have done to the deployment (operate/change.py), because deploy.sh and cleanup.sh do it, too.
readonly FOR_VERBS=(set_pause end_pause say_pause end_work turn_on_request_metrics turn_off_request_metrics)

# run_change: its input is NAME=VALUE for what the verb got from hand_over, an empty one, a function of FOR_VERBS and its
# arguments, and a NUL after each. So nothing is asked for again. A signal ends the run, but not a call of AWS that is in
# progress: what it has changed is known then.
run_change() {
  local word words=() is_known=true
  while IFS= read -r -d '' word; do
    if [[ $is_known == false ]]; then
      words+=("$word")
    elif [[ -z $word ]]; then
      is_known=false
    else
      printf -v "${word%%=*}" %s "${word#*=}"
    fi
  done
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  start_run
  set_account "$ACCOUNT"
  [[ " ${FOR_VERBS[*]} " == *" ${words[0]} "* ]] || die "${words[0]} is not one of FOR_VERBS (lib/operate.sh)"
  "${words[@]}"
}
