# shellcheck shell=bash
# What is synced, by PREFIX_FILTER and EXCLUDE, and what is wrong between settings: operate/wanted.py knows it, by the
# rules of those that read them.

WANTED="" WANTED_OF="" # what wanted printed last, and for which of them

# Prints what the settings come to, as operate/wanted.py does: a run asks it once, because the subshells of one that called
# this know it.
wanted() {
  local of=("$SRC_BUCKET" "$PREFIX_FILTER" "$EXCLUDE" "$COPY_LAST" "$EVENT_SOURCE")
  if [[ -z $WANTED || $WANTED_OF != "${of[*]@Q}" ]]; then
    WANTED=$(
      export "${SETTINGS[@]}"
      run_python operate/wanted.py
    )
    WANTED_OF=${of[*]@Q}
  fi
  printf '%s\n' "$WANTED"
}

# What is wrong with PREFIX_FILTER and EXCLUDE, and between settings.
check_wanted() {
  local name found line
  local -A kinds=([PREFIX_FILTER]="a prefix" [EXCLUDE]=patterns)
  has_jq && has_python || return 0 # without them: problems of their own
  found=$(wanted)
  for name in $(jq -r '.not_text[]' <<<"$found"); do
    problem "$name=$(printf '%q' "${!name}"): set ${kinds[$name]} of UTF-8"
  done
  found=$(jq -r '.problems[]' <<<"$found")
  while IFS= read -r line; do
    [[ -z $line ]] || problem "$line"
  done <<<"$found"
}

# How deploy.sh reads the lists, before the first step.
tell_of_lists() {
  local told line
  told=$(wanted | jq -r '.told[]')
  while IFS= read -r line; do
    [[ -z $line ]] || say "$line"
  done <<<"$told"
}

# Prints the part of the source that is synced, for a sentence.
synced_part() {
  wanted | jq -r --arg bucket "$SRC_BUCKET" '(.prefixes | map("s3://\($bucket)/\(.)") | join(" or "))
    + if .excluded == [] then "" else " (except for \(.excluded | join(", ")))" end'
}

# After a change of the settings of a deployment, in a dry run, too: prints what a reconcile brings, and how to delete
# what stays. The AWS CLI takes a folder for --recursive, and patterns that count from it, the last one the most; a [ is
# itself as [[].
tell_of_change() {
  local definition prefixes exclude old told
  definition=$(fact last_definition)
  [[ -n $definition ]] || return 0
  prefixes=$(deployed_setting PREFIX_FILTER)
  exclude=$(deployed_setting EXCLUDE)
  old=$(PREFIX_FILTER=$prefixes EXCLUDE=$exclude wanted)
  told=$(wanted | jq -r --argjson old "$old" --arg to "$DST_BUCKET" --arg sync "./sync.sh$VIA" '. as $new |
    def beyond($others): [.[] | select(. as $one | any($others[]; . as $other | $one | startswith($other)) | not)];
    def folder: split("/")[:-1] | map(. + "/") | join("") | if contains("[") then "" else . end;
    def under($folder): ltrimstr($folder) | gsub("\\["; "[[]") + "*" | @sh;
    def of: if IN("", [""]) then "" else " under \(if type == "array" then join(", ") else . end)" end;
    def removal: . as $prefix | folder as $folder | "aws s3 rm --recursive \("s3://\($to)/\($folder)" | @sh)"
      + if $prefix == $folder then "" else " --exclude \("*" | @sh) --include \(under($folder))" end
      + ([$new.prefixes[] | select(startswith($prefix)) | " --exclude \(under($folder))"] | join(""));
    ($new.prefixes | beyond($old.prefixes) | select(. != [])
      | "Existing objects\(of) are not copied yet. To copy them: \($sync) reconcile"),
    ($old.prefixes | beyond($new.prefixes)[] | "Copies\(of) that are no longer synced stay in the destination, and "
      + "nothing looks at them any more. To delete them (first with --dryrun): \(removal)"),
    ($old.excluded - $new.excluded | select(. != [])
      | "Keys like \(join(", ")) are no longer left out. To copy them: \($sync) reconcile"),
    ($new.excluded - $old.excluded | select(. != []) | "Copies like \(join(", ")) are unwanted now. "
      + "\($sync) reconcile counts them, and deletes them with: --remove-unwanted")')
  [[ -z $told ]] || printf '\nSince the last ./deploy.sh, PREFIX_FILTER or EXCLUDE has changed:\n- %s\n' "${told//$'\n'/$'\n'- }"
}
