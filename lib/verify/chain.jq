# Which link of the chain is broken: reads what find_broken_link of watch.sh has gathered, prints {link, why, command} for
# each reason of the first link that is, in the order in which a change passes them. Once .over, the time is over, and what
# is only likely counts, too.
#   faults    what launch/path.py found          outages  as outages_of reads them
#   starter   decisions, and {error} of failures since the run began (.began), the oldest first
#   tasks     those that the starter started since then    wrote  whether a worker has written of this run
#   queue     its messages, and event: whether one was seen    left  the objects that have not arrived
#   elapsed   seconds since the run began; poll: between two runs of the starter; now: since the epoch
#   name      {source, queue, starter, rule, cluster}; via: what a command needs for the local cloud

def outage_seconds: 60; # verify does not wait for the end of an outage that has lasted this long

def broken($link; $why; $command): {$link, why: ($why | gsub("[\t\n]"; " ") | sub(" +$"; "")), $command};
def faults($link): .faults[] | select(.link == $link) | broken($link; "\(.fault): \(.cure)"; .look);
def or_else(more): if . == [] then [more] else . end;
def tasks_at: "aws ecs describe-tasks --cluster \(.name.cluster) --tasks ";
def starter_log: "./sync.sh\(.via) logs starter";

def of_event: . as $all | [faults("no event")] | or_else($all | select(.over and (.queue.event | not) and (.wrote | not))
  | broken("no event"; "the objects are in s3://\(.name.source), but no message reached \(.name.queue): after a first "
      + "deployment, S3 takes up to five minutes; otherwise check the queue's policy and the prefix of the notification or rule";
      "aws s3api get-bucket-notification-configuration --bucket \(.name.source)"));

# An outage that goes on in a task that runs, or that a worker ended in since the run began.
def of_outage: . as $all | [.tasks[] | select(.status == "RUNNING").id] as $running
  | [.outages | max_by(.at) | select(. and ((.event == "ended" and (.at | epoch) >= $all.began)
      or (.event == "began" and (.stream | split("/")[-1] | IN($running[]))
        and ($all.over or (.at | epoch) <= $all.now - outage_seconds))))
    | broken("no copy"; if .event == "began" then "since \(.at) no key can be synced: \(.reason)"
      else "for \(.seconds) s no key could be synced, and the worker ended: \(.reason)" end; "./sync.sh\($all.via) status")];

# The newest failure, if the last two runs failed; once the time is over, if the last one did. An error right after a
# decision is of a run that did decide: why that came to nothing is the task's link.
def error: .over as $over | .starter | . as $all
  | [range(length) as $i | $all[$i] | select((has("error") and $i > 0 and ($all[$i - 1] | has("error") | not)) | not)]
  | reverse | ((map(has("error")) | index(false)) // length) as $failed
  | if $failed >= (if $over then 1 else 2 end) then .[0].error | capture("^(?<line>[^\r\n]*)").line else empty end;

def of_starter: . as $all | [faults("no starter")]
  | or_else($all | error | broken("no starter"; "the function \($all.name.starter) fails: \(.)"; $all | starter_log))
  | or_else($all | select(.starter == [] and (.over or .elapsed > .poll + 150))
    | broken("no starter"; "the rule is enabled, but \(.name.starter) has not run for \(.elapsed) s: check its target and permission";
        "aws events list-targets-by-rule --rule \(.name.rule); aws lambda get-policy --function-name \(.name.starter)"));

def ended_badly: .began as $began | def why: "\(.reason // "no reason is known")\(
    if .container_reason then " (\(.container_reason))" else "" end)";
  [.tasks[] | select(.status == "STOPPED" and .created >= $began and .code != "SpotInterruption")] | sort_by(.created)
  | (map(select(.started == null)) + map(select(.exit != null and .exit != 0 and .started != null)))[0] | select(.)
  | {id, why: (if .started == null then "stopped before it started" else "ended with exit code \(.exit)" end + ": \(why)")};

# Why the last run of the starter could not start a worker; a shortage of capacity passes.
def refused: .over as $over | [.starter[] | select(has("failures"))] | last // empty
  | select(.running == 0 and .started == {}) | .failures
  | map(select($over or (test("Capacity is unavailable at this time") | not)))[0] // empty;

def of_task: . as $all
  | [select(.wrote | not) | ended_badly | broken("no task"; "task \(.id) \(.why)"; ($all | tasks_at) + .id)]
  | or_else($all | refused | broken("no task"; "ECS did not start a worker: \(.)"; $all | starter_log))
  | or_else($all | select(.over) | [.tasks[] | select(.status | IN("PROVISIONING", "PENDING", "ACTIVATING"))][0] | select(.)
    | broken("no task"; "task \(.id) is still \(.status)"; ($all | tasks_at) + .id))
  | or_else($all | select(.over and (.wrote | not) and .tasks == [])
    | broken("no task"; "messages are waiting, but the starter has not started a worker"; starter_log));

# Failures of a key are named by themselves; here is what is left when the time is over.
def of_copy: [select(.over) | if .queue.visible + .queue.in_flight + .queue.delayed == 0
    then broken("no event"; "the queue is empty, and no message named: \(.left)"; "./sync.sh\(.via) logs worker")
    else broken("no copy"; "messages are waiting or in flight, and these did not arrive in time: \(.left)";
      "./sync.sh\(.via) logs worker") end];

[of_event, of_outage, of_starter, of_task, of_copy] | map(select(. != []))[0][]?
