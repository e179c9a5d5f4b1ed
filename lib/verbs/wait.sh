# shellcheck shell=bash
# usage: ./sync.sh wait [--prefix P] [--timeout 1h] [--exact] [--deep]
#                       [--allow-empty] [--examples N] [--json]
#
# Wait until everything now in the source is in the destination.
#
# Each key is waited for in the version that the source has now, or a newer one,
# by a task of its own, which needs about a minute to start and costs what a
# worker does. The image's own command "wait" begins at once: a job runs it as
# its first step. Several can wait at once. Ctrl-C also stops the task.
#
#   --prefix P     only keys that begin with P (default: PREFIX_FILTER)
#   --timeout 1h   the longest wait from the moment when the task runs: a number
#                  and s, m, h or d
#   --exact        also wait until objects that the source no longer has are gone
#                  from the destination
#   --deep         look at every object on both sides, not only at sizes and
#                  times, and compare their checksums ("checked", "unchecked")
#   --allow-empty  end with 0 even if the source has no key under --prefix;
#                  --exact implies it
#   --examples N   keys to name at the timeout (default 100)
#   --json         the numbers and the missing keys ("missing_keys") as JSON on
#                  stdout, the log on stderr
#
# If the source has no key under --prefix, it ends at once ("end":"empty").
# At the timeout the missing keys are listed, and why: waiting; archived; corrupt;
# failing, with the reason from the log, and whether a message on them is in the
# dead-letter queue; trouble, if the key could not be looked at.
#
# Exit status: 0 complete; 1 keys are missing at the timeout, or there is none
# under --prefix; 2 wrong usage; 3 it could not be determined, or the task did not
# end by itself; 130 interrupted.

# with_failing FILE: prints the file's {key, why}; of keys that failed in the last three hours, or since a message on them is
# in the dead-letter queue, why becomes the worker's reason. Of an archived key there is no more to say.
with_failing() {
  local seen parked since failures
  seen=$(look_at_messages)
  hint_at_more "$(jq length <<<"$seen")"
  parked=$(with_keys <<<"$seen" | jq -c --slurpfile lacking "$1" \
    'map(select(any(.keys[]; IN($lacking[0][].key))) | {keys, sent})')
  since=$(jq --argjson since $(($(now) - 10800)) 'map(.sent) + [$since] | min' <<<"$parked")
  failures=$(failures_since "$since")
  printf '%s\n' "$parked" "$failures" | cat "$1" - | jq -cs --arg via "$VIA" '
    . as [$lacking, $parked, $failures]
    | ($failures | reverse | INDEX(.key)) as $newest | ([$parked[].keys[]] | INDEX(.)) as $in_queue
    | $lacking | map($newest[.key] as $failure | (.key | in($in_queue)) as $is_parked
      | if (.why | startswith("archived")) or ($failure or $is_parked | not) then . else
          .why = "failing: \($failure.reason // "not in the log any more")\(
            if $is_parked then "; it is in the dead-letter queue: ./sync.sh\($via) redrive" else "" end)" end)'
}

# The missing keys according to the log that was followed, as {key, why}. If the reasons cannot be found, the keys are
# still listed, and the exit status does not change.
find_lacking() {
  local lacking=$TEMP_DIR/lacking
  task_lines | lacking_of >"$lacking"
  if [[ $(jq 'all(.[]; .why | startswith("archived"))' "$lacking") == false ]]; then
    run_apart "$lacking.explained" with_failing "$lacking"
    if has_failed "$lacking.explained"; then
      say "wait: the reasons why keys fail could not be read, see above"
    else
      lacking+=.explained
    fi
  fi
  cat "$lacking"
}

# EXIT trap. Only the task itself ends with 1.
end_wait() {
  local status=$?
  [[ $BASHPID == "$RUN_PID" ]] || return 0
  stop_own_task wait
  ((status != 1)) || status=${WAIT_STATUS:-3}
  exit "$status"
}

begin_wait() {
  WAIT_STATUS=""
  trap end_wait EXIT
  need_starter
  if_paused die "nothing would arrive before"
  start_own_task "$APP_NAME-wait" wait "$@"
  say "task $OWN_TASK waits until s3://$DST_BUCKET has everything that s3://$SRC_BUCKET has; it starts in about a" \
    "minute (the image's own command wait starts at once); its log:"
}

# wait_for_all JSON ARGUMENT...: a log may show its last line before those above it, so it is read once more.
wait_for_all() {
  local summary lacking log=1
  [[ $1 == false ]] || log=2
  start_verb
  begin_wait "${@:2}"
  {
    follow_task "$OWN_TASK"
    summary=$(summary_of_task "$OWN_TASK")
    WAIT_STATUS=$(jq .status <<<"$summary")
    OWN_TASK=""
    ((WAIT_STATUS == 0)) || show_task_lines
  } >&"$log"
  lacking=$(find_lacking)
  summary=$(printf '%s\n' "$summary" "$lacking" | jq -cs '.[0] + {missing_keys: .[1]}')
  if [[ $1 == true ]]; then
    visible_lines <<<"$summary"
  else
    jq -r "$JQ_TEXT"'.missing_keys as $named | select($named != []) | ((.lacking // 0) - ($named | length)) as $more
      | "", "missing:", ($named[] | "  \(.key | tojson)  \(.why)" | visible | folded(4)),
        if $more > 0 then "  and \($more) more: --examples names more of them" else empty end' <<<"$summary"
  fi
  return "$WAIT_STATUS"
}

verb_wait() {
  local arguments=() json=false
  while (($#)); do
    case "$1" in
      --prefix | --timeout | --examples)
        need_value "$1" "$#"
        [[ $1 != --timeout ]] || seconds_of "$2" >/dev/null || usage "wait: --timeout $2 is not a duration such as 1h"
        [[ $1 != --examples ]] || need_number "wait: --examples" "$2"
        arguments+=("$1" "$2")
        shift
        ;;
      --exact | --deep | --allow-empty) arguments+=("$1") ;;
      --json) json=true ;;
      *) usage "wait: unknown option $1" ;;
    esac
    shift
  done
  wait_for_all "$json" ${arguments[@]+"${arguments[@]}"}
}
