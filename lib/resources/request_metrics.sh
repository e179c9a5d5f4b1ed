# shellcheck shell=bash
# The request metrics of folders of the destination, which ./sync.sh cost --reads turns on for a while: filters of the
# bucket, each with an id that says when it was turned on, for how many days, and of which APP_NAME it is, as several
# deployments may have one destination. Those of others have other ids.

readonly READS_ID=s3-to-s3express-sync-reads-

# The oldest AWS CLI of each generation that sends these calls of a directory bucket to the right endpoint: both have it
# from botocore 1.42.80 ("Add Bucket Metrics configuration support to directory buckets" in the change logs of all three).
readonly OLDEST_CLI_OF_METRICS=('1 1.44.70' '2 2.34.21')

# Prints APP_NAME as a number: an id has 64 characters at most.
number_of_app() { cksum <<<"$APP_NAME" | cut -d ' ' -f 1; }

# request_metrics_id BEGAN DAYS NUMBER
request_metrics_id() {
  local app
  app=$(number_of_app)
  printf '%s%s-%s-%s-%s\n' "$READS_ID" "$1" "$2" "$3" "$app"
}

# Prints what is wrong with the AWS CLI, or nothing.
problem_with_cli_of_metrics() {
  local version row generation oldest
  [[ $CLI_VERSION =~ aws-cli/([0-9.]+) ]] || return 0
  version=${BASH_REMATCH[1]}
  for row in "${OLDEST_CLI_OF_METRICS[@]}"; do
    read -r generation oldest <<<"$row"
    [[ ${version%%.*} != "$generation" ]] || is_at_least "$version" "$oldest" \
      || printf 'AWS CLI %s does not know request metrics of directory buckets: install %s or newer\n' "$version" "$oldest"
  done
}

# Prints {id, folder, began, days} of each filter of ours as a JSON list. They can only be read in the bucket's account.
# One without the number of an APP_NAME was turned on before ids had it, and counts as ours.
ask_request_metrics() {
  local RESOURCE="request metrics of $DST_BUCKET" page token="" problem app
  app=$(number_of_app)
  problem=$(problem_with_cli_of_metrics)
  [[ -z $problem && $DST_BUCKET_OWNER == "$ACCOUNT" ]] || return 0
  while :; do
    page=$(aws_if_allowed s3api list-bucket-metrics-configurations --bucket "$DST_BUCKET" \
      ${token:+--continuation-token "$token"})
    jq -c --arg prefix "$READS_ID" --arg app "$app" '.MetricsConfigurationList[]?
      | select(.Id | test("^\($prefix)\\d+-\\d+-\\d+(-\($app))?$"))
      | (.Id | ltrimstr($prefix) | split("-")) as $parts
      | {id: .Id, folder: (.Filter.Prefix // ""), began: ($parts[0] | tonumber), days: ($parts[1] | tonumber)}' \
      <<<"${page:-null}"
    token=$(jq -r '.NextContinuationToken // ""' <<<"${page:-null}")
    [[ -n $token ]] || return 0
  done | jq -s .
}

# What could not be looked for is said: it goes on costing.
list_request_metrics() {
  local RESOURCE="request metrics of $DST_BUCKET" problem
  fact request_metrics | jq -r "$JQ_TEXT"'.[]? | "\(.id) \(.folder | tojson | visible)"'
  problem=$(problem_with_cli_of_metrics)
  if was_denied; then problem=$(denial); fi
  [[ -z $problem ]] || say "request metrics of $DST_BUCKET, if ./sync.sh cost --reads has turned any on, stay: $problem"
}

# Prints {folders, until} as JSON; null if there are none of ours.
describe_request_metrics() {
  fact request_metrics | jq -s '.[0] // [] | if . == [] then null
    else {folders: length, until: (map(.began + .days * 86400) | max | todate)} end'
}

# Nothing but a script of ours turns off those whose days are over, which are charged on and on: deploy.sh does so.
ensure_no_overdue_reads() {
  local found ids
  found=$(fact request_metrics | jq -r --argjson now "$(now)" '.[]? | select(.began + .days * 86400 <= $now).id')
  [[ -n $found ]] || return 0
  mapfile -t ids <<<"$found"
  begin "request metrics" "$DST_BUCKET"
  remove "removed, because their days are over" end_request_metrics "${ids[@]}"
  finish
}

end_request_metrics() {
  local id
  for id in "$@"; do remove_request_metrics "$id"; done
}

remove_request_metrics() {
  aws_unless_gone s3api delete-bucket-metrics-configuration --bucket "$DST_BUCKET" --id "$1"
}
