# shellcheck shell=bash
# What a run goes by and what it does: the facts, how they are compared with what is wanted, and the plan of a deployment,
# a row for each resource, which is carried out.

# --- facts ----------------------------------------------------------------------------------------------------------
#
# A call of the AWS CLI takes about a second, and a function in $(...) cannot set a variable, so answers that are needed
# again are kept in files. A fact has a name and, if there are several of its kind, what it is about: "fact role NAME"
# prints what ask_role NAME printed the first time in this run. Both are in the name of its file, so what it is about is
# the name of a resource and no value, which may be longer. What a run finds out by itself is kept in the same way:
#   created KIND NAME   this run made that resource, or would make it (create)
#   denied RESOURCE     what AWS said when it denied a call that the run can do without (aws_if_allowed)

# fact_file VARIABLE NAME [OF...]: sets a variable of the caller, because $(...) takes time, and there are hundreds.
fact_file() {
  local variable=$1 IFS=.
  shift
  printf -v "$variable" %s "$TEMP_DIR/facts/${*//[^A-Za-z0-9._-]/_}"
}

# put_file FILE COMMAND...: the file is there only when all that the command prints is in it; several may run at once.
put_file() {
  local new=$1.$BASHPID status
  "${@:2}" >"$new"
  status=$? # inside of a condition the shell goes on after a failure
  ((status == 0)) || return "$status"
  mv "$new" "$1"
}

# keep NAME [OF...]: reads the fact, from now on.
keep() {
  local file
  fact_file file "$@"
  put_file "$file" cat
}

# latest NAME [OF...]: others may change this at any time, so a plan uses the fact, and a write asks again first.
latest() { if [[ $DRY_RUN == true ]]; then fact "$@"; else "ask_$1" "${@:2}"; fi; }

# is_known NAME [OF...]
is_known() {
  local file
  fact_file file "$@"
  [[ -e $file ]]
}

# Whether AWS denied something of this resource.
was_denied() { is_known denied "$RESOURCE"; }

# What AWS said then.
denial() {
  local file
  fact_file file denied "$RESOURCE"
  sed '/^$/d' "$file"
}

# fact NAME [OF...]: if it has to be asked for, and that fails, the run ends.
fact() {
  local file
  fact_file file "$@"
  [[ -e $file ]] || put_file "$file" "ask_$1" "${@:2}"
  [[ ! -s $file ]] || printf '%s\n' "$(<"$file")" # faster than cat
}

# fact_or_reason NAME [OF...]: the same if ask_NAME may fail. Its output is the reason then, and this fails as well.
fact_or_reason() {
  local answer no=("no_$1" "${@:2}")
  if ! is_known "$@" && ! is_known "${no[@]}"; then
    if answer=$("ask_$1" "${@:2}"); then keep "$@" <<<"$answer"; else keep "${no[@]}" <<<"$answer"; fi
  fi
  if is_known "$@"; then
    fact "$@"
  else
    fact "${no[@]}"
    return 1
  fi
}

# ask_one FACT: without waiting for temporary refusals.
ask_one() {
  local words RETRY_LIMIT=1
  read -ra words <<<"$1"
  fact "${words[@]}" &>/dev/null
}

# ask_ahead FACT...: asks in parallel for what is needed later; each is a name, with what it is about. If one gets no
# answer, the code that needs it asks again, and prints the error.
ask_ahead() {
  local JOBS=()
  begin_jobs ask_one "$@"
  await_jobs
}

# --- what is wanted, and what exists --------------------------------------------------------------------------------

# same_json ONE TWO
same_json() { jq -es '.[0] == .[1]' <<<"${1:-null} ${2:-null}" >/dev/null; }

# Prints the members of object WANT that differ in HAVE; members that only HAVE has (defaults of AWS) do not count, and a
# list that is missing is an empty one.
differing() {
  jq -rs '.[0] as $want | .[1] as $have |
    def same($have): . as $want |
      if type == "object" then ($have | type) == "object" and all(keys[]; . as $k | $want[$k] | same($have[$k]))
      elif type == "array" then ($have // []) as $have | ($have | type) == "array" and length == ($have | length)
        and all(range(length); . as $i | $want[$i] | same($have[$i]))
      else . == $have end;
    [$want | keys[] | select(. as $k | $want[$k] | same($have[$k]) | not)] | join(", ")' <<<"$1 ${2:-null}"
}

# absent WANT HAVE PATH...: prints WANT with null, which stands for "is not there", at each path such as a.0.b at which HAVE
# has something: what a resource may not have, because the sync fails with it. What AWS shows as empty or false is nothing.
absent() {
  jq -cs --arg paths "${*:3}" '.[0] as $want | .[1] as $have
    | reduce ($paths | split(" ")[] | split(".") | map(tonumber? // .)) as $path ($want;
        if ($have | getpath($path)) // "" | IN("", [], {}) then . else setpath($path; null) end)' <<<"$1 ${2:-null}"
}

# exact WANT HAVE MEMBER: prints WANT with null for what only HAVE has within that member, such as a pattern or a policy:
# with a condition more it says something else.
exact() {
  jq -cs --arg member "$3" '
    def exact($have): [type, ($have | type)] as $types
      | if $types == ["object", "object"] then reduce ($have | keys[]) as $key (.; .[$key] |= exact($have[$key]))
        elif $types == ["array", "array"] and length == ($have | length)
          then [range(length) as $n | .[$n] | exact($have[$n])]
        else . end;
    .[1][$member] as $have | .[0] | if has($member) then .[$member] |= exact($have) else . end' <<<"$1 ${2:-null}"
}

# differences WANT HAVE ALL [WITHIN]: prints a JSON list of {path, from, to}, one for each value that differs; with ALL
# true also those that only HAVE has. Members of lists that have a name or an id are compared by that.
differences() {
  printf '%s\n' "${1:-null}" "${2:-null}" | jq -cs --argjson all "$3" --arg within "${4:-}" '
    def id: if type == "object" then .name // .Sid // .ID // .Id else null end;
    def has_ids: type == "array" and all(.[]; id | type == "string") and (map(id) | length == (unique | length));
    def keyed: if has_ids and . != []
      then map({key: id, value: (if keys == ["name", "value"] then .value else . end)}) | from_entries else . end;
    def compared($other): keyed as $want | ($other | keyed) as $have | [$want, $have | type] as $types
      | if $want == $have then empty
        elif $types == ["object", "object"] then
          (($want | keys) + if $all then $have | keys else [] end | unique)[] as $key
          | $want[$key] | compared($have[$key]) | .path = [$key] + .path
        elif $types == ["array", "array"] and ($want | length) == ($have | length) then
          range($want | length) as $n | $want[$n] | compared($have[$n]) | .path = [$n] + .path
        else {path: [], from: $have, to: $want} end;
    .[1] as $have
    | [.[0] | compared($have) | .path |= ([$within | select(. != "")] + map(tostring) | join("."))]'
}

# Prints the settings named by the arguments as a JSON object. As a text, jq 1.6 would read a line of more than 4 KiB in
# pieces, and lose the character at the end of one.
settings_json() {
  local name value slash='\' quote='"' members=""
  for name in "$@"; do
    value=${!name}
    value=${value//"$slash"/"$slash$slash"}
    value=${value//"$quote"/"$slash$quote"}
    members+="${members:+,} \"$name\": \"$value\""
  done
  printf '{%s}\n' "$members"
}

# --- a step ---------------------------------------------------------------------------------------------------------
#
# A step compares what is wanted with the facts: begin, then create, change or remove, then finish. In a plan it writes
# nothing and adds its row.

# begin KIND NAME
begin() {
  RESOURCE="$1 $2" KIND=$1 RESOURCE_ADVICE=""
  ACTION=none AGAIN=false CHANGES=() VALUES=() NOTES=()
}

# Every write goes through here; a plan makes none. The output of the command is dropped: a command that learns
# something keeps it as a fact.
write() {
  [[ $DRY_RUN == true ]] || "$@" >/dev/null
}

# create COMMAND...: the resource does not exist, the command makes it.
create() {
  local made
  ACTION=create
  fact_file made created "$RESOURCE"
  : >"$made"
  write "$@"
}

# was_created KIND NAME: whether this run makes that resource, or would in a dry run.
was_created() { is_known created "$1 $2"; }

# change WHAT COMMAND...: the resource differs in WHAT, the command fixes it.
change() {
  [[ $ACTION != none ]] || ACTION=change
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
  ACTION=remove
  change "$@"
}

# finish [STATE]: adds the row to the plan, with the step that carries it out and the values that would change, or prints
# that it was carried out; STATE is what it says of a resource that is neither created nor changed.
finish() {
  local state=${1:-exists} created=created changed=changed
  [[ $DRY_RUN == false ]] || created="would create" changed="would change"
  if [[ $ACTION == create ]]; then
    state=$created
  elif ((${#CHANGES[@]})); then
    state="$changed ($(join ', ' "${CHANGES[@]}"))"
  fi
  if [[ $DRY_RUN == false ]]; then
    printf '[%d/%d] %s: %s\n' "$ROW" "$ROWS" "$RESOURCE" "$state"
  else
    # jq, which takes long to start, reads all rows at once: fields end with a unit separator, rows with a record separator.
    local IFS=$'\n'
    printf '%s\x1f' "${STEP:-}" "$KIND" "${RESOURCE#"$KIND "}" "$ACTION" "$state" "$AGAIN" "${CHANGES[*]-}" \
      "${NOTES[*]-}" "${VALUES[*]-}" >>"$TEMP_DIR/plan"
    printf '\x1e' >>"$TEMP_DIR/plan"
  fi
  RESOURCE=""
}

# finish_removed WHY: as finish, if the command of the step removes the resource.
finish_removed() {
  local removed=removed
  [[ $DRY_RUN == false ]] || removed="would remove"
  ACTION=remove
  finish "$removed, $1"
}

# note WHAT: a remark about the resource, printed above its line.
note() { if [[ $DRY_RUN == true ]]; then NOTES+=("      $*"); else say "      $*"; fi; }

LEFT=()

# leave WHAT: something that a run could not do and can do without; print_left reports it at the end.
leave() {
  LEFT+=("$*")
  AGAIN=true
}

print_left() {
  ((${#LEFT[@]})) || return 0
  printf '\nNot done, because your credentials do not allow it:\n'
  printf -- '- %s\n' "${LEFT[@]}"
}

join() {
  local separator=$1 joined=$2
  shift 2
  joined+=$(printf '%s' "${@/#/$separator}")
  printf '%s\n' "$joined"
}

# --- the plan -------------------------------------------------------------------------------------------------------

# make_plan STEP...: a step that is not for this deployment adds no row.
make_plan() {
  local step DRY_RUN=true
  : >"$TEMP_DIR/plan"
  for step in "$@"; do run_step "$step"; done
}

# run_step STEP: a function with its arguments, which carries out one row of the plan, or with each more of them. STEP is
# for finish, which writes it into the row.
run_step() {
  local STEP=$1 words
  read -ra words <<<"$1"
  "${words[@]}"
}

# each FUNCTION ARGUMENTS...: a step for each of the arguments.
each() {
  local arguments
  for arguments in "${@:2}"; do run_step "$1 $arguments"; done
}

# Prints the rows as a JSON list.
plan_rows() {
  jq -Rs 'def lines: split("\n") | map(select(. != "")); split("\u001e")[:-1] | map(split("\u001f")
    | {step: .[0], kind: .[1], name: .[2], action: .[3], state: .[4], again: (.[5] == "true"), differs: (.[6] | lines),
      notes: .[7], values: (.[8] | lines | map(fromjson) | add // [])})' "$TEMP_DIR/plan"
}

# Prints each row of the plan, after its step has carried it out if there is something to do. A step that set AGAIN runs
# again: what was denied may be allowed by now, at least in part, and what the plan assumed may not have come true. The
# lines and notes are made as printf %b takes them.
carry_out() {
  local listed rows row step writes line notes
  listed=$(plan_rows | jq -r "$JQ_TEXT"'length as $of | to_entries[] | .key as $n | .value
    | [.step, .action != "none" or .again, (["[\($n + 1)/\($of)] \(.kind) \(.name): \(.state)", (select(.action == "change")
      | .values[] | "      \(.path): \(.from | tojson) -> \(.to | tojson)" | visible)] | join("\n")), .notes]
    | @tsv')
  mapfile -t rows <<<"$listed"
  ROW=0 ROWS=${#rows[@]}
  [[ $DRY_RUN == true ]] || LEFT=()
  rm -f "$TEMP_DIR"/facts/denied.*
  for row in "${rows[@]}"; do
    IFS=$'\t' read -r step writes line notes <<<"$row"
    ROW=$((ROW + 1))
    if [[ $writes == true && $DRY_RUN == false ]]; then
      run_step "$step"
    else
      [[ -z $notes ]] || say "$(printf '%b' "$notes")"
      printf '%b\n' "$line"
    fi
  done
}

# Prints the plan as JSON, with how many resources a run would create, change or remove.
print_plan() {
  plan_rows | jq '{changes: (map(select(.action != "none")) | length), resources: map({kind, name, action}
    + if .action == "change" then {differs, values} else {} end)}'
}
