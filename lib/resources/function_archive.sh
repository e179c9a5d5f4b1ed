# shellcheck shell=bash
# The archive of the starter: its own files, and with STARTER_COPIES=true the libraries that it copies with.

# zip_starter ARCHIVE: prints what Lambda calls its CodeSha256; then, of one with libraries, "compiled" or "plain".
zip_starter() { python3 "$PROJECT_DIR/lib/pack_function.py" "$PROJECT_DIR" "$1" "$STARTER_COPIES"; }

# Prints what is said of $TEMP_DIR/starter.zip, which it makes.
ask_starter_archive() { zip_starter "$TEMP_DIR/starter.zip"; }

# Libraries come from the internet, so they are here before the first write.
check_archive() {
  local said why
  [[ $STARTER_COPIES == true ]] && type -P python3 >/dev/null || return 0 # without Python: a problem of its own
  if ! check_pip; then
    return 0
  elif said=$(zip_starter "$TEMP_DIR/starter.zip" 2>"$TEMP_DIR/pip.log"); then
    keep starter_archive <<<"$said"
  else
    why=$(sed -n '1p;1!{$p;}' "$TEMP_DIR/pip.log" | cut -c 1-300 | paste -s -d ' ' -) # the reason, and what failed
    problem "STARTER_COPIES=true: the function could not be packed with the libraries of requirements.txt: $why:" \
      "let pip reach a package index, or set STARTER_COPIES=false"
  fi
}

tell_of_bytecode() {
  local said
  said=$(fact starter_archive)
  [[ $said != *" plain" ]] || note "this machine has no python3.13 to compile the libraries: each cold start of" \
    "$STARTER_NAME takes up to a second longer"
}
