# shellcheck shell=bash
# The security group of the workers.

# Prints what AWS says of it, or nothing if the VPC for tasks has none of its name.
ask_group_of_tasks() {
  local vpc
  vpc=$(task_vpc)
  aws_or_nothing ec2 describe-security-groups \
    --filters "Name=vpc-id,Values=$vpc" "Name=group-name,Values=$SECURITY_GROUP_NAME" | jq -c '.SecurityGroups[0] // empty'
}

# Prints its id, or nothing.
ask_security_group() { fact group_of_tasks | jq -r .GroupId; }

# Prints its id; a dry run knows none of a group that it would make.
security_group_id() {
  local id
  id=$(fact security_group)
  printf '%s\n' "${id:-sg-made-later}"
}

create_security_group() {
  local vpc
  vpc=$(task_vpc)
  aws_or_die ec2 create-security-group --group-name "$SECURITY_GROUP_NAME" --vpc-id "$vpc" \
    --description "Workers of $APP_NAME: no way in" \
    --tag-specifications "$(tag_specifications security-group)" \
    | jq -r .GroupId | keep security_group
}

# Prints what somebody added to the rules of a new group, which lets nothing in and everything out, on one line.
added_rules() {
  jq -r 'def who: [.IpRanges[]?.CidrIp, .Ipv6Ranges[]?.CidrIpv6, .PrefixListIds[]?.PrefixListId,
      .UserIdGroupPairs[]?.GroupId] | join(" ");
    def ports: if .FromPort == null then "" elif .FromPort == .ToPort then " \(.FromPort)" else " \(.FromPort)-\(.ToPort)" end;
    def shown: "\(if .IpProtocol == "-1" then "everything" else .IpProtocol end)\(ports)";
    [(.IpPermissions[]? | "\(shown) from \(who)"),
     (.IpPermissionsEgress[]? | select(.IpProtocol != "-1" or who != "0.0.0.0/0") | "\(shown) to \(who)")] | join(", ")'
}

# A new security group lets nothing in and everything out, which is what a worker needs. Without a way out, no task
# starts; a narrow one may be meant so.
ensure_security_group() {
  local id added group
  begin "security group" "$SECURITY_GROUP_NAME"
  id=$(fact security_group)
  group=$(fact group_of_tasks)
  if [[ -z $id ]]; then
    create create_security_group
  elif [[ $(jq '.IpPermissionsEgress == []' <<<"$group") == true ]]; then
    change "way out" aws_or_die ec2 authorize-security-group-egress --group-id "$id" \
      --ip-permissions '[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]'
  fi
  added=$(added_rules <<<"$group")
  [[ -z $added ]] || note "left to you, because somebody added it: $added"
  finish
}

# Found by its name, in any VPC.
list_security_group() {
  local groups group name
  groups=$(aws_or_die ec2 describe-security-groups --filters "Name=group-name,Values=$SECURITY_GROUP_NAME" \
    | jq -c '.SecurityGroups[]')
  while read -r group; do
    [[ -n $group ]] || continue
    name=$(jq -r '"\(.GroupId) (\(.GroupName))"' <<<"$group")
    jq .Tags <<<"$group" | ours "$name"
  done <<<"$groups"
}

remove_security_group() { aws_unless_gone ec2 delete-security-group --group-id "$1"; }
