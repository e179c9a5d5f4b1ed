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

# Also through a symbolic link.
script=${BASH_SOURCE[0]}
while [[ -L $script ]]; do
  link=$(readlink "$script")
  [[ $link == /* ]] || link=$(dirname "$script")/$link
  script=$link
done
# shellcheck source=deploy.sh
source "$(dirname "$script")/deploy.sh"

# verb_NAME of lib/verbs/NAME.sh runs it.
readonly VERBS=(status logs explain reconcile wait redrive pause resume verify cost)

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
  local verb
  if [[ -n $1 ]]; then
    print_help "$PROJECT_DIR/lib/verbs/$1.sh"
    return
  fi
  print_help "$PROJECT_DIR/sync.sh"
  printf '\n'
  for verb in "${VERBS[@]}"; do
    printf '  %-10s %s\n' "$verb" "$(print_help "$PROJECT_DIR/lib/verbs/$verb.sh" | sed -n '/^$/{n;p;q;}')"
  done
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
  [[ -z $verb || ($verb != *" "* && " ${VERBS[*]} " == *" $verb "*) ]] || usage "unknown verb $verb"
  if [[ $help == true ]]; then
    help_on "$verb"
    return
  fi
  [[ -n $verb ]] || usage "name a verb"
  [[ $local == false ]] || use_local_cloud
  case "$DRY_RUN $verb" in # of verbs that write
    "true reconcile") words+=(--dry-run) ;;
    "true redrive") words+=(--list) ;;
  esac
  "verb_$verb" ${words[@]+"${words[@]}"}
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
