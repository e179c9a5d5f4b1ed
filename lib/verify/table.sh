# shellcheck shell=bash
# The result of ./sync.sh verify as Markdown in 80 columns: what was checked, how long it took, which assumptions hold,
# and what it ran on.

# --- one JSON text per part -----------------------------------------------------------------------------------------

# The synced lines of this run, without those of --bench, as a JSON list {at, task, by, key, action, size, seconds, lag};
# lag may be null. The log streams of a function have its version in their name.
synced_lines() {
  jq -cs --arg fields "$(synced_fields)" --arg bench "$VERIFY_NAME/bench/" "$(jq_epoch)"'
    map(select(.message | contains($bench) | not) | .stream as $stream | (.message | split(" ")[0] | epoch) as $at
    | .message | capture($fields)
    | {$at, task: ($stream | split("/")[-1]), by: (if $stream | contains("[$LATEST]") then "starter" else "task" end),
       key: (.key | fromjson), action, size: (.size | tonumber),
       seconds: (.seconds | tonumber), lag: (.lag // null | if . then tonumber else . end)})' "$VERIFY_DIR/worker.lines"
}

# The rows of the table.
all_results() {
  local name bytes metadata checksum
  for name in "${CASES[@]}"; do
    bytes=- metadata=- checksum=-
    if [[ ${CASE_RESULT[$name]} == arrived && -s $VERIFY_DIR/in_mirror.$name.json ]]; then
      bytes=$(compared_bytes "$name")
      metadata=$(compared_metadata "$name")
      checksum=$(compared_checksum "$name")
    fi
    jq -n --arg name "$name" --arg meaning "${CASE_MEANING[$name]}" --arg key "${CASE_KEY[$name]}" \
      --arg state "${CASE_RESULT[$name]}" --arg bytes "$bytes" --arg metadata "$metadata" --arg checksum "$checksum" \
      '{$name, $meaning, $key, $state, $bytes, $metadata, $checksum}'
  done | jq -s --arg key "$VERIFY_FOLDER" --arg state "${CASE_RESULT[removed]:-not asked}" \
    '. + [{name: "removed", meaning: "all of it removed", key: $key, state: $state, bytes: "-", metadata: "-",
      checksum: "-"}]'
}

# Seconds from the first upload on, by the clocks of S3 and ECS, or null if nothing is known.
measured_times() {
  local event=null
  if [[ -n $VERIFY_FIRST_EVENT_AT && $VERIFY_WAS_BUSY == false ]]; then
    event=$((VERIFY_FIRST_EVENT_AT - VERIFY_PUT_AT))
  fi
  {
    cat "$VERIFY_DIR/first.source" "$VERIFY_DIR/first.mirror" "$VERIFY_DIR/tasks"
    synced_lines
  } | jq -s --argjson event "$event" --argjson put_ended "$VERIFY_PUT_ENDED" \
    --argjson busy "$VERIFY_WAS_BUSY" '
    . as [$source, $mirror, $tasks, $synced] | ($source | map(.at) | min) as $from | $synced[0].by as $by
    | ([$tasks[] | select(.id == ($synced[0].task // ""))][0]) as $task
    | def since: if . and $from then (. - $from) * 10 | round / 10 + 0 else null end;
    {event: $event, busy: $busy, by: $by, created: ($task.created | since), connected: ($task.connected | since),
     pulling: ($task.pulling | since), pulled: ($task.pulled | since), started: ($task.started | since),
     received: ([$synced[] | select($task and .task == $task.id) | .at - .seconds] | min | since),
     capacity: $task.capacity, first: ($mirror | map(.at) | min | since), last: ($mirror | map(.at) | max | since),
     clock: (if $from then $put_ended - ($source | map(.at) | max) | floor else null end)}'
}

# --- what it ran on -------------------------------------------------------------------------------------------------

# Prints NAME<tab>VERSION lines; under "options" what was chosen beyond the default.
list_versions() {
  local task function rule name value options=()
  function=$(ask_starter | jq -r '"\(.Runtime // "an image"), code \(.CodeSha256[:12]), changed \(.LastModified)"')
  mapfile -t task < <(jq -r '"\(.taskDefinitionArn | split("/")[-1])",
    [.containerDefinitions[] | select(.name == "worker")][0].image,
    "\(.cpu) CPU units, \(.memory) MiB, \(.runtimePlatform.cpuArchitecture // "X86_64")"' "$VERIFY_DIR/definition")
  printf '%s\t%s\n' "project" "$(project_version)" "Region" "$REGION" "AWS CLI" "$CLI_VERSION" \
    "Bash" "$BASH_VERSION" "jq" "$(jq --version)" "task definition" "${task[0]}" "image" "${task[1]}" \
    "task" "${task[2]}" "function" "$function"
  rule=$(fact rule "$EVENT_RULE_NAME")
  [[ -z $rule ]] || options+=(EVENT_SOURCE=eventbridge)
  for name in STARTER_COPIES STARTER_MAX_SIZE MIN_WORKERS; do
    value=$(starter_setting "$name")
    [[ -z $value ]] || options+=("$name=$value")
  done
  ((${#options[@]} == 0)) || printf 'options\t%s\n' "$(join ', ' "${options[@]}")"
}

# gather_result: all parts as one JSON text.
gather_result() {
  local encoding="" copying group groups
  groups=$(log_groups keys)
  copying=$(starter_setting STARTER_COPIES)
  [[ ! -s $VERIFY_DIR/in_mirror.encoded.json ]] \
    || encoding=$(jq -r '.ContentEncoding // ""' "$VERIFY_DIR/in_mirror.encoded.json")
  {
    all_results
    synced_lines
    measured_times
    jq -s . "$VERIFY_DIR/breaks"
    list_versions | jq -Rn '[inputs | split("\t")]'
    # In the last day: each process tries each write with a condition once, and logs if it is refused.
    for group in $groups; do
      aws_or_nothing logs filter-log-events --log-group-name "$group" --start-time $(((VERIFY_BEGAN - 86400) * 1000)) \
        --filter-pattern '"refuses conditional writes"'
    done | refused_writes
    if [[ $BENCH_DONE == true ]]; then bench_figures; else printf 'null\n'; fi
    cat "$VERIFY_DIR/page" "$VERIFY_DIR/conditions"
    changed_etags
  } | jq -s --arg encoding "$encoding" --argjson copying "${copying:-false}" --arg mirror "$DST_BUCKET" \
    --arg source "$SRC_BUCKET" \
    '{results: .[0], synced: .[1], times: .[2], breaks: .[3], versions: .[4], refused: .[5], bench: .[6], page: .[7],
      conditions: .[8], etags: .[9], encoding: $encoding, mirror: $mirror, source: $source, copying: $copying}'
}

# of_result FILTER: reads what gather_result printed.
of_result() {
  jq -r --slurpfile assumptions "$PROJECT_DIR/lib/verify/assumptions.json" \
    "$JQ_TEXT$(<"$PROJECT_DIR/lib/verify/result.jq")$1"
}

# Reads the report: the verdict in colour, and the rows of what did not arrive or differs.
show_result() {
  local line
  while IFS= read -r line; do
    case "$line" in
      '# sync.sh verify: all is well') paint "$GREEN" "$line" ;;
      '# sync.sh verify: not all is well' | '| `'*'| no '* | '| `'*'| differ '* | '- **'*) paint "$RED" "$line" ;;
      *) printf '%s\n' "$line" ;;
    esac
  done
}

# Reads text, prints it without ids of accounts and without names that are the user's own.
for_others() {
  jq -Rr --arg source "$SRC_BUCKET" --arg mirror "$DST_BUCKET" --arg folder "$VERIFY_FOLDER" '
    def named($own; $shown): split($own) | join($shown);
    named($folder; "FOLDER/") | named($mirror; "DST_BUCKET") | named($source; "SRC_BUCKET")
    | gsub("(?<![0-9])[0-9]{12}(?![0-9])"; "************")'
}
