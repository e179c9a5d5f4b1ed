# shellcheck shell=bash
# usage: ./sync.sh reconcile [--prefix P] [--dry-run] [--audit] [--deep]
#                            [--remove-unwanted] [--max-delete N] [--examples N]
#                            [--json]
#
# Compare both buckets, and put the keys that differ on the queue.
#
# That is a backfill, an audit or a repair. It runs in a task of its own, and is
# safe to interrupt and to run again. Ctrl-C ends only the view of its log, not
# the task, and says how to stop that.
#
#   --prefix P      only keys that begin with P (default: PREFIX_FILTER)
#   --dry-run       only report
#   --audit         as by AUDIT_DAYS: look again at what differs after five
#                   minutes, and raise its alarm if it still does
#   --deep          look at every object, not only at sizes and times: also finds
#                   changes within the second of the copy
#   --remove-unwanted
#                   delete from the destination what EXCLUDE or KEEP_DAYS leaves
#                   out now; not with --audit
#   --max-delete N  stop when more than N objects would be deleted from the
#                   destination, by this or by a worker (default 1000)
#   --examples N    keys to name of each kind (default 10)
#   --json          the numbers as JSON on stdout, the log on stderr
#
# Exit status: 0 equal, or all that differs is on the queue; 1 differences are
# left; 2 wrong usage; 3 a listing failed, too many would be deleted, or the task
# did not end by itself. Nothing is deleted before all is listed; if
# --remove-unwanted is stopped after that, the number "removed" says how many are
# gone, and the next run removes the rest.

reconcile_started_by() { printf '%s-reconcile\n' "$APP_NAME"; }

# Two at once would do no harm, and all the work twice. An audit is one, too.
refuse_second() {
  local running audits
  running=$(describe_tasks --started-by "$(reconcile_started_by)" | jq -r 'map(.id) | join(", ")')
  audits=$(starter_setting AUDIT_STARTED_BY)
  [[ -z $audits ]] || running+=$(describe_tasks --started-by "$audits" | jq -r 'map(.id) | join(", ")')
  [[ -z $running ]] || die "task $running compares already: watch it with ./sync.sh$VIA logs --follow"
}

# report_task TASK JSON: prints the numbers if JSON is true, and returns the status.
report_task() {
  local summary
  summary=$(summary_of_task "$1")
  [[ $2 == false ]] || printf '%s\n' "$summary"
  return "$(jq .status <<<"$summary")"
}

hint_at_waiting() {
  describe_queue "$QUEUE_NAME" | jq -r '(.visible + .in_flight + .delayed) as $all | select($all > 0)
    | "\($all) messages are in the queue: part of what differs may be on its way"' >&2
}

# say_it_goes_on TASK
say_it_goes_on() {
  say "task $1 goes on; see its end with ./sync.sh$VIA logs, or stop it with" \
    "aws ecs stop-task --region $REGION --cluster $CLUSTER_NAME --task $1"
}

verb_reconcile() {
  local arguments=() json=false audits=false removes=false task
  while (($#)); do
    case "$1" in
      --prefix) need_value "$1" "$#" && arguments+=("$1" "$2") && shift ;;
      --max-delete | --examples)
        need_value "$1" "$#"
        need_number "reconcile: $1" "$2"
        arguments+=("$1" "$2")
        shift
        ;;
      --dry-run | --deep) arguments+=("$1") ;;
      --audit) audits=true arguments+=("$1") ;;
      --remove-unwanted) removes=true arguments+=("$1") ;;
      --json) json=true ;;
      *) usage "reconcile: unknown option $1" ;;
    esac
    shift
  done
  [[ $audits$removes != truetrue ]] || usage "reconcile: --audit removes nothing, leave out --remove-unwanted"
  start_verb
  need_starter
  refuse_second
  trap '' INT TERM # until the id is known by which the task can be stopped
  task=$(start_one_task "$(reconcile_started_by)" reconcile ${arguments[@]+"${arguments[@]}"})
  trap 'say_it_goes_on "$task"; exit 130' INT
  trap 'say_it_goes_on "$task"; exit 143' TERM
  say "task $task compares s3://$SRC_BUCKET and s3://$DST_BUCKET; its log:"
  if [[ $json == true ]]; then follow_task "$task" >&2; else follow_task "$task"; fi
  hint_at_waiting
  report_task "$task" "$json"
}
