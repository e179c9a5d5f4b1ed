# shellcheck shell=bash
# One run of a script: its own folder, several commands side by side, and the time.

# RUN_PID is the shell of the run, and each EXIT trap returns in any other. If a signal ends the whole process group, Bash
# also runs the trap in a subshell, such as a job, that has begun a moment before and still has the traps of its run. It is
# compared in the trap itself, and not first: there, Bash 5.2 may lose the status of the first command or function.

# What every run begins with.
start_run() {
  TEMP_DIR=$(mktemp -d)
  RUN_PID=$BASHPID
  JOBS=()
  trap end_run EXIT
  mkdir "$TEMP_DIR/facts"
  RESOURCE=""
  begin_checks
  set_names
}

# run_apart FILE COMMAND...: writes the output of the command to the file, and its exit status to FILE.status. An error
# ends the command, but not the run. (In a condition, the shell would continue the command after an error.)
run_apart() {
  set +e
  (set -e && "${@:2}") >"$1"
  printf '%s\n' "$?" >"$1.status"
  set -e
}

# has_failed FILE: whether the command of run_apart did.
has_failed() { (($(<"$1.status") != 0)); }

# --- several commands side by side ---------------------------------------------------------------------------------

# begin_jobs COMMAND NAME...: runs the command for each name, several at the same time; await_jobs waits for them. At
# most eight run side by side, because a call of the AWS CLI takes about 60 MB.
begin_jobs() {
  local name
  for name in "${@:2}"; do
    ((${#JOBS[@]} < 8)) || wait "${JOBS[-8]}" || : # await_jobs asks for its status again
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

# Waits for everything that still runs, because it may write into the folder of the run.
outlast_jobs() {
  local job
  stop_ticking
  for job in $(jobs -p); do wait "$job" || FAILED=1; done
}

# EXIT trap, also as a part of another one. After Ctrl-C, what runs in a $(...) may go on for a moment, and a file that it
# makes meanwhile would keep its folder from being removed: under the new name it finds none. Another signal ends only the
# waiting: it would end this shell in the middle of its trap, with mv and rm.
end_run() {
  trap : HUP INT TERM
  [[ $BASHPID == "$RUN_PID" ]] || return 0
  outlast_jobs
  trap '' HUP INT TERM
  mv "$TEMP_DIR" "$TEMP_DIR.ended"
  rm -rf "$TEMP_DIR.ended"
}

# all_at_once COMMAND NAME...: the command for each name at the same time; the run ends if it fails for one of them.
# Jobs that were begun before go on.
all_at_once() {
  local JOBS=()
  begin_jobs "$@"
  need_jobs
}

# --- times ----------------------------------------------------------------------------------------------------------

# In local time, jq 1.6 takes an hour too much from a time in summer (fromdateiso8601), though it is written in UTC.
export TZ=UTC

now() { printf '%(%s)T\n' -1; }

iso() { printf '%(%Y-%m-%dT%H:%M:%SZ)T\n' "$1"; }

# For jq: seconds since the epoch of a time as either generation of the CLI prints it (a number, or ISO 8601 with "Z"
# or with the offset of this machine), or null.
jq_epoch() {
  cat <<'JQ'
def epoch:
  if type != "string" then .
  else capture("^(?<time>[0-9-]+T[0-9:]+)(?<part>[.][0-9]+)?(?<zone>Z|[+-][0-9]{2}:?[0-9]{2})$")
    | (.zone | if . == "Z" then 0 else (sub(":"; "") | (.[1:3] | tonumber) * 3600 + (.[3:5] | tonumber) * 60) as $off
        | if startswith("-") then -$off else $off end end) as $offset
    | ((.time + "Z") | fromdateiso8601) + ("0" + (.part // "") | tonumber) - $offset end;
JQ
}
