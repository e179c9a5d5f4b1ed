# shellcheck shell=bash
# Reads the dead-letter queue without changing it, for ./sync.sh wait; operate/dead_letters.py is for the other verbs.

readonly DEAD_LETTERS_SHOWN=100

# look_at_ten URL: takes up to 10 messages from the queue for 30 seconds.
look_at_ten() {
  local answer
  answer=$(aws_or_die sqs receive-message --queue-url "$1" --max-number-of-messages 10 --wait-time-seconds 1 \
    --visibility-timeout 30 --attribute-names All)
  jq -c '.Messages // [] | .[] | {id: .MessageId, handle: .ReceiptHandle, body: .Body,
    sent: (.Attributes.SentTimestamp | tonumber / 1000 | floor)}' <<<"${answer:-null}"
}

ask_dead_letters() { find_numbers "$DLQ_NAME"; }

# count_dead_letters: how many messages the queue held before this run looked at it, as SQS counts them: approximately.
count_dead_letters() { fact dead_letters | jq '[.[]?] | add // 0'; }

# Prints the queue's first messages as a JSON list. None is seen twice, because those already seen stay invisible
# meanwhile, as do those that somebody else is looking at.
look_at_messages() {
  local found=() ten url entries
  url=$(existing_queue_url "$DLQ_NAME")
  fact dead_letters >/dev/null
  while ((${#found[@]} < DEAD_LETTERS_SHOWN)); do
    ten=$(look_at_ten "$url")
    [[ -n $ten ]] || break
    mapfile -t -O "${#found[@]}" found <<<"$ten"
  done
  entries=$(printf '%s\n' ${found[@]+"${found[@]}"} | jq -sc 'map({Id: .id, ReceiptHandle: .handle, VisibilityTimeout: 0})
    | range(0; length; 10) as $i | .[$i:$i + 10]')
  while read -r ten; do
    [[ -z $ten ]] || aws_or_die sqs change-message-visibility-batch --queue-url "$url" --entries "$ten" >/dev/null
  done <<<"$entries" # they are visible again
  printf '%s\n' ${found[@]+"${found[@]}"} | jq -s .
}

# hint_at_more SEEN: says how many messages were not seen, and why.
hint_at_more() {
  local all
  all=$(count_dead_letters)
  if ((all <= $1)); then
    return
  elif (($1 >= DEAD_LETTERS_SHOWN)); then
    say "these are the first $1 of about $all messages in the dead-letter queue"
  else
    say "$(counted $((all - $1)) message) cannot be seen, because somebody else is looking at the dead-letter queue, for" \
      "example in the console of SQS: try again in a minute"
  fi
}

# Adds the keys that each message names.
with_keys() {
  PYTHONPATH=$PROJECT_DIR python3 -B -c '
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
import json, sys
from mirror.model.message_keys import keys_of

messages = json.load(sys.stdin)
for message in messages:
    try:
        message["keys"] = keys_of(json.loads(message["body"]))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        message["keys"] = []
print(json.dumps(messages))'
}

# failures_since TIME: the failures of keys in the log since then, the newest first, as failures_of prints them.
failures_since() {
  query keys $(($(now) - $1 + 60)) "fields @message | $(like "$FAILED_LINE") | sort @timestamp desc | limit 10000" \
    | failures_of
}
