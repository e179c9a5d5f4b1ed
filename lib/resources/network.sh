# shellcheck shell=bash
# The subnets that tasks run in. Nothing is made here.

readonly NO_ARM64_ZONES='["use1-az3"]' # Amazon ECS Developer Guide, "64-bit ARM workloads": no Fargate there

# Prints what AWS says of the subnets that may be chosen from; fails and prints why there are none.
ask_subnets() {
  local id ids vpc
  if [[ -n $SUBNETS ]]; then
    IFS=', ' read -ra ids <<<"$SUBNETS"
    for id in "${ids[@]}"; do # otherwise it could be an option of the CLI
      [[ $id =~ ^subnet-[A-Za-z0-9]+$ ]] || { printf '%s is not the ID of a subnet\n' "$id" && return 1; }
    done
    aws_or_error ec2 describe-subnets --subnet-ids "${ids[@]}"
  else
    vpc=$(aws_or_error ec2 describe-vpcs --filters Name=is-default,Values=true) || { printf '%s\n' "$vpc" && return 1; }
    vpc=$(jq -r '.Vpcs[0].VpcId // empty' <<<"$vpc")
    [[ -n $vpc ]] || { printf 'the account has no default VPC in %s\n' "$REGION" && return 1; }
    aws_or_error ec2 describe-subnets --filters "Name=vpc-id,Values=$vpc"
  fi
}

# Prints those that a task can run in as a JSON list.
usable_subnets() {
  fact subnets "$SUBNETS" | jq -c --argjson zones "$NO_ARM64_ZONES" --arg arch "$TASK_ARCH" \
    --arg chosen "$SUBNETS" '[.Subnets[]
      | select($chosen != "" or .MapPublicIpOnLaunch)
      | select($arch != "ARM64" or ([.AvailabilityZoneId] | inside($zones) | not))]'
}

# Prints the IDs of the subnets for tasks, separated by commas: ECS takes 16.
task_subnets() { usable_subnets | jq -r 'map(.SubnetId) | sort | .[:16] | join(",")'; }

# Prints the VPC that they are in.
task_vpc() { usable_subnets | jq -r 'map(.VpcId) | unique | join(" ")'; }

check_network() {
  local answer vpc
  if ! answer=$(fact_or_reason subnets "$SUBNETS"); then
    problem "SUBNETS=$SUBNETS: $answer; set SUBNETS to subnets that reach the internet or AWS's endpoints"
    return
  fi
  vpc=$(task_vpc)
  [[ $vpc != *" "* ]] || problem "SUBNETS=$SUBNETS are in several VPCs ($vpc): set subnets of one"
  [[ -n $vpc ]] || problem "SUBNETS=$SUBNETS: no public subnet of the default VPC, or none of these, has $TASK_ARCH" \
    "capacity: set SUBNETS to subnets in other zones, or TASK_ARCH=X86_64"
}
