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

# Also through a symbolic link.
script=${BASH_SOURCE[0]}
while [[ -L $script ]]; do
  link=$(readlink "$script")
  [[ $link == /* ]] || link=$(dirname "$script")/$link
  script=$link
done
# shellcheck source=deploy.sh
source "$(dirname "$script")/deploy.sh"

# file_of VERB: prints the file that it is, or nothing.
file_of() {
  local file=$PROJECT_DIR/operate/verbs/$1.py
  [[ ! $1 =~ ^[a-z]+$ || ! -e $file ]] || printf '%s\n' "$file"
}

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
  local verb verbs file help
  if [[ -n $1 ]]; then
    file=$(file_of "$1")
    print_help "$file"
    return
  fi
  print_help "$PROJECT_DIR/sync.sh"
  printf '\n'
  verbs=$(list_verbs)
  for verb in $verbs; do
    file=$(file_of "$verb")
    help=$(print_help "$file" | sed -n '/^$/{n;p;q;}')
    printf '  %-10s %s\n' "$verb" "$help"
  done
}

main() {
  local word verb="" file="" words=() local=false help=false
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
  [[ -z $verb ]] || file=$(file_of "$verb")
  [[ -z $verb || -n $file ]] || usage "unknown verb $verb"
  if [[ $help == true ]]; then
    help_on "$verb"
    return
  fi
  [[ -n $verb ]] || usage "name a verb"
  [[ $local == false ]] || use_local_cloud
  case "$DRY_RUN $verb" in # of verbs that write
    "true reconcile") words+=(--dry-run) ;;
    "true redrive") words+=(--list) ;;
    "false "*) ;;
    *" pause") usage "pause: it stops workers and has no dry run; set DRY_RUN=false" ;;
    *" resume") usage "resume: it lets workers start and has no dry run; set DRY_RUN=false" ;;
    *" verify") usage "verify: it puts and removes objects of its own; set DRY_RUN=false" ;;
  esac
  run_in_python "$verb" ${words[@]+"${words[@]}"}
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
