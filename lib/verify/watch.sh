# shellcheck shell=bash
# Waits for ./sync.sh verify: looks at the destination, the queue and the worker's log until everything has arrived, or
# until it is certain that it will not.

VERIFY_EVENT_AT=""  # when this machine saw a message first, seconds since the epoch
VERIFY_BROKEN=false # the chain is broken: no further round
MISSING=0 ARRIVED=0 # of CASE_STATE

# --- what is there --------------------------------------------------------------------------------------------------

# list_folder in_source|in_mirror: the objects of the run, in a file. A directory bucket lists prefixes that end in "/".
list_folder() {
  "$1" list-objects-v2 --prefix "$VERIFY_FOLDER" | jq -cs "$(jq_epoch)"'
    [.[0].Contents[]? | {key: .Key, size: .Size, etag: (.ETag | gsub("\""; "")), at: (.LastModified | epoch)}]' \
    >"$VERIFY_DIR/$1.list"
}

# The first page of the copies, in a file: they are few, so that S3 need not end it before the last.
read_first_page() {
  in_mirror list-objects-v2 --no-paginate --prefix "$VERIFY_FOLDER" \
    | jq -c '{keys: (.Contents // [] | length), more: (.IsTruncated // false)}' >"$VERIFY_DIR/page"
}

# The lines on objects of this run, of the worker or of the starter if it copies, as JSON lines {stream, message} by
# time. The name of the folder is in no other.
read_worker_lines() {
  local group groups
  groups=$(log_groups keys)
  for group in $groups; do
    aws_or_nothing logs filter-log-events --log-group-name "$group" \
      --start-time $(((VERIFY_BEGAN - 900) * 1000)) --filter-pattern "\"$VERIFY_NAME\""
  done | jq -cs '[.[].events[]?] | sort_by(.timestamp)[]
    | {stream: .logStreamName, message: (.message | rtrimstr("\n"))}' >"$VERIFY_DIR/worker.lines"
}

# note_failures SINCE: failures that count: the last attempt, or the second and later ones. The cause of a first one may be
# a role that IAM does not know everywhere yet. Names each reason once, with a key that has it.
note_failures() {
  local names name
  jq -s 'map({"@message": .message})' "$VERIFY_DIR/worker.lines" | failures_of \
    | jq --argjson since "$1" --arg via "$VIA" --argjson missing "$(cases_in_state missing)" '
      map(select((.at | sub("[.].*"; "Z") | fromdateiso8601) >= $since)
        | . + ((.attempt // "attempt=1/1 ") | capture("=(?<n>\\d+)/(?<of>\\d+)"))
        | select((.n | tonumber) >= 2 or .n == .of)) | group_by(.key) | map(last)
      | [.[] | . as $failure | $missing[] | select(.key == $failure.key) + {reason: $failure.reason}]
      | {names: map(.name), breaks: (group_by(.reason) | map({link: "no copy", why: "\(.[0].key)\(
          if length > 1 then " and \(length - 1) more" else "" end): \(.[0].reason)",
          command: "./sync.sh\($via) redrive --list"}))}' >"$VERIFY_DIR/failures"
  names=$(jq -r '.names[]' "$VERIFY_DIR/failures")
  for name in $names; do CASE_STATE["$name"]=failed; done
  jq -c '.breaks[]' "$VERIFY_DIR/failures" >"$VERIFY_DIR/found"
  note_found
}

# cases_in_state STATE: as a JSON list {name, key}.
cases_in_state() {
  local name
  for name in "${CASES[@]}"; do
    [[ ${CASE_STATE[$name]:-} != "$1" ]] || printf '%s\t%s\n' "$name" "${CASE_KEY[$name]}"
  done | jq -Rnc '[inputs | split("\t") | {name: .[0], key: .[1]}]'
}

# Notes and reports what was found of broken links, {link, why, command} on each line.
note_found() {
  cat "$VERIFY_DIR/found" >>"$VERIFY_DIR/breaks"
  jq -r '"verify: \(.link): \(.why)"' "$VERIFY_DIR/found" >"$VERIFY_DIR/told"
  local line
  while IFS= read -r line; do say "$line"; done <"$VERIFY_DIR/told"
}

# --- waiting --------------------------------------------------------------------------------------------------------

# arrived_of listed|changed|gone: of the objects that are missing, the names of those that have arrived: in the listing
# with the source's size; as they are after their change, so that the copy says it was made from the source as it is now;
# not in the listing.
arrived_of() {
  local name
  {
    cases_in_state missing
    cat "$VERIFY_DIR/in_source.list" "$VERIFY_DIR/in_mirror.list"
    for name in overwritten changed; do
      [[ $1 != changed || ${CASE_STATE[$name]:-} != missing ]] \
        || jq -c --arg name "$name" '{name: $name, of: (.Metadata["sync-source"] // "")}' "$VERIFY_DIR/in_mirror.$name.json"
    done
  } | jq -rs --arg want "$1" '. as [$missing, $source, $mirror] | (.[3:] | INDEX(.name)) as $heads
    | ($source | INDEX(.key)) as $from | ($mirror | INDEX(.key)) as $to
    | $missing[] | $from[.key] as $put | $to[.key] as $copy
    | select(if $want == "gone" or ($want == "changed" and .name == "deleted") then $copy == null
        elif $want == "listed" then $put and $copy and $copy.size == $put.size
        else $put and ($heads[.name].of | startswith("\($put.etag) \($put.at | floor | todate) \($put.size) ")) end).name'
}

# Sets MISSING and ARRIVED. A $(...) inside ((...)) would not do: Bash 5.2 may fail to read a trap that comes in it.
count_states() {
  local name
  MISSING=0 ARRIVED=0
  for name in "${CASES[@]}"; do
    case "${CASE_STATE[$name]:-}" in
      missing) MISSING=$((MISSING + 1)) ;;
      arrived) ARRIVED=$((ARRIVED + 1)) ;;
    esac
  done
}

# The queue, in a file.
read_queue() {
  describe_queue "$QUEUE_NAME" >"$VERIFY_DIR/queue.new"
  mv "$VERIFY_DIR/queue.new" "$VERIFY_DIR/queue"
}

# Remembers when the first message was seen.
note_event() {
  if [[ -z $VERIFY_EVENT_AT && $(jq '.visible + .in_flight + .delayed' "$VERIFY_DIR/queue") != 0 ]]; then
    VERIFY_EVENT_AT=$(now)
  fi
}

# read_look queue|mirror|NAME: one part of a look, in a file.
read_look() {
  case "$1" in
    queue) read_queue ;;
    mirror) list_folder in_mirror ;;
    *) get_mirror "$1" ;;
  esac
}

# look_at_all WANT: copies of changed objects are read in the same look.
look_at_all() {
  local name names parts=(queue mirror)
  for name in overwritten changed; do
    [[ $1 != changed || ${CASE_STATE[$name]:-} != missing ]] || parts+=("$name")
  done
  all_at_once read_look "${parts[@]}"
  note_event
  names=$(arrived_of "$1")
  for name in $names; do CASE_STATE["$name"]=arrived; done
  count_states
}

# await_all listed|changed|gone ROUND NAME...: sets CASE_STATE of each; sets VERIFY_BROKEN if the chain is broken. Each 15
# seconds without progress, the links of the chain are looked at.
await_all() {
  local want=$1 round=$2 name text shown="" since arrived=-1 patience=15 doubt=0 deadline=$((SECONDS + VERIFY_TIMEOUT))
  shift 2
  for name in "${!CASE_STATE[@]}"; do unset "CASE_STATE[\$name]"; done
  since=$(now)
  for name in "$@"; do CASE_STATE["$name"]=missing; done
  while :; do
    look_at_all "$want"
    text=$(jq -r '"\(.visible) waiting, \(.in_flight) in flight, \(.delayed) delayed"' "$VERIFY_DIR/queue")
    text="$round: $ARRIVED of $#; messages: $text"
    # On a terminal, the time goes on.
    { [[ $text == "$shown" ]] && ! is_terminal 2; } || say_for_now "verify: $((SECONDS - VERIFY_STARTED)) s: $text"
    shown=$text
    if ((MISSING == 0)); then return; fi
    if ((ARRIVED > arrived)); then arrived=$ARRIVED doubt=$((SECONDS + patience)); fi
    if ((SECONDS >= deadline)); then
      say "verify: $round: not all after $VERIFY_TIMEOUT s (--timeout)"
      say_while "verify: looking at each link" look_for_break true "$since"
      return
    fi
    if ((SECONDS >= doubt)); then
      doubt=$((SECONDS + patience))
      say_while "verify: looking at each link" look_for_break false "$since"
      [[ $VERIFY_BROKEN == false ]] || return 0
    fi
    sleep "$FOLLOW_PAUSE"
  done
}

# look_for_break IS_OVER SINCE: ends the round if the chain cannot work. Keys that failed permanently are not waited for.
look_for_break() {
  read_worker_lines
  note_failures "$2"
  count_states
  ((MISSING)) || return 0
  find_broken_link "$1" >"$VERIFY_DIR/found"
  [[ -s $VERIFY_DIR/found ]] || return 0
  VERIFY_BROKEN=true
  note_found
}

# --- the links of the chain, for lib/verify/chain.jq -----------------------------------------------------------------

# find_all_faults: looks at the path of a change again, as what is known of it may have changed since.
find_all_faults() {
  ask_starter | keep starter
  read_path
  find_faults >"$VERIFY_DIR/path"
}

# The tasks that the starter started since the run began, as a JSON list in a file.
read_tasks() {
  all_tasks | jq -cs "$(jq_epoch)"'
    def times: {created: .createdAt, connected: .connectivityAt, pulling: .pullStartedAt, pulled: .pullStoppedAt,
      started: .startedAt} | map_values(epoch);
    [.[].tasks[]? | select(.startedBy == $by) | times + {
      id: (.taskArn | split("/")[-1]), status: .lastStatus, code: .stopCode, reason: .stoppedReason,
      capacity: (.capacityProviderName // .launchType),
      exit: ([.containers[]? | select(.name == "worker")][0].exitCode),
      container_reason: ([.containers[]? | select(.name == "worker")][0].reason)}]' --arg by "$STARTED_BY" \
    >"$VERIFY_DIR/tasks"
}

# find_broken_link IS_OVER: prints {link, why, command} of the first that is broken, a line for each reason.
find_broken_link() {
  local starter outages wrote=false
  find_all_faults
  read_tasks
  # What the starter wrote since the run began, as a JSON list: a decision, or {error}.
  starter=$(aws_or_nothing logs filter-log-events --log-group-name "$STARTER_LOG_GROUP" \
    --start-time $((VERIFY_BEGAN * 1000)) \
    | jq -cs --arg wanted "$DECISION_OR_FAILURE" '[.[].events[]? | .message | rtrimstr("\n") | select(test($wanted))
      | . as $line | try (fromjson) catch {error: $line}]')
  # What the workers wrote of outages since a quarter of an hour before the run, as read by outages_of(). An outage that
  # the starter meets is theirs as soon as one runs.
  outages=$(aws_or_nothing logs filter-log-events --log-group-name "$WORKER_LOG_GROUP" \
    --start-time $(((VERIFY_BEGAN - 900) * 1000)) --filter-pattern '"outage"' \
    | jq -c --arg line "$OUTAGE_LINE" '[.events[]? | select(.message | test($line))
        | {"@logStream": .logStreamName, "@message": .message}]' | outages_of)
  [[ ! -s $VERIFY_DIR/worker.lines ]] || wrote=true
  {
    cat "$VERIFY_DIR/path" "$VERIFY_DIR/tasks" "$VERIFY_DIR/queue"
    printf '%s\n' "$starter" "$outages"
  } | jq -cs --argjson over "$1" --argjson elapsed $((SECONDS - VERIFY_STARTED)) --argjson began "$VERIFY_BEGAN" \
    --argjson poll $((LAMBDA_POLL_RATE * 60)) --argjson now "$(now)" --arg event "$VERIFY_EVENT_AT" --arg via "$VIA" \
    --argjson wrote "$wrote" --argjson left "$(cases_in_state missing)" \
    --arg cluster "$CLUSTER_NAME" "$(jq_epoch)"'
    {faults: .[0].faults, name: (.[0].name | {source: .bucket, queue, starter, rule} + {$cluster}), tasks: .[1],
     queue: (.[2] + {event: ($event != "")}), starter: .[3], outages: .[4], $wrote,
     $over, $elapsed, $began, $poll, $now, left: ($left | map(.name) | join(" ")), $via} | '"$(<"$PROJECT_DIR/lib/verify/chain.jq")"
}
