# shellcheck shell=bash
# usage: ./sync.sh pause
#
# Copy nothing until ./sync.sh resume, and lose no event.
#
# No worker is started. Running workers, including those of MIN_WORKERS, return
# their messages to the queue and end, and the function copies nothing. This
# command returns when all of them have ended, usually within two minutes. From
# then on the sync writes nothing to the destination. Rules and alarms continue,
# and ./deploy.sh keeps the pause.
#
# Events wait in the queue, for 14 days at most. The alarm for the oldest message
# goes off after a pause of an hour (ALARM_AGE_SECONDS).
#
# A second pause keeps the time of the first. After Ctrl-C the sync is paused,
# too; the next run of the starter stops the workers.

readonly SETTLE_SECONDS=30 # from the time of a pause until no run begins with the old variables, at most

# Those of 1.1.0 and before would not know the variable; the newer ones are always given PROCESSES.
need_pausable() {
  need_starter
  [[ -n $(starter_setting PROCESSES) ]] || die "what is deployed is too old to be paused: run ./deploy.sh$VIA first"
}

# variables_of_pause TIME: reads the function.
variables_of_pause() {
  jq --arg now "$1" '.Environment.Variables | .PAUSED_SINCE //= $now | {Environment: {Variables: .}}'
}

# set_pause TIME: unless it is paused already. Leaves the time that counts in SINCE.
set_pause() {
  local RESOURCE="function $STARTER_NAME"
  change_function variables_of_pause "$1"
  ask_starter | keep starter
  SINCE=$(paused_since)
}

# has_run RESERVED: whether a run of the function has just begun and ended. If only one runs at a time, no earlier run is
# still going on then.
has_run() {
  [[ $1 == 1 ]] || return 1
  printf '{}\n' >"$TEMP_DIR/event"
  try_aws lambda invoke --function-name "$STARTER_NAME" --payload "fileb://$TEMP_DIR/event" "$TEMP_DIR/answer" >/dev/null
}

# await_last_run UNTIL: the last run that may still copy, or start a worker, is over by then, or when another one has run.
await_last_run() {
  local reserved
  reserved=$(reserved_concurrency)
  while (($(now) < $1)) && ! has_run "$reserved"; do
    say "pause: waiting for the last run of $STARTER_NAME, at most $(($1 - $(now))) s"
    sleep "$RETRY_PAUSE"
  done
}

end_workers() { end_tasks "./sync.sh pause of $APP_NAME" "$STARTED_BY"; }

# end_work UNTIL: what runs when the sync is paused; as await_last_run.
end_work() {
  end_workers
  await_last_run "$1"
  end_workers
}

say_paused() {
  local until
  until=$(iso $(($(now) + QUEUE_SECONDS)))
  say "paused since $SINCE: no worker runs, and nothing is copied. New events" \
    "wait in the queue, until $until at most. To continue: ./sync.sh$VIA resume"
}

verb_pause() {
  (($# == 0)) || usage "pause: unknown option $1"
  [[ $DRY_RUN == false ]] || usage "pause: it stops workers and has no dry run; set DRY_RUN=false"
  local until
  start_verb
  need_pausable
  SINCE=$(paused_since)
  if [[ -n $SINCE ]]; then
    say "the sync has been paused since $SINCE"
    until=$(($(epoch_of "$SINCE") + SETTLE_SECONDS + STARTER_TIMEOUT))
  else
    set_pause "$(iso "$(now)")"
    say "pause: nothing new is started; the workers return their messages to the queue"
    until=$(($(now) + STARTER_TIMEOUT))
  fi
  end_work "$until"
  say_paused
}
