# shellcheck shell=bash
# One line per resource of a deployment: begin, then create or change, then finish.

# begin KIND NAME
begin() {
  RESOURCE="$1 $2"
  CREATED=false
  CHANGES=()
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
  keep "created $RESOURCE" <<<true
  write "$@"
}

# was_created KIND NAME: whether this run made that resource, or would make it in a dry run.
was_created() { is_known "created $1 $2"; }

# change WHAT COMMAND...: the resource differs in WHAT, the command mends it.
change() {
  CHANGES+=("$1")
  write "${@:2}"
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
  RESOURCE=""
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
