# shellcheck shell=bash
# The log lines of the worker and of the starter that the dashboard and the alarms look for: the one place in Bash for
# their patterns. A pattern is a regular expression of Logs Insights. It is for the beginning of a line, as a key may hold
# any words, also those of another line.

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

# --- of a worker ------------------------------------------------------------------------------------------------------

# Worker: TIME ERROR outage: N keys fail alike, nothing is begun until one can be synced again: REASON; later either
# TIME INFO outage over after N s, or TIME ERROR outage for N s, the worker ends: REASON.
readonly OUTAGE_LINE='^\S+ (ERROR outage: |INFO outage over after |ERROR outage for )'
readonly OUTAGE_FILTER='%^\S+\sERROR\soutage%' # of a metric filter, whose regular expressions have no groups or spaces

# Of metric filters: lines of the worker, and of the starter those whose "audit" has a "problem".
readonly AUDIT_FILTER='%^\S+\sERROR\saudited%' AUDIT_START_FILTER='{ $.audit.problem = "*" }'
