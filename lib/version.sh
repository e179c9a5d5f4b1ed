# shellcheck shell=bash
# The release of this checkout, in mirror/version.py, because the worker reports it as well. 1.3.0-dev is before 1.3.0.

VERSION=$(sed -n 's/^VERSION = "\(.*\)"$/\1/p' "$PROJECT_DIR/mirror/version.py")
readonly VERSION

print_version() { printf 's3-to-s3express-sync %s\n' "$(project_version)"; }

# Prints the release, and the commit of a checkout.
project_version() {
  local commit=""
  if [[ -e $PROJECT_DIR/.git ]] && type -P git >/dev/null; then
    commit=$(git -C "$PROJECT_DIR" rev-parse --short HEAD) || commit="" # it says why, such as that somebody else owns it
  fi
  printf '%s%s\n' "$VERSION" "${commit:+, commit $commit}"
}

# Where this checkout is published, such as https://github.com/OWNER/NAME; without it, mails name pages by their path alone.
readonly REPOSITORY=""
