# shellcheck shell=bash
# What deploy.sh says about PREFIX_FILTER and EXCLUDE: how it reads them, and what is left to do after a change of them.

# Before the first step. A single prefix, which is the usual case, needs no explanation.
tell_of_lists() {
  local prefixes merged prefix pattern
  prefixes=$(synced_prefixes | jq -r 'select(length > 1) | "\(length) prefixes are synced: \(join(", "))"')
  [[ -z $prefixes ]] || say "PREFIX_FILTER: $prefixes"
  merged=$(merged_prefixes)
  [[ -z $merged ]] || say "PREFIX_FILTER: ${merged//$'\n'/$'\n'PREFIX_FILTER: }"
  while IFS=$'\t' read -r prefix pattern; do
    say "EXCLUDE: $pattern leaves out everything under the prefix $prefix"
  done < <(excluded_prefixes)
}

# Prints the part of the source that is synced, for a sentence.
synced_part() {
  synced_prefixes | jq -r --arg bucket "$SRC_BUCKET" --argjson excluded "$(items_of "$EXCLUDE")" '
    (map("s3://\($bucket)/\(.)") | join(" or "))
    + if $excluded == [] then "" else " (except for \($excluded | join(", ")))" end'
}

# changed_prefixes OLD NEW: of two JSON lists prints what a reconcile brings, and how to delete what stays. The AWS CLI
# takes a folder for --recursive, and patterns that count from it, the last one the most; a [ is itself as [[].
changed_prefixes() {
  jq -nr --argjson old "$1" --argjson new "$2" --arg to "$DST_BUCKET" --arg sync "./sync.sh${LOCAL_ENGINE:+ --local}" '
    def beyond($others): [.[] | select(. as $one | any($others[]; . as $other | $one | startswith($other)) | not)];
    def folder: split("/")[:-1] | map(. + "/") | join("") | if contains("[") then "" else . end;
    def under($folder): ltrimstr($folder) | gsub("\\["; "[[]") + "*" | @sh;
    def of: if IN("", [""]) then "" else " under \(if type == "array" then join(", ") else . end)" end;
    def removal: . as $prefix | folder as $folder | "aws s3 rm --recursive \("s3://\($to)/\($folder)" | @sh)"
      + if $prefix == $folder then "" else " --exclude \("*" | @sh) --include \(under($folder))" end
      + ([$new[] | select(startswith($prefix)) | " --exclude \(under($folder))"] | join(""));
    ($new | beyond($old) | select(. != [])
      | "Existing objects\(of) are not copied yet. To copy them: \($sync) reconcile"),
    ($old | beyond($new)[] | "Copies\(of) that are no longer synced stay in the destination, and nothing looks at "
      + "them any more. To delete them (first with --dryrun): \(removal)")'
}

# changed_exclusions OLD NEW: of two JSON lists.
changed_exclusions() {
  jq -nr --argjson old "$1" --argjson new "$2" --arg sync "./sync.sh${LOCAL_ENGINE:+ --local}" '
    ($old - $new | select(. != [])
      | "Keys like \(join(", ")) are no longer left out. To copy them: \($sync) reconcile"),
    ($new - $old | select(. != []) | "Copies like \(join(", ")) are unwanted now. "
      + "\($sync) reconcile counts them, and deletes them with: --remove-unwanted")'
}

# After a change of the settings of a deployment, in a dry run, too.
tell_of_change() {
  local old_prefixes old_exclusions prefixes exclusions told
  [[ -n $(fact task_definition) ]] || return 0
  old_prefixes=$(prefixes_of "$(deployed_setting PREFIX_FILTER)")
  old_exclusions=$(items_of "$(deployed_setting EXCLUDE)")
  prefixes=$(synced_prefixes)
  exclusions=$(items_of "$EXCLUDE")
  told=$(changed_prefixes "$old_prefixes" "$prefixes" && changed_exclusions "$old_exclusions" "$exclusions")
  [[ -z $told ]] || printf '\nSince the last ./deploy.sh, PREFIX_FILTER or EXCLUDE has changed:\n- %s\n' "${told//$'\n'/$'\n'- }"
}
