# shellcheck shell=bash
# How the results of sync.sh look: colours on a terminal, and lines of 80 columns.

readonly GREEN=32 AMBER=33 RED=31

# paint COLOUR TEXT: a line of a result, in colour if a terminal shows it and NO_COLOR is empty (https://no-color.org).
paint() {
  if [[ -t 1 && -z ${NO_COLOR:-} ]]; then printf '\e[%dm%s\e[0m\n' "$1" "$2"; else printf '%s\n' "$2"; fi
}

# For jq: a line in 80 columns. What does not fit goes into further lines, which are indented. A line is broken between
# words; a text in quotes or backticks counts as one, and so does a command of ours, which is to be copied as a whole.
jq_folded() {
  cat <<'JQ'
def folded($indent):
  reduce scan(" *(?:(?:\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`|\\./\\w+\\.sh(?: --local)?(?: [a-z]+)?(?: --[a-z-]+)*)[^ ]*|[^ ]+)")
    as $word ([""]; if (.[-1] | length) < $indent or (.[-1] + $word | length) <= 80 then .[-1] += $word
      else . + [" " * $indent + ($word | sub("^ +"; ""))] end) | .[];
JQ
}
