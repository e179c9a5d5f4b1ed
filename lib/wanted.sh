# shellcheck shell=bash
# What is synced: PREFIX_FILTER and EXCLUDE as lists. mirror/model/selection.py reads them in the same way.

readonly MOST_PREFIXES=20 # each has a notification of S3 and a line in two policies of IAM

# written_items TEXT: prints the items of a list, which commas separate, as a JSON list; "\," is a comma inside of an
# item.
written_items() {
  jq -nc --arg text "$1" 'if $text == "" then [] else
    $text | gsub("\\\\,"; "\u0001") | split(",") | map(gsub("\u0001"; ",")) end'
}

# items_of TEXT: prints each item once, in the same way.
items_of() {
  written_items "$1" | jq -c 'reduce .[] as $item ([]; if any(.[]; . == $item) then . else . + [$item] end)'
}

# Reads a JSON list of prefixes, prints it sorted, without those that another one covers; [""] stands for all keys.
without_covered() {
  jq -c 'unique as $all
    | [$all[] | select(. as $one | any($all[]; . as $other | $other != $one and ($one | startswith($other))) | not)]
    | if . == [] then [""] else . end'
}

# prefixes_of TEXT: prints what a value of PREFIX_FILTER comes to, in the same way.
prefixes_of() { items_of "$1" | without_covered; }

SYNCED_PREFIXES="" SYNCED_OF="" # what synced_prefixes printed last, and of which PREFIX_FILTER

# A deployment needs them some thirty times: the subshells of one that called this know them.
synced_prefixes() {
  [[ -n $SYNCED_PREFIXES && $SYNCED_OF == "$PREFIX_FILTER" ]] || SYNCED_PREFIXES=$(prefixes_of "$PREFIX_FILTER")
  SYNCED_OF=$PREFIX_FILTER
  printf '%s\n' "$SYNCED_PREFIXES"
}

# Prints where PREFIX_FILTER begins: the first prefix as it is written.
first_prefix() { items_of "$PREFIX_FILTER" | jq -r '.[0] // ""'; }

# Prints a line for each prefix that is written twice, or that another one covers.
merged_prefixes() {
  local kept
  kept=$(synced_prefixes)
  written_items "$PREFIX_FILTER" | jq -r --argjson kept "$kept" 'group_by(.)[] | length as $times | .[0] as $one
    | first($kept[] | select(. as $by | $one | startswith($by))) as $by
    | if $by != $one then "\($one) is covered by \($by)" elif $times > 1 then "\($one) is listed \($times) times"
      else empty end'
}

# For jq: a glob as a regular expression for the whole key, as Python's fnmatch reads it: * and ? also match "/", and \
# matches itself. A * takes as little as possible and is never tried again, so that no pattern takes long.
jq_globs() {
  cat <<'JQ'
  def literal: if test("[\\\\^$.|?*+()\\[\\]{}&-]") then "\\" + . else . end;
  def class: .[1:-1] | startswith("!") as $but | (if $but then .[1:] else . end)
    | [scan("(.)-(.)|(.)") | if .[2] then .[2] | literal elif .[0] <= .[1] then "\(.[0] | literal)-\(.[1] | literal)"
        else empty end] | join("")
    | if . != "" then "[\(if $but then "^" else "" end)\(.)]" elif $but then "." else "(?!)" end;
  def glob: [scan("\\*+|\\[(?>!?\\]?)[^\\]]*\\]|.") | if startswith("*") then "\u0001" elif . == "?" then "."
      elif length > 1 then class else literal end] | join("") | split("\u0001")
    | if length == 1 then "\\A\(.[0])\\z"
      else "\\A\(.[0])\(.[1:-1] | map("(?>.*?\(.))") | join("")).*\(.[-1])\\z" end;
JQ
}

# patterns_for EXCLUDE: reads keys, one per line; prints "KEY<tab>PATTERN" for each that a pattern leaves out.
patterns_for() {
  local patterns
  patterns=$(items_of "$1")
  jq -Rr --argjson patterns "$patterns" "$(jq_globs)"'
    . as $key | first($patterns[] | select(. as $one | $key | test($one | glob))) | "\($key)\t\(.)"'
}
