# shellcheck shell=bash
# What ./sync.sh verify --bench does beside the rounds: many small objects, put during a pause so that the speed of the
# CLI is not measured, the pages of both listings, and the figures, most of which the workers' log has.

: "${VERIFY_SMALL_OBJECTS:=3000}" # local.sh has fewer
readonly BENCH_BYTES=1024         # of each

BENCH_PAUSE=""    # since when this run has paused the sync
BENCH_EVENTS_IN=0 # seconds from the last upload until the queue had all events, or null
BENCH_DONE=false

bench_folder() { printf '%sbench/\n' "$VERIFY_FOLDER"; }

# --- the pause ------------------------------------------------------------------------------------------------------

# Those of 1.1.0 and before would not know the variable; the newer ones are always given PROCESSES.
need_pausable() {
  local processes
  need_starter
  processes=$(starter_setting PROCESSES)
  [[ -n $processes ]] || die "what is deployed is too old to be paused: run ./deploy.sh$VIA first"
}

# A pause that somebody else made since this run began is theirs.
begin_bench_pause() {
  local since began
  BENCH_PAUSE=$(iso "$(now)")
  since=$(set_pause "$BENCH_PAUSE")
  if [[ $since != "$BENCH_PAUSE" ]]; then
    BENCH_PAUSE=""
    die "somebody has paused the sync since $since, and it stays so: the rest was not measured"
  fi
  say "verify: the sync is paused"
  began=$(now)
  end_work "$began" workers
}

end_bench_pause() {
  local since
  [[ -n $BENCH_PAUSE ]] || return 0
  ask_starter | keep starter
  since=$(paused_since)
  [[ $since != "$BENCH_PAUSE" ]] || end_pause
  BENCH_PAUSE=""
  say "verify: the sync goes on"
}

# --- small objects --------------------------------------------------------------------------------------------------

# put_group GROUP: by one aws s3 cp; several run at the same time.
put_group() {
  aws_or_die s3 cp --recursive --only-show-errors "$VERIFY_DIR/bench/$1" "s3://$SRC_BUCKET/$(bench_folder)$1/"
}

put_small_objects() {
  local group first size most=500 groups=()
  for ((first = 0; first < VERIFY_SMALL_OBJECTS; first += most)); do
    group=$((first / most)) size=$((VERIFY_SMALL_OBJECTS - first))
    ((size <= most)) || size=$most
    mkdir -p "$VERIFY_DIR/bench/$group"
    random_bytes $((size * BENCH_BYTES)) | split -a 3 -b "$BENCH_BYTES" - "$VERIFY_DIR/bench/$group/small-"
    groups+=("$group")
  done
  say_while "verify: uploading $VERIFY_SMALL_OBJECTS small objects" all_at_once put_group "${groups[@]}"
  await_events
}

# count_small in_mirror|in_source
count_small() { "$1" list-objects-v2 --prefix "$(bench_folder)" | jq -s '.[0].Contents // [] | length'; }

# If a worker began before all events are in the queue, their delay would be measured as its speed. After 30 seconds it is.
await_events() {
  local began=$SECONDS events
  BENCH_EVENTS_IN=null
  while :; do
    read_queue
    events=$(jq '.visible + .delayed' "$VERIFY_DIR/queue")
    ((events < VERIFY_SMALL_OBJECTS)) || break
    ((SECONDS - began < 30)) || return 0
    sleep "$FOLLOW_PAUSE"
  done
  BENCH_EVENTS_IN=$((SECONDS - began + 1)) # by whole seconds
}

# await_small COUNT WHAT: until the destination has so many, for four minutes after the starter's next run.
await_small() {
  local have shown="" patience=$((LAMBDA_POLL_RATE * 60 + 240)) deadline
  deadline=$((SECONDS + patience))
  while :; do
    have=$(count_small in_mirror)
    [[ $have == "$shown" ]] || say_for_now "verify: $((SECONDS - VERIFY_STARTED)) s: $2: $have small objects in the destination"
    shown=$have
    ((have != $1)) || return 0
    ((SECONDS < deadline)) || break
    sleep "$FOLLOW_PAUSE"
  done
  VERIFY_BROKEN=true
  jq -nc --arg why "$2: the destination has $have small objects instead of $1 after $patience s" --arg via "$VIA" \
    '{link: "no copy", $why, command: "./sync.sh\($via) logs worker"}' >"$VERIFY_DIR/found"
  note_found
}

# --- pages of the listings ------------------------------------------------------------------------------------------

# time_pages in_source|in_mirror: the seconds of each page, as a JSON list in a file. They are between two lines of the
# CLI's log, because the CLI itself takes longer to start than S3 takes for a page. Nothing else of that log is kept: it
# has the credentials of the session.
time_pages() {
  local bucket=$SRC_BUCKET owner=$SRC_BUCKET_OWNER
  [[ $1 == in_source ]] || bucket=$DST_BUCKET owner=$DST_BUCKET_OWNER
  aws s3api list-objects-v2 --debug --page-size "$(bench_page)" --bucket "$bucket" --expected-bucket-owner "$owner" \
    --prefix "$(bench_folder)" 2>&1 >/dev/null | jq -Rnc "$(jq_epoch)"'
    def at: [capture("^(?<day>[0-9-]{10}) (?<time>[0-9:]{8}),(?<ms>[0-9]{3}) ")
      | "\(.day)T\(.time).\(.ms)Z" | epoch][0];
    reduce inputs as $line ({sent: null, pages: []};
      if ($line | contains(" - Sending http request")) and ($line | contains("list-type=2")) then .sent = ($line | at)
      elif .sent and ($line | contains(" - Response headers")) then .pages += [($line | at) - .sent] | .sent = null
      else . end) | .pages' >"$VERIFY_DIR/$1.pages" || die "s3://$bucket could not be listed: run this again"
}

# Prints how many keys a page has, 1,000 at most, so that each listing has three.
bench_page() {
  local size=$(((VERIFY_SMALL_OBJECTS + 2) / 3))
  printf '%d\n' $((size < 1000 ? size : 1000))
}

# --- what the log says ----------------------------------------------------------------------------------------------

# The summaries of workers that have ended since the run began, as JSON lines in a file: until those that worked on small
# objects have ended, for 150 s. Workers of MIN_WORKERS do not, so their CPU time stays unknown.
await_summaries() {
  local running least deadline=$((SECONDS + 150))
  least=$(starter_setting MIN_WORKERS)
  [[ -z $least ]] || deadline=0
  while :; do
    aws_or_nothing logs filter-log-events --log-group-name "$WORKER_LOG_GROUP" --start-time $((VERIFY_BEGAN * 1000)) \
      --filter-pattern '"summary copied"' | summaries_of >"$VERIFY_DIR/summaries"
    running=$(bench_figures | jq .running)
    ((running && SECONDS < deadline)) || return 0
    sleep "$FOLLOW_PAUSE"
  done
}

bench_figures() {
  {
    jq -s . "$VERIFY_DIR/worker.lines"
    jq -s . "$VERIFY_DIR/summaries"
    cat "$VERIFY_DIR/in_source.pages" "$VERIFY_DIR/in_mirror.pages"
  } | jq -s --arg synced "$(synced_fields)" --argjson parts "$(fields_of_parts)" \
    --arg folder "$VERIFY_NAME/bench/" --arg large "$VERIFY_NAME/large.bin\"" --argjson events "$BENCH_EVENTS_IN" \
    --argjson page "$(bench_page)" --argjson objects "$VERIFY_SMALL_OBJECTS" --argjson bytes "$BENCH_BYTES" \
    "$(jq_epoch)$(<"$PROJECT_DIR/lib/verify/bench.jq")"
}

# --- the round ------------------------------------------------------------------------------------------------------

bench_round() {
  begin_bench_pause
  put_small_objects
  end_bench_pause
  await_small "$VERIFY_SMALL_OBJECTS" put
  say_while "verify: listing pages" time_pages in_source
  say_while "verify: listing pages" time_pages in_mirror
  remove_folder in_source
  [[ $VERIFY_BROKEN == true ]] || await_small 0 remove
  read_worker_lines
  say_while "verify: waiting for the last lines of the workers" await_summaries
  BENCH_DONE=true
}
