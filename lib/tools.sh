# shellcheck shell=bash
# The tools on this machine, and the account that they reach.

# is_at_least VERSION OLDEST
is_at_least() {
  local version oldest part
  IFS=. read -ra version <<<"$1"
  IFS=. read -ra oldest <<<"$2"
  for part in 0 1 2; do
    ((10#${version[part]:-0} == 10#${oldest[part]:-0})) || break
  done
  ((10#${version[part]:-0} >= 10#${oldest[part]:-0}))
}

# newer_cli_for VERSION OLDEST...: prints the oldest AWS CLI of its generation that will do, if this version is older.
newer_cli_for() {
  local oldest
  for oldest in "${@:2}"; do
    [[ ${1%%.*} != "${oldest%%.*}" ]] || is_at_least "$1" "$oldest" || printf '%s\n' "$oldest"
  done
}

# "command -v" would find the function aws.
check_tool() { type -P "$1" >/dev/null || problem "$1 is not installed: $2"; }

# IN came with jq 1.6. The version that jq prints is no sign: one of Amazon Linux 2023 is "jq-".
has_jq() { jq -ne '1 | IN(1)' >/dev/null 2>&1; }

check_jq() {
  check_tool jq "install the package jq"
  ! type -P jq >/dev/null || has_jq || problem "jq is older than 1.6 (jq --version says \"$(jq --version 2>&1)\"):" \
    "Amazon Linux 2 has no newer one, but Amazon Linux 2023, CloudShell, Debian 11, Ubuntu 20.04 and Homebrew have;" \
    "elsewhere put the program from https://jqlang.org/download/ into your PATH, as jq"
}

PYTHON_RUNS=false # whether this run has started a newer one already

# All that runs here begins with this line, which came with Python 3.7 (sync.sh asks for 3.9). It is also no use if
# it cannot start, as Apple's is without its developer tools.
has_python() {
  [[ $PYTHON_RUNS == true ]] || python3 -S -c 'from __future__ import annotations' >/dev/null 2>&1 || return
  PYTHON_RUNS=true
}

check_python() {
  check_tool python3 "install Python 3.7 or newer (it packs starter.py)"
  ! type -P python3 >/dev/null || has_python || problem "python3 is older than Python 3.7, or does not start" \
    "(python3 --version says \"$(python3 --version 2>&1)\"): install Python 3.7 or newer, and put it into your PATH as" \
    "python3"
}

# run_python FILE ARGUMENT...: one of our programs, which need nothing that is installed (-S: it starts faster).
run_python() { PYTHONPATH=$PROJECT_DIR python3 -S -B "$PROJECT_DIR/$1" "${@:2}"; }

CLI_VERSION="" # what aws --version said, once it was asked

check_aws_cli() {
  local version newer
  if ! type -P aws >/dev/null; then
    problem "the AWS CLI (aws) is not installed: install version 1 or 2"
    return
  fi
  version=$CLI_VERSION
  if { [[ -z $version ]] && ! version=$(AWS_CLI_AUTO_PROMPT=off command aws --version 2>&1); } \
    || [[ ! $version =~ aws-cli/([0-9]+\.[0-9.]+) ]]; then
    problem "aws --version says \"$version\", which is not a working AWS CLI"
    return
  fi
  CLI_VERSION=$version
  version=${BASH_REMATCH[1]}
  newer=$(newer_cli_for "$version" 1.31.2 2.14.2)
  [[ -z $newer ]] || problem "AWS CLI $version does not know directory buckets: install $newer or newer"
}

check_tools() {
  check_aws_cli
  check_jq
  check_python
}

# account_problem ERROR: why the account is not known, by rows of "what either generation of the CLI says|what is wrong,
# and what to do", of which the first that fits counts.
account_problem() {
  local row rows=(
    'to proxy URL|the proxy does not respond: check HTTPS_PROXY and NO_PROXY'
    'SSL validation failed|the certificate of AWS is not trusted: if a proxy reads the traffic, set AWS_CA_BUNDLE to its certificate'
    'endpoint URL|AWS does not respond: check the network and REGION, and set HTTPS_PROXY if AWS is behind a proxy'
    'Signature expired|the clock of this machine is wrong, so that AWS refuses its signatures: set the clock'
    '[Ee]xpired|SSO [Tt]oken|the AWS credentials have expired: sign in again, for example with aws sso login'
    'InvalidClientTokenId|SignatureDoesNotMatch|AWS does not know these credentials: run aws configure, or set AWS_PROFILE'
    'credentials|profile|no usable AWS credentials (run aws configure, or set AWS_PROFILE)'
    '|the account of the AWS credentials could not be asked for'
  )
  for row in "${rows[@]}"; do
    [[ ! $1 =~ ${row%|*} ]] || break
  done
  problem "${row##*|}: $1"
}

# check_account [deploys]: leaves the account in ACCOUNT and all ARNs, and the settings of what is deployed there in
# those that this run does not name (learn_settings). The first call of a run goes alone: a profile with mfa_serial asks
# for a code, which AWS takes once, and the calls after it have the session.
check_account() {
  local identity partition account status=0
  ((${#PROBLEMS[@]} == 0)) || return 0 # a tool is missing
  identity=$(aws_or_error sts get-caller-identity) || status=$?
  ((status != 130)) || exit 130
  if ((status)); then
    account_problem "$identity"
    return
  fi
  identity=$(jq -r '"\(.Arn | split(":")[1]) \(.Account)"' <<<"$identity")
  read -r partition account <<<"$identity"
  [[ $partition == aws ]] || problem "the AWS credentials belong to the partition $partition, which has no S3 Express" \
    "One Zone: use those of an account in the partition aws"
  ((${#PROBLEMS[@]} == 0)) || return 0
  set_account "$account"
  learn_settings "$@"
  set_account "$ACCOUNT"
}

# What a verb of sync.sh, and cleanup.sh, begin with once their options are right.
start_verb() {
  # With these, cleanup.sh and sync.sh find a deployment. They accept every name that an older deploy.sh accepted.
  local settings=(REGION SRC_BUCKET APP_NAME SRC_BUCKET_OWNER DST_BUCKET_OWNER)
  start_run
  check_before_calls "${settings[@]}" DST_BUCKET RETRY_PAUSE RETRY_LIMIT
  check_values "${settings[@]}"
  stop_on_problems
  check_tools
  check_account
  stop_on_problems
  check_buckets
  stop_on_problems
}
