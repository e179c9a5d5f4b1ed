# shellcheck shell=bash
# Comparing what is wanted with what is there, as JSON.

# same_json ONE TWO
same_json() { printf '%s\n' "${1:-null}" "${2:-null}" | jq -es '.[0] == .[1]' >/dev/null; }

# Prints the members of object WANT that differ in HAVE; members that only HAVE has (defaults of AWS) do not count.
differing() {
  printf '%s\n' "$1" "${2:-null}" | jq -rs '.[0] as $want | .[1] as $have |
    def same($have): . as $want |
      if type == "object" then ($have | type) == "object" and all(keys[]; . as $k | $want[$k] | same($have[$k]))
      elif type == "array" then ($have | type) == "array" and length == ($have | length)
        and all(range(length); . as $i | $want[$i] | same($have[$i]))
      else . == $have end;
    [$want | keys[] | select(. as $k | $want[$k] | same($have[$k]) | not)] | join(", ")'
}

# Prints the settings named by the arguments as a JSON object.
settings_json() {
  local name pairs=()
  for name in "$@"; do pairs+=("$name=${!name}"); done
  printf '%s\n' "${pairs[@]}" | jq -Rn '[inputs | capture("^(?<key>[^=]*)=(?<value>.*)$")] | from_entries'
}
