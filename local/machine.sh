#!/usr/bin/env bash
# What local.sh needs of this machine: a Python for the cloud, jq, and a Docker engine if one is usable.

# --- Python and jq --------------------------------------------------------------------------------------------------

# Python 3.12 is the oldest that worker.py runs on.
find_python() {
  local python reason=""
  for python in python3.13 python3.14 python3.12 python3; do
    command -v "$python" >/dev/null || continue
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' &>/dev/null; then
      reason=${reason:-"$("$python" --version 2>&1) is too old: install Python 3.12 or newer"}
      continue
    fi
    if "$python" -c 'import ensurepip, venv' &>/dev/null; then
      printf '%s\n' "$python"
      return
    fi
    reason="$python cannot make a venv: install its venv package (Debian, Ubuntu: apt-get install $python-venv)"
  done
  printf 'no usable Python: %s\n' "${reason:-install Python 3.12 or newer}" >&2
  return 1
}

# Half of what pip would compile is never imported; the rest is compiled when it is. A pip that is there spares making
# another one for the venv.
fill_venv() {
  local python=$1 venv=$LOCAL_DIR/venv pip
  if "$python" -c 'import pip' &>/dev/null; then
    "$python" -m venv --without-pip "$venv"
    pip=("$python" -m pip --python "$venv/bin/python")
  else
    "$python" -m venv "$venv"
    pip=("$venv/bin/python" -m pip)
  fi
  "${pip[@]}" install --quiet --disable-pip-version-check --no-compile "${@:2}" >&2
}

make_venv() {
  local python packages=(-r "$PROJECT_DIR/local/requirements.txt")
  python=$(find_python)
  has_jq || packages+=(-r "$PROJECT_DIR/local/jq-requirements.txt")
  local_say "making a venv in .local with $("$python" --version)"
  say_while "local: installing the local cloud into it" fill_venv "$python" "${packages[@]}"
}

provide_jq() {
  if has_jq; then return; fi
  mkdir "$LOCAL_DIR/bin"
  printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$LOCAL_DIR/venv/bin/python" "$PROJECT_DIR/local/jq" >"$LOCAL_DIR/bin/jq"
  chmod +x "$LOCAL_DIR/bin/jq"
  PATH="$LOCAL_DIR/bin:$PATH"
}

# --- the Docker engine ----------------------------------------------------------------------------------------------

# Tasks reach the cloud through the host's network, which only an engine on this very machine has.
engine_is_usable() {
  [[ $(uname -s) == Linux ]] && command -v docker >/dev/null || return 1
  local system
  system=$(docker info --format '{{.OperatingSystem}}' 2>/dev/null) && [[ -n $system && $system != "Docker Desktop" ]]
}

# The engine that the cloud was started with, if there is one.
use_known_engine() {
  [[ -s $LOCAL_DIR/docker_host ]] || return 0
  LOCAL_ENGINE=docker
  DOCKER_HOST=$(<"$LOCAL_DIR/docker_host")
  export DOCKER_HOST DOCKER_CONFIG="$LOCAL_DIR/docker"
  build_without_bridge
}

# The cloud's Docker client knows DOCKER_HOST, but not the contexts of the docker command.
use_engine() {
  local entry own=${DOCKER_CONFIG:-$HOME/.docker}
  DOCKER_HOST=${DOCKER_HOST:-$(docker context inspect --format '{{.Endpoints.docker.Host}}')}
  export DOCKER_HOST
  printf '%s\n' "$DOCKER_HOST" >"$LOCAL_DIR/docker_host"
  # The user's own Docker configuration, with a copy of the file that docker login writes to.
  mkdir "$LOCAL_DIR/docker"
  for entry in "$own"/*; do
    [[ ! -e $entry ]] || ln -s "$entry" "$LOCAL_DIR/docker/"
  done
  if [[ -f $own/config.json ]]; then
    rm "$LOCAL_DIR/docker/config.json"
    cp "$own/config.json" "$LOCAL_DIR/docker/"
  fi
  export DOCKER_CONFIG="$LOCAL_DIR/docker"
  build_without_bridge
}

# An engine may have no bridge network for builds.
build_without_bridge() {
  local bridge
  bridge=$(docker network ls --quiet --filter 'name=^bridge$')
  [[ -n $bridge ]] || export DOCKER_BUILD_FLAGS="${DOCKER_BUILD_FLAGS:-} --network host"
}

# remove_from_engine DOCKER_HOST
remove_from_engine() {
  local name port
  port=$(<"$LOCAL_DIR/port")
  export DOCKER_HOST=$1 DOCKER_CONFIG="$LOCAL_DIR/docker"
  if ! docker version >/dev/null; then
    local_say "the Docker engine does not answer any more: its images named 127.0.0.1:$port/... stay"
    return 0
  fi
  for name in $(docker ps --all --quiet --filter "label=ministack.instance=$(uname -n):$port"); do
    docker rm --force --volumes "$name" >/dev/null
  done
  for name in $(docker image ls --format '{{.Repository}}:{{.Tag}}' "127.0.0.1:$port/*"); do
    docker image rm "$name" >/dev/null
  done
  docker logout "127.0.0.1:$port" >/dev/null
}
