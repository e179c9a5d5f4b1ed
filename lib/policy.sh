# shellcheck shell=bash
# ./deploy.sh --policy ROLE: what a person or a pipeline needs to be allowed, as a policy for an administrator of IAM.

# filled_policy FILE: what stands in braces there is a setting, or a variable of lib/names.sh. A text that is one variable
# alone stands for each item of a list, such as that of SRC_KMS_KEY_ARN. What an empty setting leaves without a value
# goes: a condition, or a statement without a resource.
filled_policy() {
  local names
  mapfile -t names < <(grep -oE '\{[A-Z_]+\}' "$1" | tr -d '{}' | sort -u)
  settings_json "${names[@]}" | jq --slurpfile policies "$1" '. as $values
    | def filled: [.] | flatten | map(if test("^\\{\\w+\\}$") then $values[.[1:-1]] | splits("[, ]+")
        else gsub("\\{(?<name>[A-Z_]+)\\}"; $values[.name]) end | select(. != ""))
        | if length == 1 then .[0] else . end;
      def filled_members: with_entries(.value |= filled | select(.value != []));
      $policies[0] | .Statement |= [.[] | .Resource |= filled | select(.Resource != [])
        | .Condition |= (. // {} | with_entries(.value |= filled_members | select(.value != {})))
        | if .Condition == {} then del(.Condition) else . end]'
}

# tell_of_policy ROLE POLICY: how it may be given, by the characters that IAM counts, which are those without white space
# (IAM User Guide, "IAM and AWS STS quotas").
tell_of_policy() {
  local size managed=6144 inline=10240 kinds
  size=$(tr -d '[:space:]' <<<"$2" | wc -m)
  ((size <= inline)) || die "--policy $1: it has $((size)) characters, and IAM takes at most $inline: set a shorter" \
    "ROLE_PATH, or fewer keys of KMS"
  kinds="an inline policy of a role (at most $inline in all of its inline policies together)"
  ((size > managed)) || kinds="a managed policy (at most $managed), or $kinds"
  say "$1: $((size)) characters without white space: $kinds"
}

# print_policy ROLE ACCOUNT: without an account, for that of the credentials. A subshell, as deploy_all.
print_policy() (
  local policy
  start_run
  check_before_calls "${SETTINGS[@]}"
  if [[ -n $2 ]]; then
    check_jq
    set_account "$2"
  else
    check_tools
    check_account
    ((${#PROBLEMS[@]} == 0)) || problem "or name the account, for which no call is made: --account 111122223333"
    ((${#PROBLEMS[@]})) || check_buckets
  fi
  stop_on_problems
  check_settings
  stop_on_problems
  policy=$(filled_policy "$PROJECT_DIR/docs/policies/$1.json")
  tell_of_policy "$1" "$policy"
  printf '%s\n' "$policy"
)

# print_policy_of ARGUMENT...: of deploy.sh. Each role has a file in docs/policies/.
print_policy_of() {
  local role="" account="" roles='deployer|operator|reader'
  while (($#)); do
    case "$1" in
      --policy) need_value "$1" "$#" && role=$2 ;;
      --account) need_value "$1" "$#" && account=$2 ;;
      *) usage "$1 does not go with --policy" ;;
    esac
    shift 2
  done
  [[ $role =~ ^($roles)$ ]] || usage "--policy needs a role: ${roles//|/, }"
  [[ $account =~ ^([0-9]{12})?$ ]] || usage "--account $account is not the 12 digits of an AWS account"
  print_policy "$role" "$account"
}
