#!/usr/bin/env bash
# usage: ./sync.sh [--local] VERB [options]
#        ./sync.sh help [VERB], --help or -h, also after a verb
#        ./sync.sh --version
#
# The operator's verbs; each is a file of lib/verbs/, whose head is its help.
#
#   --local    talk to the cloud that ./deploy.sh --local started on this machine
#   --version  print the release of this checkout
#
# REGION and APP_NAME say which deployment; it knows its buckets itself. Wrong
# usage, such as another bucket than is deployed, ends with exit status 2.

# shellcheck source=deploy.sh
source "$(dirname "${BASH_SOURCE[0]}")/deploy.sh"
# shellcheck source=lib/result.sh
source "$PROJECT_DIR/lib/result.sh"
# shellcheck source=lib/log_reader.sh
source "$PROJECT_DIR/lib/log_reader.sh"

# verb_NAME of lib/verbs/NAME.sh runs it.
readonly VERBS=(status logs explain reconcile wait redrive pause resume verify cost)

# What DRY_RUN=true makes of a verb that writes.
readonly -A DRY_OPTIONS=([reconcile]=--dry-run [redrive]=--list)

# Fails unless one of these verbs is among those that source_verbs was called for.
is_for() {
  local verb
  for verb in "$@"; do
    [[ $WANTED_VERBS != *" $verb "* ]] || return 0
  done
  return 1
}

# What these verbs need of lib/ beside what every verb needs.
source_parts() {
  # shellcheck source=lib/one_task.sh
  ! is_for reconcile wait cost || source "$PROJECT_DIR/lib/one_task.sh"
  # shellcheck source=lib/dead_letters.sh
  ! is_for wait redrive explain || source "$PROJECT_DIR/lib/dead_letters.sh"
  # shellcheck source=lib/checks.sh
  ! is_for status verify || source "$PROJECT_DIR/lib/checks.sh"
  # shellcheck source=lib/status_parts.sh
  ! is_for status cost || source "$PROJECT_DIR/lib/status_parts.sh"
  # shellcheck source=lib/estimate.sh
  ! is_for cost || source "$PROJECT_DIR/lib/estimate.sh"
  # shellcheck source=lib/reads.sh
  ! is_for cost || source "$PROJECT_DIR/lib/reads.sh"
  # shellcheck source=lib/verify/cases.sh
  ! is_for verify || source "$PROJECT_DIR/lib/verify/cases.sh"
  # shellcheck source=lib/verify/watch.sh
  ! is_for verify || source "$PROJECT_DIR/lib/verify/watch.sh"
  # shellcheck source=lib/verify/chain.sh
  ! is_for verify || source "$PROJECT_DIR/lib/verify/chain.sh"
  # shellcheck source=lib/verify/table.sh
  ! is_for verify || source "$PROJECT_DIR/lib/verify/table.sh"
  # shellcheck source=lib/verify/bench.sh
  ! is_for verify || source "$PROJECT_DIR/lib/verify/bench.sh"
}

# source_verbs VERB...: the files of these verbs, and what they need.
source_verbs() {
  local WANTED_VERBS=" $* "
  source_parts
  # shellcheck source=lib/verbs/status.sh
  ! is_for status || source "$PROJECT_DIR/lib/verbs/status.sh"
  # shellcheck source=lib/verbs/logs.sh
  ! is_for logs || source "$PROJECT_DIR/lib/verbs/logs.sh"
  # shellcheck source=lib/verbs/explain.sh
  ! is_for explain || source "$PROJECT_DIR/lib/verbs/explain.sh"
  # shellcheck source=lib/verbs/reconcile.sh
  ! is_for reconcile || source "$PROJECT_DIR/lib/verbs/reconcile.sh"
  # shellcheck source=lib/verbs/wait.sh
  ! is_for wait || source "$PROJECT_DIR/lib/verbs/wait.sh"
  # shellcheck source=lib/verbs/redrive.sh
  ! is_for redrive || source "$PROJECT_DIR/lib/verbs/redrive.sh"
  # shellcheck source=lib/verbs/pause.sh
  ! is_for pause verify || source "$PROJECT_DIR/lib/verbs/pause.sh"
  # shellcheck source=lib/verbs/resume.sh
  ! is_for resume verify || source "$PROJECT_DIR/lib/verbs/resume.sh"
  # shellcheck source=lib/verbs/cost.sh
  ! is_for cost || source "$PROJECT_DIR/lib/verbs/cost.sh"
  # shellcheck source=lib/verbs/verify.sh
  ! is_for verify || source "$PROJECT_DIR/lib/verbs/verify.sh"
}

# The help of a verb says in its first sentence, which is a line, what the verb is for.
print_verbs() {
  local verb
  printf '\n'
  for verb in "${VERBS[@]}"; do
    printf '  %-10s %s\n' "$verb" "$(print_help "$PROJECT_DIR/lib/verbs/$verb.sh" | sed -n '/^$/{n;p;q;}')"
  done
}

use_local_cloud() {
  # shellcheck source=local/local.sh
  source "$PROJECT_DIR/local/local.sh"
  VIA=" --local"
  cloud_is_up || die "no local cloud is up: start it with ./deploy.sh --local"
  choose_settings
  use_cloud
  PATH="$LOCAL_DIR/bin:$PATH"
}

is_verb() { [[ $1 != *" "* && " ${VERBS[*]} " == *" $1 "* ]]; }

# help_on VERB, or on all of them without one.
help_on() {
  if [[ -z $1 ]]; then
    print_help "$PROJECT_DIR/sync.sh"
    print_verbs
  else
    print_help "$PROJECT_DIR/lib/verbs/$1.sh"
  fi
}

main() {
  local word verb="" words=() local=false help=false
  while (($#)); do
    word=$1
    case "$word" in
      --) words+=("$@") && break ;; # what follows is no option, whatever it looks like
      --local) local=true ;;
      -h | --help) help=true ;;
      --version)
        print_version
        return
        ;;
      *) if [[ -z $verb && $word != -* ]]; then verb=$word; else words+=("$word"); fi ;;
    esac
    shift
  done
  if [[ $verb == help ]]; then help=true verb=${words[0]:-}; fi
  [[ -z $verb ]] || is_verb "$verb" || usage "unknown verb $verb"
  if [[ $help == true ]]; then
    help_on "$verb"
    return
  fi
  [[ -n $verb ]] || usage "name a verb"
  [[ $local == false ]] || use_local_cloud
  declare -F "verb_$verb" >/dev/null || source_verbs "$verb" # a script that sources this one may have them already
  if [[ $DRY_RUN == true && -n ${DRY_OPTIONS[$verb]:-} ]]; then words+=("${DRY_OPTIONS[$verb]}"); fi
  "verb_$verb" ${words[@]+"${words[@]}"}
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
