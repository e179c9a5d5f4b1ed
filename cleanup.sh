#!/usr/bin/env bash
# usage: ./cleanup.sh [--yes] [--dry-run | --local]
#        ./cleanup.sh --help, -h or help
#        ./cleanup.sh --version
#
# Shows what deploy.sh created, asks, and removes exactly that. Buckets and their
# objects, notifications, policies and endpoints of others, and the account's
# service-linked role for ECS stay.
#
#   --yes      do not ask
#   --dry-run  show it and remove nothing
#   --local    end what ./deploy.sh --local started on this machine
#   --version  print the release of this checkout
#
# REGION and APP_NAME say which deployment; it knows its buckets itself. Wrong
# usage, like a wrong setting or another bucket, ends with exit status 2.

# Also through a symbolic link.
script=${BASH_SOURCE[0]}
while [[ -L $script ]]; do
  link=$(readlink "$script")
  [[ $link == /* ]] || link=$(dirname "$script")/$link
  script=$link
done
# shellcheck source=deploy.sh
source "$(dirname "$script")/deploy.sh"

ASSUME_YES=false

# In the order of removal: nothing new arrives, nothing new is started, what runs is ended, then what it used goes.
# Alarms go before the rule, as a starter that does not run is one, and the rest takes minutes. The task definition is the
# last, as the next run learns from it which buckets there are (lib/record.sh).
# Each kind has two functions in lib/resources/: list_KIND prints what is there, one name per line, with a remark after
# a space; remove_KIND NAME removes it.
readonly KINDS=(
  notification event_switch event_rule alarm rule function cluster vpc_endpoint security_group repository queue
  metric_filter log_group role bucket_policy bucket_lifecycle request_metrics topic dashboard task_definition
)

# --- what is there, and its removal -----------------------------------------------------------------------------------

declare -A LEFT_KINDS # of which something could not be read or removed

# attempt KIND FILE COMMAND...: as run_apart, and counts a command that fails. The rest goes on.
attempt() {
  run_apart "${@:2}"
  ! has_failed "$2" || FAILURES=$((FAILURES + 1)) LEFT_KINDS[$1]=1
}

# Prints a line "KIND NAME REMARK" for each resource. What cannot be read stays.
list_all() {
  local kind listing=$TEMP_DIR/listing
  for kind in "${KINDS[@]}"; do
    RESOURCE=${kind//_/ }
    attempt "$kind" "$listing" "list_$kind"
    sed "s/^/$kind /" "$listing"
    ! has_failed "$listing" || say "      stays, if there is any: ${kind//_/ }, because it could not be read"
  done
}

# why_it_stays KIND: prints why one of this kind has to stay for now, or nothing.
why_it_stays() {
  case "$1" in
    event_rule) [[ ! -v LEFT_KINDS[event_switch] ]] || printf 'its tag says whether deploy.sh turned on the switch, which stays\n' ;;
    queue)
      [[ ! -v LEFT_KINDS[notification] ]] || printf 'a notification of the bucket may go to it, and %s\n' \
        "S3 refuses other changes of the notifications while one goes to a queue that is gone"
      ;;
    task_definition)
      { ((FAILURES == 0)) && [[ ! -e $TEMP_DIR/stays ]]; } || printf 'a next run needs it to remove the rest\n'
      ;;
  esac
}

# print_all ROW...
print_all() {
  local row kind name would="to remove:"
  [[ $DRY_RUN == false ]] || would="would remove"
  printf 'In account %s, Region %s:\n' "$ACCOUNT" "$REGION"
  for row in "$@"; do
    read -r kind name <<<"$row"
    printf '  %s %s %s\n' "$would" "${kind//_/ }" "$name"
  done
  if [[ -v RECORDED[VERSION] ]]; then printf 'To deploy the same again:\n  %s\n' "$(deploy_command)"; fi
}

# remove_all ROW...
remove_all() {
  local row kind name step=0 result why
  for row in "$@"; do
    read -r kind name _ <<<"$row"
    step=$((step + 1))
    RESOURCE="${kind//_/ } $name"
    why=$(why_it_stays "$kind")
    if [[ -n $why ]]; then
      result="NOT removed, because $why"
    else
      attempt "$kind" "$TEMP_DIR/answer" "remove_$kind" "$name"
      result=removed
      ! has_failed "$TEMP_DIR/answer" || result="NOT removed, the error is above"
    fi
    printf '[%d/%d] %s: %s\n' "$step" "$#" "$RESOURCE" "$result"
  done
}

# Shows, asks, removes. A subshell, so that a caller keeps its own variables and traps. Status 1 if anything failed.
cleanup_all() (
  local rows
  FAILURES=0 LEFT_KINDS=()
  start_verb
  [[ $KNOWS_DEPLOYMENT == true ]] || FAILURES=1 # the error is above, and the record stays for the next run
  check_previous_source
  stop_on_problems
  say_while "cleanup.sh: looking at what exists" list_all >"$TEMP_DIR/rows"
  mapfile -t rows <"$TEMP_DIR/rows"
  if ((${#rows[@]})); then
    print_all "${rows[@]}"
    if [[ $DRY_RUN == false ]]; then
      [[ $ASSUME_YES == true ]] \
        || need_yes "Remove all of this, including the messages that are still queued?" "nothing was removed"
      remove_all "${rows[@]}"
      [[ " ${rows[*]} " != *" queue "* ]] \
        || say "SQS keeps a queue's name for 60 s: wait that long before you deploy again"
    fi
  elif ((FAILURES == 0)) && [[ ! -e $TEMP_DIR/stays ]]; then
    printf 'nothing of %s is left in account %s, Region %s\n' "$APP_NAME" "$ACCOUNT" "$REGION"
  fi
  ((FAILURES == 0)) || die "$FAILURES errors, see above: fix them and run this again"
  [[ ! -e $TEMP_DIR/stays ]] || die "some of what has a name of $APP_NAME stays, see above: if it is of this deployment," \
    "give it the tag app=$APP_NAME and run this again, or remove it yourself"
)

main() {
  local option local=false
  for option in "$@"; do
    case "$option" in
      --yes) ASSUME_YES=true ;;
      --dry-run) DRY_RUN=true ;;
      -h | --help | help)
        print_help "$PROJECT_DIR/cleanup.sh"
        return
        ;;
      --version)
        print_version
        return
        ;;
      --local) local=true ;;
      *) usage "unknown option: $option" ;;
    esac
  done
  if [[ $local == true ]]; then
    [[ $DRY_RUN == false ]] || usage "--local has no dry run: leave out --dry-run, and unset DRY_RUN or set it to false"
    # shellcheck source=local/local.sh
    source "$PROJECT_DIR/local/local.sh"
    local_cleanup
    rm -f "$LOCAL_LOG"
  else
    cleanup_all
  fi
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
