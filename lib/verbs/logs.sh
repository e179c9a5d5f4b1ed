# shellcheck shell=bash
# usage: ./sync.sh logs [worker|starter] [--since 15m] [--follow] [--json]
#
# The log of the workers or of the starter.
#
#   without a name: what the workers did, and the starter if it copies
#   (STARTER_COPIES); worker: only the workers; starter: all that the starter
#   wrote: its decisions, its failures, and each of its runs
#
#   --since   how far back: a number and s, m, h or d (default 15m)
#   --follow  continue until Ctrl-C
#   --json    one JSON object per line: timestamp (ms), logStreamName, message

verb_logs() {
  local log=keys since=15m follow=false format=text seconds groups
  while (($#)); do
    case "$1" in
      worker | starter) log=$1 ;;
      --since) need_value "$1" "$#" && since=$2 && shift ;;
      --follow) follow=true ;;
      --json) format=json ;;
      *) usage "logs: unknown option $1" ;;
    esac
    shift
  done
  seconds=$(seconds_of "$since") || usage "logs: --since $since is not a duration such as 15m"
  start_verb
  groups=$(log_groups "$log")
  mapfile -t groups <<<"$groups"
  open_log "$format" $((($(now) - seconds) * 1000)) "${groups[@]}"
  trap 'exit 130' INT # without it Bash goes on if the command that it waits for has just ended well
  while :; do
    print_new_lines
    [[ $follow == true ]] || return 0
    sleep "$FOLLOW_PAUSE"
  done
}
