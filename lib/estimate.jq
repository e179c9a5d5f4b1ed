# What ./sync.sh cost --estimate takes for granted, for cost.jq, which stands before it. The same is explained in
# docs/costs.md, "A month" and "By mode".
#   load   {files (a day, or of all time if they come once), bytes (of each), arrival (spread, burst or once),
#          keep_gb (null: what a month brings), keep_days (null: all)}
#   setup  as in cost.jq, and {max_workers, messages_per_worker, idle_seconds, largest_copy, part_bytes, function_most,
#          announces, copying_gb, starter_gb (of the function if it copies, and if not)}

def days_a_month: 30;
def day_seconds: hours_a_month * 3600 / days_a_month;
def busy_seconds: 0.006; # of a worker, for one of many files ...
def gb_a_second: 2; # ... or for the bytes of many, and for a file that is copied in parts
def seconds_a_gb: 15; # of one copy
def look_seconds: 0.15; # of a run of the starter for an event, which leaves the work to a worker
def copy_seconds: 2; # of one that copies: a second of it is the poll that finds the queue empty
def copy_most_seconds: 50; # for so long a run copies at most
def event_age_seconds: 60; # a burst is cut off: events that waited longer for a run are dropped
def copies_alone: 500; # waiting messages; if there are more, workers start as well
def run_log_bytes: 600;

def batches: if .load.arrival == "once" then 1 else days_a_month end;
def is_burst: .load.arrival != "spread";

# Whether the function copies. Beside a worker that always runs it only looks.
def responds: .setup.function_copies and .setup.min_workers == 0 and .load.bytes <= .setup.function_most;

# {tasks, seconds} of the workers that a batch starts, beside those that always run; without the start of a task.
def workers: .load as $load | .setup as $setup | ($load.bytes / gb) as $gb
  | ($load.files * ([busy_seconds, $gb / gb_a_second] | max)) as $busy
  | (if $load.bytes > $setup.largest_copy then $gb / gb_a_second else $gb * seconds_a_gb end) as $alone
  | if is_burst then
      ([[$setup.max_workers, ($load.files / $setup.messages_per_worker | ceil)] | min | . - $setup.min_workers, 0] | max)
      as $tasks
      | if responds and $load.files <= copies_alone then {tasks: 0, seconds: 0}
        else {$tasks, seconds: ($tasks * $setup.idle_seconds + ([$busy, $tasks * $alone] | max))} end
    elif responds or $setup.min_workers > 0 then {tasks: 0, seconds: 0}
    else (start_seconds + $setup.idle_seconds + $alone) as $one
      # A worker that the next file finds running does not end.
      | ([$load.files * $one, ([day_seconds, $busy] | max)] | min) as $all
      | ($all / $one) as $tasks | {$tasks, seconds: ($all - $tasks * start_seconds)} end;

# {runs, seconds} of the starter for a batch, beside those of each minute.
def event_runs: .load as $load | .setup as $setup
  | (if responds then copy_seconds else look_seconds end * $load.files) as $seconds
  | if $setup.has_events then
      (if is_burst then [$seconds, event_age_seconds + if responds then copy_most_seconds else look_seconds end] | min
       else $seconds end) as $seconds
      | {runs: ([$load.files, $seconds / look_seconds] | min), $seconds}
    elif responds then
      {runs: 0, seconds: ([$seconds, copy_seconds * day_seconds / 60 / $setup.poll_minutes] | min)}
    else {runs: 0, seconds: 0} end;

def used: batches as $batches | workers as $workers | event_runs as $events | .load as $load | .setup as $setup
  | ($load.files * $batches) as $copies | (if $load.bytes > $setup.largest_copy then $copies else 0 end) as $large
  | (hours_a_month * 60 / $setup.poll_minutes) as $minutes
  | {$copies, deletes: 0, skipped: 0, bytes: ($copies * $load.bytes), $large,
     parts: ($large * ($load.bytes / $setup.part_bytes + 1 | floor)),
     announced: (if $setup.announces then $copies else 0 end), tasks: ($batches * $workers.tasks),
     worker_seconds: ($batches * $workers.seconds + $setup.min_workers * hours_a_month * 3600), spot_share: null,
     runs: ($minutes + $batches * $events.runs),
     run_seconds: ($minutes * run_gb_seconds / $setup.function_gb + $batches * $events.seconds),
     log_bytes: ($copies * log_bytes_a_key + $batches * $events.runs * run_log_bytes)};

def stored: .load as $load | ($load.files * $load.bytes) as $day
  | (if $load.arrival == "once" then $day else ($load.keep_days // days_a_month) * $day end) as $brought
  | (if $load.keep_gb then $load.keep_gb * gb else $brought end) as $all
  | {destination_bytes: $all, excluded_bytes: 0, aged_bytes: 0}
    + ([7, 30, 90] | map({"kept_\(.)_bytes": (if $load.arrival == "once" then $all else [. * $day, $all] | min end)})
      | add);

def estimated: . + {hours: hours_a_month, used: used, stored: stored} | bill;

# mode($events; $copies; $min_workers): the same with other settings.
def mode($events; $copies; $min_workers): .setup |= (. + {has_events: $events, function_copies: $copies,
  min_workers: $min_workers, function_gb: (if $copies then .copying_gb else .starter_gb end),
  alarms: (.alarms - (if .has_events then 1 else 0 end) + (if $events then 1 else 0 end))});

def modes: [
  {settings: "the defaults", usd: (mode(false; false; 0) | estimated.sync_usd)},
  {settings: "EVENT_SOURCE=eventbridge", usd: (mode(true; false; 0) | estimated.sync_usd)},
  {settings: "EVENT_SOURCE=eventbridge STARTER_COPIES=true", usd: (mode(true; true; 0) | estimated.sync_usd)},
  {settings: "MIN_WORKERS=1", usd: (mode(false; false; 1) | estimated.sync_usd)}];

def spelled: if . >= 1e12 then "\(. / 1e12) TB" elif . >= 1e9 then "\(. / 1e9) GB" elif . >= 1e6 then "\(. / 1e6) MB"
  elif . >= 1e3 then "\(. / 1e3) KB" else "\(.) bytes" end;
def told: "estimated for \(.files) files of \(.bytes | spelled) " + {spread: "a day, spread out", burst:
  "a day, in one burst", once: "that come once"}[.arrival];

# Of settings, the levers go by the modes below them.
def estimate: .load as $load | modes as $modes | estimated
  | .notes |= .[:-1] + [$load | told]
  | .levers |= map(select(.lever | IN("EVENT_SOURCE=sqs", "MIN_WORKERS=0") | not))
  | (.rows[], .storage) |= (.from |= if . == "measured" then "by the rule" else . end)
  | .rests_on |= (.rule += .measured | .measured = 0)
  | . + {$load, modes: $modes};

def estimate_table: table, "", "sync by mode, \(.prices.currency) a month after the free tier:",
  (.modes[] | "  \(.settings | padded(46))\(.usd | money | right(10))");
