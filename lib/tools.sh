# shellcheck shell=bash
# The tools on this machine, and the account that they reach.

# The oldest AWS CLI of each generation that knows directory buckets.
readonly OLDEST_AWS_CLI=('1 1.31.2' '2 2.14.2')

# is_at_least VERSION OLDEST
is_at_least() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]; }

# "command -v" would find the function aws.
check_tool() { type -P "$1" >/dev/null || problem "$1 is not installed: $2"; }

CLI_VERSION="" # what aws --version said, once it was asked

check_aws_cli() {
  local version row generation oldest
  if ! type -P aws >/dev/null; then
    problem "the AWS CLI (aws) is not installed: install version 1 or 2"
    return
  fi
  version=$CLI_VERSION
  if { [[ -z $version ]] && ! version=$(command aws --version 2>&1); } \
    || [[ ! $version =~ aws-cli/([0-9]+\.[0-9.]+) ]]; then
    problem "aws --version says \"$version\", which is not a working AWS CLI"
    return
  fi
  CLI_VERSION=$version
  version=${BASH_REMATCH[1]}
  for row in "${OLDEST_AWS_CLI[@]}"; do
    read -r generation oldest <<<"$row"
    [[ ${version%%.*} != "$generation" ]] || is_at_least "$version" "$oldest" \
      || problem "AWS CLI $version does not know directory buckets: install $oldest or newer"
  done
}

# Fails if there is none.
check_pip() {
  local said
  said=$(python3 -m pip --version 2>&1) && return
  problem "STARTER_COPIES=true needs pip, and python3 -m pip says \"${said##*$'\n'}\": install pip (the package" \
    "python3-pip, or python3 -m ensurepip), or set STARTER_COPIES=false"
  return 1
}

check_tools() {
  check_aws_cli
  check_tool jq "install the package jq"
  check_tool python3 "install Python 3 (it packs starter.py)"
}

# Leaves the account in ACCOUNT and all ARNs.
check_account() {
  local identity partition
  ((${#PROBLEMS[@]} == 0)) || return 0 # a tool is missing
  if ! identity=$(aws_or_error sts get-caller-identity); then
    problem "no usable AWS credentials (run aws configure, or set AWS_PROFILE): $identity"
    return
  fi
  partition=$(jq -r '.Arn | split(":")[1]' <<<"$identity")
  [[ $partition == aws ]] || problem "the AWS credentials belong to the partition $partition, which has no S3 Express" \
    "One Zone: use those of an account in the partition aws"
  set_account "$(jq -r .Account <<<"$identity")"
}

# What a verb of sync.sh, and cleanup.sh, begin with once their options are right.
start_verb() {
  start_run
  check_before_calls
  check_identity
  stop_on_problems
  check_tools
  check_account
  stop_on_problems
}
