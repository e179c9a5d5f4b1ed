# shellcheck shell=bash
# ./sync.sh cost --estimate: what a month of a deployment with these settings would cost. It asks a person, and not AWS.

# What has to be known: name, pattern, what it has to be, and the question. The last two have a default.
readonly ESTIMATE_QUESTIONS=(
  'files;[0-9]{1,12};a whole number;Files a day (or in all, if they come once)'
  'size;[0-9]{1,15}([.][0-9]{1,6})?([KMGTkmgt]?i?[Bb])?;a size such as 100KB, 10MB or 1GB;Size of a file, such as 100KB, 10MB or 1GB'
  'arrival;(spread|burst|once)?;spread, burst or once;They arrive: spread (over the day), burst or once [spread]'
  'keep;([0-9]{1,12}([.][0-9]{1,6})?)?;a number of GB;GB kept in the directory bucket [those of one month]'
)

# Leaves what is still to be known in `given` of the caller: asks a person, or refuses to guess.
ask_for_estimate() {
  local row name pattern meaning question
  for row in "${ESTIMATE_QUESTIONS[@]}"; do
    IFS=';' read -r name pattern meaning question <<<"$row"
    if [[ ! -v given[$name] && ! -t 0 ]]; then
      [[ "" =~ ^($pattern)$ ]] || usage "cost: --estimate needs --$name, $meaning: there is no terminal to ask on"
      given[$name]=""
    fi
    until [[ -v given[$name] && ${given[$name]} =~ ^($pattern)$ ]]; do
      [[ ! -v given[$name] ]] || say "that is not $meaning"
      read -r -p "$question: " "given[$name]" || die "nothing was estimated, because there was no answer"
    done
  done
}

# check_of_estimate NAME VALUE: ends the run if an option has a value that it cannot have.
check_of_estimate() {
  local row name pattern meaning
  for row in "${ESTIMATE_QUESTIONS[@]}"; do
    IFS=';' read -r name pattern meaning _ <<<"$row"
    [[ $name != "$1" || $2 =~ ^($pattern)$ ]] || usage "cost: --$1 $2 is not $meaning"
  done
}

# As setup_of for what is deployed, and what the rules need.
estimated_setup() {
  settings_json REGION TASK_ARCH TASK_CPU TASK_MEMORY LAMBDA_POLL_RATE MIN_WORKERS MAX_WORKERS MESSAGES_PER_WORKER \
    EVENT_SOURCE STARTER_COPIES STARTER_MAX_SIZE AUDIT_DAYS METRICS DASHBOARD IMAGE_URI ASSIGN_PUBLIC_IP \
    CREATE_VPC_ENDPOINTS EMPTY_POLLS_BEFORE_EXIT MULTIPART_THRESHOLD PART_SIZE ANNOUNCE \
    | jq --argjson image "$IMAGE_GB" --argjson wait "${WAIT_TIME_SECONDS:-${OTHERWISE[WAIT_TIME_SECONDS]}}" \
      --argjson largest "${MULTIPART_THRESHOLD:-${OTHERWISE[MULTIPART_THRESHOLD]}}" \
      --argjson part "${PART_SIZE:-${OTHERWISE[PART_SIZE]}}" --argjson copying "$COPYING_MEMORY" \
      --argjson memory "$STARTER_MEMORY" "$(<"$PROJECT_DIR/lib/cost.jq")"'
      map_values(if test("^[0-9]+$") then tonumber else . end) | (.EVENT_SOURCE == "eventbridge") as $has_events
      | {vcpus: (.TASK_CPU / 1024), memory_gb: (.TASK_MEMORY / 1024), poll_minutes: .LAMBDA_POLL_RATE,
         copying_gb: ($copying / 1024), starter_gb: ($memory / 1024), min_workers: .MIN_WORKERS,
         $has_events, function_copies: (.STARTER_COPIES == "true"),
         dashboards: (if .DASHBOARD == "true" then 1 else 0 end),
         alarms: alarms($has_events; .AUDIT_DAYS != ""; .METRICS == "true"),
         metrics: (if .METRICS == "true" then metrics else 0 end), image_gb: (if .IMAGE_URI == "" then $image else 0 end),
         has_public_ip: (.ASSIGN_PUBLIC_IP == "ENABLED"), endpoints: (if .CREATE_VPC_ENDPOINTS == "true" then 2 else 0 end),
         region: .REGION, arch: .TASK_ARCH, max_workers: .MAX_WORKERS, messages_per_worker: .MESSAGES_PER_WORKER,
         idle_seconds: (.EMPTY_POLLS_BEFORE_EXIT * $wait),
         largest_copy: $largest, part_bytes: $part, function_most: .STARTER_MAX_SIZE,
         announces: (.ANNOUNCE | startswith("all"))}
      | .function_gb = (if .function_copies then .copying_gb else .starter_gb end)'
}

# print_estimate PRICES PROGRAM: of `given` of the caller, as this program of jq has it.
print_estimate() {
  local setup
  setup=$(estimated_setup)
  jq -n --argjson prices "$1" --argjson setup "$setup" --arg size "${given[size]}" --argjson files "${given[files]}" \
    --arg arrival "${given[arrival]:-spread}" --argjson keep_gb "${given[keep]:-null}" \
    --argjson keep_days "${KEEP_DAYS:-null}" '
    ($size | ascii_upcase | capture("^(?<number>[0-9.]+)(?<prefix>[KMGT]?)(?<binary>I?)")
      | (.number | tonumber) * pow(if .binary == "I" then 1024 else 1000 end; ["", "K", "M", "G", "T"] as $all
        | .prefix as $one | $all | index($one)) | floor) as $bytes
    | {$prices, $setup, load: {$files, $bytes, $arrival, $keep_gb, $keep_days}}' \
    | jq -r "$JQ_TEXT $(<"$PROJECT_DIR/lib/cost.jq") $(<"$PROJECT_DIR/lib/estimate.jq") $2"
}

# estimate_cost OPTION...
estimate_cost() {
  local file=${PRICES_FILE:-} form='estimate | estimate_table | folded(51)' prices
  local -A given=()
  while (($#)); do
    case "$1" in
      --estimate) ;;
      --files | --size | --arrival | --keep)
        need_value "$1" "$#"
        check_of_estimate "${1#--}" "$2"
        given[${1#--}]=$2
        shift
        ;;
      --prices) need_value "$1" "$#" && file=$2 && shift ;;
      --json) form='estimate | rounded | .modes[].usd |= (. * 100 | round / 100)' ;;
      *) usage "cost: --estimate cannot be combined with $1" ;;
    esac
    shift
  done
  prices=$(merged_prices "$file")
  # The settings that the costs depend on, as deploy.sh would take them.
  begin_checks
  check_jq
  check_before_calls "${SETTINGS[@]}"
  check_values "${SETTINGS[@]}"
  check_numbers_together
  check_task_size
  stop_on_problems
  ask_for_estimate
  print_estimate "$prices" "$form"
}
