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
declare -A LOG_SEEN=()

# open_log text|json GROUP FROM_MS STREAM...: without streams, all of the group.
open_log() {
  LOG_FORMAT=$1 LOG_GROUP=$2 LOG_FROM_MS=$3 LOG_STREAMS=() LOG_LAST_LINE="" LOG_SEEN=()
  (($# == 3)) || LOG_STREAMS=(--log-stream-names "${@:4}")
}

# Prints each event from LOG_FROM_MS on: its id, its time and what to show of it, with tabs between them; nothing if
# there is no such group or stream.
read_log() {
  aws_or_nothing logs filter-log-events --log-group-name "$LOG_GROUP" --start-time "$LOG_FROM_MS" \
    ${LOG_STREAMS[@]+"${LOG_STREAMS[@]}"} | jq -r --arg format "$LOG_FORMAT" '.events[]
      | "\(.eventId)\t\(.timestamp)\t\(if $format == "json" then {timestamp, logStreamName, message} | tojson
        else .message | rtrimstr("\n") | gsub("\n"; " ") end)"'
}

# Prints the lines that came since the last look.
print_new_lines() {
  local id time text events
  events=$(read_log)
  while IFS=$'\t' read -r id time text; do
    [[ -n $id && -z ${LOG_SEEN[$id]:-} ]] || continue
    LOG_SEEN[$id]=1
    LOG_LAST_LINE=$text
    ((time - OVERLAP_MS <= LOG_FROM_MS)) || LOG_FROM_MS=$((time - OVERLAP_MS))
    printf '%s\n' "$text"
  done <<<"$events"
}

# Prints the last line that was printed.
last_log_line() { printf '%s\n' "$LOG_LAST_LINE"; }
