#!/usr/bin/env bash
# usage: ./sync.sh [--local] VERB [options]
#        ./sync.sh help [VERB], --help or -h, also after a verb
#        ./sync.sh --version
#
# The operator's verbs; each is a file of operate/verbs/, whose docstring is its
# help.
#
#   --local    talk to the cloud that ./deploy.sh --local started on this machine
#   --version  print the release of this checkout
#
# REGION and APP_NAME say which deployment; it knows its buckets itself. Wrong
# usage, such as another bucket than is deployed, ends with exit status 2.

set -euo pipefail

# Also through a symbolic link; readlink has no -f on macOS.
script=${BASH_SOURCE[0]}
while [[ -L $script ]]; do
  link=$(readlink "$script")
  [[ $link == /* ]] || link=$(dirname "$script")/$link
  script=$link
done
[[ $script == */* ]] || script=./$script
PROJECT_DIR=$(CDPATH="" cd "${script%/*}/" && pwd)

VERB="" WORDS=() ASKED="" IS_LOCAL=false # what is typed; ASKED: help, version, or nothing

read_words() {
  while (($#)); do
    case "$1" in
      --) WORDS+=("$@") && break ;; # what follows is no option, whatever it looks like
      --local) IS_LOCAL=true ;;
      -h | --help) ASKED=help ;;
      --version)
        ASKED=version
        return
        ;;
      *) if [[ -z $VERB && $1 != -* ]]; then VERB=$1; else WORDS+=("$1"); fi ;;
    esac
    shift
  done
  if [[ $VERB == help ]]; then ASKED=help VERB=${WORDS[0]:-}; fi
}

is_verb() { [[ $1 =~ ^[a-z]+$ && -e $PROJECT_DIR/operate/verbs/$1.py ]]; }

# The verb takes the place of this process, so that a signal reaches it. This returns if there is no Python that it runs
# on. An isolated Python goes by none of the user's modules and variables, and by no package (-S); it writes no
# __pycache__, and UTF-8 in any locale. Times are in UTC, as in lib/run.sh.
run_verb() {
  local version via=""
  version=$(python3 --version 2>&1) || return 0
  [[ $version =~ " 3."([0-9]+) ]] && ((BASH_REMATCH[1] >= 9)) || return 0
  [[ $IS_LOCAL == false ]] || via=" --local"
  TZ=UTC exec python3 -I -S -B -X utf8 "$PROJECT_DIR/operate/__main__.py" "$BASH" "$PATH" "$0" "$via" \
    "$VERB" ${WORDS[@]+"${WORDS[@]}"}
}

# Standard error that was closed (2>&-): nobody wants messages, which is no error. Bash has read the script through it.
if [[ ! -e /dev/fd/2 || /dev/fd/2 -ef $0 ]]; then exec 2>/dev/null; fi

# A verb that is to run needs nothing of what follows: it asks the scripts itself (operate/scripts.py).
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  read_words "$@"
  if [[ -z $ASKED && $IS_LOCAL == false ]] && is_verb "$VERB"; then run_verb; fi
fi

# shellcheck source=deploy.sh
source "$PROJECT_DIR/deploy.sh"

list_verbs() {
  local file
  for file in "$PROJECT_DIR"/operate/verbs/[a-z]*.py; do
    file=${file##*/}
    printf '%s\n' "${file%.py}"
  done | LC_ALL=C sort
}

use_local_cloud() {
  # shellcheck source=local/local.sh
  source "$PROJECT_DIR/local/local.sh"
  cloud_is_up || die "no local cloud is up: start it with ./deploy.sh --local"
  choose_settings
  use_cloud
  PATH="$LOCAL_DIR/bin:$PATH"
}

# help_on VERB, or on all of them without one. The first sentence of a verb's help, which is a line, says what it is for.
help_on() {
  local verb verbs help
  if [[ -n $1 ]]; then
    print_help "$PROJECT_DIR/operate/verbs/$1.py"
    return
  fi
  print_help "$PROJECT_DIR/sync.sh"
  printf '\n'
  verbs=$(list_verbs)
  for verb in $verbs; do
    help=$(print_help "$PROJECT_DIR/operate/verbs/$verb.py" | sed -n '/^$/{n;p;q;}')
    printf '  %-10s %s\n' "$verb" "$help"
  done
}

# Says why run_verb returned.
refuse_python() {
  begin_checks
  check_tool python3 "install Python 3.9 or newer"
  ((${#PROBLEMS[@]})) || problem "$VERB needs Python 3.9 or newer as python3, which is older or does not start (python3" \
    "--version says \"$(python3 --version 2>&1)\"): install Python 3.9 or newer, and put it into your PATH as python3"
  stop_on_problems
}

main() {
  if [[ $ASKED == version ]]; then
    print_version
    return
  fi
  [[ -z $VERB ]] || is_verb "$VERB" || usage "unknown verb $VERB"
  if [[ $ASKED == help ]]; then
    help_on "$VERB"
    return
  fi
  [[ -n $VERB ]] || usage "name a verb"
  if [[ $IS_LOCAL == true ]]; then
    use_local_cloud
    run_verb
  fi
  refuse_python
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main
