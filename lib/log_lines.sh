# shellcheck shell=bash
# The log lines of the worker and of the starter that the scripts read: the one place in Bash for their patterns.
# A pattern is a regular expression of Logs Insights or of jq. It is for the beginning of a line, as a key may hold any
# words, also those of another line.

readonly KEY_FIELD='(?<key>"(\\.|[^"\\])*")' # a JSON text

# like PATTERN: the filter of a query of Logs Insights for such lines.
like() { printf 'filter @message like /%s/\n' "$1"; }

# Reads text for a person, prints it line by line as a terminal may show it.
visible_lines() { jq -Rr "$JQ_TEXT visible"; }

# --- on keys ----------------------------------------------------------------------------------------------------------

# Worker: TIME INFO synced key=KEY action=copied|deleted|skipped size=BYTES seconds=S [lag=S]
readonly SYNCED_LINE='^\S+ INFO synced key='

# Worker: TIME ERROR failed key=KEY [attempt=N/N] REASON; the key is a JSON text.
readonly FAILED_LINE='^\S+ ERROR failed key='

# For "parse" of Logs Insights, which is not known to have groups without a name. The last quote of the line ends the
# key: none may follow it.
readonly -A PARSED=(
  [copied]="$SYNCED_LINE\".*\" action=(?<copied>copied) [^\"]*\$"
  [deleted]="$SYNCED_LINE\".*\" action=(?<deleted>deleted) [^\"]*\$"
  [size]="$SYNCED_LINE\".*\" action=(?<action>\S+) size=(?<size>\d+) [^\"]*\$"
  [lag]="$SYNCED_LINE\".*\" action=[^\"]* lag=(?<lag>[0-9.]+)[^\"]*\$"
  [failed]='^\S+ ERROR (?<failed>failed) key='
)

# The regular expression of a synced line, whose groups are key, action, size, seconds and lag.
synced_fields() {
  printf '%s%s %s\n' "$SYNCED_LINE" "$KEY_FIELD" \
    'action=(?<action>\S+) size=(?<size>\d+) seconds=(?<seconds>[0-9.]+)( lag=(?<lag>[0-9.]+))?'
}

# Reads the rows of a query on failed lines, prints {at, key, attempt, reason} of each as a JSON list; attempt is null
# or ends in a space.
failures_of() {
  jq -c --arg fields "^(?<at>\\S+) ERROR failed key=$KEY_FIELD (?<attempt>attempt=\\S+ )?(?<reason>.*)" \
    '[.[]["@message"] | capture($fields) | .key |= fromjson]'
}

# The regular expressions of the lines on the parts of a large object: of the one that they are begun, which has the
# groups size and parts, and of the one that all of them are copied; as a JSON object.
fields_of_parts() {
  jq -nc '{begun: "^\\S+ INFO Using multipart copy .* size=(?<size>\\d+) parts=(?<parts>\\d+) ",
    ended: "^\\S+ INFO Progress: \\d+/\\d+ parts \\(100%\\)"}'
}

# Worker, of reconcile --report: TIME INFO difference number=N what=WHAT key=KEY
is_difference() { [[ $1 == +([![:space:]])" INFO difference number="* ]]; }

# --- of a worker ------------------------------------------------------------------------------------------------------

# Worker, and the function while it copies: each line.
readonly WORKER_LINE='^\S+ (DEBUG|INFO|WARNING|ERROR) '

# Worker: TIME ERROR outage: N keys fail alike, nothing is begun until one can be synced again: REASON; later either
# TIME INFO outage over after N s, or TIME ERROR outage for N s, the worker ends: REASON.
readonly OUTAGE_LINE='^\S+ (ERROR outage: |INFO outage over after |ERROR outage for )'
readonly OUTAGE_FILTER='%^\S+\sERROR\soutage%' # of a metric filter, whose regular expressions have no groups or spaces

# Worker, the summary of reconcile: TIME INFO reconciled end=complete status=0 NAME=VALUE...; and of wait and measure,
# likewise.
readonly SUMMARY_START='^[^ ]+ [A-Z]+ (reconciled|waited|measured) end='

# Of metric filters: lines of the worker, and of the starter those whose "audit" has a "problem".
readonly AUDIT_FILTER='%^\S+\sERROR\saudited%' AUDIT_START_FILTER='{ $.audit.problem = "*" }'

# Reads a page of events, drops those that no worker wrote.
only_worker_lines() { jq -c --arg pattern "$WORKER_LINE" '.events |= map(select(.message | test($pattern)))'; }

# Reads answers of FilterLogEvents, prints the writes that a worker was refused with a condition, as a JSON list.
refused_writes() {
  jq -cs '[.[].events[]?.message
    | capture("^\\S+ WARNING the destination refuses conditional writes, going on without: operation=(?<write>\\S+)").write]
    | unique'
}

# Reads the rows of a query on outages, prints {at, stream, event, seconds, reason} of each as a JSON list. The event is
# "began", "over" or "ended"; the first has no seconds, the second no reason.
outages_of() {
  jq -c '"ERROR outage: (?<keys>\\d+) keys fail alike, [^:]*: (?<why>.*)" as $began
    | "INFO outage over after (?<over>\\d+) s" as $over
    | "ERROR outage for (?<ended>\\d+) s, the worker ends: (?<last>.*)" as $ended
    | [.[] | .["@logStream"] as $stream | .["@message"] | rtrimstr("\n")
    | capture("^(?<at>\\S+) (\($began)|\($over)|\($ended))$")
    | {at, $stream, event: (if .keys then "began" elif .over then "over" else "ended" end),
       seconds: (.over // .ended | if . then tonumber else . end), reason: (.why // .last)}]'
}

# Reads answers of FilterLogEvents, prints {stream, copied, deleted, skipped, busy, cpu} for each summary of a worker.
# Worker, at its end: TIME INFO summary copied=N deleted=N skipped=N NAME=VALUE... busy=N cpu=SECONDS
summaries_of() {
  jq -c '.events[]? | .logStreamName as $stream | .message | rtrimstr("\n")
    | capture("^\\S+ INFO summary copied=(?<copied>\\d+) deleted=(?<deleted>\\d+) skipped=(?<skipped>\\d+) .*"
      + " busy=(?<busy>\\d+) cpu=(?<cpu>[0-9.]+)$")
    | map_values(tonumber) | {$stream} + .'
}

# Worker, of reconcile, wait and measure on the way: TIME INFO progress NAME=VALUE...
is_progress() { [[ $1 == +([![:space:]])" INFO progress "* ]]; }

# progress_of LINE: what a terminal shows of it.
progress_of() {
  local word words shown=progress:
  read -ra words <<<"$1"
  for word in "${words[@]}"; do
    [[ ! $word =~ ^(listed|here|keys/s|folders|far|left)= ]] || shown+=" $word"
  done
  printf '%s\n' "$shown"
}

is_summary() { [[ $1 =~ $SUMMARY_START ]]; }

# summary_of LINE: the summary of reconcile, wait or measure as JSON.
summary_of() {
  jq -Rc '[scan("([a-z0-9_/]+)=(\\S+)")]
    | map({key: .[0], value: (.[1] as $text | try ($text | fromjson) catch $text)}) | from_entries' \
    <<<"end=${1#* end=}"
}

# --- of the starter, and of any log -----------------------------------------------------------------------------------

# Starter: one JSON object for each decision, else what Lambda writes of a failure: what Python raised, a timeout, or a
# process that was ended. Not "exit status 1": so the function ends itself after its report. Lines on keys, which may
# have any words in them, begin with their time.
DECISION_OR_FAILURE='^(\{"visible":|\[ERROR\] |\S+ \S+ Task timed out after |'
DECISION_OR_FAILURE+='RequestId: \S+ Error: Runtime exited with(out| error: signal))'
readonly DECISION_OR_FAILURE
