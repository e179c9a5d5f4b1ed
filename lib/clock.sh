# shellcheck shell=bash
# Times and durations.

now() { printf '%(%s)T\n' -1; }

iso() { TZ=UTC printf '%(%Y-%m-%dT%H:%M:%SZ)T\n' "$1"; }

# Prints the seconds that a duration such as 15m has.
seconds_of() {
  local -A units=([s]=1 [m]=60 [h]=3600 [d]=86400)
  [[ $1 =~ ^([1-9][0-9]{0,5})([smhd])$ ]] || return 1
  printf '%d\n' $((BASH_REMATCH[1] * units[${BASH_REMATCH[2]}]))
}
