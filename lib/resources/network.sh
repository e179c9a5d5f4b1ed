# shellcheck shell=bash
# What tasks run in: subnets, which are only looked at, a security group, and gateway endpoints.

# --- subnets --------------------------------------------------------------------------------------------------------

# Prints what AWS says of the subnets that SUBNETS names; fails and prints why there are none.
ask_given_subnets() {
  local id ids
  IFS=', ' read -ra ids <<<"$SUBNETS"
  for id in "${ids[@]}"; do # otherwise it could be an option of the CLI
    [[ $id =~ ^subnet-[A-Za-z0-9]+$ ]] || { printf '%s is not the ID of a subnet\n' "$id" && return 1; }
  done
  aws_or_error ec2 describe-subnets --subnet-ids "${ids[@]}"
}

# The same of those of the default VPC, which an empty SUBNETS stands for.
ask_subnets_of_default_vpc() {
  local vpc
  vpc=$(aws_or_error ec2 describe-vpcs --filters Name=is-default,Values=true) || { printf '%s\n' "$vpc" && return 1; }
  vpc=$(jq -r '.Vpcs[0].VpcId // empty' <<<"$vpc")
  [[ -n $vpc ]] || { printf 'the account has no default VPC in %s\n' "$REGION" && return 1; }
  aws_or_error ec2 describe-subnets --filters "Name=vpc-id,Values=$vpc"
}

# Prints the name of the fact that has the subnets that may be chosen from.
subnets_fact() { if [[ -n $SUBNETS ]]; then printf 'given_subnets\n'; else printf 'subnets_of_default_vpc\n'; fi; }

# Prints those that a task can run in as a JSON list: in one zone, Fargate has no ARM64 (Amazon ECS Developer Guide,
# "64-bit ARM workloads").
usable_subnets() {
  local name
  name=$(subnets_fact)
  fact "$name" | jq -c --arg arch "$TASK_ARCH" --arg chosen "$SUBNETS" '[.Subnets[]?
    | select($chosen != "" or .MapPublicIpOnLaunch)
    | select($arch != "ARM64" or .AvailabilityZoneId != "use1-az3")]'
}

# Prints the IDs of the subnets for tasks, separated by commas: ECS takes 16.
task_subnets() { usable_subnets | jq -r 'map(.SubnetId) | sort | .[:16] | join(",")'; }

# Prints the VPC that they are in.
task_vpc() { usable_subnets | jq -r 'map(.VpcId) | unique | join(" ")'; }

check_network() {
  local answer name vpc
  name=$(subnets_fact)
  if ! answer=$(fact_or_reason "$name"); then
    problem "SUBNETS=$SUBNETS: $answer; set SUBNETS to subnets that reach the internet or AWS's endpoints"
    return
  fi
  vpc=$(task_vpc)
  [[ $vpc != *" "* ]] || problem "SUBNETS=$SUBNETS are in several VPCs ($vpc): set subnets of one"
  [[ -n $vpc ]] || problem "SUBNETS=$SUBNETS: no public subnet of the default VPC, or none of these, has $TASK_ARCH" \
    "capacity: set SUBNETS to subnets in other zones, or TASK_ARCH=X86_64"
}

# --- the security group ---------------------------------------------------------------------------------------------

# Prints what AWS says of it, or nothing if the VPC for tasks has none of its name.
ask_group_of_tasks() {
  local vpc
  vpc=$(task_vpc)
  aws_or_nothing ec2 describe-security-groups \
    --filters "Name=vpc-id,Values=$vpc" "Name=group-name,Values=$SECURITY_GROUP_NAME" | jq -c '.SecurityGroups[0] // empty'
}

# Prints its id, or nothing; a dry run knows none of a group that it would make.
ask_security_group() { fact group_of_tasks | jq -r .GroupId; }

create_security_group() {
  local vpc tags
  vpc=$(task_vpc)
  tags=$(tag_specifications security-group)
  aws_or_die ec2 create-security-group --group-name "$SECURITY_GROUP_NAME" --vpc-id "$vpc" \
    --description "Workers of $APP_NAME: no way in" \
    --tag-specifications "$tags" \
    | jq -r .GroupId | keep security_group
}

# A new security group lets nothing in and everything out, which is what a worker needs; in a VPC with IPv6, AWS gives it a
# second rule for that. Without a way out, no task starts; a narrow one may be meant so.
ensure_security_group() {
  local id added group
  begin "security group" "$SECURITY_GROUP_NAME"
  id=$(fact security_group)
  group=$(fact group_of_tasks)
  if [[ -z $id ]]; then
    create create_security_group
  elif [[ $(jq '(.IpPermissionsEgress // []) == []' <<<"$group") == true ]]; then
    change "way out" aws_or_die ec2 authorize-security-group-egress --group-id "$id" \
      --ip-permissions '[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]'
  fi
  added=$(jq -r 'def who: [.IpRanges[]?.CidrIp, .Ipv6Ranges[]?.CidrIpv6, .PrefixListIds[]?.PrefixListId,
      .UserIdGroupPairs[]?.GroupId] | join(" ");
    def ports: if .FromPort == null then "" elif .FromPort == .ToPort then " \(.FromPort)" else " \(.FromPort)-\(.ToPort)" end;
    def shown: "\(if .IpProtocol == "-1" then "everything" else .IpProtocol end)\(ports)";
    [(.IpPermissions[]? | "\(shown) from \(who)"),
     (.IpPermissionsEgress[]? | select(.IpProtocol != "-1" or (who | IN("0.0.0.0/0", "::/0", "0.0.0.0/0 ::/0") | not))
       | "\(shown) to \(who)")] | join(", ")' \
    <<<"$group")
  [[ -z $added ]] || note "left to you, because somebody added it: $added"
  finish
}

# Found by its name, in any VPC.
list_security_group() {
  local groups group name
  groups=$(aws_or_die ec2 describe-security-groups --filters "Name=group-name,Values=$SECURITY_GROUP_NAME" \
    | jq -c '.SecurityGroups[]?')
  while read -r group; do
    [[ -n $group ]] || continue
    name=$(jq -r '"\(.GroupId) (\(.GroupName))"' <<<"$group")
    jq .Tags <<<"$group" | ours "$name"
  done <<<"$groups"
}

remove_security_group() { aws_or_nothing ec2 delete-security-group --group-id "$1"; }

# --- gateway endpoints ----------------------------------------------------------------------------------------------
#
# CREATE_VPC_ENDPOINTS asks for them, for S3 and for S3 Express.

# ask_of_vpc CALL: what AWS says of the VPC for tasks.
ask_of_vpc() {
  local vpc
  vpc=$(task_vpc)
  aws_or_die ec2 "$1" --filters "Name=vpc-id,Values=$vpc"
}

# Prints the route tables of the subnets for tasks as a JSON list of ids: their own, else the main one of the VPC.
task_route_tables() {
  local subnets tables
  subnets=$(task_subnets)
  tables=$(fact of_vpc describe-route-tables)
  jq -c --arg subnets "$subnets" '.RouteTables as $tables
    | [$subnets | split(",")[] as $subnet
      | [$tables[]? | select(any(.Associations[]?; .SubnetId == $subnet))] as $own
      | (if $own != [] then $own else [$tables[]? | select(any(.Associations[]?; .Main))] end)[].RouteTableId]
    | unique' <<<"$tables"
}

# ensure_vpc_endpoint SERVICE: a route table takes one endpoint per service, so tables that have one already, no matter
# whose, are left as they are.
ensure_vpc_endpoint() {
  local service=com.amazonaws.$REGION.$1 endpoints tables missing ours vpc tags
  begin "gateway endpoint" "$service"
  endpoints=$(fact of_vpc describe-vpc-endpoints | jq -cn --arg service "$service" '[inputs.VpcEndpoints[]?
    | select(.ServiceName == $service and .VpcEndpointType == "Gateway")
    | select(.State // "" | ascii_downcase | IN("available", "pending"))]')
  tables=$(task_route_tables)
  missing=$(printf '%s\n' "$tables" "$endpoints" | jq -rs '.[0] - [.[1][].RouteTableIds[]?] | join(" ")')
  read -ra missing <<<"$missing"
  ours=$(jq -r --arg app "$APP_NAME" '[.[] | select(any(.Tags[]?; .Key == "app" and .Value == $app))][0].VpcEndpointId
    // empty' <<<"$endpoints")
  if ((${#missing[@]} == 0)); then
    finish
    return
  fi
  if [[ -n $ours ]]; then
    change_from '[]' "$(printf '%s\n' "${missing[@]}" | jq -Rn '[inputs]')" "route tables" \
      aws_or_die ec2 modify-vpc-endpoint --vpc-endpoint-id "$ours" --add-route-table-ids "${missing[@]}"
  else
    vpc=$(task_vpc)
    tags=$(tag_specifications vpc-endpoint)
    create aws_or_die ec2 create-vpc-endpoint --vpc-endpoint-type Gateway --vpc-id "$vpc" --service-name "$service" \
      --route-table-ids "${missing[@]}" --tag-specifications "$tags"
  fi
  finish
}

# The tag is checked again in the answer: what is removed must be ours.
list_vpc_endpoint() {
  aws_or_die ec2 describe-vpc-endpoints --filters "Name=tag:app,Values=$APP_NAME" | jq -r --arg app "$APP_NAME" '
    .VpcEndpoints[]? | select(.State // "" | ascii_downcase | startswith("delet") | not)
    | select(any(.Tags[]?; .Key == "app" and .Value == $app)) | "\(.VpcEndpointId) (\(.ServiceName))"'
}

remove_vpc_endpoint() {
  aws_or_nothing ec2 delete-vpc-endpoints --vpc-endpoint-ids "$1" | must_be_zero '.Unsuccessful | length'
}
