# shellcheck shell=bash
# usage: ./sync.sh explain [--since 1d] [--json] [--] KEY
#
# Why one key is in the destination or not, and what to do.
#
# Prints one word, then what both buckets have under the key, what the settings
# say about it, its last log lines, and why a message on it is in the dead-letter
# queue. The words are equal, missing, stale, corrupt (S3's checksums differ,
# although the copy says that it is equal), ghost (only the destination has it),
# foreign (the same, and it does not say that the sync wrote it), absent (neither
# has it), archived, expired (KEEP_DAYS), excluded (EXCLUDE, PREFIX_FILTER), waits
# (for other keys, by COPY_LAST or TABLES), unknown (a bucket could not be read;
# the output names the missing permission).
#
#   KEY         as it is, in quotes for the shell, such as 'a b/größe %.txt' or
#               $'two\nlines'; after -- if it begins with a hyphen
#   --since 1d  how far back the log is read: a number and s, m, h or d
#   --json      the same as JSON on stdout
#
# The word comes from the workers' own rules, which need Python 3.9 or newer
# (python3). You need s3:GetObject and s3:ListBucket on the source (if it is
# versioned, s3:ListBucketVersions), s3express:CreateSession on the destination.
#
# Exit status: 0 equal, absent, expired or excluded; 1 anything else, or an error;
# 2 wrong usage.

# --- both buckets ---------------------------------------------------------------------------------------------------

# in_bucket source|destination OPERATION Key|Prefix OPTION...: asks for the key, or for what begins with it. Not as an
# option of its own: the CLI takes the value file://x for the content of a file.
in_bucket() {
  local input bucket=$SRC_BUCKET owner=$SRC_BUCKET_OWNER
  [[ $1 == source ]] || bucket=$DST_BUCKET owner=$DST_BUCKET_OWNER
  input=$(jq -nc --arg bucket "$bucket" --arg owner "$owner" --arg key "$EXPLAIN_KEY" --arg member "$3" '
    {Bucket: $bucket, ExpectedBucketOwner: $owner, ($member): $key}
    + if $member == "Prefix" then {MaxKeys: 1} else {} end')
  try_aws s3api "$2" --cli-input-json "$input" "${@:4}"
}

# as_object NAME VALUE: prints an object of these.
as_object() { jq -n --arg name "$1" --arg value "$2" '{($name): $value}'; }

# A missing bucket answers a look with 404, too, and a deleted object of a versioned bucket has a marker.
explain_missing_source() {
  if in_bucket source list-object-versions Prefix --no-paginate >"$TEMP_DIR/explain.all"; then
    jq -s --arg key "$EXPLAIN_KEY" '[.[].DeleteMarkers[]? | select(.Key == $key and .IsLatest)][0]
      | if . then {delete_marker: {version: .VersionId, at: .LastModified}} else {} end' "$TEMP_DIR/explain.all"
  elif is_denied; then
    as_object note "whether it was deleted is not known: grant yourself s3:ListBucketVersions on arn:aws:s3:::$SRC_BUCKET"
  else
    as_object problem "$(shown_error)"
  fi
}

explain_denied_source() {
  local object="arn:aws:s3:::$SRC_BUCKET/*"
  if ! in_bucket source list-objects-v2 Prefix --no-paginate >"$TEMP_DIR/listed"; then
    as_object problem "denied: grant yourself s3:GetObject on $object, and s3:ListBucket on arn:aws:s3:::$SRC_BUCKET, \
without which S3 also denies a key that does not exist"
    return
  fi
  jq -s --arg key "$EXPLAIN_KEY" --arg object "$object" '{
    problem: "denied: grant yourself s3:GetObject on \($object), and kms:Decrypt if it is encrypted with a KMS key"}
    + ([.[].Contents[]? | select(.Key == $key)][0] | if . then {listed: {size: .Size, modified: .LastModified}}
      else {} end)' "$TEMP_DIR/listed"
}

explain_no_source() {
  case "$(error_code)" in
    404) explain_missing_source ;;
    403) explain_denied_source ;;
    400) as_object problem "it is encrypted with SSE-C: S3 shows it only with its key, which the sync does not have" ;;
    *) as_object problem "$(shown_error)" ;;
  esac
}

explain_no_destination() {
  case "$(error_code)" in
    404) printf '{}\n' ;;
    403 | AccessDenied) as_object problem "denied: grant yourself s3express:CreateSession on $DST_BUCKET_ARN: $(shown_error)" ;;
    *) as_object problem "$(shown_error)" ;;
  esac
}

# look_at source|destination: prints {head}, what S3 shows, with why it shows no checksum if it refused that; {} if there
# is no such object; or {problem}.
look_at() {
  local refused=""
  if ! in_bucket "$1" head-object Key --checksum-mode ENABLED >"$TEMP_DIR/head.$1"; then
    refused=$(shown_error)
    if [[ $(error_code) == 404 ]] || ! in_bucket "$1" head-object Key >"$TEMP_DIR/head.$1"; then
      "explain_no_$1"
      return
    fi
  fi
  jq --arg refused "$refused" '{head: .} + if $refused == "" then {} else {$refused} end' "$TEMP_DIR/head.$1"
}

# --- the log and the queues -----------------------------------------------------------------------------------------

parked_messages() {
  local seen messages
  seen=$(look_at_messages)
  hint_at_more "$(jq length <<<"$seen")"
  messages=$(with_keys <<<"$seen" | jq -c --arg key "$EXPLAIN_KEY" \
    'map(select(any(.keys[]; . == $key)) | .keys = [$key])')
  if [[ $messages == "[]" ]]; then printf '[]\n'; else with_reasons <<<"$messages"; fi
}

last_lines() {
  local pattern
  pattern=$(jq -Rs . < <(printf '%s' "$EXPLAIN_KEY") | key_pattern)
  query keys "$EXPLAIN_SECONDS" \
    "fields @message | filter @message like / key=$pattern( |\$)/ | sort @timestamp desc | limit 5"
}

# What cannot be read costs that part, and not the answer.
ask_for_part() {
  local ask=()
  case "$1" in
    source | destination) ask=(look_at "$1") ;;
    log) ask=(last_lines) ;;
    dead_letters) ask=(parked_messages) ;;
    queue) ask=(describe_queue "$QUEUE_NAME") ;;
  esac
  run_apart "$TEMP_DIR/explain.$1" "${ask[@]}"
}

# --- the answer -----------------------------------------------------------------------------------------------------

# known_part NAME WITHOUT: prints what was learned of it as {NAME: ...}, or that it is not known.
known_part() {
  local file=$TEMP_DIR/explain.$1
  if has_failed "$file"; then
    jq -n --arg name "$1" --argjson without "$2" '{($name): $without, not_known: [$name]}'
  else
    jq -n --arg name "$1" '{($name): [inputs][0]}' "$file"
  fi
}

# Prints what lib/explain.py reads.
gather_facts() {
  local name value quoted markers synced example paused
  paused=$(paused_since)
  known_part log "[]" >"$TEMP_DIR/log"
  markers=$(jq -c .log "$TEMP_DIR/log" | markers_of)
  synced=$(jq -c .log "$TEMP_DIR/log" | synced_of | jq -r '[.[]] | max // ""')
  example=$(jq -r 'max_by(.at).example // empty | @json' <<<"$markers")
  printf -v quoted %q "$EXPLAIN_KEY"
  [[ -z $example ]] || printf -v example %q "$(jq -r . <<<"$example")"
  {
    known_part source "{}"
    known_part destination "{}"
    known_part queue null
    known_part dead_letters "[]"
    jq '.log |= map(."@message" | rtrimstr("\n")) | .log |= reverse' "$TEMP_DIR/log"
    for name in PREFIX_FILTER EXCLUDE KEEP_DAYS COPY_LAST TABLES; do
      value=$(deployed_setting "$name")
      as_object "$name" "$value"
    done | jq -s '{settings: add}'
    jq -n --arg key "$EXPLAIN_KEY" --arg quoted "$quoted" --arg example "$example" --arg via "$VIA" \
      --arg paused "$paused" --arg synced "$synced" --argjson markers "$markers" '
      {$key, $quoted, quoted_example: $example, $via, paused_since: $paused, $synced, $markers}'
  } | jq -s '(map(.not_known[]?)) as $not_known | add + {$not_known}
    | .sides = {source, destination} | del(.source, .destination)
    | .dead_letters |= map(.keys[0] + {sent})'
}

# Leaves the answer in a file of the run.
keep_explanation() {
  fact starter >/dev/null
  begin_jobs ask_for_part source destination log dead_letters queue
  need_deployed SRC_BUCKET DST_BUCKET
  need_jobs
  gather_facts >"$TEMP_DIR/explain.facts"
  # Python would answer Ctrl-C with a traceback, and is done in a moment.
  (trap '' INT && PYTHONPATH=$PROJECT_DIR python3 -B "$PROJECT_DIR/lib/explain.py") \
    <"$TEMP_DIR/explain.facts" >"$TEMP_DIR/explanation"
}

print_explanation() {
  local verdict colour=$RED
  verdict=$(jq -r .verdict "$TEMP_DIR/explanation")
  case "$verdict" in
    equal | absent | expired | excluded) colour=$GREEN ;;
    waits | archived | foreign) colour=$AMBER ;;
  esac
  paint "$colour" "$verdict"
  jq -r "$JQ_TEXT"'
    def shown: if . == null then "no such object" elif .problem then .problem + (.listed // null
        | if . then "; it is listed with \(.size) bytes, of \(.modified)" else "" end)
      elif .delete_marker then "deleted at \(.delete_marker.at): the newest version is a delete marker, \(
        .delete_marker.version)"
      elif .note then "no such object; \(.note)"
      else "\(.size) bytes, of \(.modified), ETag \(.etag)\(if .version then ", version \(.version)" else "" end
        )\(if .archived then ", archived: \(.archived)" else "" end)" end;
    ("  \(.meaning)", (select(.not_known != []) | "  not known: \(.not_known | join(", ")), the error is above"), "",
    row("key"; .key | tojson), row("source"; .source | shown), row("destination"; .destination | shown),
    (.source.identity | select(.) | row("identity"; .)),
    (.destination | select(. and has("copy_of")) | row("copy of"; if .copy_of != "" then .copy_of
      else "unknown: it does not say what it was copied from, so size and time decide" end)),
    (.checksums | select(.) | row("checksums"; .)),
    (.settings | to_entries[] | row(.key; .value)),
    (.waits | select(.) | row("waits"; waiting)),
    (.queue | select(.) | row("queue"; "\(.visible) waiting, \(.in_flight) in flight, \(.delayed) delayed, of all keys")),
    (select(.paused_since != "") | row("paused"; "since \(.paused_since)")),
    (.dead_letters[] | row("dead letter"; "sent \(.sent), \(if .at then "failed \(.at)" else "the failure is" end
      ) \(.reason)")),
    (.log[] | row("log"; .)), row("to do"; .advice)) | visible | folded_row' "$TEMP_DIR/explanation"
}

verb_explain() {
  local keys=() since=1d format=text bytes
  while (($#)); do
    case "$1" in
      --json) format=json ;;
      --since) need_value "$1" "$#" && since=$2 && shift ;;
      --) keys+=("${@:2}") && break ;;
      -*) usage "explain: unknown option $1; a key that begins with a hyphen goes after --" ;;
      *) keys+=("$1") ;;
    esac
    shift
  done
  ((${#keys[@]} == 1)) || usage "explain: name one key, in quotes if it has spaces"
  EXPLAIN_SECONDS=$(seconds_of "$since") || usage "explain: --since $since is not a duration such as 1d"
  EXPLAIN_KEY=${keys[0]}
  bytes=$(printf '%s' "$EXPLAIN_KEY" | wc -c)
  # S3 User Guide, "Naming Amazon S3 objects"
  ((bytes > 0 && bytes <= 1024)) || usage "explain: a key has 1 to 1024 bytes, and this one has $bytes"
  begin_checks
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' \
    || problem "explain needs Python 3.9 or newer as python3, but this is $(python3 --version)"
  stop_on_problems
  printf '%s' "$EXPLAIN_KEY" | python3 -c '
import sys
try:
    sys.stdin.buffer.read().decode()
except UnicodeDecodeError:
    sys.exit(1)' || usage "explain: the key is not UTF-8"
  start_verb
  need_starter
  say_while "explain: asking AWS" keep_explanation
  if [[ $format == json ]]; then visible_lines <"$TEMP_DIR/explanation"; else print_explanation; fi
  [[ $(jq .is_right "$TEMP_DIR/explanation") == true ]]
}
