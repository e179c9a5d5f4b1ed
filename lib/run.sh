# shellcheck shell=bash
# One run of a script: its own folder, and what it found out or made, kept there. A call of the AWS CLI takes about a
# second, and a function in $(...) cannot set a variable, so answers that are needed again are kept in files.

readonly MOST_AT_ONCE=8 # commands side by side: a call of the AWS CLI takes about 60 MB

# What every run begins with.
start_run() {
  TEMP_DIR=$(mktemp -d)
  JOBS=()
  trap 'outlast_jobs; rm -rf "$TEMP_DIR"' EXIT
  mkdir "$TEMP_DIR/known"
  RESOURCE=""
  begin_checks
  set_names
}

# run_apart FILE COMMAND...: what the command prints goes to the file, and its exit status to FILE.status. An error ends
# the command, and not the run. (Inside of a condition the shell would go on after it.)
run_apart() {
  set +e
  (set -e && "${@:2}") >"$1"
  printf '%s\n' "$?" >"$1.status"
  set -e
}

# has_failed FILE: whether the command of run_apart did.
has_failed() { (($(<"$1.status") != 0)); }

# known_file NAME: the file for what is known under that name.
known_file() { printf '%s\n' "$TEMP_DIR/known/${1//[^A-Za-z0-9._-]/_}"; }

# put_file FILE COMMAND...: the file is there only when all that the command prints is in it; several may run at once.
put_file() {
  local new=$1.$BASHPID
  "${@:2}" >"$new"
  mv "$new" "$1"
}

# keep NAME: reads what is known under that name from now on.
keep() {
  local file
  file=$(known_file "$1")
  put_file "$file" cat
}

is_known() {
  local file
  file=$(known_file "$1")
  [[ -e $file ]]
}

# known_or_ask NAME COMMAND...: prints what is known under that name. What is not known yet is what the command prints;
# a command that fails ends the run.
known_or_ask() {
  local file
  file=$(known_file "$1")
  is_known "$1" || put_file "$file" "${@:2}"
  cat "$file"
}

# known_or_try NAME COMMAND...: the same of a command that may fail: what it prints then is the reason, and this fails in
# the same way each time.
known_or_try() {
  local answer
  if ! is_known "$1" && ! is_known "no $1"; then
    if answer=$("${@:2}"); then keep "$1" <<<"$answer"; else keep "no $1" <<<"$answer"; fi
  fi
  if is_known "$1"; then
    known_or_ask "$1" true
  else
    known_or_ask "no $1" true
    return 1
  fi
}

# --- several commands side by side ---------------------------------------------------------------------------------

# begin_jobs COMMAND NAME...: runs the command for each name, several at the same time; await_jobs waits for them.
begin_jobs() {
  local name
  for name in "${@:2}"; do
    ((${#JOBS[@]} < MOST_AT_ONCE)) || wait "${JOBS[-MOST_AT_ONCE]}" || : # await_jobs asks for its status again
    "$1" "$name" &
    JOBS+=("$!")
  done
}

# await_jobs: waits until all have ended; leaves 0 or not in FAILED.
await_jobs() {
  local job
  FAILED=0
  for job in ${JOBS[@]+"${JOBS[@]}"}; do wait "$job" || FAILED=1; done
  JOBS=()
}

# need_jobs: waits for them; the run ends if one has failed, and not before all have ended.
need_jobs() {
  await_jobs
  ((FAILED == 0)) || exit 1
}

# Waits for whatever still runs: it may write into the folder of the run.
outlast_jobs() {
  local job
  stop_ticking
  for job in $(jobs -p); do wait "$job" || FAILED=1; done
}

# all_at_once COMMAND NAME...: the command for each name at the same time; the run ends if it fails for one of them. Jobs
# that were begun before go on.
all_at_once() {
  local JOBS=()
  begin_jobs "$@"
  need_jobs
}

# ask_one QUESTION: it has no patience here.
ask_one() {
  local words RETRY_LIMIT=1
  read -ra words <<<"$1"
  "${words[@]}" &>/dev/null
}

# ask_ahead QUESTION...: asks side by side what is needed later; a question is a function with its arguments that keeps
# what it learns. One that got no answer is asked again where it is needed, and that is where its error is printed.
ask_ahead() {
  local JOBS=()
  begin_jobs ask_one "$@"
  await_jobs
}
