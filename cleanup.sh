#!/usr/bin/env bash
# Removes exactly what deploy.sh made. Buckets, objects, other notifications, shared roles and foreign endpoints stay.

# shellcheck source=deploy.sh
source "$(dirname "${BASH_SOURCE[0]}")/deploy.sh"

cleanup_all() { die "not written yet"; }

main() {
  case "${1:-}" in
    --local)
      # shellcheck source=tests/local.sh
      source "$PROJECT_DIR/tests/local.sh"
      local_cleanup
      ;;
    '' | --yes) cleanup_all ;;
    *) die "unknown option: $1 (use --help)" ;;
  esac
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
