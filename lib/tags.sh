# shellcheck shell=bash
# The tags of everything that deploy.sh makes: app=APP_NAME, by which it is recognized, the release, and those of TAGS.

# Keys that mean something to deploy.sh. Keys of roles differ by more than case (IAM API reference, Tag).
readonly OWN_TAG_KEYS=(app version region turned-on-events-of)

# A resource takes 50 tags, and three of ours are on some.
readonly MOST_TAGS=47

# Prints TAGS as a JSON list of {key, value}. Blanks around a key or a value do not count; without a "=" there is no value.
given_tags() {
  jq -nc --arg tags "$TAGS" 'def trimmed: gsub("\\A\\s+|\\s+\\z"; "");
    [$tags | select(. != "") | splits(",") | split("=")
    | {key: (.[0] // "" | trimmed), value: (if length > 1 then .[1:] | join("=") | trimmed else null end)}]'
}

# all_tags [KEY VALUE]: prints the tags of what is made, and one more, as a JSON list of {key, value}, the way of ECS.
all_tags() {
  local given
  given=$(given_tags)
  jq -nc --argjson given "$given" --arg app "$APP_NAME" --arg version "$VERSION" --arg key "${1-}" --arg value "${2-}" '
    [{key: "app", value: $app}, {key: "version", value: $version}] + [{$key, $value} | select(.key != "")] + $given'
}

# Two other ways in which AWS writes tags: both read that of ECS.
as_map() { jq -c from_entries; }

as_upper() { jq -c 'map({Key: .key, Value: .value})'; }

# tag_specifications TYPE: those of EC2, for a resource that it is to make.
tag_specifications() { all_tags | as_upper | jq -c --arg type "$1" '[{ResourceType: $type, Tags: .}]'; }

# ours NAME: reads the tags of NAME in any of AWS's notations; prints NAME if deploy.sh made it. Otherwise it stays, which
# ./cleanup.sh fails with.
ours() {
  local tags
  tags=$(cat)
  if jq -e --arg app "$APP_NAME" 'if type == "object" then .app == $app
    else any(.[]?; (.Key // .key) == "app" and (.Value // .value) == $app) end' <<<"${tags:-null}" >/dev/null; then
    printf '%s\n' "$1"
  else
    say "      stays: $1, because it has no tag app=$APP_NAME"
    printf '%s\n' "$1" >>"$TEMP_DIR/stays"
  fi
}
