# shellcheck shell=bash
# usage: ./sync.sh resume
#
# End a pause: the sync continues with the waiting messages.
#
# The next run of the starter, within LAMBDA_POLL_RATE minutes, starts workers for
# the waiting messages. If the sync is not paused, this says so and changes
# nothing.

end_pause() {
  local RESOURCE="function $STARTER_NAME"
  change_function jq '.Environment.Variables | del(.PAUSED_SINCE) | {Environment: {Variables: .}}'
}

verb_resume() {
  (($# == 0)) || usage "resume: unknown option $1"
  [[ $DRY_RUN == false ]] || usage "resume: it lets workers start and has no dry run; set DRY_RUN=false"
  local since began waiting
  start_verb
  need_starter
  since=$(paused_since)
  if [[ -z $since ]]; then
    say "the sync is not paused"
    say_pause "" "the rule may still say that the sync is paused, which counts if the function is gone; run this again"
    return
  fi
  end_pause
  waiting=$(describe_queue "$QUEUE_NAME" | jq '.visible + .in_flight + .delayed')
  say "the sync continues, after a pause since $since, with $(counted "$waiting" message) in the queue for the next run" \
    "of the starter"
  began=$(epoch_of "$since")
  if [[ -z $began ]]; then
    say "when the pause began is not known, because PAUSED_SINCE was not a time: if it lasted longer than the 14 days for" \
      "which the queue keeps a message, run ./sync.sh$VIA reconcile, too"
  elif (($(now) - began >= QUEUE_SECONDS)); then
    say "that is longer than the 14 days for which the queue keeps a message: run ./sync.sh$VIA reconcile, too"
  fi
  say_pause "" "the sync continues, but the rule still says that it is paused, which counts if the function is gone; run this again"
}
