# shellcheck shell=bash
# The path of a change from the source bucket to the starter.

# What deploy.sh creates on the path of events, of which launch/wanted.py makes the variables by which the starter knows
# it; and the address of the alarms.
path_of_settings() {
  {
    fact our_notifications
    event_pattern
    queue_policy "${EVENT_SENDERS[*]}"
  } | jq -s --arg visibility "$VISIBILITY_TIMEOUT" --arg receives "$MAX_RECEIVES" --arg mail "$ALARM_EMAIL" '{
    notifications: .[0], pattern: .[1], policy: .[2], $mail,
    queue: {VisibilityTimeout: $visibility, maxReceiveCount: $receives}}'
}
