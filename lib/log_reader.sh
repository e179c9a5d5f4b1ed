# shellcheck shell=bash
# Reading CloudWatch Logs: a query, and a log from some time on, again and again.

readonly OVERLAP_MS=30000 # events reach CloudWatch Logs out of order: what is followed is read again for so long
: "${FOLLOW_PAUSE:=3}"    # seconds between two looks at a log

# query GROUP SECONDS QUERY: the rows of a Logs Insights query on the last seconds, as a JSON list of objects.
query() {
  local id answer end try
  end=$(now)
  id=$(aws_or_nothing logs start-query --log-group-name "$1" --start-time $((end - $2)) --end-time $((end + 60)) \
    --query-string "$3" | jq -r .queryId)
  [[ -n $id ]] || { printf '[]\n' && return; }
  for ((try = 0; try < 120; try++)); do
    answer=$(aws_or_die logs get-query-results --query-id "$id")
    if [[ $(jq -r .status <<<"$answer") == Complete ]]; then
      jq -c '[.results[] | map({key: .field, value}) | from_entries]' <<<"$answer"
      return
    fi
    sleep 1
  done
  die "log group $1: a query did not end in 120 s; try it again"
}

# One log is read at a time. What is known of it stays in this file: others call its functions.
LOG_FORMAT="" LOG_GROUP="" LOG_STREAMS=() LOG_FROM_MS=0 LOG_LAST_LINE=""
declare -A LOG_SEEN=() # id -> time (ms) of the events that a next look would show again

# open_log text|json GROUP FROM_MS STREAM...: without streams, all of the group.
open_log() {
  LOG_FORMAT=$1 LOG_GROUP=$2 LOG_FROM_MS=$3 LOG_STREAMS=() LOG_LAST_LINE="" LOG_SEEN=()
  (($# == 3)) || LOG_STREAMS=(--log-stream-names "${@:4}")
}

# read_page FROM_MS [TOKEN]: one answer of CloudWatch Logs, of at most 1 MB; nothing if there is no such group or
# stream. The CLI's own paging would keep all of the log until its end.
read_page() {
  aws_or_nothing logs filter-log-events --no-paginate --limit 10000 --log-group-name "$LOG_GROUP" --start-time "$1" \
    ${2:+--next-token "$2"} ${LOG_STREAMS[@]+"${LOG_STREAMS[@]}"}
}

# show_page FILE: prints each event: its id, its time and what to show of it, with tabs between them.
show_page() {
  jq -r --arg format "$LOG_FORMAT" '.events[]
    | "\(.eventId)\t\(.timestamp)\t\(if $format == "json" then {timestamp, logStreamName, message} | tojson
      else .message | rtrimstr("\n") | gsub("\n"; " ") end)"' "$1"
}

# print_page FILE: prints what was not seen before.
print_page() {
  local id time text
  while IFS=$'\t' read -r id time text; do
    [[ -n $id && -z ${LOG_SEEN[$id]:-} ]] || continue
    LOG_SEEN[$id]=$time
    LOG_LAST_LINE=$text
    ((time - OVERLAP_MS <= LOG_FROM_MS)) || LOG_FROM_MS=$((time - OVERLAP_MS))
    printf '%s\n' "$text"
  done < <(show_page "$1")
}

# Events are sorted by their time, so what is older than the overlap does not come again.
forget_old_events() {
  local id
  for id in "${!LOG_SEEN[@]}"; do
    ((${LOG_SEEN[$id]} >= LOG_FROM_MS)) || unset "LOG_SEEN[$id]"
  done
}

# Prints the lines that came since the last look, page by page: hours of a busy log are never held together.
print_new_lines() {
  local from=$LOG_FROM_MS page=$TEMP_DIR/log.page token=""
  while :; do
    read_page "$from" "$token" >"$page"
    print_page "$page"
    forget_old_events
    token=$(jq -r '.nextToken // ""' "$page")
    [[ -n $token ]] || return 0
  done
}

# Prints the last line that was printed.
last_log_line() { printf '%s\n' "$LOG_LAST_LINE"; }
