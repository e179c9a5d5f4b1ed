#!/usr/bin/env bash
# What tests/run and tests/fast share: installing what is missing, and the checks that need no tests. To be sourced.
set -euo pipefail
shopt -s inherit_errexit

readonly PYTHON=/usr/bin/python3.13
readonly CLI_V1="awscli==1.46.3"
readonly OLDEST_JQ="jq==1.4.1" # the sources of this package hold those of the program jq 1.6
readonly CACHE="$PWD/.cache"
readonly LOG="$CACHE/install.log"
failed=()
begun=() # the processes of what goes on beside the rest

say() { printf '== %s\n' "$*" >&2; }

die() {
  printf 'tests/%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

logged() {
  "$@" >>"$LOG" 2>&1 || {
    tail -n 20 "$LOG" >&2
    die "failed: $* (whole log: $LOG)"
  }
}

# beside COMMAND...: begins it, and goes on; await_all waits for all that was begun so, and ends the run if one has failed.
beside() {
  "$@" &
  begun+=("$!")
}

await_all() {
  local job
  for job in ${begun[@]+"${begun[@]}"}; do wait "$job"; done
  begun=()
}

begin() {
  unset PYTHONDONTWRITEBYTECODE # each of many processes would compile all modules again
  mkdir -p "$CACHE"
  : >"$LOG"
}

# missing_packages PACKAGE...: prints those that are not installed.
missing_packages() {
  local package
  for package in "$@"; do
    dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>>"$LOG" | grep -qx installed \
      || printf '%s\n' "$package"
  done
}

# install_packages PACKAGE...: installs what is missing if it may, else says what to do.
install_packages() {
  command -v apt-get >/dev/null || die "needs a machine with apt-get, to install: $*"
  local missing
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  ((EUID == 0)) || die "install first: sudo apt-get update && sudo apt-get install -y ${missing[*]}"
  say "installing ${missing[*]} (log: $LOG)"
  logged apt-get update
  logged env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}

# ensure_venv DIRECTORY FINGERPRINT WHAT...: made again if the fingerprint differs from the one inside. Each of WHAT is
# installed by a pip of its own: a package, or -rFILE.
ensure_venv() {
  local directory=$1 fingerprint=$2 what
  shift 2
  if [[ -f $directory/fingerprint && $(<"$directory/fingerprint") == "$fingerprint" ]]; then
    return 0
  fi
  say "making $directory (log: $LOG)"
  logged "$PYTHON" -m venv --clear "$directory"
  for what in "$@"; do logged "$directory/bin/pip" install "$what"; done
  printf '%s\n' "$fingerprint" >"$directory/fingerprint"
}

ensure_venvs() {
  local fingerprint
  fingerprint=$(cat requirements.txt tests/requirements.txt | sha256sum)
  beside ensure_venv .venv-cli1 "$CLI_V1" "$CLI_V1"
  ensure_venv .venv "$fingerprint" -rrequirements.txt -rtests/requirements.txt
  export AWS_CLI_V1="$PWD/.venv-cli1/bin/aws"
}

# The stand-ins' venvs, before several processes of pytest want to make the same one.
# ensure_stand_in PACKAGE REQUIREMENTS
ensure_stand_in() {
  logged env PYTHONPATH=tests/scripts .venv/bin/python -c \
    'import account, pathlib, sys; account.python_with(sys.argv[1], pathlib.Path(sys.argv[2]))' "$@"
}

# Builds the program in a folder from the sources that pip has put there.
build_jq() {
  local jobs
  jobs=$(nproc)
  (
    cd "$1"
    tar -xzf jq-*.tar.gz --strip-components 1
    tar -xzf deps/jq-*.tar.gz
    (cd jq-*/ && ./configure --disable-shared --disable-maintainer-mode && make -j "$jobs")
    mkdir bin
    cp jq-*/jq bin
  )
}

# The oldest jq that the scripts are for, for the tests that run with it.
ensure_oldest_jq() {
  local folder="$CACHE/oldest-jq" fingerprint
  fingerprint=$({ printf '%s\n' "$OLDEST_JQ" && declare -f build_jq; } | sha256sum)
  if [[ -f $folder/fingerprint && $(<"$folder/fingerprint") == "$fingerprint" ]]; then
    return 0
  fi
  say "building the oldest jq in $folder (log: $LOG)"
  rm -rf "$folder"
  logged .venv/bin/pip download --no-deps --no-binary :all: --dest "$folder" "$OLDEST_JQ"
  logged build_jq "$folder"
  printf '%s\n' "$fingerprint" >"$folder/fingerprint"
}

check() {
  say "$*"
  "$@" || failed+=("${1##*/}")
}

# As many at a time as there are processors: ShellCheck takes seconds for a long script. The product's scripts are checked
# as one, by a file that sources all of them by name, because ShellCheck follows no loop, and a script alone does not
# show what uses its constants. What has passed as it stands is not checked again.
shellcheck_all() {
  local passed="$CACHE/shellcheck" whole="$CACHE/whole.sh" ours='^(\./|lib/|local/)' fingerprint
  fingerprint=$({ shellcheck --version && cat "$@"; } | sha256sum)
  if [[ -f $passed && $(<"$passed") == "$fingerprint" ]]; then
    return 0
  fi
  printf '%s\n' "$@" | grep -E "$ours" \
    | sed -e '1i #!/usr/bin/env bash' -e 's|.*|# shellcheck source=&\nsource &|' >"$whole"
  printf '%s\0' "$whole" "$@" | grep -zvE "$ours" \
    | xargs -0 -n 1 -P "$(nproc)" shellcheck --external-sources --check-sourced || return
  printf '%s\n' "$fingerprint" >"$passed"
}

run_linters() {
  local scripts
  mapfile -t scripts < <(shfmt --find ./*/ ./*.sh .ci)
  check shellcheck_all "${scripts[@]}"
  check shfmt -d -i 2 -ci -bn "${scripts[@]}"
  check .venv/bin/ruff check .
  check .venv/bin/ruff format --check .
  check .venv/bin/mypy --strict worker.py starter.py mirror launch operate tests/protocol/fakes.py
  check .venv/bin/mypy --strict --python-version 3.10 --follow-imports silent operate
  check .venv/bin/lint-imports --no-logo --cache-dir "$CACHE/imports"
  check .venv/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
  check .venv/bin/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yml
  check .venv/bin/zizmor --offline --quiet .github
}

finish() { ((${#failed[@]} == 0)) || die "failed: ${failed[*]}"; }
