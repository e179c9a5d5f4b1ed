#!/usr/bin/env bash
# A Docker engine for the tests: the one that answers already, else Debian's dockerd on a socket of its own.
# An answering engine is left aside if it can neither pull the base image nor keep a stand-in of it for two platforms.
# To be sourced, for start_engine and stop_engine.
set -euo pipefail
shopt -s inherit_errexit

readonly ENGINE_START_SECONDS=60
readonly ENGINE_PULL_TEST=python:3.13-slim

engine_answers() { docker --host "$1" version --format '{{.Server.Version}}' >/dev/null 2>&1; }

engine_suffices() {
  local host=$1
  engine_answers "$host" || return 1
  docker --host "$host" info --format '{{.DriverStatus}}' | grep -q io.containerd.snapshotter \
    || docker --host "$host" pull --quiet "$ENGINE_PULL_TEST" >&2
}

# Without a bridge and firewall rules the engine needs no network rights; builds and containers use the host's network.
run_dockerd() {
  local directory=$1
  # The containerd image store keeps one name for several platforms; the older store cannot.
  printf '{"features": {"containerd-snapshotter": true}}\n' >"$directory/daemon.json"
  setsid dockerd --config-file "$directory/daemon.json" --host "unix://$directory/docker.sock" \
    --data-root "$directory/data" --exec-root "$directory/exec" --pidfile "$directory/pid" \
    --bridge=none --iptables=false --ip6tables=false >"$directory/log" 2>&1 &
}

await_engine() {
  local host=$1 log=$2 deadline=$((SECONDS + ENGINE_START_SECONDS))
  until engine_answers "$host"; do
    if ((SECONDS > deadline)); then
      tail -n 20 "$log" >&2
      printf 'dockerd (its log is above) does not answer on %s within %s s:\n' "$host" "$ENGINE_START_SECONDS" >&2
      docker --host "$host" version >&2
      return 1
    fi
    sleep 0.2
  done
}

# start_engine DIRECTORY: prints the DOCKER_HOST to use. The directory must be absolute.
start_engine() {
  local directory=$1 host
  host=${DOCKER_HOST:-unix:///var/run/docker.sock}
  if ! engine_suffices "$host"; then
    if ((EUID != 0)); then
      printf 'no usable Docker engine on %s, and only root can start one: start Docker, or run as root\n' "$host" >&2
      return 1
    fi
    mkdir -p "$directory"
    host="unix://$directory/docker.sock"
    engine_answers "$host" || run_dockerd "$directory"
    await_engine "$host" "$directory/log"
  fi
  printf '%s\n' "$host"
}

# dockerd leaves its data root and its network name space mounted; a directory with mounts cannot be removed.
leave_no_mounts() {
  local directory=$1 mounted
  while read -r mounted; do umount "$mounted"; done \
    < <(awk -v under="$directory/" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r)
}

# stop_engine DIRECTORY: ends the dockerd that start_engine started there, if any; its images stay for the next time.
stop_engine() {
  local directory=$1 pid
  [[ -f $directory/pid ]] || return 0
  pid=$(<"$directory/pid")
  kill "$pid"
  tail --pid="$pid" -f /dev/null
  leave_no_mounts "$directory"
}
