# shellcheck shell=bash
# Waits for ./sync.sh verify: looks at the destination, the queue and the worker's log until everything has arrived, or
# until it is certain that it will not.

readonly VERIFY_FIRST_DOUBT=15 # seconds without progress until the links of the chain are looked at, then each time

declare -gA SIZE_THERE=() # "in_source KEY" or "in_mirror KEY" -> bytes, of the last listings
VERIFY_EVENT_AT=""        # when this machine saw a message first, seconds since the epoch
VERIFY_BROKEN=false       # the chain is broken: no further round
VERIFY_SHOWN=""           # the last progress that was printed
MISSING=0 ARRIVED=0       # of CASE_STATE

# --- what is there --------------------------------------------------------------------------------------------------

# read_folder in_source|in_mirror: the objects of the run, in a file. A directory bucket lists prefixes that end in "/".
read_folder() {
  "$1" list-objects-v2 --prefix "$VERIFY_FOLDER" | jq -cs "$(jq_epoch)"'
    [.[0].Contents[]? | {key: .Key, size: .Size, etag: (.ETag | gsub("\""; "")), at: (.LastModified | epoch)}]' \
    >"$VERIFY_DIR/$1.list"
}

# The first page of the copies, in a file: they are few, so that S3 need not end it before the last.
read_first_page() {
  in_mirror list-objects-v2 --no-paginate --prefix "$VERIFY_FOLDER" \
    | jq -c '{keys: (.Contents // [] | length), more: (.IsTruncated // false)}' >"$VERIFY_DIR/page"
}

list_folder() {
  read_folder "$1"
  note_sizes "$1"
}

note_sizes() {
  local key size
  jq -r '.[] | "\(.size)\t\(.key)"' "$VERIFY_DIR/$1.list" >"$VERIFY_DIR/$1.sizes"
  for key in "${!SIZE_THERE[@]}"; do
    [[ $key != "$1 "* ]] || unset "SIZE_THERE[\$key]"
  done
  while IFS=$'\t' read -r size key; do
    SIZE_THERE["$1 $key"]=$size
  done <"$VERIFY_DIR/$1.sizes"
}

# source_identity NAME: what sync-source begins with in a copy of the source as it was listed last.
source_identity() {
  jq -r --arg key "${CASE_KEY[$1]}" '.[] | select(.key == $key) | "\(.etag) \(.at | floor | todate) \(.size) "' \
    "$VERIFY_DIR/in_source.list"
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

# Failures that count, one JSON object per key: the last attempt, or the second and later ones. The cause of a first one
# may be a role that IAM does not know everywhere yet.
lasting_failures() {
  jq -s 'map({"@message": .message})' "$VERIFY_DIR/worker.lines" | failures_of \
    | jq -c --argjson since "$VERIFY_ROUND_AT" 'map(select((.at | sub("[.].*"; "Z") | fromdateiso8601) >= $since)
      | (.attempt // "attempt=1/1 " | capture("=(?<n>\\d+)/(?<of>\\d+)")) as $attempt
      | select(($attempt.n | tonumber) >= 2 or $attempt.n == $attempt.of)) | group_by(.key)[] | last'
}

# Names each reason once, with a key that has it.
note_failures() {
  local failure reason name more
  local -A first=() others=()
  lasting_failures >"$VERIFY_DIR/failures"
  while read -r failure; do
    name=$(case_of "$(jq -r .key <<<"$failure")")
    reason=$(jq -r .reason <<<"$failure")
    [[ -n $name && ${CASE_STATE[$name]:-} == missing ]] || continue
    CASE_STATE["$name"]=failed
    if [[ -n ${first[$reason]:-} ]]; then
      others[$reason]=$((${others[$reason]} + 1))
    else
      first[$reason]=${CASE_KEY[$name]} others[$reason]=0
    fi
  done <"$VERIFY_DIR/failures"
  for reason in "${!first[@]}"; do
    more=""
    ((${others[$reason]} == 0)) || more=" and ${others[$reason]} more"
    note_break "no copy" "${first[$reason]}$more: $reason" "./sync.sh$VIA redrive --list"
  done
}

# case_of KEY
case_of() {
  local name
  for name in "${CASES[@]}"; do
    [[ ${CASE_KEY[$name]} != "$1" ]] || printf '%s\n' "$name"
  done
}

# note_break LINK WHY COMMAND
note_break() {
  jq -nc --arg link "$1" --arg why "$2" --arg command "$3" '{link: $link, why: $why, command: $command}' \
    >>"$VERIFY_DIR/breaks"
  say "verify: $1: $2"
}

# --- waiting --------------------------------------------------------------------------------------------------------

# has_arrived listed|changed|gone NAME: in the listing with the source's size; as it is after its change; not in the
# listing.
has_arrived() {
  local key=${CASE_KEY[$2]}
  case "$1:$2" in
    gone:* | changed:deleted) [[ -z ${SIZE_THERE["in_mirror $key"]:-} ]] ;;
    listed:*) [[ ${SIZE_THERE["in_mirror $key"]:-} == "${SIZE_THERE["in_source $key"]}" ]] ;;
    changed:*) has_source_of "$2" ;;
  esac
}

names_in_state() {
  local name
  for name in "${CASES[@]}"; do
    [[ ${CASE_STATE[$name]:-} != "$1" ]] || printf '%s\n' "$name"
  done
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

look_at_queue() {
  read_queue
  note_event
}

# say_progress ROUND COUNT: if it has changed. On a terminal, the time goes on.
say_progress() {
  local text
  text=$(jq -r '"\(.visible) waiting, \(.in_flight) in flight, \(.delayed) delayed"' "$VERIFY_DIR/queue")
  text="$1: $ARRIVED of $2; messages: $text"
  [[ $text != "$VERIFY_SHOWN" || -t 2 ]] || return 0
  say_for_now "verify: $((SECONDS - VERIFY_STARTED)) s: $text"
  VERIFY_SHOWN=$text
}

# read_look queue|mirror|NAME: one part of a look, in a file.
read_look() {
  case "$1" in
    queue) read_queue ;;
    mirror) read_folder in_mirror ;;
    *) get_mirror "$1" ;;
  esac
}

# look_at_all WANT: copies of changed objects are read in the same look.
look_at_all() {
  local name parts=(queue mirror)
  for name in overwritten changed; do
    [[ $1 != changed || ${CASE_STATE[$name]:-} != missing ]] || parts+=("$name")
  done
  all_at_once read_look "${parts[@]}"
  note_event
  note_sizes in_mirror
  for name in "${CASES[@]}"; do
    [[ ${CASE_STATE[$name]:-} == missing ]] || continue
    if has_arrived "$1" "$name"; then CASE_STATE["$name"]=arrived; fi
  done
  count_states
}

# await_all listed|changed|gone ROUND NAME...: sets CASE_STATE of each; sets VERIFY_BROKEN if the chain is broken.
await_all() {
  local want=$1 round=$2 name arrived=-1 doubt=0 deadline=$((SECONDS + VERIFY_TIMEOUT))
  shift 2
  for name in "${!CASE_STATE[@]}"; do unset "CASE_STATE[\$name]"; done
  VERIFY_ROUND_AT=$(now)
  for name in "$@"; do CASE_STATE["$name"]=missing; done
  while :; do
    look_at_all "$want"
    say_progress "$round" "$#"
    if ((MISSING == 0)); then return; fi
    if ((ARRIVED > arrived)); then arrived=$ARRIVED doubt=$((SECONDS + VERIFY_FIRST_DOUBT)); fi
    if ((SECONDS >= deadline)); then
      say "verify: $round: not all after $VERIFY_TIMEOUT s (--timeout)"
      say_while "verify: looking at each link" look_for_break true
      return
    fi
    if ((SECONDS >= doubt)); then
      doubt=$((SECONDS + VERIFY_FIRST_DOUBT))
      say_while "verify: looking at each link" look_for_break false
      [[ $VERIFY_BROKEN == false ]] || return 0
    fi
    sleep "$FOLLOW_PAUSE"
  done
}

# look_for_break IS_OVER: ends the round if the chain cannot work. Keys that failed permanently are not waited for.
look_for_break() {
  read_worker_lines
  note_failures
  count_states
  ((MISSING)) || return 0
  find_broken_link "$1" >"$VERIFY_DIR/found"
  [[ -s $VERIFY_DIR/found ]] || return 0
  VERIFY_BROKEN=true
  note_found
}

# Notes what was found of broken links.
note_found() {
  local link why command
  while IFS=$'\t' read -r link why command; do note_break "$link" "$why" "$command"; done <"$VERIFY_DIR/found"
}
