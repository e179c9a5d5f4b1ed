# shellcheck shell=bash
# What a person is told on stderr: progress, the end of a run that failed, all problems at once.

say() { printf '%s\n' "$*" >&2; }

die() {
  say "${0##*/}: $*"
  exit 1
}

# Wrong usage of a script.
usage() {
  say "${0##*/}: $* (use --help)"
  exit 2
}

# need_value OPTION COUNT: fails unless a value follows.
need_value() { (($2 > 1)) || usage "$1 needs a value"; }

# Every check runs before the first write; what it finds is collected here, so that one run tells all of it.
begin_checks() { PROBLEMS=(); }

problem() { PROBLEMS+=("$*"); }

stop_on_problems() {
  ((${#PROBLEMS[@]})) || return 0
  say "${0##*/}: nothing was changed, because"
  printf -- '- %s\n' "${PROBLEMS[@]}" >&2
  exit 2
}
