# shellcheck shell=bash
# Runs one command of the image in a task of its own: starts it on demand, and follows its log until its summary.

readonly LAST_LINES_TRIES=10 # looks at the log of a task that has ended, until its last line is there

# run_with_tags ARGUMENT...: runs a task with the tags of its task definition, or without if the caller may not tag.
run_with_tags() {
  local answer
  answer=$(aws_if_allowed ecs run-task --propagate-tags TASK_DEFINITION "$@")
  if [[ -z $answer ]]; then
    ! was_denied || [[ $(denial) != *ecs:TagResource* ]] || say "the task is started without tags: $(denial)"
    answer=$(aws_or_die ecs run-task "$@")
  fi
  printf '%s\n' "$answer"
}

# start_one_task STARTED_BY COMMAND ARGUMENT...: prints the task's id. It runs on demand, because after an interruption
# it would have to start again. STARTED_BY is not the starter's own, so that the starter does not count the task.
start_one_task() {
  local answer overrides definition network task tagged run=(aws_or_die ecs run-task)
  tagged=$(starter_setting TAG_TASKS)
  [[ $tagged != true ]] || run=(run_with_tags)
  definition=$(starter_setting TASK_DEFINITION)
  network=$(fact starter | jq '.Environment.Variables | {awsvpcConfiguration: {assignPublicIp: (.ASSIGN_PUBLIC_IP // ""),
    subnets: (.SUBNETS // "" | split(",")), securityGroups: (.SECURITY_GROUPS // "" | split(","))}}')
  # A prefix may hold newlines. A NUL at the end would be lost in jq 1.6, and with it the last word: the image without
  # a command is a worker.
  overrides=$({ printf '%s\0' "${@:2}" && echo; } | jq -Rsc --argjson words $(($# - 1)) 'split("\u0000")[:-1]
    | if length == $words then {containerOverrides: [{name: "worker", command: .}]}
      else error("the command of the task has \(length) words instead of \($words)") end')
  answer=$("${run[@]}" --cluster "$CLUSTER_NAME" --task-definition "$definition" \
    --capacity-provider-strategy capacityProvider=FARGATE,weight=1 --started-by "$1" \
    --network-configuration "$network" --overrides "$overrides")
  task=$(jq -r '.tasks[0].taskArn // "" | split("/")[-1] // ""' <<<"$answer")
  [[ -n $task ]] || die "the task was not started: $(jq -c .failures <<<"$answer"); try again in a few minutes"
  printf '%s\n' "$task"
}

OWN_TASK="" # the task that ends with this run: after it, nobody would learn what the task finds

# start_own_task STARTED_BY COMMAND ARGUMENT...: a signal that comes while the task's id is not known yet would leave a
# task behind.
start_own_task() {
  trap '' INT TERM
  OWN_TASK=$(start_one_task "$@")
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# stop_own_task VERB: of an EXIT trap.
stop_own_task() {
  local shell=$BASHPID
  [[ $shell == "$RUN_PID" ]] || return 0
  trap - EXIT
  trap '' INT TERM
  if [[ -z $OWN_TASK ]]; then
    : # it has ended by itself
  elif (aws_or_die ecs stop-task --cluster "$CLUSTER_NAME" --task "$OWN_TASK" --reason "./sync.sh $1 of $APP_NAME ended" \
    >/dev/null); then
    say "task $OWN_TASK is being stopped"
  else
    say "task $OWN_TASK may still be running, and costs money. To stop it:" \
      "aws ecs stop-task --region $REGION --cluster $CLUSTER_NAME --task $OWN_TASK"
  fi
  end_run
}

# describe_task TASK: what ECS says of it; after an hour it does not know an ended task any more.
describe_task() {
  aws_or_die ecs describe-tasks --cluster "$CLUSTER_NAME" --tasks "$1" | jq '.tasks[0] // {lastStatus: "STOPPED"}'
}

# What came since the last look, and is for a person: the differences of a report are many, and for a file. Not through a
# pipe: print_new_lines remembers what it has printed.
show_task_lines() {
  local line
  print_new_lines >"$TEMP_DIR/task.new"
  while IFS= read -r line; do
    if is_difference "$line"; then continue; fi
    if is_terminal 1 && is_progress "$line"; then
      show_progress "$(progress_of "$line")"
    else
      end_progress
      printf '%s\n' "$line"
    fi
  done <"$TEMP_DIR/task.new"
}

# follow_task TASK: prints the task's log until its summary. The last lines of a task that has ended reach CloudWatch
# some seconds later; a task that was ended by something else has no summary, and a log may drop lines.
follow_task() {
  local status tries=0
  open_log text 0 "$WORKER_LOG_GROUP"
  only_streams "worker/worker/$1"
  while ((tries < LAST_LINES_TRIES)) && ! is_summary "$(last_log_line)"; do
    status=$(describe_task "$1" | jq -r .lastStatus)
    if [[ $status == STOPPED ]]; then tries=$((tries + 1)); fi
    show_task_lines
    sleep "$FOLLOW_PAUSE"
  done
  end_progress
}

# exit_status_of TASK: if there is no summary, because the log dropped it or it was never written, ECS knows how the
# worker ended. Any other exit status means that something else ended the task. GuardDuty may add a container of its own
# beside the worker.
exit_status_of() {
  local state code
  state=$(describe_task "$1")
  code=$(jq '[.containers[]? | select(.name == "worker")][0].exitCode' <<<"$state")
  if [[ $code == [0123] ]]; then
    say "the summary did not reach the log; the task itself ended with exit status $code"
  else
    say "the task ended without a summary: $(jq -r '.stoppedReason // "no reason is known"' <<<"$state")"
    code=3
  fi
  printf '%s\n' "$code"
}

# summary_of_task TASK: of a task whose log was followed to its end, as JSON; its "status" is the exit status.
summary_of_task() {
  local status
  if is_summary "$(last_log_line)"; then
    summary_of "$(last_log_line)"
  else
    status=$(exit_status_of "$1")
    jq -nc --argjson status "$status" '{end: "without summary", status: $status}'
  fi
}
