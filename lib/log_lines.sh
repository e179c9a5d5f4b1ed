# shellcheck shell=bash
# The log lines of the worker and of the starter that the scripts read: the one place in Bash for their patterns.
# A pattern is a regular expression of Logs Insights or of jq. It is for the beginning of a line, as a key may hold any
# words, also those of another line.

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
