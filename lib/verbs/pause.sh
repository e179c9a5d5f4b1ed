# shellcheck shell=bash
# usage: ./sync.sh pause
#
# Copy nothing until ./sync.sh resume, and lose no event.
#
# No worker is started. Running workers, including those of MIN_WORKERS, return
# their messages to the queue and end, and the function copies nothing. A
# reconcile that removes objects (--remove-unwanted or --remove-foreign) is
# ended, too; others go on, because they only put keys on the queue. This
# command returns when all of them have ended, usually within two minutes. From
# then on the sync writes nothing to the destination. Rules and alarms continue,
# and ./deploy.sh keeps the pause, even if somebody deletes the function.
#
# Events wait in the queue, for 14 days at most. The alarm for the oldest message
# goes off after a pause of an hour (ALARM_AGE_SECONDS).
#
# A second pause keeps the time of the first. After Ctrl-C the sync is paused,
# too; the next run of the starter stops the workers.

# For jq: of a task, whether it is a worker; whether it deletes objects of the destination by itself.
readonly IS_WORKER=".startedBy == \$by"
readonly IS_REMOVAL='([.overrides.containerOverrides[]?.command[]?] | any(.[]; startswith("--remove-"))
  and all(.[]; . != "--dry-run"))'

# Those of 1.1.0 and before would not know the variable; the newer ones are always given PROCESSES.
need_pausable() {
  local processes
  need_starter
  processes=$(starter_setting PROCESSES)
  [[ -n $processes ]] || die "what is deployed is too old to be paused: run ./deploy.sh$VIA first"
}

# variables_of_pause TIME: reads the function. In jq 1.6, "try" inside of |= always ends in its catch.
variables_of_pause() {
  jq --arg now "$1" '.Environment.Variables
    | if (.PAUSED_SINCE // "" | try fromdateiso8601 catch null) then . else .PAUSED_SINCE = $now end
    | {Environment: {Variables: .}}'
}

# set_pause TIME: unless it is paused already; what somebody else wrote there, and is no time, is replaced. Leaves the
# time that counts in SINCE.
set_pause() {
  local RESOURCE="function $STARTER_NAME"
  change_function variables_of_pause "$1"
  ask_starter | keep starter
  SINCE=$(paused_since)
}

# await_last_run UNTIL: the last run that may still copy, or start a worker, is over by then; or, if only one runs at a
# time, when another one has begun and ended.
await_last_run() {
  local reserved
  reserved=$(reserved_concurrency)
  printf '{}\n' >"$TEMP_DIR/event"
  while (($(now) < $1)); do
    if [[ $reserved == 1 ]] && try_aws lambda invoke --function-name "$STARTER_NAME" \
      --payload "fileb://$TEMP_DIR/event" "$TEMP_DIR/answer" >/dev/null; then break; fi
    say_for_now "pause: waiting for the last run of $STARTER_NAME, at most $(($1 - $(now))) s"
    sleep "$RETRY_PAUSE"
  done
  end_progress >&2
}

# end_work UNTIL CONDITION: the tasks that are not to run during a pause; UNTIL as for await_last_run.
end_work() {
  local why="./sync.sh pause of $APP_NAME"
  end_tasks "$why" "$2"
  await_last_run "$1"
  end_tasks "$why" "$2"
}

# For a trap. SINCE is empty until the function has been changed.
say_interrupted() {
  if [[ -n $SINCE ]]; then
    say "pause: interrupted: the sync stays paused since $SINCE. What still runs may write until it ends: the next run of" \
      "the starter stops workers, but no reconcile --remove-... To end both and wait: ./sync.sh$VIA pause. To" \
      "continue: ./sync.sh$VIA resume"
  else
    say "pause: interrupted while the sync was being paused: ./sync.sh$VIA status shows whether it is"
  fi
}

verb_pause() {
  (($# == 0)) || usage "pause: unknown option $1"
  [[ $DRY_RUN == false ]] || usage "pause: it stops workers and has no dry run; set DRY_RUN=false"
  local until tasks task begun
  start_verb
  need_pausable
  SINCE=$(paused_since)
  [[ -n $(epoch_of "$SINCE") ]] || SINCE=""
  trap 'say_interrupted; exit 130' INT
  trap 'say_interrupted; exit 143' TERM
  if [[ -n $SINCE ]]; then
    say "the sync has been paused since $SINCE"
    say_pause "$SINCE" "the sync stays paused; to write it there, too, run this again"
    until=$(($(epoch_of "$SINCE") + 30 + STARTER_TIMEOUT)) # 30 s later no run begins with the old variables
  else
    begun=$(now)
    begun=$(iso "$begun")
    say_pause "$begun" "the sync is not paused; run this again"
    set_pause "$begun"
    say "pause: nothing new is started; the workers return their messages to the queue"
    until=$(($(now) + STARTER_TIMEOUT))
  fi
  tasks=$(unfinished_tasks "$IS_REMOVAL")
  for task in $tasks; do
    say "pause: task $task removes objects from the destination (reconcile --remove-...): it is ended, and the" \
      "next such run after the pause removes the rest"
  done
  end_work "$until" "$IS_WORKER or $IS_REMOVAL"
  until=$(iso $(($(epoch_of "$SINCE") + QUEUE_SECONDS))) # as status has it
  say "paused since $SINCE: no worker runs, and nothing is copied. New events" \
    "wait in the queue, until $until at most. To continue: ./sync.sh$VIA resume"
}
