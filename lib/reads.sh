# shellcheck shell=bash
# ./sync.sh cost --reads: which folders of the destination are read, and what the others cost.

readonly MOST_FOLDERS=250 # GetMetricData takes 500 queries (CloudWatch API reference), and each folder has two

# Prints size, time and key of each object of the destination, a line each; what a key has after a line break is left
# out. One list request for each 1,000 of them.
list_stored() {
  aws_or_die s3api list-objects-v2 --bucket "$DST_BUCKET" --output text \
    --query 'Contents[].[Size,LastModified,Key]'
}

# stored_by FOLDERS: reads that list, prints {bytes, objects, old_bytes, folder} of each folder of the file, and of all.
stored_by() {
  local month_ago
  month_ago=$(iso "$(($(now) - 30 * 86400))")
  awk -F '\t' -v month_ago="${month_ago%Z}" '
    NR == FNR { folders[++count] = $0; next }
    $1 ~ /^[0-9]+$/ { add(0); for (n = 1; n <= count; n++) if (index($3, folders[n]) == 1) add(n) }
    function add(n) { bytes[n] += $1; objects[n]++; if (substr($2, 1, 19) < month_ago) old[n] += $1 }
    END { for (n = 0; n <= count; n++) printf "%.0f\t%d\t%.0f\t%s\n", bytes[n], objects[n], old[n], folders[n] }' "$1" - \
    | jq -Rn '[inputs | split("\t") | {bytes: (.[0] | tonumber), objects: (.[1] | tonumber),
      old_bytes: (.[2] | tonumber), folder: (.[3:] | join("\t"))}]'
}

# turn_on_reads PRICES DAYS FOLDERS TOP YES: FOLDERS separated by commas, or nothing for the largest. It costs at most
# what it says, because a metric costs only in hours in which it has data.
turn_on_reads() {
  local folders=() ids=() folder count=${4:-10} metrics=13 id began price starter
  [[ -z $3 ]] || IFS=',' read -ra folders <<<"$3"
  [[ -z $3 ]] || count=${#folders[@]}
  price=$(jq -r --argjson days "$2" --argjson folders "$count" --argjson metrics "$metrics" \
    "$(<"$PROJECT_DIR/lib/cost.jq")"'($folders * $metrics * .prices.metric_month * $days * 24 / hours_a_month | money)' <<<"$1")
  say "request metrics of $count folders for $2 days cost at most $price USD" \
    "($metrics metrics each, by the hour); listing the bucket takes a request for each 1,000 objects"
  [[ $5 == true ]] || need_yes "Turn them on?" "nothing was turned on"
  if [[ -z $3 ]]; then
    list_stored >"$TEMP_DIR/stored"
    # The top folders with most bytes.
    mapfile -t folders < <(awk -F '\t' '$1 ~ /^[0-9]+$/ && (at = index($3, "/")) { sizes[substr($3, 1, at)] += $1 }
      END { for (folder in sizes) printf "%.0f\t%s\n", sizes[folder], folder }' "$TEMP_DIR/stored" \
      | sort -rn | head -n "$count" | cut -f 2-)
    ((${#folders[@]})) || die "s3://$DST_BUCKET has no folders: name prefixes with --folders"
  fi
  began=$(now)
  for folder in "${folders[@]}"; do
    id=$(request_metrics_id "$began" "$2" "$((${#ids[@]} + 1))")
    run_apart "$TEMP_DIR/turned_on" aws_or_die s3api put-bucket-metrics-configuration --bucket "$DST_BUCKET" --id "$id" \
      --metrics-configuration "$(jq -nc --arg id "$id" --arg folder "$folder" '{Id: $id, Filter: {Prefix: $folder}}')"
    if has_failed "$TEMP_DIR/turned_on"; then
      ((${#ids[@]} == 0)) || turn_off_reads "${ids[@]}"
      return 1
    fi
    ids+=("$id")
    say "turned on: $(jq -nr --arg folder "$folder" "$JQ_TEXT"'$folder | tojson | visible')"
  done
  starter=$(ask_starter) # a run of cleanup.sh in the meantime may not have seen them, and nobody else looks for them
  if [[ -z $starter ]]; then
    turn_off_reads "${ids[@]}"
    die "cost: the deployment $APP_NAME was removed in the meantime"
  fi
  say "the first figures arrive after about 15 minutes. Run the same command for a report. After $2 days, it also turns" \
    "them off, as ./deploy.sh and ./cleanup.sh do, and with --stop at once; until one of them runs, they are charged"
}

# report_reads PRICES FILTERS JSON: prints it; leaves the report in a file of the run.
report_reads() {
  local form='reads_table'
  [[ $3 == false ]] || form='rounded_report'
  printf '%s\n' "$2" >"$TEMP_DIR/filters.json"
  jq -r '.[].folder' <<<"$2" >"$TEMP_DIR/folders"
  list_stored >"$TEMP_DIR/listed"
  stored_by "$TEMP_DIR/folders" <"$TEMP_DIR/listed" >"$TEMP_DIR/stored.json"
  # What CloudWatch has counted since they were turned on.
  jq --arg bucket "$DST_BUCKET" --arg until "$(iso "$(now)")" '{EndTime: $until, StartTime: (map(.began) | min | todate),
    MetricDataQueries: [to_entries[] | .key as $number | .value.id as $filter
      | ["gets", "GetRequests"], ["bytes", "BytesDownloaded"] | {Id: "\(.[0])\($number)", ReturnData: true,
          MetricStat: {Period: 3600, Stat: "Sum", Metric: {Namespace: "AWS/S3", MetricName: .[1],
            Dimensions: [{Name: "BucketName", Value: $bucket}, {Name: "FilterId", Value: $filter}]}}}]}' \
    "$TEMP_DIR/filters.json" >"$TEMP_DIR/queries.json"
  aws_or_die cloudwatch get-metric-data --cli-input-json "file://$TEMP_DIR/queries.json" >"$TEMP_DIR/read.json"
  jq -n --argjson prices "$1" --argjson now "$(now)" --slurpfile filters "$TEMP_DIR/filters.json" \
    --slurpfile stored "$TEMP_DIR/stored.json" --slurpfile read "$TEMP_DIR/read.json" \
    '{$prices, filters: $filters[0], $now, stored: $stored[0], read: $read[0]}' \
    | jq "$(<"$PROJECT_DIR/lib/cost.jq") $(<"$PROJECT_DIR/lib/reads.jq") report" >"$TEMP_DIR/report"
  jq -r "$(<"$PROJECT_DIR/lib/cost.jq") $(<"$PROJECT_DIR/lib/reads.jq") $form" "$TEMP_DIR/report" | visible_lines
}

# turn_off_reads ID...
turn_off_reads() {
  end_request_metrics "$@"
  say "the request metrics are turned off"
}

# end_reads STOP FILTERS: what becomes of them after the report.
end_reads() {
  local ids left
  ids=$(jq -r '.[].id' <<<"$2")
  if [[ $1 == true || $(jq .is_over "$TEMP_DIR/report") == true ]]; then
    mapfile -t ids <<<"$ids"
    turn_off_reads "${ids[@]}"
    return
  fi
  left=$(ask_request_metrics)
  if was_denied; then die "cost: the request metrics may still be on: $(denial)"; fi
  if [[ $(jq length <<<"$left") == 0 ]]; then
    say "the request metrics were turned off in the meantime, by ./cleanup.sh or another run of cost"
  else
    say "they stay on: run this again after $(jq -r .until "$TEMP_DIR/report"), which turns them off, or now with --stop"
  fi
}

# say_ignored FILTERS DAYS NAMED TOP: which options count only when the metrics are turned on.
say_ignored() {
  local days ignored=()
  days=$(jq -r '.[0].days' <<<"$1")
  [[ $2 == "$days" ]] || ignored+=("--reads $2, because they were turned on for $days days")
  [[ -z $3 ]] || ignored+=(--folders)
  [[ -z $4 ]] || ignored+=(--top)
  ((${#ignored[@]} == 0)) || say "the request metrics of $(jq length <<<"$1") folders are on already, so this has no" \
    "effect until --stop: $(join '; ' "${ignored[@]}")"
}

check_reads() {
  local commas=${3//[^,]/}
  [[ $1 =~ ^[1-9][0-9]?$ ]] || usage "cost: --reads $1 is not a number of days from 1 to 99"
  [[ -z $2 || $2 =~ ^[1-9][0-9]{0,2}$ && $2 -le $MOST_FOLDERS ]] \
    || usage "cost: --top $2 is not a number of folders from 1 to $MOST_FOLDERS"
  [[ $3, =~ ^([^,]*/,|,)*$ ]] || usage "cost: --folders $3: a folder ends with a slash, such as logs/"
  [[ ,$3, != *,,* || -z $3 ]] || usage "cost: --folders $3 has an empty item"
  ((${#commas} < MOST_FOLDERS)) || usage "cost: --folders names more than $MOST_FOLDERS folders"
  [[ $DRY_RUN == false ]] || usage "cost: --reads turns request metrics on or off, and has no dry run; set DRY_RUN=false"
}

# reads_cost OPTION...
reads_cost() {
  local file=${PRICES_FILE:-} json=false yes=false stop=false days="" named="" top="" prices filters problem
  while (($#)); do
    case "$1" in
      --reads) need_value "$1" "$#" && days=$2 && shift ;;
      --folders) need_value "$1" "$#" && named=$2 && shift ;;
      --top) need_value "$1" "$#" && top=$2 && shift ;;
      --prices) need_value "$1" "$#" && file=$2 && shift ;;
      --yes) yes=true ;;
      --stop) stop=true ;;
      --json) json=true ;;
      *) usage "cost: --reads cannot be combined with $1" ;;
    esac
    shift
  done
  check_reads "$days" "$top" "$named"
  prices=$(merged_prices "$file")
  start_verb
  [[ -z $VIA ]] || die "cost: the local cloud has no request metrics, so --reads is for AWS only"
  problem=$(problem_with_cli_of_metrics)
  [[ -z $problem ]] || die "cost: $problem"
  [[ $DST_BUCKET_OWNER == "$ACCOUNT" ]] \
    || die "cost: --reads has to run in the account of the destination, $DST_BUCKET_OWNER"
  RESOURCE="request metrics of $DST_BUCKET"
  filters=$(fact request_metrics)
  if was_denied; then die "cost: $(denial)"; fi
  if [[ $(jq length <<<"$filters") == 0 ]]; then
    [[ $stop == false ]] || die "nothing to stop: ./sync.sh cost --reads has turned on no request metrics"
    need_starter
    turn_on_reads "$prices" "$days" "$named" "$top" "$yes"
    return
  fi
  say_ignored "$filters" "$days" "$named" "$top"
  run_apart "$TEMP_DIR/shown" report_reads "$prices" "$filters" "$json"
  cat "$TEMP_DIR/shown"
  if has_failed "$TEMP_DIR/shown"; then
    [[ $stop == false ]] || end_reads true "$filters" # they cost
    return 1
  fi
  end_reads "$stop" "$filters"
}
