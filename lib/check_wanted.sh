# shellcheck shell=bash
# Checks of PREFIX_FILTER and EXCLUDE, which need no account.

# Bytes: all variables of a function have 4 KB, and COPY_LAST is one of them.
readonly MOST_OF_PREFIX_FILTER=1024 MOST_OF_EXCLUDE=500 MOST_OF_ALL_PATTERNS=2024
readonly MOST_OF_A_FILTER=1024  # characters (S3 API reference, FilterRule)
readonly MOST_OF_A_PATTERN=2048 # characters (EventBridge User Guide, "Quotas")
# For jq: the names of the files of a table's log, the three first that every table has.
readonly TABLE_LOG='["V.json", "V.checkpoint.parquet", "_last_checkpoint", "V.crc", "V.checkpoint.P.P.parquet",
  "V.checkpoint.U.json", "V.checkpoint.U.parquet", "V.V.compacted.json"]
  | map(gsub("V"; "0" * 20) | gsub("P"; "0" * 10) | gsub("U"; "00000000-0000-0000-0000-000000000000"))'

# bytes_of TEXT
bytes_of() {
  local LC_ALL=C
  printf '%s\n' "${#1}"
}

# is_text TEXT: jq replaces what is no UTF-8.
is_text() { [[ $(jq -nr --arg text "$1" '$text') == "$1" && ! $1 =~ [[:cntrl:]] ]]; }

# Reads a list, prints its first item that is empty or has a space beside a comma, as "NUMBER<tab>ITEM<tab>INSTEAD".
unclean_item() {
  jq -r '(length - 1) as $last
    | [to_entries[] | .key as $n | .value as $item | {$n, $item, clean: ($item
        | if $n > 0 then sub("^ +"; "") else . end | if $n < $last then sub(" +$"; "") else . end)}]
    | first(.[] | select(.item == "" or .item != .clean)) as $bad
    | ([.[].clean | select(. != "") | gsub(","; "\\,")] | join(",")) as $instead
    | "\($bad.n + 1)\t\($bad.item | tojson)\t\(if $instead == "" then "nothing" else $instead end)"'
}

# check_items NAME: an empty item would stand for all keys, and a space beside a comma is a slip rather than meant.
check_items() {
  local found number item instead
  found=$(written_items "${!1}" | unclean_item)
  [[ -n $found ]] || return 0
  IFS=$'\t' read -r number item instead <<<"$found"
  problem "$1=${!1}: item $number, $item, is empty or has a space next to a comma: set $instead"
}

# check_prefix_item PREFIX LENGTH: the length is that of its filter. S3 compares prefixes as its events write them, and
# IAM reads some characters as wildcards.
check_prefix_item() {
  local name="PREFIX_FILTER=$PREFIX_FILTER" of=""
  [[ $1 == "$PREFIX_FILTER" ]] || of=" instead of \"$1\""
  [[ $1 != *[*?$]* ]] \
    || problem "$name: set a prefix without * ? and \$$of, which IAM would read as wildcards"
  (($2 <= MOST_OF_A_FILTER)) || problem "$name: set a shorter prefix$of, because it has $2 characters in the encoded" \
    "form of S3's events, and S3 takes $MOST_OF_A_FILTER"
}

# S3 limits a filter in its encoded form, which is never shorter than the prefix. So one
# prefix alone has no other limit.
check_prefix() {
  local items item length
  has_jq || return 0 # a problem of its own
  if ! is_text "$PREFIX_FILTER"; then
    problem "PREFIX_FILTER=$(printf '%q' "$PREFIX_FILTER"): set a prefix of UTF-8 without control characters"
    return
  fi
  items=$(items_of "$PREFIX_FILTER")
  while IFS=$'\t' read -r length item; do
    [[ -z $item ]] || check_prefix_item "$item" "$length"
  done < <(jq -r "$(jq_filters)"'.[] | "\(filter_value | length)\t\(.)"' <<<"$items")
  check_items PREFIX_FILTER
  if [[ $(jq length <<<"$items") != [01] ]]; then check_prefixes_together "$(jq length <<<"$items")"; fi
}

# check_prefixes_together COUNT
check_prefixes_together() {
  local bytes
  (($1 <= MOST_PREFIXES)) || problem "PREFIX_FILTER=$PREFIX_FILTER: set at most $MOST_PREFIXES prefixes, not $1; a" \
    "common beginning can replace several of them"
  bytes=$(bytes_of "$PREFIX_FILTER")
  ((bytes <= MOST_OF_PREFIX_FILTER)) || problem "PREFIX_FILTER=$PREFIX_FILTER: set fewer or shorter prefixes, of at" \
    "most $MOST_OF_PREFIX_FILTER bytes in all, not $bytes"
  [[ $EVENT_SOURCE == eventbridge ]] || return 0
  bytes=$(bytes_of "$(event_pattern)")
  ((bytes <= MOST_OF_A_PATTERN)) || problem "PREFIX_FILTER=$PREFIX_FILTER: set fewer or shorter prefixes, because" \
    "EventBridge takes a pattern of $MOST_OF_A_PATTERN characters, and this one would have $bytes"
}

check_exclude() {
  local bytes
  has_jq || return 0
  if ! is_text "$EXCLUDE"; then
    problem "EXCLUDE=$(printf '%q' "$EXCLUDE"): set patterns of UTF-8 without control characters"
    return
  fi
  bytes=$(bytes_of "$EXCLUDE")
  ((bytes <= MOST_OF_EXCLUDE)) || problem "EXCLUDE=$EXCLUDE: set fewer or shorter patterns, of at most" \
    "$MOST_OF_EXCLUDE bytes in all, not $bytes"
  check_items EXCLUDE
  check_something_is_left
}

# check_tables: nothing may cut through a table (mirror/settings.py checks the same).
check_tables() {
  local cut
  [[ -n $TABLES ]] && has_jq || return 0
  [[ -z $KEEP_DAYS || $KEEP_DAYS == 0 ]] || problem "KEEP_DAYS=$KEEP_DAYS with TABLES=$TABLES: leave KEEP_DAYS empty," \
    "because a table needs its files at any age"
  cut=$(exclusion_of_logs)
  [[ -z $cut ]] || problem "EXCLUDE=$EXCLUDE with TABLES=$TABLES: remove $cut, which matches files of a table's log"
  cut=$(marker_of_logs)
  [[ -z $cut ]] || problem "COPY_LAST=$COPY_LAST with TABLES=$TABLES: remove $cut, which can match files of a table's" \
    "log"
}

# Prints a pattern of EXCLUDE that matches a file that every table has.
exclusion_of_logs() {
  jq -nr "$TABLE_LOG"' | .[:3][] | "table/_delta_log/\(.)"' \
    | patterns_for "$EXCLUDE" | jq -Rrn 'first(inputs) | split("\t")[1]'
}

# Prints a pattern of COPY_LAST that can match a file of a log in any folder (may_be_in_log() in mirror/model/delta.py).
marker_of_logs() {
  items_of "$COPY_LAST" | jq -r "$(jq_globs) ($TABLE_LOG) as \$names |"'
    def alike: gsub("[0-9a-fA-F]"; "0");
    def folded: sub("^\\s+"; "") | sub("\\s+$"; "") | gsub("\\[!?\\]?[^\\]]*\\]"; "?") | alike;
    first(.[] | select(folded as $glob | any($names[] | alike; . as $name
      | if $glob | contains("/") | not then $name | test($glob | glob)
        else "/\($glob)" as $glob | any(range($glob | length); $glob[.:] as $rest
          | ($rest | test("^[/*?]")) and ("/_delta_log/\($name)" | alike | test($rest | glob))) end)))'
}

check_patterns_together() {
  local bytes
  bytes=$(bytes_of "$PREFIX_FILTER$EXCLUDE$COPY_LAST")
  ((bytes <= MOST_OF_ALL_PATTERNS)) || problem "PREFIX_FILTER, EXCLUDE and COPY_LAST together have $bytes bytes: set" \
    "fewer or shorter ones, of at most $MOST_OF_ALL_PATTERNS bytes, because all variables of a Lambda function" \
    "together have 4 KB"
}

# Each key has a character.
check_something_is_left() {
  local everything left
  everything=$(items_of "$EXCLUDE" | jq -r 'first(.[] | select(test("^[*?]*[*][*?]*$") and (gsub("[*]"; "") | length < 2)))')
  if [[ -n $everything ]]; then
    problem "EXCLUDE=$EXCLUDE: $everything leaves out every key, so that nothing would be synced: remove it"
    return
  fi
  left=$(excluded_prefixes | jq -Rn --argjson all "$(synced_prefixes)" '$all - [inputs | split("\t")[0]] | length')
  [[ $left != 0 ]] || problem "EXCLUDE=$EXCLUDE leaves out every key of PREFIX_FILTER=$PREFIX_FILTER, so that nothing" \
    "would be synced: remove patterns, or add prefixes"
}

# Prints "PREFIX<tab>PATTERN" for each prefix that a pattern leaves out as a whole: it ends in *, and takes the prefix.
excluded_prefixes() {
  local ending
  ending=$(items_of "$EXCLUDE" | jq -r 'map(select(endswith("*")) | gsub(","; "\\,")) | join(",")')
  [[ -z $ending ]] || synced_prefixes | jq -r '.[]' | patterns_for "$ending"
}
