# shellcheck shell=bash
# The log lines of the worker and of the starter that the scripts read: the one place in Bash for their patterns.
# A pattern is used in three ways: as text, as a regular expression of Logs Insights or of jq, as a glob of "parse".

# Worker: TIME INFO synced key=KEY action=copied|deleted size=BYTES seconds=S ... lag=S
readonly SYNCED_LINE=' synced key='
readonly COPIED_PART=' action=copied ' DELETED_PART=' action=deleted '
readonly SIZE_GLOB=' action=* size=* seconds='
readonly LAG_GLOB=' lag=*'
readonly SYNCED_LAG=' synced key=.* lag='
readonly LAG_FIELDS=' lag=(?<lag>[0-9.]+)$'
readonly KEY_FIELD='(?<key>"(\\.|[^"\\])*")'
readonly OUTCOME_FIELDS='action=(?<action>\S+) size=(?<size>\d+) seconds=(?<seconds>[0-9.]+)( lag=(?<lag>[0-9.]+))?'

# Worker: TIME ERROR failed key=KEY [attempt=N/N] REASON; the key is a JSON text.
readonly FAILED_LINE=' ERROR failed key='
readonly FAILED_FIELDS='^(?<at>\S+) ERROR failed key=(?<key>"(\\.|[^"\\])*") (?<attempt>attempt=\S+ )?(?<reason>.*)'

# Worker, the summary of reconcile: TIME INFO reconciled end=complete status=0 NAME=VALUE...
readonly RECONCILED_LINE=' reconciled end='
readonly RECONCILED_FIELDS='([a-z_/]+)=(\S+)'

# Starter: one JSON object for each decision, else what Lambda writes of a failure.
readonly DECISION_OR_FAILURE='"visible":|ERROR|Task timed out'

# Filters for a query of Logs Insights.
filter_synced() { printf 'filter @message like /%s/\n' "$SYNCED_LINE"; }

filter_lags() { printf 'filter @message like /%s/\n' "$SYNCED_LAG"; }

filter_failed() { printf 'filter @message like /%s/\n' "$FAILED_LINE"; }

filter_decisions() { printf 'filter @message like /%s/\n' "$DECISION_OR_FAILURE"; }

# Reads the rows of a query on failed lines, prints {at, key, attempt, reason} of each as a JSON list; attempt is null
# or ends in a space.
failures_of() { jq -c --arg fields "$FAILED_FIELDS" '[.[]["@message"] | capture($fields) | .key |= fromjson]'; }

# The regular expression of a synced line, whose groups are key, action, size, seconds and lag.
synced_fields() { printf '%s%s %s\n' "$SYNCED_LINE" "$KEY_FIELD" "$OUTCOME_FIELDS"; }

# Reads the rows of a query on lags, prints the seconds as a sorted JSON list.
lags_of() { jq -c --arg fields "$LAG_FIELDS" '[.[]["@message"] | capture($fields).lag | tonumber] | sort'; }

is_summary() { [[ $1 == *"$RECONCILED_LINE"* ]]; }

# summary_of LINE: the summary of reconcile as JSON.
summary_of() {
  jq -Rc --arg fields "$RECONCILED_FIELDS" '[scan($fields)]
    | map({key: .[0], value: (.[1] as $text | try ($text | fromjson) catch $text)}) | from_entries' \
    <<<"${1#*"${RECONCILED_LINE%end=}"}"
}
