# shellcheck shell=bash
# ./sync.sh reconcile: a task of its own compares both buckets.

print_reconcile_help() {
  cat <<'HELP'
usage: ./sync.sh reconcile [--prefix P] [--dry-run] [--audit] [--deep] [--max-delete N] [--examples N] [--json]

Compares both buckets in a task of its own and puts the keys that differ on the queue. It is safe to interrupt and to
run again. Ctrl-C ends only the view of its log, not the task.

  --prefix P      only keys that begin with P (default: PREFIX_FILTER)
  --dry-run       only report
  --audit         as by AUDIT_DAYS: look again at what differs after five minutes, and raise its alarm if it still does
  --deep          look at every object, not only at sizes and times: also finds changes within the second of the copy
  --max-delete N  stop when more than N objects would be deleted from the destination (default 1000)
  --examples N    keys to name of each kind (default 10)
  --json          the numbers as JSON on stdout, the log on stderr

Exit status: 0 equal, or all that differs is on the queue; 1 differences are left; 2 wrong usage; 3 a listing failed,
too many would be deleted, or the task did not end by itself: nothing is deleted then.
HELP
}

readonly LAST_LINES_TRIES=10 # looks at the log of a task that has ended, until its last line is there

network_configuration() {
  local subnets groups public
  subnets=$(starter_setting SUBNETS)
  groups=$(starter_setting SECURITY_GROUPS)
  public=$(starter_setting ASSIGN_PUBLIC_IP)
  jq -n --arg subnets "$subnets" --arg groups "$groups" --arg public "$public" '{awsvpcConfiguration: {
      subnets: ($subnets | split(",")), securityGroups: ($groups | split(",")), assignPublicIp: $public}}'
}

# The starter counts the tasks that it started itself: this is not its startedBy.
reconcile_started_by() { printf '%s-reconcile\n' "$APP_NAME"; }

# start_reconcile ARGUMENT...: prints the task's id. On demand, as an interruption would begin it all over.
start_reconcile() {
  local answer overrides definition network task
  definition=$(starter_setting TASK_DEFINITION)
  network=$(network_configuration)
  overrides=$(printf '%s\n' reconcile "$@" | jq -Rnc '{containerOverrides: [{name: "worker", command: [inputs]}]}')
  answer=$(aws_or_die ecs run-task --cluster "$CLUSTER_NAME" --task-definition "$definition" \
    --capacity-provider-strategy capacityProvider=FARGATE,weight=1 --started-by "$(reconcile_started_by)" \
    --network-configuration "$network" --overrides "$overrides")
  task=$(jq -r '.tasks[0].taskArn // "" | split("/")[-1] // ""' <<<"$answer")
  [[ -n $task ]] || die "the task was not started: $(jq -c .failures <<<"$answer"); try again in a few minutes"
  printf '%s\n' "$task"
}

# Two at once would do no harm, and all the work twice. An audit is one, too.
refuse_second() {
  local running audits
  running=$(describe_tasks --started-by "$(reconcile_started_by)" | jq -r 'map(.id) | join(", ")')
  audits=$(starter_setting AUDIT_STARTED_BY)
  [[ -z $audits ]] || running+=$(describe_tasks --started-by "$audits" | jq -r 'map(.id) | join(", ")')
  [[ -z $running ]] || die "task $running compares already: watch it with ./sync.sh logs --follow"
}

# describe_task TASK: what ECS says of it; after an hour it does not know an ended task any more.
describe_task() {
  aws_or_die ecs describe-tasks --cluster "$CLUSTER_NAME" --tasks "$1" | jq '.tasks[0] // {lastStatus: "STOPPED"}'
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
    print_new_lines
    sleep "$FOLLOW_PAUSE"
  done
}

# worker_exit_code: reads what describe_task printed; null while it is not known. GuardDuty may add a container of its
# own beside the worker.
worker_exit_code() { jq '[.containers[]? | select(.name == "worker")][0].exitCode'; }

# exit_status_of TASK: without a summary, which a log may have dropped or which was never written, ECS knows how the
# worker ended; what no worker ends with is a task that something else ended.
exit_status_of() {
  local state code
  state=$(describe_task "$1")
  code=$(worker_exit_code <<<"$state")
  if [[ $code == [0123] ]]; then
    say "the summary did not reach the log; the task itself ended with exit status $code"
  else
    say "the task ended without a summary: $(jq -r '.stoppedReason // "no reason is known"' <<<"$state")"
    code=3
  fi
  printf '%s\n' "$code"
}

# report_task TASK JSON: prints the numbers if JSON is true, and returns the status.
report_task() {
  local summary status
  if is_summary "$(last_log_line)"; then
    summary=$(summary_of "$(last_log_line)")
    status=$(jq .status <<<"$summary")
  else
    status=$(exit_status_of "$1")
    summary=$(jq -nc --argjson status "$status" '{end: "without summary", status: $status}')
  fi
  [[ $2 == false ]] || printf '%s\n' "$summary"
  return "$status"
}

hint_at_waiting() {
  describe_queue "$QUEUE_NAME" | jq -r '(.visible + .in_flight + .delayed) as $all | select($all > 0)
    | "\($all) messages are in the queue: part of what differs may be on its way"' >&2
}

verb_reconcile() {
  local arguments=() json=false task
  while (($#)); do
    case "$1" in
      --prefix | --max-delete | --examples) need_value "$1" "$#" && arguments+=("$1" "$2") && shift ;;
      --dry-run | --audit | --deep) arguments+=("$1") ;;
      --json) json=true ;;
      --help) print_reconcile_help && return ;;
      *) usage "reconcile: unknown option $1" ;;
    esac
    shift
  done
  start_verb
  need_starter
  refuse_second
  task=$(start_reconcile ${arguments[@]+"${arguments[@]}"})
  say "task $task compares s3://$SRC_BUCKET and s3://$DST_BUCKET; its log:"
  if [[ $json == true ]]; then follow_task "$task" >&2; else follow_task "$task"; fi
  hint_at_waiting
  report_task "$task" "$json"
}
