# What ./sync.sh status makes of its parts: gathered puts them together, judge adds the one word and its reasons, and
# lines is the text below the word. $via is what a command needs for the local cloud, $keep the seconds for which the
# queue keeps a message, $starter_role and $task_role name the roles.

def behind_seconds: 900; # older than that, the oldest message says that the sync is behind

# A number of things; all messages of a queue; until when request metrics are on; whether a part could be read.
def amount($number; $what): "\($number) \($what)\(if $number == 1 then "" else "s" end)";
def all_messages: . // {} | (.visible // 0) + (.in_flight // 0) + (.delayed // 0);
def on_until: if (.until | fromdateiso8601) < now then "were for the time until \(.until), and are still charged"
  else "are on until \(.until)" end;
def is_known($part): any(.not_known[]?; . == $part) | not;

# Of the starter's error: what is not said here anyway, as its guard found it; the error with only some of that; whether
# that is of its guard, so that somebody has fixed it since; what to do if the starter was denied or changed.
def unsaid($faults): (split("\n")[0] // "") | sub("^.*RuntimeError: "; "") | split("; ") - $faults;
def with_only($parts): split("\n")[0] | (capture("^(?<type>.*RuntimeError: )").type // "") + ($parts | join("; "));
def is_of_guard: test(": (remove it, then )?[.]/deploy[.]sh( --local)?(, then [.]/sync[.]sh( --local)? reconcile .*)?$");
def with_cure($role): . + if test("permissions boundary")
    then ": ./deploy.sh\($via) leaves that boundary: aws iam delete-role-permissions-boundary --role-name \($role), or name "
      + "one that allows it (ROLE_BOUNDARY_ARN)"
  elif test("AccessDenied|not authorized")
    then ": ./deploy.sh\($via) restores its role; for other policies see \"Denied\" in docs/troubleshooting.md"
  elif test("^\\[ERROR\\] (Runtime[.]|(Attribute|Import|Key|ModuleNotFound|Name|Syntax|Type|Value)Error: )")
    then ": ./deploy.sh\($via) restores the function" else "" end;

# The next slot of an audit (launch/audit.py). The age of a time in seconds.
def next_audit($days; $at): (($at - 7200) / 86400 | floor) as $day | ($day - $day % $days + $days) * 86400 + 7200 | todate;
def seconds_ago: now - (sub("[.]\\d+"; "") | fromdateiso8601) | floor;

# A release is older than another one, number by number; -dev comes before the release.
def order: [scan("\\d+") | tonumber] + [if endswith("-dev") then 0 else 1 end];

# Of a list of objects with the parts; "not_known" beside one names it if it could not be read.
def gathered: map(.not_known[]?) as $not_known
  | add | if .queue then .queue.oldest_seconds = .oldest else . end
  | del(.oldest, .not_known, (.markers, .paused, .reads | select(. == null)))
  | if $not_known == [] then . else .not_known = $not_known end;

# The outage to report: one that continues, otherwise the newest. What the starter cannot sync, it hands over to a worker,
# which then reports an outage of its own.
def choose_outage:
  [.workers[].id] as $running | .outage = (.outages | map(. + {state: (if .event != "began" then .event
    elif .task | IN($running[]) then "goes on" elif .task | startswith("[$LATEST]") then "handed over"
    else "cut short" end)})
  | ([.[] | select(.state == "goes on")] | min_by(.since)) // max_by(.at)) | del(.outages);

# The one word and the reasons for it, and the parts.
def judge:
  (.queue | all_messages) as $messages
  | (180 * (.rule.minutes // 1)) as $silence
  | [.faults[] | "\(.fault): \(.cure)"] as $faults
  | ((.starter.error // "") | unsaid($faults)) as $unsaid
  | (if .events.error == "" then $unsaid | map(select(is_of_guard | not)) else $unsaid end) as $unfixed
  | if $unsaid != [] and $unfixed == [] then .starter.fixed = true else . end
  | ([.paused.since | strings | try fromdateiso8601 catch null][0]) as $since
  | if $since then .paused.events_until = ([now - (.queue.oldest_seconds // 0), $since] | min + $keep | floor | todate)
    else . end
  | [select(.paused and ($since | not)) | "PAUSED_SINCE=\(.paused.since | tojson) of the function is not a time, and "
      + "nothing is copied until ./sync.sh\($via) resume"] as $no_time
  | if .audit then .audit |= (.next = next_audit(.days; now) | .last |= if . then .seconds_ago = (.at | seconds_ago) else . end)
    else . end
  | if .version then .version |= (.older = (.error == "" and (.deployed | order) < (.checkout | order))) else . end
  | [(.source, .destination | select(.error != "") | "the bucket \(.name) does not answer: \(.error)"),
     $faults[], $no_time[],
     (select(.starter == null and is_known("starter") and $silence <= 3600 and (.function_age // 0) > $silence)
       | "the starter has not run for an hour"),
     (.starter | select($unfixed != []) | "the starter failed: \(.error | with_only($unfixed) | with_cure($starter_role))"),
     (.starter.decision | select(. and (.failing // "") != "") | "workers stop before they start working: \(.failing)"),
     (.outage | select(.state == "goes on") | "no key can be synced since \(.since): \(.reason // "" | with_cure($task_role))"),
     (.lag.newest as $newest | .outage | select($messages > 0 and .state == "ended" and .at > ($newest // ""))
       | "a worker ended in an outage, and none has synced a key since: \(.reason)"),
     (.starter | select(. and .seconds_ago > $silence) | "the starter has not run for \(.seconds_ago) s"),
     (.dead_letters | all_messages | select(. > 0) | "\(amount(.; "message")) in the dead-letter queue: ./sync.sh\($via) redrive --list"),
     (.function_age as $since | select(.paused | not) | .audit | select(. and (.last.seconds_ago // $since) > (.days + 1) * 86400)
       | "no audit has finished for \(.days + 1) days: ./sync.sh\($via) logs starter says why none started"),
     (.audit.last | select(. and .status != 0) | "the last audit failed: \(if .end == "stopped" then "it was stopped"
       else "it could not fix all differences" end); repeat it: ./sync.sh\($via) reconcile --audit"),
     (.starter.decision | .audit.problem // empty | "an audit was to start or run: \(.)")]
    as $failing
  | [(.queue.oldest_seconds | select(. and . > behind_seconds) | "the oldest message has been waiting for \(. / 60 | floor) min"),
     (.starter.decision | select(.) | .failures[] | "a worker was not started: \(.)")] as $late
  | [.paused | select($since) | "since \(.since) nothing is copied, until ./sync.sh\($via) resume; events wait in the queue \(
      "")until \(.events_until)"] as $paused
  | if $failing != [] then {state: "failing", reasons: ($failing + if $paused == [] then $late else $paused end)}
    elif $paused != [] then {state: "paused", reasons: $paused}
    elif $late != [] and $messages > 0 then {state: "behind", reasons: $late}
    elif $messages > 0 or any(.workers[]; .stays | not) then {state: "working", reasons: []}
    else {state: "idle", reasons: []} end + .;

def bucket: "s3://\(.name)  \(if .error == "" then "answers" else .error end)";
def counted: group_by(.) | map("\(length) \(.[0])") | join(", ");
def size: if . % 1048576 == 0 then "\(. / 1048576) MiB" else "\(.) bytes" end;
def events: {sqs: "sqs: a notification of the bucket",
    eventbridge: "eventbridge: a rule\(if .at_once then ", which also starts the starter at once" else "" end)",
    both: "both (the source is being changed: run ./deploy.sh\($via) again)",
    none: "none: run ./deploy.sh\($via)", unknown: "unknown: \(.error)"}[.source];
def dead_letters: if . == null then "gone" else (all_messages - .visible) as $hidden | "\(all_messages)\(
  if $hidden > 0 then ", \($hidden) of them in flight: somebody is looking at them" else "" end)" end;
def options: [if .starter_copies then "the starter copies objects up to \(.starter_max_size | size) itself"
    else empty end, (.min_workers | select(. > 0) | "\(amount(.; "worker")) \(if . == 1 then "is" else "are" end) kept running"),
    (.copy_last | select(.) | "\(.) are copied last"), (.tables | select(.) | "\(.) tables are copied in order"),
    (.announce | select(.) | "events announce \(.)")] | join(", ");
def wanted: [(.prefixes | select(.) | "\(length) prefixes: \(join(", "))"),
    (.exclude | select(.) | "nothing like \(join(", "))"),
    (.keep_days | select(.) | "what changed within \(amount(.; "day"))")] | join("; ");
def counts($names): . as $all | [$names[] | select(($all[.] // 0) > 0) | "\(gsub("_"; " ")) \($all[.])"];
def itself: select(.) | (counts(["copied", "deleted"]) | if . == [] then ["copied nothing"] else . end | join(", "))
  + " itself", counts(["failed", "handed_back"])[], (.error | select(.) | "could not copy: \(.)");
def age: if . < 86400 then "\(. / 3600 | floor) h ago" else "\(. / 86400 | floor) days ago" end;
def audited: if .end == "stopped" then "it was stopped (exit status \(.status)), its log says why"
  elif .found == 0 then "both buckets equal"
  else "\(.found) differences, \(if .status == 0 then "put on the queue" else "not all of them fixed" end)" end
  + if .foreign > 0
    then ", and \(amount(.foreign; "foreign object")), which ./sync.sh\($via) reconcile --dry-run names" else "" end;
def key_waiting: "at \(.at) \(.key | tojson) \(waiting)";
def times: if .times == 1 then "at \(.at)" else "\(.times) times, the last at \(.at)" end;
def if_known($part; text): if is_known($part) then text else "not known: the log could not be read" end;

def lines:
  .paused as $paused
  | ((.reasons[] | "  \(.)"), "",
  row("source"; .source | bucket), row("destination"; .destination | bucket),
  (.version | select(.error == "" ) | row("version"; .deployed + (if .older
    then " is deployed, older than this checkout (\(.checkout)): run ./deploy.sh\($via)"
    elif .deployed != .checkout then " is deployed, newer than this checkout (\(.checkout))" else "" end))),
  row("events"; .events | events),
  (.options | options | select(. != "") | row("options"; .)),
  (.options | wanted | select(. != "") | row("wanted"; .)),
  row("queue"; .queue | if . == null then "gone" else "\(.visible) waiting, \(.in_flight) in flight, \(.delayed) delayed\(
    if .visible + .in_flight + .delayed == 0 then "" elif .oldest_seconds then ", the oldest for \(.oldest_seconds) s"
    else "" end)" end),
  row("dead letters"; .dead_letters | dead_letters),
  row("workers"; if .workers == [] then "none" else .workers | map("\(.capacity) \(.status)") | counted end),
  row("starter"; if_known("starter"; .starter | if . == null then "no run in the last hour"
    elif .decision == null then "\(.at): failed, \(if .fixed then "which has been fixed since: \(.error | unsaid([]) | join("; "))" else "as said above" end)"
    else "\(.seconds_ago) s ago: \(.decision | "saw \(amount(.visible + .in_flight; "message")) and \(
      amount(.running; "worker")), wanted \(.wanted), started \(.started | to_entries | map("\(.value) \(.key)") | join(", ")
      | if . == "" then "none" else . end)\([.copied | itself | ", " + .] | join("")
      )\(if (.trial // "") == "" then "" else ": \(.trial)" end)")" end)),
  row("lag"; if_known("lag"; .lag | if .count == 0 then "nothing synced in the last hour"
    else "from event to copy p50 \(.p50) s, p99 \(.p99) s of the newest \(.count) keys" end)),
  (.markers | select(.) | row("markers"; "\(.count) wait\(if .count == 1 then "s" else "" end), \(.newest | key_waiting)"),
    (.others[]? | "  \(key_waiting)")),
  row("outage"; if_known("outages"; .outage | if . == null then "none in the last hour" else "since \(.since), " + {
      "goes on": "it goes on", over: "over after \(.seconds) s",
      ended: "after \(.seconds) s the worker ended (exit status 3)",
      "cut short": "its worker was stopped before the end",
      "handed over": "the starter handed its messages to a worker"}[.state] + ": \(.reason)" end)),
  (.outage | select(. and .state != "over") | "  nothing is lost: fix the reason, and the workers resume by themselves\(
    if .state == "goes on" then "" else ", the next one within 15 minutes" end)"),
  (select(is_known("audit") | not) | row("audit"; if_known("audit"; ""))),
  (.audit | select(.) | row("audit"; "\(.last | if . then "\(.at), \(.seconds_ago | age): \(audited)"
    else "none in the log" end); the next one \(if $paused then "after the pause" else .next end)")),
  (.reads | select(.) | row("reads"; "request metrics of \(.folders) folders \(on_until): \(
    "./sync.sh\($via) cost --reads 1 --stop") turns them off")),
  row("failures"; if_known("failures"; "\(.failures.count) in the last hour")),
  (.failures.newest[] | "  \(.key | tojson) failed \(times): \(.reason)")) | visible | folded_row;
