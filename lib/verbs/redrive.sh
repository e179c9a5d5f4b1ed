# shellcheck shell=bash
# usage: ./sync.sh redrive [--list] [--purge [--yes]] [--json]
#
# Show what is in the dead-letter queue, and retry it.
#
# Shows the first 100 messages: the key, when it failed last, and why. Then moves
# all messages back to the queue.
#
#   --list   only show, also with --purge
#   --purge  delete all instead; asks first
#   --yes    do not ask
#   --json   what is shown as JSON on stdout, everything else on stderr

# move_back FROM_ARN TO_ARN: moves all messages; prints how many.
move_back() {
  local move
  aws_or_die sqs start-message-move-task --source-arn "$1" --destination-arn "$2" >/dev/null
  while :; do
    move=$(aws_or_die sqs list-message-move-tasks --source-arn "$1" --max-results 1 | jq '.Results[0]')
    [[ $(jq -r .Status <<<"$move") == RUNNING ]] || break
    sleep 1
  done
  [[ $(jq -r .Status <<<"$move") == COMPLETED ]] || die "not all messages could be moved back: $move"
  jq '.ApproximateNumberOfMessagesMoved' <<<"$move"
}

# say_hints MESSAGES: what a reason that is missing may mean, and what to do with those that no retry turns into events. A
# worker cannot know which key they name.
say_hints() {
  local missing unreadable
  missing=$(jq --arg not_in_log "$NOT_IN_LOG" '[.[].keys[] | select(.reason == $not_in_log).key] | unique | length' <<<"$1")
  unreadable=$(jq 'map(select(.keys == [])) | length' <<<"$1")
  ((missing == 0)) || say "the log has no failure of $(counted "$missing" key): its lines expire (LOG_RETENTION_DAYS), may be" \
    "dropped, and only the newest 10000 are read; ./sync.sh$VIA redrive retries them as well"
  ((unreadable == 0)) || say "$unreadable of these are not S3 events: if you move them back, they fail again and return" \
    "here. Find out who sent them. When nothing else is left: ./sync.sh$VIA redrive --purge"
}

# act_on_messages list|move|purge ASSUME_YES: prints what was done.
act_on_messages() {
  local moved url
  case "$1" in
    list) printf 'nothing was moved; when the reasons are fixed: ./sync.sh%s redrive\n' "$VIA" ;;
    move)
      if_paused say "no worker runs before"
      moved=$(move_back "$DLQ_ARN" "$QUEUE_ARN") # a failure inside of an argument would not end the run
      printf '%s moved back to the queue, for the next worker to retry\n' "$(counted "$moved" message)"
      ;;
    purge)
      [[ $2 == true ]] || need_yes "Delete all messages of $DLQ_NAME? Their keys stay as they are until they change again." \
        "nothing was deleted"
      url=$(queue_url "$DLQ_NAME")
      aws_or_die sqs purge-queue --queue-url "$url"
      printf 'all messages of %s are deleted; ./sync.sh%s reconcile finds the keys that they named\n' "$DLQ_NAME" "$VIA"
      ;;
  esac
}

# Leaves what the queue holds in a file of the run.
keep_messages() { look_at_messages | with_keys | with_reasons >"$TEMP_DIR/messages"; }

verb_redrive() {
  local action=move list=false yes=false json=false messages seen all
  while (($#)); do
    case "$1" in
      --list) list=true ;;
      --purge) action=purge ;;
      --yes) yes=true ;;
      --json) json=true ;;
      *) usage "redrive: unknown option $1" ;;
    esac
    shift
  done
  [[ $list == false ]] || action=list
  start_verb
  say_while "redrive: reading messages and the log" keep_messages
  messages=$(<"$TEMP_DIR/messages")
  if [[ $json == true ]]; then
    visible_lines <<<"$messages"
  else
    jq -r "$JQ_TEXT"'([.[].keys[]] | group_by(.key)[]
        | (if length > 1 then " (\(length) messages)" else "" end) as $many
        | .[0] | "\(.key | tojson)\($many)", "  \(if .at then "failed \(.at)" else "the failure is" end) \(.reason)"),
      (.[] | select(.body) | "no S3 event, sent \(.sent): \(.body)") | visible | folded(4)' <<<"$messages"
  fi
  seen=$(jq length <<<"$messages") all=$(count_dead_letters)
  hint_at_more "$seen"
  say_hints "$messages"
  if ((seen + all == 0)); then
    say "the dead-letter queue is empty"
    return
  fi
  ((seen)) || [[ $action != move ]] || die "nothing was moved"
  act_on_messages "$action" "$yes" >&2
}
