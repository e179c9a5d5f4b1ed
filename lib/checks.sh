# shellcheck shell=bash
# The path of a change from the source bucket to the starter, as launch/path.py compares it with what exists.

# What deploy.sh creates on the path of events, in the form that launch/path.py compares with what exists, and of which
# launch/path.py makes the variables by which the starter knows it, in short; and the address of the alarms.
path_of_settings() {
  {
    fact our_notifications
    event_pattern
    queue_policy "${EVENT_SENDERS[*]}"
  } | jq -s --arg visibility "$VISIBILITY_TIMEOUT" --arg receives "$MAX_RECEIVES" --arg mail "$ALARM_EMAIL" '{
    notifications: .[0], pattern: .[1], policy: .[2], $mail,
    queue: {VisibilityTimeout: $visibility, maxReceiveCount: $receives}}'
}
