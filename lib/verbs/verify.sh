# shellcheck shell=bash
# usage: ./sync.sh verify [--yes] [--large] [--bench] [--report FILE]
#                         [--timeout 15m]
#
# The acceptance test: sends its own objects through the whole chain.
#
# Puts a handful of objects into a new folder sync-verify-TIME/ under
# PREFIX_FILTER (under the first prefix if there are several), waits until they
# are in the destination, overwrites one, changes the metadata of one in place,
# deletes one, and compares bytes and metadata on both sides. Then it removes all
# of it, even after Ctrl-C, and prints a table. It touches nothing outside of that
# folder.
#
#   --yes          do not ask
#   --large        also 6 GiB, made inside S3 from a part of 64 MiB
#   --bench        the same, and measures: pauses the sync for one or two minutes,
#                  puts 3,000 small objects, resumes it, and reports how many are
#                  copied and deleted per second, CPU time, parts per second,
#                  pages of both listings, and how often S3 was too busy
#   --report FILE  write the table to FILE too, as Markdown to publish: without
#                  account IDs and names of buckets
#   --timeout 15m  the longest wait of each round
#
# It needs the rights that ./deploy.sh --policy operator prints. It costs a task
# of a few minutes and about 100 requests, less than 0.01 USD; --large about 0.03
# USD more, --bench, which takes ten minutes, about 0.08 more.
#
# --bench refuses to begin if the sync is paused, and ends its own pause, even if
# ./sync.sh pause was run meanwhile: then pause again afterwards.
#
# Exit status: 0 all is well; 1 it is not, and the broken link of the chain is
# named; 2 wrong usage; 130 interrupted.

: "${VERIFY_FOLLOW_SECONDS:=180}" # after a run that did not end well, the destination is given so long to follow

# --- beginning ------------------------------------------------------------------------------------------------------

name_run() {
  local made first
  printf -v made '%(%Y%m%dT%H%M%SZ)T' -1
  VERIFY_NAME=sync-verify-$made-$RANDOM
  first=$(wanted | jq -r .first)
  VERIFY_FOLDER=$first$VERIFY_NAME/
  VERIFY_DIR=$TEMP_DIR/verify
  VERIFY_BEGAN=$(now) VERIFY_PUT_AT=0 VERIFY_PUT_ENDED=0 VERIFY_FIRST_EVENT_AT="" VERIFY_STARTED=$SECONDS
  VERIFY_TOUCHED=false VERIFY_WAS_BUSY=false
  mkdir "$VERIFY_DIR"
  : >"$VERIFY_DIR/breaks"
  : >"$VERIFY_DIR/worker.lines"
  printf 'null\n' | tee "$VERIFY_DIR/page" >"$VERIFY_DIR/conditions"
  : >"$VERIFY_DIR/put.none" # so that there is one, whenever Ctrl-C comes
  printf '[]\n' | tee "$VERIFY_DIR/tasks" "$VERIFY_DIR/first.source" "$VERIFY_DIR/first.mirror" \
    "$VERIFY_DIR/in_source.list" "$VERIFY_DIR/in_mirror.list" >/dev/null
}

# need_deployment WHAT: ends the run if there is no deployment for these settings.
need_deployment() {
  say_while "verify: reading the deployment" \
    ask_ahead starter "queue_url $QUEUE_NAME" task_definition "rule $EVENT_RULE_NAME"
  need_starter
  [[ $1 != bench ]] || need_pausable
  if_paused die "nothing was uploaded, because nothing would arrive before"
  existing_queue_url "$QUEUE_NAME" >/dev/null
  fact task_definition >"$VERIFY_DIR/definition"
  need_deployed SRC_BUCKET DST_BUCKET PREFIX_FILTER
}

# refuse_excluded_objects [KEY]: ends the run if the workers would leave out what it puts, which has that key, too.
refuse_excluded_objects() {
  local exclude found key pattern
  exclude=$(deployed_setting EXCLUDE)
  [[ -n $exclude ]] || return 0
  found=$(printf '%s\n' "${CASE_KEY[@]}" ${1:+"$1"} | patterns_for "$exclude")
  [[ -n $found ]] || return 0
  IFS=$'\t' read -r key pattern <<<"$found"
  die "nothing was uploaded: EXCLUDE=$exclude is deployed, and its pattern $pattern leaves out $key, one of the objects" \
    "that verify uploads. Limit the pattern to its folder, as in models/*.tmp, or put a prefix first in PREFIX_FILTER" \
    "in which the pattern leaves out nothing; then run ./deploy.sh$VIA and this again"
}

# ask_to_verify ASSUME_YES WHAT: the costs are an estimate at the prices of us-east-1. Of --bench, most of it is for 3,000
# uploads, 6 GiB and two workers.
ask_to_verify() {
  local name
  local -A costs=([plain]="less than 0.01 USD" [large]="about 0.04 USD" [bench]="about 0.09 USD")
  say "This puts ${#CASES[@]} objects into"$'\n'"  s3://$SRC_BUCKET/$VERIFY_FOLDER"
  for name in "${CASES[@]}"; do say "    ${CASE_KEY[$name]#"$VERIFY_FOLDER"}  (${CASE_MEANING[$name]})"; done
  say "and waits for their copies in"$'\n'"  s3://$DST_BUCKET/$VERIFY_FOLDER"
  if [[ $2 == bench ]]; then
    say "Then it pauses the sync for one or two minutes, puts $VERIFY_SMALL_OBJECTS small objects,"
    say "and resumes the sync."
  fi
  say "Nothing outside of this folder is touched, and all of it is removed afterwards,"
  say "on both sides."
  say "Cost: ${costs[$2]}."
  [[ $1 == true ]] || need_yes "Continue?" "nothing was done"
}

# --- the rounds -----------------------------------------------------------------------------------------------------

# The objects that stay as they are put.
lasting() {
  local name
  for name in "${CASES[@]}"; do
    [[ " overwritten changed deleted " == *" $name "* ]] || printf '%s\n' "$name"
  done
}

# Of the objects that are to change, those whose first copy arrived.
changing() {
  local name
  for name in overwritten changed deleted; do
    [[ ${CASE_RESULT[$name]} != arrived ]] || printf '%s\n' "$name"
  done
}

# Of the others.
staying() {
  local name
  for name in $(lasting); do
    [[ ${CASE_RESULT[$name]} != arrived ]] || printf '%s\n' "$name"
  done
}

note_results() {
  local name
  for name in "${!CASE_STATE[@]}"; do CASE_RESULT["$name"]=${CASE_STATE["$name"]}; done
}

# What is read in the source for the comparison is read while the first copies are waited for.
put_round() {
  local name threshold lasting
  mapfile -t lasting < <(lasting)
  threshold=$(deployed_setting MULTIPART_THRESHOLD)
  for name in "${CASES[@]}"; do make_body "$name" "${threshold:-$VERIFY_COPY_LIMIT}"; done
  read_queue
  note_event
  [[ -z $VERIFY_EVENT_AT ]] || VERIFY_WAS_BUSY=true
  VERIFY_TOUCHED=true VERIFY_PUT_AT=$(now)
  say_while "verify: uploading" all_at_once put_case "${CASES[@]}"
  VERIFY_PUT_ENDED=$(now)
  list_folder in_source
  say "verify: ${#CASES[@]} objects uploaded"
  begin_jobs get_source "${lasting[@]}"
  await_all listed put "${CASES[@]}"
  VERIFY_FIRST_EVENT_AT=$VERIFY_EVENT_AT
  note_results
  ((ARRIVED)) || VERIFY_BROKEN=true
  cp "$VERIFY_DIR/in_source.list" "$VERIFY_DIR/first.source"
  cp "$VERIFY_DIR/in_mirror.list" "$VERIFY_DIR/first.mirror"
}

# The changes are made before the first copies are compared, so that the worker that runs takes them along.
change_round() {
  local changing staying
  mapfile -t changing < <(changing)
  mapfile -t staying < <(staying)
  need_jobs # those that put_round began
  begin_jobs run_reader read_first_page try_conditions
  all_at_once change_case "${changing[@]}"
  list_folder in_source
  say_while "verify: comparing" all_at_once get_mirror "${staying[@]}"
  await_all changed change "${changing[@]}"
  note_results
  mapfile -t changing < <(changing | sed '/^deleted$/d')
  all_at_once get_source "${changing[@]}" # has_arrived has read the copy
  need_jobs
}

remove_round() {
  local there
  mapfile -t there < <(staying && changing | sed '/^deleted$/d')
  remove_folder in_source
  await_all gone remove "${there[@]}"
  CASE_RESULT[removed]=arrived
  ((ARRIVED == ${#there[@]})) || CASE_RESULT[removed]=missing
}

# run_rounds [ROUND]: a last one, beside the usual ones.
run_rounds() {
  local round
  for round in put_round change_round remove_round "$@"; do
    [[ $VERIFY_BROKEN == true ]] || "$round"
  done
  await_jobs # of a chain that broke, what put_round began is not needed
  : >"$VERIFY_DIR/found"
  begin_jobs run_reader read_worker_lines read_tasks
  [[ $VERIFY_BROKEN == true ]] || begin_jobs run_reader read_faults
  say_while "verify: reading the logs" need_jobs
  note_found
}

# run_reader NAME: a function that reads into a file.
run_reader() { "$1"; }

# What is wrong with the path although all has arrived, such as a dead-letter queue that is gone.
read_faults() {
  find_all_faults
  jq -c '.faults[] | {link, why: "\(.fault): \(.cure)", command: .look}' "$VERIFY_DIR/path" >"$VERIFY_DIR/found"
}

# --- cleaning up ----------------------------------------------------------------------------------------------------

# delete_listed in_source|in_mirror: reads a JSON list of {Key, VersionId}. S3 takes a thousand of them at a time.
delete_listed() {
  local some
  jq -c 'range(0; length; 1000) as $n | {Objects: .[$n:$n + 1000], Quiet: true}' >"$VERIFY_DIR/removals"
  while read -r some; do
    printf '%s\n' "$some" >"$VERIFY_DIR/remove.json"
    "$1" delete-objects --delete "file://$VERIFY_DIR/remove.json" | must_be_zero '.Errors | length'
  done <"$VERIFY_DIR/removals"
}

# remove_folder in_source|in_mirror: the objects of this run, and nothing else.
remove_folder() {
  list_folder "$1"
  jq -c 'map({Key: .key})' "$VERIFY_DIR/$1.list" | delete_listed "$1"
}

abort_uploads() {
  local upload
  [[ -n ${CASE_KEY[large]:-} ]] || return 0
  in_source list-multipart-uploads --prefix "$VERIFY_FOLDER" | jq -r '.Uploads[]?.UploadId' >"$VERIFY_DIR/uploads"
  while read -r upload; do
    in_source abort-multipart-upload --key "${CASE_KEY[large]}" --upload-id "$upload"
  done <"$VERIFY_DIR/uploads"
}

# The destination follows the source by itself; if it does not, its copies are deleted directly.
clean_up_objects() {
  local deadline=$((SECONDS + VERIFY_FOLLOW_SECONDS)) left
  remove_folder in_source
  # Old versions and delete markers of a versioned source; without versioning, asking would need one more right.
  if [[ $(cat "$VERIFY_DIR"/put.* | jq -s 'any(.[]; (.VersionId // "null") != "null")') == true ]]; then
    in_source list-object-versions --prefix "$VERIFY_FOLDER" \
      | jq -c '[.Versions[]?, .DeleteMarkers[]? | {Key, VersionId}]' | delete_listed in_source
  fi
  [[ $VERIFY_BROKEN == false ]] || deadline=0
  while :; do
    list_folder in_mirror
    left=$(jq length "$VERIFY_DIR/in_mirror.list")
    ((left)) || return 0
    ((SECONDS < deadline)) || break
    say_for_now "verify: $left copies are still in the destination"
    sleep "$FOLLOW_PAUSE"
  done
  remove_folder in_mirror
  say "verify: $left copies were deleted in the destination directly, because it did not follow"
}

# EXIT trap. What was being put when Ctrl-C came is waited for, so that it is removed too.
end_verify() {
  local status=$? cleaned=0 aborted=0
  [[ $BASHPID == "$RUN_PID" ]] || return 0
  trap - EXIT
  trap '' HUP INT PIPE TERM
  outlast_jobs
  if [[ $VERIFY_TOUCHED == true ]]; then
    # Ctrl-C also ends a tee that reads stderr, and a terminal may be closed.
    say "verify: removing what was uploaded" || exec 2>/dev/null
    set +e
    (set -e && clean_up_objects)
    cleaned=$?
    (set -e && abort_uploads)
    aborted=$?
  fi
  if [[ -n $BENCH_PAUSE ]]; then # what was put is gone by now, so that it is not copied any more
    run_apart "$TEMP_DIR/resumed" end_bench_pause
    if has_failed "$TEMP_DIR/resumed"; then
      say "verify: the sync is still paused: ./sync.sh$VIA resume"
      status=1
    fi
  fi
  if ((cleaned)); then
    say "verify: objects may be left: aws s3 rm --recursive 's3://$SRC_BUCKET/$VERIFY_FOLDER', then the same for" \
      "'s3://$DST_BUCKET/$VERIFY_FOLDER'"
    status=1
  fi
  if ((aborted)); then
    say "verify: an upload may be left, which costs as an object does:" \
      "aws s3api list-multipart-uploads --bucket $SRC_BUCKET --prefix $VERIFY_FOLDER"
    status=1
  fi
  rm -rf "$TEMP_DIR"
  exit "$status"
}

# --- the verb -------------------------------------------------------------------------------------------------------

# check_report_file FILE: before ten minutes of measuring.
check_report_file() {
  local place=$1
  [[ -e $1 ]] || place=$(dirname -- "$1")
  [[ -e $1 || -d $place ]] || usage "verify: --report $1: there is no such folder"
  [[ ! -d $1 && -w $place ]] || usage "verify: --report $1: this file cannot be written"
}

# verify ASSUME_YES WHAT REPORT; WHAT is plain, large or bench.
verify() {
  local threshold large=true rounds=()
  start_verb
  name_run
  need_deployment "$2"
  threshold=$(deployed_setting MULTIPART_THRESHOLD)
  [[ $2 != plain ]] || large=false
  [[ $2 != bench ]] || rounds=(bench_round)
  choose_cases "$large" "${threshold:-$VERIFY_COPY_LIMIT}"
  refuse_excluded_objects ${rounds[@]+"$(bench_folder)0/small-aaa"}
  trap end_verify EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  ask_to_verify "$1" "$2"
  run_rounds ${rounds[@]+"${rounds[@]}"}
  gather_result >"$VERIFY_DIR/result.json"
  of_result report <"$VERIFY_DIR/result.json" >"$VERIFY_DIR/result"
  show_result <"$VERIFY_DIR/result"
  if [[ -n $3 ]]; then
    for_others <"$VERIFY_DIR/result" >"$3"
    say "verify: the report is in $3"
  fi
  [[ $(of_result is_well <"$VERIFY_DIR/result.json") == true ]]
}

verb_verify() {
  local yes=false what=plain report="" timeout=15m
  while (($#)); do
    case "$1" in
      --yes) yes=true ;;
      --large) [[ $what == bench ]] || what=large ;;
      --bench) what=bench ;;
      --report) need_value "$1" "$#" && report=$2 && shift ;;
      --timeout) need_value "$1" "$#" && timeout=$2 && shift ;;
      *) usage "verify: unknown option $1" ;;
    esac
    shift
  done
  [[ $DRY_RUN == false ]] || usage "verify: it puts and removes objects of its own; set DRY_RUN=false"
  VERIFY_TIMEOUT=$(seconds_of "$timeout") || usage "verify: --timeout $timeout is not a duration such as 15m"
  [[ -z $report ]] || check_report_file "$report"
  verify "$yes" "$what" "$report"
}
