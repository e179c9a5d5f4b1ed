# shellcheck shell=bash
# What the scripts print for people: the help, and on stderr progress, the error of a failed run, all problems at once.

VIA=""                  # what a command that a message names needs for the local cloud: " --local"
DETAILED_EXITCODE=false # true: a dry run of deploy.sh ends with 2 if something would be changed, and with 1 if it fails

# For every program of jq that begins with it: how text is written for people.
JQ_TEXT=$(
  cat <<'JQ'
# The text on one line. What begins a line, and what a terminal or a viewer acts on instead of showing it, is escaped as
# JSON does, and as the worker does in its lines (UNSEEN in mirror/model/log_lines.py), but for tabs. A text that is JSON
# stays so.
def hex: [(. / 4096 | floor), (. / 256 | floor), (. / 16 | floor), .]
  | map("0123456789abcdef"[. % 16:. % 16 + 1]) | add;
def visible: gsub("(?<sign>[\\x{0}-\\x{8}\\x{a}-\\x{1f}\\x{7f}-\\x{9f}\\x{2028}-\\x{202e}\\x{2066}-\\x{2069}])";
  "\\u\(.sign | explode[0] | hex)");

# A line in 80 columns, followed by indented lines for the rest. A line is broken between words; a text in quotes or
# backticks counts as one word, and so does a command of ours, so that it can be copied as a whole.
def folded($indent):
  reduce scan(" *(?:(?:\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`|\\./\\w+\\.sh(?: --local)?(?: [a-z]+)?(?: --[a-z-]+)*)[^ ]*|[^ ]+)")
    as $word ([""]; if (.[-1] | length) < $indent or (.[-1] + $word | length) <= 80 then .[-1] += $word
      else . + [" " * $indent + ($word | sub("^ +"; ""))] end) | .[];
JQ
)
readonly JQ_TEXT

# Reads text for a person, prints it line by line as a terminal may show it.
visible_lines() { jq -Rr "$JQ_TEXT visible"; }

# is_terminal FD: whether that file descriptor is a terminal that lines can be erased and coloured on. Emacs and editors
# have one that cannot, which is called dumb.
is_terminal() { [[ -t $1 && ${TERM:-} != dumb ]]; }

# On a terminal in 80 columns. Elsewhere each line of a message stays one, for logs and for grep.
say() {
  local message="$*"
  end_progress >&2
  if is_terminal 2 && ((${#message} > 80)) && type -P jq >/dev/null; then
    jq -Rr "$JQ_TEXT"'(match("^ *(- )?").length) as $indent | folded(if $indent == 0 then 2 else $indent end)' \
      <<<"$message" >&2
  else
    printf '%s\n' "$message" >&2
  fi
}

die() {
  say "${0##*/}: $*"
  exit 1
}

# --- progress --------------------------------------------------------------------------------------------------------
#
# Long work is one line of a terminal, which the next line takes the place of. Elsewhere, such as in the log of a CI
# job or in the mail of cron, it is nothing.

SHOWS_PROGRESS=false   # whether the last line is such a line
TICKER="" TICKED_BY="" # the process that prints such lines during say_while, and the one that it does so for

# show_progress TEXT: on stdout, which is a terminal. The terminal cuts it off at its width (?7l: no wrapping), because
# only one line can be replaced.
show_progress() {
  printf '\r\e[K\e[?7l%s\e[?7h' "$1"
  SHOWS_PROGRESS=true
}

# Erases it, so that another line may follow.
end_progress() {
  [[ -z $TICKER && $SHOWS_PROGRESS == false ]] || printf '\r\e[K'
  SHOWS_PROGRESS=false
}

# say_for_now MESSAGE: what the next message makes obsolete. Elsewhere than on a terminal it is a message like others.
say_for_now() { if is_terminal 2; then show_progress "$*" >&2; else say "$*"; fi; }

# tick WHAT: shows that it goes on, until its input ends.
tick() {
  local began=$SECONDS text=$1
  while :; do
    show_progress "$text" >&2
    if read -rt 1 || (($? <= 128)); then break; fi # more than 128: nothing came in time
    text="$1: $((SECONDS - began)) s"
  done
  end_progress >&2
}

# say_while WHAT COMMAND...: runs the command, and shows a terminal for how long. The ticking ends with the pipe that it
# reads from, so it also ends when this process is killed.
say_while() {
  local ticking
  if ! is_terminal 2; then
    "${@:2}"
    return
  fi
  exec {ticking}> >(tick "$1")
  TICKER=$! TICKED_BY=$BASHPID
  "${@:2}" {ticking}>&-
  exec {ticking}>&-
  wait "$TICKER" # it must not erase what comes next
  TICKER=""
}

# For a trap that runs during say_while and waits for jobs: Bash would also wait for the ticking, and that for the pipe. A
# run that is a part of another one, in a subshell, leaves it alone.
stop_ticking() {
  [[ -n $TICKER && $TICKED_BY == "$BASHPID" ]] || return 0
  if kill -0 "$TICKER" 2>/dev/null; then kill "$TICKER"; fi
  end_progress >&2
  TICKER=""
}

# print_help FILE: the comment at the head of a script, or of a verb, is its help; in Python the docstring.
print_help() {
  if [[ $1 == *.py ]]; then
    sed -n -e '1s/^r\{0,1\}"""//' -e '/^"""$/q' -e p "$1"
  else
    sed -n '/^# usage: /,/^$/s/^# \{0,1\}//p' "$1"
  fi
}

# How a run ends because of wrong usage or settings: with 2, unless that means changes.
exit_with_problems() {
  [[ $DETAILED_EXITCODE == false ]] || exit 1
  exit 2
}

# Wrong usage of a script.
usage() {
  say "${0##*/}: $* (use --help)"
  exit_with_problems
}

# need_value OPTION COUNT: fails unless a value follows.
need_value() { (($2 > 1)) || usage "$1 needs a value"; }

# need_yes QUESTION REFUSAL: ends the run with the second one unless a person says yes. Ctrl-D, too, is an answer.
need_yes() {
  local answer
  [[ -t 0 ]] || die "$2: there is no terminal to ask on; use --yes"
  read -r -p "$1 [y/N] " answer || printf '\n' >&2
  [[ $answer == [yY]* ]] || die "$2"
}

# Every check runs before the first write; what it finds is collected here, so that one run reports all of it.
begin_checks() { PROBLEMS=(); }

problem() { PROBLEMS+=("$*"); }

stop_on_problems() {
  local found
  ((${#PROBLEMS[@]})) || return 0
  say "${0##*/}: nothing was changed, because"
  for found in "${PROBLEMS[@]}"; do say "- $found"; done
  exit_with_problems
}
