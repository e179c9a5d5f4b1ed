# shellcheck shell=bash
# One line per resource of a deployment: begin, then create or change, then finish. A dry run also has a plan: what
# would be done to each, and each value as it is and as it would be.

# begin KIND NAME
begin() {
  RESOURCE="$1 $2" KIND=$1
  RESOURCE_ADVICE=""
  CREATED=false REMOVED=false
  CHANGES=() VALUES=()
  STEP=$((STEP + 1))
}

# Every write goes through here; a dry run makes none. What the command prints goes nowhere: a command that learns
# something keeps it.
write() {
  [[ $DRY_RUN == true ]] || "$@" >/dev/null
}

# create COMMAND...: the resource does not exist, the command makes it.
create() {
  CREATED=true
  keep created "$RESOURCE" <<<true
  write "$@"
}

# was_created KIND NAME: whether this run made that resource, or would make it in a dry run.
was_created() { is_known created "$1 $2"; }

# change WHAT COMMAND...: the resource differs in WHAT, the command mends it.
change() {
  CHANGES+=("$1")
  write "${@:2}"
}

# change_from HAVE WANT WHAT COMMAND...: as change, if both values are known, as JSON; an empty one stands for null.
change_from() {
  [[ $DRY_RUN == false ]] || VALUES+=("$(differences "$2" "$1" true "$3")")
  change "${@:3}"
}

# change_members WANT HAVE COMMAND...: as change, if members of object WANT differ in HAVE.
change_members() {
  local different
  different=$(differing "$1" "$2")
  [[ -n $different ]] || return 0
  [[ $DRY_RUN == false ]] || VALUES+=("$(differences "$1" "$2" false)")
  change "$different" "${@:3}"
}

# remove WHY COMMAND...: the resource is there, the command removes it.
remove() {
  REMOVED=true
  change "$@"
}

# finish [STATE]: prints the line; STATE is what it says of a resource that was neither created nor changed.
finish() {
  local state=${1:-exists} created=created changed=changed
  [[ $DRY_RUN == false ]] || created="would create" changed="would change"
  if [[ $CREATED == true ]]; then
    state=$created
  elif ((${#CHANGES[@]})); then
    state="$changed ($(join ', ' "${CHANGES[@]}"))"
  fi
  printf '[%d/%d] %s: %s\n' "$STEP" "$STEPS_TOTAL" "$RESOURCE" "$state"
  [[ $DRY_RUN == false ]] || note_plan
  RESOURCE=""
}

# finish_removed WHY: as finish, if the command of the step removes the resource.
finish_removed() {
  local removed=removed
  [[ $DRY_RUN == false ]] || removed="would remove"
  REMOVED=true
  finish "$removed, $1"
}

# leave WHAT: something that a run could not do and can do without; told at its end, by print_left.
leave() { LEFT+=("$*"); }

print_left() {
  ((${#LEFT[@]})) || return 0
  printf '\nLeft, as your credentials may not do it:\n'
  printf -- '- %s\n' "${LEFT[@]}"
}

join() {
  local separator=$1 joined=$2
  shift 2
  joined+=$(printf '%s' "${@/#/$separator}")
  printf '%s\n' "$joined"
}

# --- the plan of a dry run ------------------------------------------------------------------------------------------

# Adds the resource to the plan, and prints its values below its line.
note_plan() {
  local action=none differs
  if [[ $CREATED == true ]]; then
    action=create
  elif [[ $REMOVED == true ]]; then
    action=remove
  elif ((${#CHANGES[@]})); then
    action=change
  fi
  differs=$(printf '%s\n' "${CHANGES[@]-}" | jq -Rn '[inputs | select(. != "")]')
  printf '%s\n' "${VALUES[@]-}" | jq -cn --arg kind "$KIND" --arg name "${RESOURCE#"$KIND "}" --arg action "$action" \
    --argjson differs "$differs" '[inputs[]] as $values | {$kind, $name, $action}
    + if $action == "change" then {$differs, $values} else {} end' \
    | tee -a "$TEMP_DIR/plan" | jq -r '.values[]? | "      \(.path): \(.from | tojson) -> \(.to | tojson)"'
}

# Prints how many resources a run would create, change or remove.
count_changes() { jq -s 'map(select(.action != "none")) | length' "$TEMP_DIR/plan"; }

# Prints the plan as JSON.
print_plan() { jq -s --argjson changes "$(count_changes)" '{$changes, resources: .}' "$TEMP_DIR/plan"; }
