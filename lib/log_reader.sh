# shellcheck shell=bash
# Reads CloudWatch Logs: runs a query, and follows one or more logs from some time on.

: "${FOLLOW_PAUSE:=3}" # seconds between two looks at a log

# log_groups worker|starter|keys: the log groups with the lines of the workers, of the starter, or on keys: the starter
# writes those too if it copies.
log_groups() {
  local copies
  case "$1" in
    worker) printf '%s\n' "$WORKER_LOG_GROUP" ;;
    starter) printf '%s\n' "$STARTER_LOG_GROUP" ;;
    keys)
      copies=$(starter_setting STARTER_COPIES)
      printf '%s\n' "$WORKER_LOG_GROUP"
      [[ $copies != true ]] || printf '%s\n' "$STARTER_LOG_GROUP"
      ;;
  esac
}

# query worker|starter|keys SECONDS QUERY: the rows of a Logs Insights query on the last seconds, as a JSON list of
# objects.
query() {
  local id answer status end try groups option=--log-group-name
  end=$(now)
  groups=$(log_groups "$1")
  mapfile -t groups <<<"$groups"
  ((${#groups[@]} == 1)) || option=--log-group-names
  id=$(aws_or_nothing logs start-query "$option" "${groups[@]}" --start-time $((end - $2)) --end-time $((end + 60)) \
    --query-string "$3" | jq -r .queryId)
  [[ -n $id ]] || { printf '[]\n' && return; }
  for ((try = 0; try < 120; try++)); do
    answer=$(aws_or_die logs get-query-results --query-id "$id")
    status=$(jq -r .status <<<"$answer")
    case "$status" in
      Complete)
        jq -c '[.results[]? | map({key: .field, value}) | from_entries]' <<<"$answer"
        return
        ;;
      Failed | Cancelled | Timeout) die "log group ${groups[*]}: a query ended as $status; try again" ;;
    esac
    sleep 1
  done
  die "log group ${groups[*]}: a query did not end in 120 s; try again"
}

# Only one log is read at a time, or two as one. Other files do not use these variables, they call the functions below.
LOG_FORMAT="" LOG_GROUPS=() LOG_STREAMS=() LOG_FROM_MS=0 LOG_LAST_LINE=""
declare -A LOG_SEEN=() # id -> time (ms) of the events that a next look would show again

# open_log text|json FROM_MS GROUP...
open_log() {
  LOG_FORMAT=$1 LOG_FROM_MS=$2 LOG_GROUPS=("${@:3}") LOG_STREAMS=() LOG_LAST_LINE="" LOG_SEEN=()
}

# only_streams STREAM...: of the log that was opened, instead of all.
only_streams() { LOG_STREAMS=(--log-stream-names "$@"); }

# next_page FILE GROUP FROM_MS: reads the group's next page into the file if all of the last one was printed: one answer of
# CloudWatch Logs, of at most 1 MB; nothing if there is no such group or stream. The CLI's own paging would keep all of the
# log until its end. Of the starter's log, beside the workers', it reads only what the starter wrote as one of them.
next_page() {
  local token="" lines=cat
  if ((${#LOG_GROUPS[@]} > 1)) && [[ $2 == "$STARTER_LOG_GROUP" ]]; then lines=only_worker_lines; fi
  if [[ -s $1 ]]; then
    [[ $(jq '.events == [] and (.nextToken // "") != ""' "$1") == true ]] || return 0
    token=$(jq -r .nextToken "$1")
  fi
  aws_or_nothing logs filter-log-events --no-paginate --limit 10000 --log-group-name "$2" --start-time "$3" \
    ${token:+--next-token "$token"} ${LOG_STREAMS[@]+"${LOG_STREAMS[@]}"} | "$lines" >"$1.new"
  if [[ -s $1.new ]]; then mv "$1.new" "$1"; else printf '{"events": []}\n' >"$1"; fi
}

# print_pages UNTIL FILE...: prints the events until then, or all for null, that were not seen before. Events reach
# CloudWatch Logs out of order, so the last 30 seconds are read again. They are sorted by their time: what is older does
# not come again.
print_pages() {
  local id time text overlap=30000
  while IFS=$'\t' read -r id time text; do
    [[ -n $id && -z ${LOG_SEEN[$id]:-} ]] || continue
    LOG_SEEN[$id]=$time
    LOG_LAST_LINE=$text
    ((time - overlap <= LOG_FROM_MS)) || LOG_FROM_MS=$((time - overlap))
    printf '%s\n' "$text"
  done < <(jq -rs --arg format "$LOG_FORMAT" --argjson until "$1" "$JQ_TEXT"'
    [.[].events[]? | select($until == null or .timestamp <= $until)] | sort_by(.timestamp)[]
    | "\(.eventId)\t\(.timestamp)\t\(if $format == "json" then {timestamp, logStreamName, message} | tojson
      else .message | rtrimstr("\n") | gsub("[\r\n]"; " ") end | visible)"' "${@:2}")
  for id in "${!LOG_SEEN[@]}"; do
    ((${LOG_SEEN[$id]} >= LOG_FROM_MS)) || unset "LOG_SEEN[$id]"
  done
}

# drop_printed UNTIL FILE...: what was printed of the pages.
drop_printed() {
  local file
  for file in "${@:2}"; do
    jq -c --argjson until "$1" '.events |= map(select(.timestamp > $until))' "$file" >"$file.new"
    mv "$file.new" "$file"
  done
}

# Prints the lines that came since the last look, in the order of their times, page by page: hours of a busy log are
# never held together.
print_new_lines() {
  local from=$LOG_FROM_MS until group pages=()
  for group in "${LOG_GROUPS[@]}"; do pages+=("$TEMP_DIR/log.${#pages[@]}"); done
  rm -f "${pages[@]}"
  while :; do
    for group in "${!LOG_GROUPS[@]}"; do next_page "${pages[$group]}" "${LOG_GROUPS[$group]}" "$from"; done
    # Until when (ms) the pages may be printed, or null if they are the last: what is not read yet of a log is not older
    # than what was read of it.
    until=$(jq -s '[.[] | select(.nextToken) | [.events[]?.timestamp] | max // 0] | min' "${pages[@]}")
    print_pages "$until" "${pages[@]}"
    [[ $until != null ]] || return 0
    drop_printed "$until" "${pages[@]}"
  done
}

# Prints the last line that was printed.
last_log_line() { printf '%s\n' "$LOG_LAST_LINE"; }
