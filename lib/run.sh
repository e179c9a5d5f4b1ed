# shellcheck shell=bash
# One run of a script: its own folder, and what it found out or made, kept there. A call of the AWS CLI takes about a
# second, and a function in $(...) cannot set a variable, so answers that are needed again are kept in files.

# What every run begins with.
start_run() {
  TEMP_DIR=$(mktemp -d)
  trap 'rm -rf "$TEMP_DIR"' EXIT
  mkdir "$TEMP_DIR/known"
  RESOURCE=""
  begin_checks
  set_names
}

# known_file NAME: the file for what is known under that name.
known_file() { printf '%s\n' "$TEMP_DIR/known/${1//[^A-Za-z0-9._-]/_}"; }

# put_file FILE COMMAND...: the file is there only when all that the command prints is in it; several may run at once.
put_file() {
  local new=$1.$BASHPID
  "${@:2}" >"$new"
  mv "$new" "$1"
}

# keep NAME: reads what is known under that name from now on.
keep() {
  local file
  file=$(known_file "$1")
  put_file "$file" cat
}

is_known() {
  local file
  file=$(known_file "$1")
  [[ -e $file ]]
}

# known_or_ask NAME COMMAND...: prints what is known under that name. What is not known yet is what the command prints;
# a command that fails ends the run.
known_or_ask() {
  local file
  file=$(known_file "$1")
  is_known "$1" || put_file "$file" "${@:2}"
  cat "$file"
}
