# shellcheck shell=bash
# The gateway endpoints for S3, which CREATE_VPC_ENDPOINTS asks for.

ask_route_tables() {
  local vpc
  vpc=$(task_vpc)
  aws_or_die ec2 describe-route-tables --filters "Name=vpc-id,Values=$vpc"
}

# Prints the route tables of the subnets for tasks as a JSON list of ids: their own, else the main one of the VPC.
task_route_tables() {
  local subnets tables
  subnets=$(task_subnets)
  tables=$(fact route_tables)
  jq -c --arg subnets "$subnets" '.RouteTables as $tables
    | [$subnets | split(",")[] as $subnet
      | [$tables[] | select(any(.Associations[]; .SubnetId == $subnet))] as $own
      | (if $own != [] then $own else [$tables[] | select(any(.Associations[]; .Main))] end)[].RouteTableId]
    | unique' <<<"$tables"
}

ask_vpc_endpoints() {
  local vpc
  vpc=$(task_vpc)
  aws_or_die ec2 describe-vpc-endpoints --filters "Name=vpc-id,Values=$vpc"
}

# find_endpoints SERVICE: the gateway endpoints for it in the VPC, no matter who made them, as a JSON list.
find_endpoints() {
  fact vpc_endpoints \
    | jq -c --arg service "$1" '[.VpcEndpoints[]
      | select(.ServiceName == $service and .VpcEndpointType == "Gateway")
      | select(.State | ascii_downcase | IN("available", "pending"))]'
}

# create_endpoint SERVICE ROUTE_TABLE...
create_endpoint() {
  local vpc
  vpc=$(task_vpc)
  aws_or_die ec2 create-vpc-endpoint --vpc-endpoint-type Gateway --vpc-id "$vpc" --service-name "$1" \
    --route-table-ids "${@:2}" --tag-specifications "$(tag_specifications vpc-endpoint)"
}

# A route table takes one endpoint per service, so tables that have one already, no matter whose, are left as they are.
ensure_vpc_endpoint() {
  local service=com.amazonaws.$REGION.$1 endpoints tables missing ours
  [[ $CREATE_VPC_ENDPOINTS == true ]] || return 0
  begin "gateway endpoint" "$service"
  endpoints=$(find_endpoints "$service")
  tables=$(task_route_tables)
  missing=$(printf '%s\n' "$tables" "$endpoints" | jq -rs '.[0] - [.[1][].RouteTableIds[]] | join(" ")')
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
    create create_endpoint "$service" "${missing[@]}"
  fi
  finish
}

ensure_s3_endpoint() { ensure_vpc_endpoint s3; }

ensure_s3express_endpoint() { ensure_vpc_endpoint s3express; }

# The tag is checked again in the answer: what is removed must be ours.
list_vpc_endpoint() {
  aws_or_die ec2 describe-vpc-endpoints --filters "Name=tag:app,Values=$APP_NAME" | jq -r --arg app "$APP_NAME" '
    .VpcEndpoints[] | select(.State | ascii_downcase | startswith("delet") | not)
    | select(any(.Tags[]?; .Key == "app" and .Value == $app)) | "\(.VpcEndpointId) (\(.ServiceName))"'
}

remove_vpc_endpoint() {
  aws_unless_gone ec2 delete-vpc-endpoints --vpc-endpoint-ids "$1" | must_be_zero '.Unsuccessful | length'
}
