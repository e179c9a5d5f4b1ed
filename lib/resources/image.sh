# shellcheck shell=bash
# The worker's image and the repository that holds it.

# Of the files that the image is built from. Names are hashed as well, so that text which moves from one file to another
# makes another image. DOCKER_BUILD_FLAGS are not: no deployment keeps them, so a run without them would build again.
ask_image_inputs() {
  {
    printf '%s\n' Dockerfile requirements.txt worker.py mirror/model/settings.table
    (cd "$PROJECT_DIR" && find mirror -name '*.py') | LC_ALL=C sort
  } | python3 -c '
import hashlib, pathlib, sys

folder, *words = sys.argv[1:]
lines = [*words]
for name in sys.stdin.read().splitlines():
    lines.append(name + " " + hashlib.sha256(pathlib.Path(folder, name).read_bytes()).hexdigest())
print(hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16])' "$PROJECT_DIR" "$TASK_ARCH"
}

BASE_DIGEST_SECONDS=30 # for the registry of BASE_IMAGE to answer

# Prints the digest that BASE_IMAGE has now, or fails with the reason. An engine that answers is needed first: without
# one nothing could be built on a newer base.
ask_base_digest() {
  local answer
  if [[ $BASE_IMAGE == *@* ]]; then
    answer=${BASE_IMAGE##*@}
  else
    IFS= read -rd '' -t "$BASE_DIGEST_SECONDS" answer < <(
      docker version --format '{{.Server.Version}}' 2>&1 \
        && docker buildx imagetools inspect "$BASE_IMAGE" --format '{{.Manifest.Digest}}' 2>&1
    ) || (($? <= 128)) || answer="no answer within $BASE_DIGEST_SECONDS s" # more: the time is over; 1: the output is
    answer=${answer%$'\n'}
    answer=${answer##*$'\n'}
  fi
  printf '%s\n' "$answer"
  [[ $answer =~ ^sha256:[0-9a-f]{64}$ ]]
}

# A base with a new digest makes another tag, so that the image is built again. If the digest cannot be looked up, the
# newest image stays that was built from these inputs, whatever its base was.
ask_image_tag() {
  local inputs base found
  inputs=$(fact image_inputs)
  if base=$(fact_or_reason base_digest); then
    base=${base#sha256:}
    printf '%s-%s\n' "$inputs" "${base:0:12}"
  else
    found=$(aws_or_nothing ecr describe-images --repository-name "$APP_NAME" | jq -r --arg inputs "$inputs" '
      [.imageDetails[]? | {at: .imagePushedAt, tag: (.imageTags // [])[] | select(startswith($inputs))}]
      | sort_by(.at) | last | .tag // empty')
    printf '%s\n' "${found:-$inputs}"
  fi
}

image_registry() { printf '%s\n' "${ECR_REGISTRY:-$ACCOUNT.dkr.ecr.$REGION.amazonaws.com}"; }

# Prints the image that tasks run.
worker_image() {
  local tag
  if [[ -n $IMAGE_URI ]]; then
    printf '%s\n' "$IMAGE_URI"
  else
    tag=$(fact image_tag)
    printf '%s/%s:%s\n' "$(image_registry)" "$APP_NAME" "$tag"
  fi
}

# Prints the ARN of the repository that the worker's image is pulled from, or nothing for an image outside ECR.
image_repository_arn() {
  local image=${IMAGE_URI:-$(image_registry)/$APP_NAME}
  if [[ $image =~ ^([0-9]{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com/([^:@]+) ]]; then
    printf 'arn:aws:ecr:%s:%s:repository/%s\n' "${BASH_REMATCH[2]}" "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]}"
  elif [[ -z $IMAGE_URI ]]; then
    printf '%s\n' "$REPOSITORY_ARN"
  fi
}

# Prints the digest of the image, if it was pushed, and when that was, in seconds since 1970.
ask_image() {
  local tag
  tag=$(fact image_tag)
  aws_or_nothing ecr describe-images --repository-name "$APP_NAME" --image-ids "imageTag=$tag" \
    | jq -r "$(jq_epoch)"'.imageDetails[]? | "\(.imageDigest) \(.imagePushedAt | epoch | if . then floor else "" end)"'
}

# What builds it, if it is not there. Buildx 0.10 is the first that can leave out attestations.
check_image() {
  local image version
  [[ -z $IMAGE_URI ]] || return 0
  image=$(fact image)
  [[ -z $image ]] || return 0
  version=$(docker buildx version 2>&1) || version="not found"
  if [[ ! $version =~ [\ v]([0-9]+\.[0-9.]+) ]]; then # "v0.13.1", Debian says "0.13.1+ds1"
    problem "docker buildx ($version) is needed to build the image: install Docker with buildx, or set IMAGE_URI"
  elif ! is_at_least "${BASH_REMATCH[1]}" 0.10.0; then
    problem "docker buildx ${BASH_REMATCH[1]} is too old: install 0.10.0 or newer, or set IMAGE_URI"
  elif ! version=$(docker version --format '{{.Server.Version}}' 2>&1); then
    problem "no Docker engine answers (${version##*$'\n'}): start it, or set IMAGE_URI"
  fi
}

ask_repository() { aws_or_nothing ecr describe-repositories --repository-names "$APP_NAME"; }

ask_repository_lifecycle() {
  local repository
  repository=$(fact repository)
  [[ -z $repository ]] \
    || aws_or_nothing ecr get-lifecycle-policy --repository-name "$APP_NAME" | jq -r .lifecyclePolicyText
}

ensure_repository() {
  local repository lifecycle tags want='{"rules":[{"rulePriority":1,"description":"keep the last 5 images","selection":
    {"tagStatus":"any","countType":"imageCountMoreThan","countNumber":5},"action":{"type":"expire"}}]}'
  [[ -z $IMAGE_URI ]] || return 0
  begin repository "$APP_NAME"
  repository=$(fact repository)
  if [[ -z $repository ]]; then
    tags=$(fact tags upper)
    create aws_or_die ecr create-repository --repository-name "$APP_NAME" --image-tag-mutability IMMUTABLE \
      --image-scanning-configuration scanOnPush=true --tags "$tags"
  else
    [[ $(jq '.repositories[0].imageScanningConfiguration.scanOnPush' <<<"$repository") == true ]] \
      || change_from false true "scan on push" aws_or_die ecr put-image-scanning-configuration \
        --repository-name "$APP_NAME" --image-scanning-configuration scanOnPush=true
  fi
  lifecycle=$(fact repository_lifecycle)
  same_json "$want" "$lifecycle" \
    || change_from "$lifecycle" "$want" lifecycle \
      aws_or_die ecr put-lifecycle-policy --repository-name "$APP_NAME" --lifecycle-policy-text "$want"
  finish
}

# push_image IMAGE: builds it as well. --load and push instead of --push: the engine, not the builder, then talks to the
# registry, and knows which are plain HTTP. Attestations would leave manifests in the repository that its lifecycle policy
# cannot expire. The repository refuses a tag that another deployment pushed in the meantime: it stands for the same image.
push_image() {
  local flags base digest password image platform=linux/arm64
  [[ $TASK_ARCH == ARM64 ]] || platform=linux/amd64
  base=${BASE_IMAGE%%@*}
  if digest=$(fact_or_reason base_digest); then
    base+=@$digest
  else
    say "      the digest of BASE_IMAGE=$BASE_IMAGE could not be looked up: $digest"
  fi
  read -ra flags <<<"$DOCKER_BUILD_FLAGS"
  ((${#flags[@]} == 0)) || [[ -n ${LOCAL_ENGINE:-} ]] \
    || say "      DOCKER_BUILD_FLAGS is used for this build and not kept, because it may hold a password: name it again" \
      "when you build again"
  docker buildx build --load --provenance=false --sbom=false --platform "$platform" --tag "$1" \
    --build-arg "BASE_IMAGE=$base" \
    ${flags[@]+"${flags[@]}"} "$PROJECT_DIR" >&2
  password=$(aws_or_die ecr get-login-password --output text)
  docker login --username AWS --password-stdin "$(image_registry)" <<<"$password" >&2
  if ! docker push "$1" >&2; then
    image=$(ask_image)
    [[ -n $image ]] || die "image $1: docker push failed, see above"
  fi
}

# Security fixes reach the workers with a newer base. A pinned one, or one that nobody renews, has none.
ensure_image() {
  local name found digest pushed days
  [[ -z $IMAGE_URI ]] || return 0
  name=$(worker_image)
  begin image "$name"
  found=$(fact image)
  [[ -n $found ]] || create push_image "$name"
  read -r digest pushed <<<"$found"
  if [[ -n $pushed ]]; then
    days=$((($(now) - pushed) / 86400))
    ((days <= 90)) || note "the image $digest is $days days old: set BASE_IMAGE to a newer one"
  fi
  finish
}

list_repository() {
  local repository
  [[ $APP_NAME != *- ]] || return 0 # ECR has no such name, and deploy.sh once let it begin
  repository=$(aws_or_nothing ecr describe-repositories --repository-names "$APP_NAME")
  [[ -z $repository ]] \
    || ours_by "$APP_NAME" tags ecr list-tags-for-resource --resource-arn "$REPOSITORY_ARN"
}

remove_repository() { aws_or_nothing ecr delete-repository --repository-name "$1" --force; }
