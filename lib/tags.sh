# shellcheck shell=bash
# Telling what deploy.sh made from what others named alike: it has the tag app=APP_NAME.

# ours NAME: reads the tags of NAME in any of AWS's notations; prints NAME if deploy.sh made it.
ours() {
  local tags
  tags=$(cat)
  if jq -e --arg app "$APP_NAME" 'if type == "object" then .app == $app
    else any(.[]?; (.Key // .key) == "app" and (.Value // .value) == $app) end' <<<"${tags:-null}" >/dev/null; then
    printf '%s\n' "$1"
  else
    say "      stays: $1, because it has no tag app=$APP_NAME"
  fi
}
