# shellcheck shell=bash
# Waiting in ./sync.sh verify: look at the destination, the queue and the worker's log until all has arrived, or until
# it is certain that it will not.

readonly VERIFY_FIRST_DOUBT=15 # seconds without progress until the links of the chain are looked at, then each time

declare -A SIZE_THERE=() # "in_source KEY" or "in_mirror KEY" -> bytes, of the last listings
declare -A CASE_STATE=() # of the round: missing, arrived, failed
VERIFY_EVENT_AT=""       # when this machine saw a message first, seconds since the epoch
VERIFY_BROKEN=false      # the chain is broken: no further round
VERIFY_SHOWN=""          # the last progress that was printed

# --- what is there --------------------------------------------------------------------------------------------------

# list_folder in_source|in_mirror: the objects of the run, in a file. A directory bucket lists prefixes that end in "/".
list_folder() {
  "$1" list-objects-v2 --prefix "$VERIFY_FOLDER" | jq -cs "$JQ_EPOCH"'
    [.[0].Contents[]? | {key: .Key, size: .Size, etag: (.ETag | gsub("\""; "")), at: (.LastModified | epoch)}]' \
    >"$VERIFY_DIR/$1.list"
  note_sizes "$1"
}

note_sizes() {
  local key size
  for key in "${!SIZE_THERE[@]}"; do
    [[ $key != "$1 "* ]] || unset "SIZE_THERE[\$key]"
  done
  while IFS=$'\t' read -r size key; do
    SIZE_THERE["$1 $key"]=$size
  done < <(jq -r '.[] | "\(.size)\t\(.key)"' "$VERIFY_DIR/$1.list")
}

# source_identity NAME: what sync-source begins with in a copy of the source as it was listed last.
source_identity() {
  jq -r --arg key "${CASE_KEY[$1]}" '.[] | select(.key == $key) | "\(.etag) \(.at | floor | todate) \(.size) "' \
    "$VERIFY_DIR/in_source.list"
}

# The worker's lines on objects of this run, as JSON lines {stream, message}. The name of the folder is in no other.
read_worker_lines() {
  aws_or_nothing logs filter-log-events --log-group-name "$WORKER_LOG_GROUP" --start-time $(((VERIFY_BEGAN - 900) * 1000)) \
    --filter-pattern "\"$VERIFY_NAME\"" \
    | jq -c '.events[]? | {stream: .logStreamName, message: (.message | rtrimstr("\n"))}' >"$VERIFY_DIR/worker.lines"
}

# Failures that count, one JSON object per key: the last try, or the second and later ones. A first one may be a role
# that IAM does not know everywhere yet.
lasting_failures() {
  jq -s 'map({"@message": .message})' "$VERIFY_DIR/worker.lines" | failures_of \
    | jq -c --argjson since "$VERIFY_ROUND_AT" 'map(select((.at | sub("[.].*"; "Z") | fromdateiso8601) >= $since)
      | (.attempt // "attempt=1/1 " | capture("=(?<n>\\d+)/(?<of>\\d+)")) as $try
      | select(($try.n | tonumber) >= 2 or $try.n == $try.of)) | group_by(.key)[] | last'
}

note_failures() {
  local failure key reason name
  while read -r failure; do
    key=$(jq -r .key <<<"$failure")
    reason=$(jq -r .reason <<<"$failure")
    for name in "${CASES[@]}"; do
      if [[ ${CASE_KEY[$name]} == "$key" && ${CASE_STATE[$name]:-} == missing ]]; then
        CASE_STATE[$name]=failed
        note_break "no copy" "$key: $reason" "./sync.sh$VIA redrive --list"
      fi
    done
  done < <(lasting_failures)
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
    changed:*)
      get_side in_mirror "$2"
      has_source_of "$2"
      ;;
  esac
}

names_in_state() {
  local name
  for name in "${CASES[@]}"; do
    [[ ${CASE_STATE[$name]:-} != "$1" ]] || printf '%s\n' "$name"
  done
}

count_state() { names_in_state "$1" | wc -l | tr -d ' '; }

# Remembers when the first message was seen, and prints the queue for the progress line.
look_at_queue() {
  local found
  found=$(describe_queue "$QUEUE_NAME")
  printf '%s\n' "$found" >"$VERIFY_DIR/queue"
  if [[ -z $VERIFY_EVENT_AT && $(jq '.visible + .in_flight + .delayed' <<<"$found") != 0 ]]; then
    VERIFY_EVENT_AT=$(now)
  fi
}

# show_progress ROUND COUNT
show_progress() {
  local text
  text=$(jq -r '"\(.visible) waiting, \(.in_flight) in work, \(.delayed) delayed"' "$VERIFY_DIR/queue")
  text="$1: $(count_state arrived) of $2; messages: $text"
  [[ $text != "$VERIFY_SHOWN" ]] || return 0
  say "verify: $(($(now) - VERIFY_BEGAN)) s: $text"
  VERIFY_SHOWN=$text
}

# await_all listed|changed|gone ROUND NAME...: sets CASE_STATE of each; sets VERIFY_BROKEN if the chain is broken.
await_all() {
  local want=$1 round=$2 name arrived=-1 doubt=$(($(now) + VERIFY_FIRST_DOUBT)) deadline=$(($(now) + VERIFY_TIMEOUT))
  shift 2
  CASE_STATE=() VERIFY_ROUND_AT=$(now)
  for name in "$@"; do CASE_STATE[$name]=missing; done
  while :; do
    look_at_queue
    list_folder in_mirror
    for name in $(names_in_state missing); do
      if has_arrived "$want" "$name"; then CASE_STATE[$name]=arrived; fi
    done
    show_progress "$round" "$#"
    if (($(count_state missing) == 0)); then return; fi
    if (($(count_state arrived) > arrived)); then
      arrived=$(count_state arrived) doubt=$(($(now) + VERIFY_FIRST_DOUBT))
    fi
    if (($(now) >= deadline)); then
      give_up "$round"
      return
    fi
    if (($(now) >= doubt)); then
      doubt=$(($(now) + VERIFY_FIRST_DOUBT))
      look_for_break
      [[ $VERIFY_BROKEN == false ]] || return 0
    fi
    sleep "$FOLLOW_PAUSE"
  done
}

# Ends the round if the chain cannot work; keys that failed for good are not waited for.
look_for_break() {
  read_worker_lines
  note_failures
  (($(count_state missing))) || return 0
  find_broken_link false >"$VERIFY_DIR/found"
  note_found
}

# give_up ROUND: the time is over; names the link for what is still missing.
give_up() {
  say "verify: $1: not all after $VERIFY_TIMEOUT s (--timeout)"
  read_worker_lines
  note_failures
  (($(count_state missing))) || return 0
  find_broken_link true >"$VERIFY_DIR/found"
  note_found
}

note_found() {
  local link why command
  [[ -s $VERIFY_DIR/found ]] || return 0
  IFS=$'\t' read -r link why command <"$VERIFY_DIR/found"
  VERIFY_BROKEN=true
  note_break "$link" "$why" "$command"
}
