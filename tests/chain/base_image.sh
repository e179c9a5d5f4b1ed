#!/usr/bin/env bash
# Makes the Dockerfile's base image available to the Docker engine: pulled where a registry answers, else a
# stand-in of the same name for amd64 and arm64, unpacked from Debian's packages (nothing in it is executed for that).
set -euo pipefail
shopt -s inherit_errexit

readonly DOCKERFILE="${BASH_SOURCE[0]%/*}/../../Dockerfile"
readonly SUITE=trixie # the Debian release whose python3 is 3.13
readonly STAND_IN_PACKAGES=base-files,ca-certificates,coreutils,dash,findutils,python-is-python3,python3,python3-pip
readonly CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt

base_name() { sed -n 's/^ARG BASE_IMAGE=//p' "$DOCKERFILE"; }

unpack_debian() {
  local context=$1 architecture
  for architecture in amd64 arm64; do
    mmdebstrap --quiet --variant=extract --architectures="$architecture" --include="$STAND_IN_PACKAGES" \
      "$SUITE" "$context/$architecture.tar" >&2
  done
}

# The build stage must trust what this machine trusts, so the stand-in carries this machine's CA bundle.
write_stand_in() {
  local context=$1
  cp "$CA_BUNDLE" "$context/ca.crt"
  cat >"$context/Dockerfile" <<EOF
FROM scratch
ARG TARGETARCH
ADD \$TARGETARCH.tar /
COPY ca.crt $CA_BUNDLE
ENV PIP_CERT=$CA_BUNDLE
EOF
}

make_stand_in() {
  local name=$1
  context=$(mktemp -d)
  trap 'rm -r "$context"' EXIT
  unpack_debian "$context"
  write_stand_in "$context"
  docker build --quiet --provenance=false --platform linux/amd64,linux/arm64 --tag "$name" "$context" >&2
}

main() {
  local name present
  name=$(base_name)
  present=$(docker image ls --quiet "$name")
  if [[ -n $present ]] || docker pull --quiet "$name" >&2; then
    return
  fi
  printf '%s cannot be pulled: making a stand-in from Debian packages\n' "$name" >&2
  make_stand_in "$name"
}

main "$@"
