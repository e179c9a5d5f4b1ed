# shellcheck shell=bash
# Calls to AWS, and what happens when AWS says no:
# aws_or_die       any error ends the run
# aws_or_nothing   for reading and removing: nothing is printed or done if the resource does not exist; any other error
#                  ends the run
# aws_if_allowed   for what a run can do without: the same, also if AWS denies it (was_denied knows then)
# aws_or_error     prints the error instead of the answer, and fails
# All of them wait if AWS refuses something only temporarily.

RESOURCE_ADVICE="" # what to do about any error of the resource at hand

# For SQS, CLI v1 goes by no setting of an endpoint, but uses a legacy one, where queues have other URLs than with CLI v2
# and which is no FIPS endpoint. So it gets the endpoint as an option. That goes by the environment: to ask what a profile
# says would be another start of the CLI. error_code() reads errors in the legacy format, whatever format a user has
# chosen. Nobody is to answer a prompt.
aws() {
  local url=${AWS_ENDPOINT_URL:-} fips=""
  if [[ -z $url && $1 == sqs && $CLI_VERSION != aws-cli/2* ]]; then
    [[ ${AWS_USE_FIPS_ENDPOINT:-} != [Tt]rue ]] || fips=-fips
    url=${AWS_ENDPOINT_URL_SQS:-https://sqs$fips.$REGION.amazonaws.com}
  fi
  AWS_PAGER="" AWS_CLI_AUTO_PROMPT=off AWS_CLI_ERROR_FORMAT=legacy \
    command aws ${url:+--endpoint-url "$url"} --region "$REGION" --output json "$@"
}

# Runs aws "$@": its output is passed on, and its error is kept in AWS_ERROR. Of a call that fails, or whose answer is
# cut, nothing is passed on, so that nobody takes a part for the whole. A listing as text is passed on while it arrives,
# because it may be larger than the memory.
try_aws() {
  local status=0 answer="" end=$'\x1f'
  AWS_ERROR=""
  if [[ " $* " == *" --output text "* ]]; then
    { AWS_ERROR=$(aws "$@" 2>&1 >&3) || status=$?; } 3>&1
  else
    answer=$(
      { AWS_ERROR=$(aws "$@" 2>&1 >&3) || status=$?; } 3>&1
      printf '%s' "$end$AWS_ERROR$end$status"
    )
    status=${answer##*"$end"} answer=${answer%"$end"*}
    AWS_ERROR=${answer##*"$end"} answer=${answer%"$end"*}
  fi
  ((status != 130)) || exit 130 # after Ctrl-C, which the CLI keeps to itself, there is no error to report
  if ((status == 0)) && [[ $1 != s3 ]] && ! is_whole "$answer"; then
    status=255 AWS_ERROR="it printed ${#answer} characters that are not JSON, or only a part of it: run this again"
  fi
  ((status == 0)) || AWS_ERROR=${AWS_ERROR:-"it ended with exit status $status, and said nothing: run this again"}
  ((status)) || printf '%s' "$answer"
  return "$status"
}

# is_whole ANSWER: whether it is all of what the CLI prints, which is JSON or nothing. The CLI indents all lines but the
# first and the last one, so for most answers there is no need to start jq.
is_whole() { [[ -z $1 || $1 == "{"*$'\n}'?($'\n') ]] || jq -e 'true' <<<"$1" >/dev/null 2>&1; }

error_code() {
  local pattern='An error occurred \(([^)]*)\) when calling'
  if [[ $AWS_ERROR =~ $pattern ]]; then printf '%s\n' "${BASH_REMATCH[1]}"; fi
}

# Prints what to do about the error, if more is known than AWS says, by rows of "error|advice". The first is for something
# that was created after we looked for it and before we created it.
advice() {
  local row rows=(
    'AlreadyExists|QueueNameExists|InvalidGroup.Duplicate|(Function|provided) already exist|somebody has just created it: if that was another deploy.sh, run this again when it has ended'
    'iam:PassRole|grant yourself iam:PassRole for that role'
  )
  for row in "${rows[@]}"; do
    if [[ $AWS_ERROR =~ ${row%|*} ]]; then
      printf '; %s\n' "${row##*|}"
      return
    fi
  done
  [[ -z $RESOURCE_ADVICE ]] || printf '; %s\n' "$RESOURCE_ADVICE"
}

# What AWS or the CLI said.
shown_error() { sed '/^$/d' <<<"$AWS_ERROR"; }

# subject_of SERVICE OPERATION OPTION...: prints the resource at hand, and what the first option names, if that is not the
# same.
subject_of() {
  local word name="" last=""
  for word in "${@:3}"; do
    if [[ $last == --* && $word != --* ]]; then
      [[ $word == [\{\[]* || $word == file*://* ]] || name=$word
      break
    fi
    last=$word
  done
  if [[ -z ${RESOURCE:-} ]]; then
    printf '%s\n' "$name"
  elif [[ -z $name || $RESOURCE == *"${name##*[/:=]}"* ]]; then
    printf '%s\n' "$RESOURCE"
  else
    printf '%s (%s)\n' "$RESOURCE" "$name"
  fi
}

aws_failed() {
  local subject
  subject=$(subject_of "$@")
  die "${subject:+$subject: }aws $1 $2 failed: $(shown_error)$(advice)"
}

# By these error codes AWS says that a resource does not exist. operate/cloud.py goes by them, too.
mapfile -t NOT_FOUND <"$PROJECT_DIR/lib/not_found.txt"
readonly NOT_FOUND

is_not_found() { [[ " ${NOT_FOUND[*]} " == *" $(error_code) "* ]]; }

# EC2 and SNS have codes of their own for it ("Common errors" of their API references).
forbidden() { [[ $(error_code) =~ ^(AccessDenied.*|UnauthorizedOperation|AuthorizationError.*)$ ]]; }

# Prints what the run waits for, or nothing if the error of aws "$@" is final. The refusals that pass by themselves are rows
# of "call|error|what is waited for"; call and error are regular expressions. Some pass only if this run made the role.
transient_reason() {
  local row operation error reason rows=(
    '.*|Throttl|\((RequestLimitExceeded|SlowDown|TooManyRequestsException)\)|AWS takes fewer calls at the moment'
    '.*|\((Concurrent(Modification|Access)(Exception)?|ConflictException|ResourceConflict)\)|another change of it is in progress'
    'sqs create-queue|QueueDeletedRecently|the queue of this name was deleted less than 60 s ago'
    'sqs create-queue|ead letter target does not exist|SQS does not see the new dead-letter queue yet'
    'logs .*|OperationAbortedException|another change of the log group is in progress'
    'ecs create-cluster|nable to assume the service linked role|ECS cannot use its service-linked role yet'
    'ecs .*-cluster.*|UpdateInProgressException|the cluster is being changed'
    'ecs delete-cluster|ClusterContainsTasksException|the last tasks are still ending'
    'lambda .*-function.*|cannot be assumed by Lambda|Lambda cannot assume the new role yet'
    'lambda .*|ResourceConflictException.*(in progress|Pending)|the function is being changed'
    'lambda update-function-configuration|PreconditionFailed|the function has just been changed'
    's3api put-bucket-notification.*|Unable to validate the following destination|S3 does not see the queue policy yet, or another notification goes to a queue, topic or function that is gone'
    's3api .*-bucket-.*|OperationAborted|another change of the bucket is in progress'
    'ec2 create-vpc-endpoint|RouteAlreadyExists|an endpoint that is being deleted still has the route'
    'ec2 delete-security-group|DependencyViolation|the network interfaces of the last tasks are still there'
    'iam put-role-policy|NoSuchEntity|IAM does not see the new role yet'
    'iam delete-role|DeleteConflict|IAM does not see yet that the policies are gone'
  )
  ! is_about_new_role || rows+=(
    'ecs register-task-definition|AccessDenied.*iam:PassRole|the new role cannot be passed to ECS yet, or you may not pass it'
    'lambda create-function|AccessDenied.*iam:PassRole|the new role cannot be passed to Lambda yet, or you may not pass it'
    'lambda create-function|invalid for CreateGrant.*not refer to a valid principal|KMS does not see the new role yet'
  )
  for row in "${rows[@]}"; do
    operation=${row%%|*} reason=${row##*|} error=${row#*|}
    error=${error%|*}
    if [[ "$1 $2" =~ ^$operation$ && $AWS_ERROR =~ $error ]]; then
      printf '%s\n' "$reason"
      return
    fi
  done
}

# pause TRY REASON: waits between two attempts, and says so; fails after the last one.
pause() {
  (($1 < RETRY_LIMIT)) || return 1
  say_for_now "      waiting: $2 (try $1 of $RETRY_LIMIT, next in $RETRY_PAUSE s)"
  sleep "$RETRY_PAUSE"
  end_progress >&2
}

# patient_aws missing-is-an-error|missing-is-fine|denied-is-fine|error-is-output ARGUMENT...: runs aws until it
# succeeds; it retries only the refusals that transient_reason knows. With missing-is-fine, it succeeds without output
# if the resource does not exist; with denied-is-fine, it also does so if the caller may not make the call, and keeps
# the error. With error-is-output, it prints the error and fails, where it would end the run.
patient_aws() {
  local reason try
  for ((try = 1; ; try++)); do
    if try_aws "${@:2}"; then return; fi
    if [[ $1 == *-is-fine ]] && is_not_found; then return; fi
    if [[ $1 == denied-is-fine ]] && forbidden; then
      keep denied "$RESOURCE" <<<"$AWS_ERROR"
      return
    fi
    reason=$(transient_reason "${@:2}")
    if [[ -z $reason ]] || ! pause "$try" "$reason"; then break; fi
  done
  [[ $1 == error-is-output ]] || aws_failed "${@:2}"
  [[ $AWS_ERROR == *"when calling the "* ]] || printf 'aws %s %s failed: ' "$2" "$3"
  shown_error
  return 1
}

aws_or_die() { patient_aws missing-is-an-error "$@"; }

aws_or_nothing() { patient_aws missing-is-fine "$@"; }

aws_if_allowed() { patient_aws denied-is-fine "$@"; }

aws_or_error() { patient_aws error-is-output "$@"; }

# must_be_zero FILTER: reads the answer of a call that reports failures in its answer.
must_be_zero() {
  local answer
  answer=$(cat)
  [[ -z $answer || $(jq "$1 // 0" <<<"$answer") == 0 ]] || die "$RESOURCE: refused: $answer"
}
