# shellcheck shell=bash
# Times and durations.

# In local time, jq 1.6 takes an hour too much from a time in summer (fromdateiso8601), though it is written in UTC.
export TZ=UTC

now() { printf '%(%s)T\n' -1; }

iso() { printf '%(%Y-%m-%dT%H:%M:%SZ)T\n' "$1"; }

# epoch_of TIME: as iso prints it; prints nothing if it is something else.
epoch_of() { jq -n --arg time "$1" '$time | try fromdateiso8601 catch empty'; }

# Prints the seconds that a duration such as 15m has.
seconds_of() {
  local -A units=([s]=1 [m]=60 [h]=3600 [d]=86400)
  [[ $1 =~ ^([1-9][0-9]{0,5})([smhd])$ ]] || return 1
  printf '%d\n' $((BASH_REMATCH[1] * units[${BASH_REMATCH[2]}]))
}

# For jq: seconds since the epoch of a time as either generation of the CLI prints it (a number, or ISO 8601 with "Z"
# or with the offset of this machine), or null.
jq_epoch() {
  cat <<'JQ'
def epoch:
  if type != "string" then .
  else capture("^(?<time>[0-9-]+T[0-9:]+)(?<part>[.][0-9]+)?(?<zone>Z|[+-][0-9]{2}:?[0-9]{2})$")
    | (.zone | if . == "Z" then 0 else (sub(":"; "") | (.[1:3] | tonumber) * 3600 + (.[3:5] | tonumber) * 60) as $off
        | if startswith("-") then -$off else $off end end) as $offset
    | ((.time + "Z") | fromdateiso8601) + ("0" + (.part // "") | tonumber) - $offset end;
JQ
}
