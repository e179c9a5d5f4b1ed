# shellcheck shell=bash
# The security group of the workers.

# Prints its id, or nothing if the VPC for tasks has none of its name.
ask_security_group() {
  local vpc
  vpc=$(task_vpc)
  aws_or_nothing ec2 describe-security-groups \
    --filters "Name=vpc-id,Values=$vpc" "Name=group-name,Values=$SECURITY_GROUP_NAME" \
    | jq -r '.SecurityGroups[0].GroupId // empty'
}

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

# A new security group lets nothing in and everything out, which is what a worker needs.
ensure_security_group() {
  local id
  begin "security group" "$SECURITY_GROUP_NAME"
  id=$(fact security_group)
  [[ -n $id ]] || create create_security_group
  finish
}

# The tag is checked again in the answer: what is removed must be ours.
list_security_group() {
  aws_or_die ec2 describe-security-groups --filters "Name=tag:app,Values=$APP_NAME" | jq -r --arg app "$APP_NAME" \
    --arg name "$SECURITY_GROUP_NAME" '.SecurityGroups[] | select(.GroupName == $name)
    | select(any(.Tags[]?; .Key == "app" and .Value == $app)) | "\(.GroupId) (\(.GroupName))"'
}

remove_security_group() { aws_unless_gone ec2 delete-security-group --group-id "$1"; }
