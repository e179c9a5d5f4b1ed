# shellcheck shell=bash
# What deploy.sh creates on the path of events, in the form that launch/path.py compares with what exists.

path_of_settings() {
  {
    fact our_notifications
    event_pattern
    queue_policy "${EVENT_SENDERS[*]}"
  } | jq -s --arg visibility "$VISIBILITY_TIMEOUT" --arg receives "$MAX_RECEIVES" '{
    notifications: .[0], pattern: .[1], policy: .[2],
    queue: {VisibilityTimeout: $visibility, maxReceiveCount: $receives}}'
}

# Prints the variable by which the starter knows it, in short.
guard_variable() {
  path_of_settings | python3 "$PROJECT_DIR/launch/path.py" want
}
