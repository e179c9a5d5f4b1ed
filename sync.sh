#!/usr/bin/env bash
# The operator's verbs. Each is a file of lib/verbs/, which begins with its help.

# shellcheck source=deploy.sh
source "$(dirname "${BASH_SOURCE[0]}")/deploy.sh"
# shellcheck source=lib/clock.sh
source "$PROJECT_DIR/lib/clock.sh"
# shellcheck source=lib/log_reader.sh
source "$PROJECT_DIR/lib/log_reader.sh"
# shellcheck source=lib/one_task.sh
source "$PROJECT_DIR/lib/one_task.sh"
# shellcheck source=lib/dead_letters.sh
source "$PROJECT_DIR/lib/dead_letters.sh"
# shellcheck source=lib/checks.sh
source "$PROJECT_DIR/lib/checks.sh"
# shellcheck source=lib/status_parts.sh
source "$PROJECT_DIR/lib/status_parts.sh"
# shellcheck source=lib/verbs/status.sh
source "$PROJECT_DIR/lib/verbs/status.sh"
# shellcheck source=lib/verbs/logs.sh
source "$PROJECT_DIR/lib/verbs/logs.sh"
# shellcheck source=lib/verbs/reconcile.sh
source "$PROJECT_DIR/lib/verbs/reconcile.sh"
# shellcheck source=lib/verbs/wait.sh
source "$PROJECT_DIR/lib/verbs/wait.sh"
# shellcheck source=lib/verbs/redrive.sh
source "$PROJECT_DIR/lib/verbs/redrive.sh"
# shellcheck source=lib/verbs/cost.sh
source "$PROJECT_DIR/lib/verbs/cost.sh"
# shellcheck source=lib/verify/cases.sh
source "$PROJECT_DIR/lib/verify/cases.sh"
# shellcheck source=lib/verify/watch.sh
source "$PROJECT_DIR/lib/verify/watch.sh"
# shellcheck source=lib/verify/chain.sh
source "$PROJECT_DIR/lib/verify/chain.sh"
# shellcheck source=lib/verify/table.sh
source "$PROJECT_DIR/lib/verify/table.sh"
# shellcheck source=lib/verbs/verify.sh
source "$PROJECT_DIR/lib/verbs/verify.sh"

# verb_NAME of lib/verbs/NAME.sh runs it.
readonly VERBS=(status logs reconcile wait redrive verify cost)

# What DRY_RUN=true makes of a verb that writes.
readonly -A DRY_OPTIONS=([reconcile]=--dry-run [redrive]=--list)

print_help() {
  cat <<'HELP'
usage: ./sync.sh [--local] VERB [options]     (./sync.sh VERB --help)

  status     one word (idle, working, behind, failing), then what it is made of
  logs       the log of the workers or of the starter
  reconcile  compare both buckets and put the keys that differ on the queue: backfill, audit, repair
  wait       until all that the source holds now under a prefix is in the destination
  redrive    show what is in the dead-letter queue, and have it tried again
  verify     the acceptance run: objects of its own through the whole chain, and what broke if it did
  cost       what this deployment costs in a month, by its own figures, and what each setting would save

  --local    talk to the cloud that ./deploy.sh --local started on this machine

It needs the settings that deploy.sh ran with: REGION, APP_NAME, SRC_BUCKET, DST_BUCKET, and the owners of buckets of
other accounts (SRC_BUCKET_OWNER, DST_BUCKET_OWNER).
HELP
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

main() {
  if [[ ${1:-} == --local ]]; then
    use_local_cloud
    shift
  fi
  case "${1:-}" in
    --help) print_help ;;
    '') usage "name a verb" ;;
    *)
      [[ " ${VERBS[*]} " == *" $1 "* ]] || usage "unknown verb $1"
      if [[ $DRY_RUN == true && -n ${DRY_OPTIONS[$1]:-} ]]; then set -- "$@" "${DRY_OPTIONS[$1]}"; fi
      "verb_$1" "${@:2}"
      ;;
  esac
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
