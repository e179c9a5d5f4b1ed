# shellcheck shell=bash
# usage: ./sync.sh reconcile [--prefix P] [--dry-run] [--audit] [--deep]
#                            [--remove-unwanted] [--remove-foreign]
#                            [--max-delete N] [--examples N] [--report FILE]
#                            [--json]
#
# Compare both buckets, and put the keys that differ on the queue.
#
# Workers copy what is missing or stale, and delete copies that the source no
# longer has. Foreign objects, which only the destination has and which do not
# say that the sync wrote them, stay. To leave them out of the comparison, set
# EXCLUDE.
#
# Use it as a backfill, an audit or a repair. It runs in a task of its own, and is
# safe to interrupt and to run again. Ctrl-C ends only the view of its log, not
# the task, and shows how to stop the task.
#
#   --prefix P      only keys that begin with P (default: PREFIX_FILTER)
#   --dry-run       only report
#   --audit         as with AUDIT_DAYS: look again at what differs after five
#                   minutes, and raise the alarm if it still differs
#   --deep          look at every object, not only at sizes and times: also finds
#                   changes within the second of the copy, and by S3's checksums
#                   copies that others have changed
#   --remove-unwanted
#                   delete from the destination what EXCLUDE or KEEP_DAYS leaves
#                   out now, except for foreign objects; not with --audit
#   --remove-foreign
#                   delete foreign objects, too; those that EXCLUDE leaves
#                   out only with --remove-unwanted; not with --audit
#   --max-delete N  stop when more than N objects would be deleted from the
#                   destination, by this command and by workers (default 1000)
#   --examples N    keys to name of each kind (default 10)
#   --report FILE   write each difference to the file (-: stdout) as a line of
#                   JSON, {"what": ..., "key": ...}, 100,000 at most. If one is
#                   missing, because the log may drop lines, the last line is
#                   {"incomplete": WHY}
#   --json          the numbers as JSON on stdout, the log on stderr
#
# Exit status: 0 equal, or all that differs is on the queue; 1 differences are
# left, such as foreign objects (not with --audit); 2 wrong usage; 3 a listing
# failed, too many would be deleted, the task did not end by itself, or the
# report is incomplete. Nothing is deleted before both buckets are listed; if a
# removal is stopped after that, the number "removed" says how many are gone,
# and the next run removes the rest.

# Two at once would do no harm, and all the work twice. An audit is one, too.
refuse_second() {
  local running="" audits by
  audits=$(starter_setting AUDIT_STARTED_BY)
  for by in "$APP_NAME-reconcile" ${audits:+"$audits"}; do
    running+=$(describe_tasks --started-by "$by" | jq -r '.[] | " \(.id)"')
  done
  [[ -z $running ]] || die "task$running is already comparing the buckets: watch it with ./sync.sh$VIA logs --follow"
}

# why_incomplete SUMMARY: prints what is missing in task.report; nothing if it has all differences.
why_incomplete() {
  local found
  found=$(wc -l <"$TEMP_DIR/task.report")
  jq -r --argjson found "$found" 'if .reported == null then "the summary did not reach the log"
    elif $found < .reported then "\(.reported - $found) of \(.reported) lines did not reach the log: try it again"
    elif .end != "complete" then "reconcile was stopped: see its log"
    elif .reported < .differences then "the first \(.reported) of \(.differences): run one --prefix after the other"
    else empty end' <<<"$1"
}

# collect_report SUMMARY: into task.report. A log may show its last line before those above it, so it is read again.
collect_report() {
  local tries=0
  task_lines | differences_of >"$TEMP_DIR/task.report"
  while ((tries++ < LAST_LINES_TRIES)) && [[ $(why_incomplete "$1") == *"did not reach the log: try"* ]]; do
    sleep "$FOLLOW_PAUSE"
    show_task_lines >&2
    task_lines | differences_of >"$TEMP_DIR/task.report"
  done
}

# end_reconcile TASK REPORT JSON: with the worker's status, or with 3 if the report is incomplete.
end_reconcile() {
  local summary why=""
  describe_queue "$QUEUE_NAME" | jq -r '(.visible + .in_flight + .delayed) as $all | select($all > 0)
    | "\($all) messages are in the queue: some of the differences may be on their way already"' >&2
  summary=$(summary_of_task "$1")
  if [[ -n $2 ]]; then
    collect_report "$summary"
    why=$(why_incomplete "$summary")
    [[ -z $why ]] || jq -nc --arg why "$why" '{incomplete: $why}' >>"$TEMP_DIR/task.report"
    if [[ $2 == - ]]; then cat "$TEMP_DIR/task.report"; else cat "$TEMP_DIR/task.report" >"$2"; fi
    [[ -z $why ]] || say "the report is incomplete: $why"
  fi
  [[ -z $why ]] || summary=$(jq -c '.status = 3' <<<"$summary")
  [[ $3 == false ]] || printf '%s\n' "$summary"
  return "$(jq .status <<<"$summary")"
}

# say_it_goes_on TASK
say_it_goes_on() {
  say "task $1 keeps running; see its end with ./sync.sh$VIA logs, or stop it with" \
    "aws ecs stop-task --region $REGION --cluster $CLUSTER_NAME --task $1"
}

verb_reconcile() {
  local arguments=() json=false audits=false removes="" report="" task
  while (($#)); do
    case "$1" in
      --prefix) need_value "$1" "$#" && arguments+=("$1" "$2") && shift ;;
      --max-delete | --examples)
        need_value "$1" "$#"
        need_number "reconcile: $1" "$2"
        arguments+=("$1" "$2")
        shift
        ;;
      --report) need_value "$1" "$#" && report=$2 && arguments+=("$1") && shift ;;
      --dry-run | --deep) arguments+=("$1") ;;
      --audit) audits=true arguments+=("$1") ;;
      --remove-unwanted | --remove-foreign) removes=$1 arguments+=("$1") ;;
      --json) json=true ;;
      *) usage "reconcile: unknown option $1" ;;
    esac
    shift
  done
  [[ $audits == false || -z $removes ]] || usage "reconcile: --audit removes nothing: leave out $removes"
  [[ $json$report != true- ]] || usage "reconcile: --json and --report - both print on stdout: name a file"
  start_verb
  need_starter
  if [[ -n $removes && " ${arguments[*]} " != *" --dry-run "* ]]; then
    if_paused die "nothing is removed before"
  else
    if_paused say "differences are put on the queue, and copied after"
  fi
  refuse_second
  # Until the report is whole, who reads it must not take it for that.
  [[ -z $report || $report == - ]] || printf '{"incomplete": "reconcile has not ended"}\n' >"$report" \
    || die "reconcile: --report $report cannot be written"
  trap '' INT TERM # until the id is known by which the task can be stopped
  task=$(start_one_task "$APP_NAME-reconcile" reconcile ${arguments[@]+"${arguments[@]}"})
  trap 'say_it_goes_on "$task"; exit 130' INT
  trap 'say_it_goes_on "$task"; exit 143' TERM
  say "task $task compares s3://$SRC_BUCKET and s3://$DST_BUCKET; its log:"
  if [[ $json == true || $report == - ]]; then follow_task "$task" >&2; else follow_task "$task"; fi
  end_reconcile "$task" "$report" "$json"
}
