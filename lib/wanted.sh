# shellcheck shell=bash
# What is synced: PREFIX_FILTER and EXCLUDE as lists. mirror/wanted.py reads them in the same way.

readonly MOST_PREFIXES=20 # each has a notification of S3 and a line in two policies of IAM

# items_of TEXT: prints the items of a list with commas between them, each once, as a JSON list; "\," is a comma inside
# of an item.
items_of() {
  jq -nc --arg text "$1" 'if $text == "" then [] else
    $text | gsub("\\\\,"; "\u0001") | split(",") | map(gsub("\u0001"; ","))
    | reduce .[] as $item ([]; if any(.[]; . == $item) then . else . + [$item] end) end'
}

# Prints PREFIX_FILTER as a JSON list, sorted, without the prefixes that another one covers; [""] stands for all keys.
synced_prefixes() {
  items_of "$PREFIX_FILTER" | jq -c 'unique as $all
    | [$all[] | select(. as $one | any($all[]; . as $other | $other != $one and ($one | startswith($other))) | not)]
    | if . == [] then [""] else . end'
}
