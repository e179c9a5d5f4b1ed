# shellcheck shell=bash
# Compares what is wanted with what exists, as JSON.

# same_json ONE TWO
same_json() { printf '%s\n' "${1:-null}" "${2:-null}" | jq -es '.[0] == .[1]' >/dev/null; }

# Prints the members of object WANT that differ in HAVE; members that only HAVE has (defaults of AWS) do not count, and a
# list that is missing is an empty one.
differing() {
  printf '%s\n' "$1" "${2:-null}" | jq -rs '.[0] as $want | .[1] as $have |
    def same($have): . as $want |
      if type == "object" then ($have | type) == "object" and all(keys[]; . as $k | $want[$k] | same($have[$k]))
      elif type == "array" then ($have // []) as $have | ($have | type) == "array" and length == ($have | length)
        and all(range(length); . as $i | $want[$i] | same($have[$i]))
      else . == $have end;
    [$want | keys[] | select(. as $k | $want[$k] | same($have[$k]) | not)] | join(", ")'
}

# differences WANT HAVE ALL [WITHIN]: prints a JSON list of {path, from, to}, one for each value that differs; with ALL
# true also those that only HAVE has. Members of lists that have a name or an id are compared by that.
differences() {
  printf '%s\n' "${1:-null}" "${2:-null}" | jq -cs --argjson all "$3" --arg within "${4:-}" '
    def id: if type == "object" then .name // .Sid // .ID // .Id else null end;
    def has_ids: type == "array" and all(.[]; id | type == "string") and (map(id) | length == (unique | length));
    def keyed: if has_ids and . != []
      then map({key: id, value: (if keys == ["name", "value"] then .value else . end)}) | from_entries else . end;
    def compared($other): keyed as $want | ($other | keyed) as $have | [$want, $have | type] as $types
      | if $want == $have then empty
        elif $types == ["object", "object"] then
          (($want | keys) + if $all then $have | keys else [] end | unique)[] as $key
          | $want[$key] | compared($have[$key]) | .path = [$key] + .path
        elif $types == ["array", "array"] and ($want | length) == ($have | length) then
          range($want | length) as $n | $want[$n] | compared($have[$n]) | .path = [$n] + .path
        else {path: [], from: $have, to: $want} end;
    .[1] as $have
    | [.[0] | compared($have) | .path |= ([$within | select(. != "")] + map(tostring) | join("."))]'
}

# Prints the settings named by the arguments as a JSON object.
settings_json() {
  local name pairs=()
  for name in "$@"; do pairs+=("$name=${!name}"); done
  printf '%s\n' "${pairs[@]}" | jq -Rn '[inputs | capture("^(?<key>[^=]*)=(?<value>.*)$")] | from_entries'
}
