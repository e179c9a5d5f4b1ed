# shellcheck shell=bash
# ./sync.sh redrive: what is in the dead-letter queue, and having it tried again.

print_redrive_help() {
  cat <<'HELP'
usage: ./sync.sh redrive [--list] [--purge [--yes]] [--json]

Shows the first 100 messages of the dead-letter queue: the key, when it failed last, and why. Then moves all back to
the queue.

  --list   only show
  --purge  delete all instead; asks first
  --yes    do not ask
HELP
}

print_messages() {
  jq -r "$JQ_VISIBLE"'([.[].keys[]] | group_by(.key)[]
      | (if length > 1 then " (\(length) messages)" else "" end) as $many
      | .[0] | "\(.key | tojson)\($many)", "  \(if .at then "failed \(.at)" else "the failure is" end) \(.reason)"),
    (.[] | select(.body) | "no S3 event, sent \(.sent): \(.body)") | visible'
}

# move_back FROM_ARN TO_ARN: moves all messages; prints how many.
move_back() {
  local move
  aws_or_die sqs start-message-move-task --source-arn "$1" --destination-arn "$2" >/dev/null
  while :; do
    move=$(aws_or_die sqs list-message-move-tasks --source-arn "$1" --max-results 1 | jq '.Results[0]')
    [[ $(jq -r .Status <<<"$move") == RUNNING ]] || break
    sleep 1
  done
  [[ $(jq -r .Status <<<"$move") == COMPLETED ]] || die "moving the messages back did not end well: $move"
  jq '.ApproximateNumberOfMessagesMoved' <<<"$move"
}

confirm_purge() {
  local answer
  [[ -t 0 ]] || die "nothing was deleted: there is nobody to ask; use --yes"
  read -r -p "Delete all messages of $DLQ_NAME? Their keys stay as they are until they change again. [y/N] " answer
  [[ $answer == [yY]* ]] || die "nothing was deleted"
}

# Reads messages; says how many more the queue holds, as SQS counts them: approximately.
hint_at_more() {
  local shown all
  shown=$(jq length)
  ((shown >= DEAD_LETTERS_SHOWN)) || return 0
  all=$(find_numbers "$DLQ_NAME" | jq '. // {} | (.visible // 0) + (.in_flight // 0)')
  ((all <= shown)) || say "these are the first $shown of about $all messages"
}

# Reads messages; says what a reason that is missing may mean.
hint_at_missing() {
  local missing
  missing=$(jq --arg not_in_log "$NOT_IN_LOG" '[.[].keys[] | select(.reason == $not_in_log).key] | unique | length')
  ((missing == 0)) || say "the log has no failure of $missing keys: its lines expire (LOG_RETENTION_DAYS), may be" \
    "dropped, and only the newest 10000 are read; ./sync.sh$VIA redrive tries these keys too"
}

# act_on_messages list|move|purge ASSUME_YES: prints what was done.
act_on_messages() {
  local moved
  case "$1" in
    list) printf 'nothing was moved\n' ;;
    move)
      moved=$(move_back "$DLQ_ARN" "$QUEUE_ARN") # a failure inside of an argument would not end the run
      printf '%s messages are back in the queue; the next worker tries them\n' "$moved"
      ;;
    purge)
      [[ $2 == true ]] || confirm_purge
      aws_or_die sqs purge-queue --queue-url "$(queue_url "$DLQ_NAME")"
      printf 'all messages of %s are deleted; ./sync.sh%s reconcile finds what they stood for\n' "$DLQ_NAME" "$VIA"
      ;;
  esac
}

verb_redrive() {
  local action=move yes=false json=false url messages
  while (($#)); do
    case "$1" in
      --list) action=list ;;
      --purge) action=purge ;;
      --yes) yes=true ;;
      --json) json=true ;;
      --help) print_redrive_help && return ;;
      *) usage "redrive: unknown option $1" ;;
    esac
    shift
  done
  start_verb
  url=$(existing_queue_url "$DLQ_NAME")
  messages=$(look_at_messages "$url" | with_keys | with_reasons)
  if [[ $json == true ]]; then visible_lines <<<"$messages"; else print_messages <<<"$messages"; fi
  hint_at_more <<<"$messages"
  hint_at_missing <<<"$messages"
  [[ $messages != '[]' ]] || { say "the dead-letter queue is empty" && return; }
  act_on_messages "$action" "$yes" >&2
}
