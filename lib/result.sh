# shellcheck shell=bash
# How the results of sync.sh look on a terminal: their colours.

readonly GREEN=32 AMBER=33 RED=31

# paint COLOUR TEXT: a line of a result, in colour if a terminal shows it and NO_COLOR is empty (https://no-color.org).
paint() {
  if [[ -t 1 && -z ${NO_COLOR:-} ]]; then printf '\e[%dm%s\e[0m\n' "$1" "$2"; else printf '%s\n' "$2"; fi
}
