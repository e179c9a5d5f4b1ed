#!/usr/bin/env bash
# The whole chain on one machine, without an AWS account: deploy.sh, cleanup.sh and sync.sh source this file for --local.
# Everything it makes is in .local/, in the process group whose id is in .local/pid, and in containers and images named
# after the registry 127.0.0.1:PORT; local_cleanup removes all of it. What a run does in detail is in .local.log, which
# stays until the next run or ./cleanup.sh --local.

readonly LOCAL_DIR="$PROJECT_DIR/.local" LOCAL_LOG="$PROJECT_DIR/.local.log"
readonly LOCAL_WAIT_SECONDS=${LOCAL_WAIT_SECONDS:-240}
readonly LOCAL_TICK=${LOCAL_TICK:-5}

VIA=" --local" # of the commands that messages name

local_say() { say "local: $*"; }

local_fail() {
  local_say "$@"
  return 1
}

# quietly WHAT COMMAND...: a terminal shows WHAT meanwhile. What the command prints goes to the log, and is printed only
# if it fails.
quietly() { say_while "local: $1" keep_log "${@:2}"; }

keep_log() {
  local from status
  from=$(wc -c <"$LOCAL_LOG")
  set +e
  (set -e && "$@") >>"$LOCAL_LOG" 2>&1
  status=$?
  set -e
  end_progress >&2
  ((status == 0)) || tail -c "+$((from + 1))" "$LOCAL_LOG" >&2
  return "$status"
}

# shellcheck source=local/machine.sh
source "$PROJECT_DIR/local/machine.sh"

# --- the cloud ----------------------------------------------------------------------------------------------------

command_of() { ps -ww -o args= -p "$1" 2>/dev/null || tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline"; }

# After a reboot the process of that number may be someone else's.
cloud_is_up() {
  local pid
  [[ -s $LOCAL_DIR/pid ]] || return 1
  pid=$(<"$LOCAL_DIR/pid")
  [[ $(command_of "$pid") == *"$PROJECT_DIR/local/cloud.py"* ]]
}

# COPY_MAX makes one CopyObject of a file above the threshold fail, as it fails above 5 GiB on AWS.
start_cloud() {
  local port python=$LOCAL_DIR/venv/bin/python variables
  port=$("$python" -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
  printf '%s\n' "$port" >"$LOCAL_DIR/port"
  mkdir "$LOCAL_DIR/tmp"
  variables=(AUTH=true "GATEWAY_PORT=$port" "TMPDIR=$LOCAL_DIR/tmp" "COPY_MAX=$MULTIPART_THRESHOLD"
    "LOCAL_TICK=$LOCAL_TICK")
  [[ $LOCAL_ENGINE == docker ]] || variables+=("LOCAL_WORKER=$PROJECT_DIR/worker.py")
  set -m # a process group of its own: Ctrl-C does not reach it, and one signal ends all of it
  env "${variables[@]}" "$python" "$PROJECT_DIR/local/cloud.py" </dev/null >"$LOCAL_DIR/cloud.log" 2>&1 &
  printf '%s\n' "$!" >"$LOCAL_DIR/pid"
  disown "$!" # or Bash would print a line when it is killed
  set +m
  {
    cloud_environment
    printf '%s\n' "unset AWS_PROFILE AWS_SESSION_TOKEN" \
      "aws() { command aws --endpoint-url \"\$AWS_ENDPOINT_URL\" \"\$@\"; }"
  } >"$LOCAL_DIR/env"
  say_while "local: the cloud is starting" await_cloud "$port"
  local_say "the cloud listens on http://127.0.0.1:$port; its rule fires every $LOCAL_TICK s"
}

# await_cloud PORT
await_cloud() {
  local deadline=$((SECONDS + 120))
  until (: >"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do
    # Any command will do: for a moment the process is still a copy of this shell.
    if ((SECONDS > deadline)) || [[ -z $(command_of "$(<"$LOCAL_DIR/pid")") ]]; then
      tail -n 20 "$LOCAL_DIR/cloud.log" >&2
      local_fail "the cloud did not start; its log is above"
    fi
    sleep 0.2
  done
}

# What a cloud that was killed has left in its process group ends too. (In a function that runs in a trap, a bare return
# would hand on the status from before the trap.)
stop_cloud() {
  local pid deadline=$((SECONDS + 15))
  [[ -s $LOCAL_DIR/pid ]] || return 0
  pid=$(<"$LOCAL_DIR/pid")
  if cloud_is_up; then
    kill "$pid"
    while cloud_is_up && ((SECONDS < deadline)); do sleep 0.2; done
  elif kill -0 "$pid" 2>/dev/null; then
    return 0 # someone else's by now
  fi
  if kill -0 -- "-$pid" 2>/dev/null; then kill -KILL -- "-$pid"; fi
}

# What a shell needs to talk to the cloud, and to nothing else.
cloud_environment() {
  printf 'export %s\n' "AWS_ENDPOINT_URL=http://127.0.0.1:$(<"$LOCAL_DIR/port")" \
    AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test "AWS_REGION=$REGION" "AWS_DEFAULT_REGION=$REGION" \
    AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true AWS_PAGER= \
    NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
}

use_cloud() {
  unset "${!AWS_@}"
  # shellcheck source=/dev/null
  source <(cloud_environment)
}

# --- settings and buckets -----------------------------------------------------------------------------------------

# Small enough that a 12 MiB file goes multipart, and quick enough to watch. What a worker received of a busy cloud that
# did not answer in time comes back after 75 s, while verify still waits for it. Ten empty polls outlast the pauses
# between the rounds of verify.
choose_settings() {
  local part=$((5 * 1024 * 1024)) arch=X86_64 setting chosen
  case "$(uname -m)" in arm64 | aarch64) arch=ARM64 ;; esac
  chosen=(
    REGION=us-east-1 SRC_BUCKET=local-source DST_BUCKET=local-destination--use1-az4--x-s3
    "MULTIPART_THRESHOLD=$((8 * 1024 * 1024))" "PART_SIZE=$part" WAIT_TIME_SECONDS=2 EMPTY_POLLS_BEFORE_EXIT=10
    COPY_TIMEOUT=60 VISIBILITY_EXTEND_INTERVAL=15 "TASK_ARCH=$arch"
  )
  for setting in "${chosen[@]}"; do
    export "${setting?}"
    name_settings "${setting%%=*}"
  done
  export VERIFY_LARGE_PARTS=3 VERIFY_LARGE_PART_BYTES="$part" # of verify --large: more than MULTIPART_THRESHOLD
  export VERIFY_SMALL_OBJECTS=300                             # of verify --bench
}

choose_image() {
  ECR_REGISTRY="127.0.0.1:$(<"$LOCAL_DIR/port")"
  export ECR_REGISTRY
  if [[ $LOCAL_ENGINE == docker ]]; then
    local_say "a Docker engine responds: each task runs the real image in a container"
  else
    local_say "no Docker engine responds: each task runs the same worker.py as a process"
    export IMAGE_URI="$ECR_REGISTRY/worker.py:process"
  fi
  name_settings ECR_REGISTRY ${IMAGE_URI:+IMAGE_URI}
}

make_buckets() {
  aws s3api create-bucket --bucket "$SRC_BUCKET" >/dev/null
  aws s3api create-bucket --bucket "$DST_BUCKET" --create-bucket-configuration \
    'Location={Type=AvailabilityZone,Name=use1-az4},Bucket={DataRedundancy=SingleAvailabilityZone,Type=Directory}' \
    >/dev/null
}

# --- the result ---------------------------------------------------------------------------------------------------

print_further_lines() {
  printf '\nThe cloud keeps running until ./cleanup.sh --local. Try next:\n'
  printf '  %s\n' "source .local/env && aws s3 cp README.md s3://$SRC_BUCKET/" \
    "./sync.sh$VIA explain README.md   # equal, some seconds later" \
    "./sync.sh$VIA status"
}

show_log() {
  printf '\nlast lines of %s:\n' "$1" >&2
  aws logs filter-log-events --log-group-name "$1" --query 'events[-20:].[message]' --output text >&2
}

# --- the two commands ---------------------------------------------------------------------------------------------

show_logs() {
  show_log "/aws/lambda/$APP_NAME-starter" || local_say "the starter has no log"
  show_log "/ecs/$APP_NAME-task" || local_say "the worker has no log"
  # Why a container did not start is known to the cloud only.
  printf '\nlast warnings of the cloud:\n' >&2
  sed -n '/ WARNING \| ERROR /p' "$LOCAL_DIR/cloud.log" | tail -n 10 >&2
}

# EXIT trap of a run that made the cloud: after a failure, Ctrl-C or --once nothing may stay, even if nobody reads what
# is printed any more.
end_local() {
  local status=$?
  [[ $BASHPID == "$RUN_PID" ]] || return 0
  trap - EXIT
  trap '' HUP INT PIPE TERM
  if ((status)); then
    local_say "this run ends with exit status $status; its log is .local.log" || exec 2>/dev/null
  fi
  set +e # a log that cannot be shown keeps nothing from being removed
  if ((status)) && cloud_is_up; then show_logs; fi
  set -e
  if ((status)) || [[ $LOCAL_ONCE == true ]]; then local_cleanup; fi
  exit "$status"
}

# EXIT trap of a run that found the cloud: it is not this run's, and stays. If a check refuses something (2), or after
# Ctrl-C, the logs have nothing to show.
leave_local() {
  local status=$?
  [[ $BASHPID == "$RUN_PID" ]] || return 0
  trap - EXIT
  if ((status)); then
    ((status != 1)) || show_logs
    local_say "this run failed; the cloud stays up as it is now: run ./deploy.sh --local again, or ./cleanup.sh --local"
  fi
  exit "$status"
}

# Deploys, and makes the acceptance run of a real deployment. If that does not end well, what it put in a cloud that is to
# be removed is removed with it.
run_chain() {
  local follow=0
  choose_image
  use_cloud
  [[ $LOCAL_OWNER == false ]] || make_buckets
  quietly "deploying" deploy_all
  # Of the rows of deploy.sh, those that were changed, and how many there are of each kind. "none" is no resource.
  jq -Rnr '[inputs | select(test("^\\[\\d+/\\d+\\] ")) | sub("^\\S+ "; "") | select(test(": none\\b") | not)]
    | map(select(test(": (changed|removed)"))) as $changed | (map(select(test(": created"))) | length) as $created
    | ($changed[] | "  " + .), "local: deployed \(length) resources as on AWS: \($created) created, \(
      $changed | length) changed, \(length - $created - ($changed | length)) unchanged"' "$LOCAL_LOG" >&2
  [[ $LOCAL_OWNER == true ]] || follow=${VERIFY_FOLLOW_SECONDS:-30}
  quietly "./sync.sh verify sends files through it" env FOLLOW_PAUSE="${FOLLOW_PAUSE:-1}" VERIFY_FOLLOW_SECONDS="$follow" \
    "$PROJECT_DIR/sync.sh" --local verify --yes --timeout "${LOCAL_WAIT_SECONDS}s"
  # The verdict, the table of objects without the row of their folder, and what differs.
  sed -nE '/^# sync.sh verify:/,/^\| from /{/^\| from |^\| .\*. /d;/^[#|-]/p;}' "$LOCAL_LOG"
}

# Only one run at a time makes or changes what is in .local.
make_cloud() {
  local python
  # Before anything is made, and all that is missing at once.
  begin_checks
  check_aws_cli
  python=$(find_python 2>&1) || problem "$python"
  stop_on_problems
  if [[ -d $LOCAL_DIR ]]; then local_cleanup; fi
  mkdir "$LOCAL_DIR"
  trap end_local EXIT
  : >"$LOCAL_LOG"
  if engine_is_usable; then
    LOCAL_ENGINE=docker
    use_engine
  fi
  choose_settings
  make_venv
  provide_jq
  start_cloud
}

# A cloud that is up for its user is deployed to again; one that another run has just started is left to that run, which
# removes it if it fails.
find_cloud() {
  local port
  port=$(<"$LOCAL_DIR/port")
  if [[ $LOCAL_ONCE == true ]]; then
    local_fail "a local cloud is up already on port $port, and --once would remove it at the end: deploy to it with" \
      "./deploy.sh --local, or end it with ./cleanup.sh --local first"
  fi
  [[ -e $LOCAL_DIR/ready ]] || local_fail "a local cloud is up already on port $port, but the ./deploy.sh --local that" \
    "started it has not finished yet: wait for it, or end the cloud with ./cleanup.sh --local"
  begin_checks
  check_aws_cli
  stop_on_problems
  local_say "a local cloud is up already on port $port: deploying to it again"
  trap leave_local EXIT
  : >"$LOCAL_LOG"
  use_known_engine
  choose_settings
  PATH="$LOCAL_DIR/bin:$PATH"
}

# local_deploy [--once]: exit status 0 only if all files are equal at the end.
local_deploy() {
  local began=$SECONDS
  LOCAL_ONCE=false LOCAL_ENGINE=none LOCAL_OWNER=true RUN_PID=$BASHPID
  [[ -z ${1:-} ]] || LOCAL_ONCE=true
  trap 'exit 130' INT
  trap 'exit 143' TERM
  if cloud_is_up; then
    LOCAL_OWNER=false
    find_cloud
  else
    make_cloud
  fi
  run_chain
  printf 'all files equal after %s s; the details are in .local.log\n' "$((SECONDS - began))"
  if [[ $LOCAL_ONCE == true ]]; then
    printf '\nTry next: %s\n' "./deploy.sh --local   # the same, and the cloud stays for you to try it"
    printf '          %s\n' './sync.sh --help      # what there is to operate it' \
      'README.md, "Deploy to AWS", for buckets of your own'
  else
    : >"$LOCAL_DIR/ready"
    print_further_lines
  fi
}

local_cleanup() {
  if [[ ! -d $LOCAL_DIR ]]; then
    local_say "nothing to remove"
    return 0
  fi
  stop_cloud
  if [[ -s $LOCAL_DIR/port && -s $LOCAL_DIR/docker_host ]]; then
    remove_from_engine "$(<"$LOCAL_DIR/docker_host")"
  fi
  rm -rf "$LOCAL_DIR"
  local_say "removed: the cloud, its containers and images, and .local/"
}
