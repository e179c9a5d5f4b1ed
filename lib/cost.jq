# What ./sync.sh cost adds up. bill: {prices, hours, used, setup, stored} -> {rows, levers, sums}, in USD a month.
#   prices  lib/prices.json, with what a user gave (`given`: how many)
#   hours   how long `used` was gathered
#   used    {copies, large, parts, deletes, skipped (keys that were equal already), bytes, announced, tasks,
#           worker_seconds} of that time, and what may be null,
#           if nothing was measured: spot_share (0 to 1), runs and run_seconds of the starter, log_bytes
#   setup   {vcpus, memory_gb, function_gb, poll_minutes, min_workers, alarms, dashboards, image_gb, has_public_ip,
#           has_events, endpoints, metrics, function_copies, region, arch}
#   stored  the numbers of worker.py measure

def hours_a_month: 730;
def start_seconds: 40; # of a task, before its first line: Fargate begins to count with the pull of the image
def assumed_spot_share: 0.8;
def polls_an_hour: 180; # of a worker that waits
def run_gb_seconds: 0.125; # of the starter: a second of 128 MB, or a quarter of one with four times the memory
def log_bytes_a_key: 300;
def metrics: 8; # of METRICS
def gb: 1e9;

# How many alarms a deployment has; that on late keys (METRICS) watches two metrics, and is paid for twice.
def alarms($has_events; $has_audits; $has_metrics):
  5 + ([$has_events, $has_audits | select(.)] | length) + if $has_metrics then 2 else 0 end;

# Requests to S3 for a key, as in "What a key costs" of docs/design.md: writes, and HeadObjects of both sides. A copy
# costs what the destination charges for a write, and nothing at the source (S3 API Reference, CopyObject, "Charge").
# One that is refused (412) is charged as well (S3 User Guide, "conditional requests"; not said of directory buckets).
def of_new: {writes: 1, source: 2, destination: 0};
def of_large: {writes: 2, source: 3, destination: 1}; # and a write for each part
def of_deleted: {writes: 0, source: 2, destination: 1}; # S3 charges nothing for a DELETE
def of_skipped: {writes: 1, source: 2, destination: 1}; # at most: its copy is refused, because it is there already

def config_items_a_task: 2; # at least, if AWS Config records network interfaces: it comes, and it goes

# row($item; $name; $quantity; $from): $name is that of its price.
def row($item; $name; $quantity; $from): {$item, price_name: $name, $quantity, $from};

def requests: [[.copies - .large, of_new], [.large, of_large], [.deletes, of_deleted], [.skipped, of_skipped]]
  | map(.[0] as $keys | .[1] | map_values(. * $keys))
  | {writes: (map(.writes) | add), source: (map(.source) | add), destination: (map(.destination) | add)};

# The figures of a month.
def monthly: (hours_a_month / .hours) as $scale | .used as $used | .setup as $setup
  | (($used.copies + $used.deletes + $used.skipped) * $scale) as $keys
  | ($used | requests) as $requests
  | {$keys,
     gb: ($used.bytes * $scale / gb),
     writes: (($requests.writes + $used.parts) * $scale),
     source: ($requests.source * $scale),
     destination: ($requests.destination * $scale),
     tasks: ($used.tasks * $scale),
     worker_hours: (($used.worker_seconds + start_seconds * $used.tasks) * $scale / 3600),
     spot_share: ($used.spot_share // assumed_spot_share),
     polls: (hours_a_month * 60 / $setup.poll_minutes),
     runs: (if $used.runs then $used.runs * $scale else hours_a_month * 60 / $setup.poll_minutes end),
     announced: ($used.announced * $scale),
     log_gb: (($used.log_bytes // log_bytes_a_key * $used.copies) * $scale / gb)}
  # A metric is paid for by the hour in which it has data: at most those that a task or a run that copies has part in.
  | .busy_hours = .worker_hours + .tasks + (if $setup.function_copies then .keys else 0 end)
  | .gb_seconds = (if $used.run_seconds then $used.run_seconds * $setup.function_gb * $scale
      else .runs * run_gb_seconds end)
  # A run for an event asks the queue a second time.
  | .event_runs = (if $setup.has_events then [.runs - .polls, 0] | max else 0 end)
  | .events = (if $setup.has_events then $keys else 0 end) + .announced;

# The items of the sync, without those that this deployment does not have. A message is sent, received and deleted.
def items: monthly as $month | .used as $used | .setup as $setup
  | (if $used.spot_share then "measured" else "assumed" end) as $share
  | [row("GB into the directory bucket"; "express_upload_gb"; $month.gb; "measured"),
     row("S3 writes"; "express_put_request"; $month.writes; "by the rule"),
     row("looks at the source"; "standard_get_request"; $month.source; "by the rule"),
     row("looks at the destination"; "express_get_request"; $month.destination; "by the rule"),
     (([["Spot", "spot_", $month.spot_share], ["on demand", "", 1 - $month.spot_share]][]
       | . as [$kind, $prefix, $part] | ($month.worker_hours * $part) as $hours
       | row("vCPU hours of workers, \($kind)"; "\($prefix)vcpu_hour"; $hours * $setup.vcpus; $share),
         row("GB hours of workers, \($kind)"; "\($prefix)memory_gb_hour"; $hours * $setup.memory_gb; $share))
       | select(.quantity > 0)),
     (row("hours of a public IPv4 address"; "ipv4_hour"; $month.worker_hours; "measured")
       | select($setup.has_public_ip)),
     row("requests to the queue"; "sqs_request";
       3 * $month.keys + $month.runs + $month.event_runs + polls_an_hour * $month.worker_hours;
       "by the rule"),
     (row("events, also of ANNOUNCE"; "event"; $month.events; "by the rule") | select(.quantity > 0)),
     row("runs of the starter"; "lambda_request"; $month.runs; if $used.runs then "measured" else "by the rule" end),
     row("GB-seconds of the starter"; "lambda_gb_second"; $month.gb_seconds;
       if $used.run_seconds then "measured" else "by the rule" end),
     row("GB of logs"; "logs_gb"; $month.log_gb; if $used.log_bytes then "measured" else "by the rule" end),
     (row("GB of the image"; "image_gb_month"; $setup.image_gb; "assumed") | select(.quantity > 0)),
     (row("metrics of METRICS"; "metric_month";
       $setup.metrics * ([hours_a_month, $month.busy_hours] | min) / hours_a_month; "by the rule") | select(.quantity > 0)),
     (row("alarms"; "alarm_month"; $setup.alarms; "by the rule") | select(.quantity > 0)),
     (row("dashboard"; "dashboard_month"; $setup.dashboards; "by the rule") | select(.quantity > 0)),
     (row("gateway endpoints"; ""; $setup.endpoints; "by the rule") | select(.quantity > 0))];

def priced($prices): (($prices[.price_name] // 0) as $price | . + {$price, usd: (.quantity * $price)});

# What the free tier takes off, of what the rows use.
def free($prices): [.rows[] | . as $row | ($prices.free_a_month[.price_name] // 0) as $units
  | (if $row.quantity < $units then $row.quantity else $units end) * $row.price] | add // 0;

# A worker for an hour.
def worker_hour($prices): monthly.spot_share as $spot | .setup as $setup
  | $spot * ($setup.vcpus * $prices.spot_vcpu_hour + $setup.memory_gb * $prices.spot_memory_gb_hour)
    + (1 - $spot) * ($setup.vcpus * $prices.vcpu_hour + $setup.memory_gb * $prices.memory_gb_hour)
    + if $setup.has_public_ip then $prices.ipv4_hour else 0 end;

# Settings that would save something, before the free tier. What KEEP_DAYS saves is what the destination has beyond it.
def levers: .prices.prices as $prices | monthly as $month | .setup as $setup | .stored as $stored
  | ($stored.destination_bytes - $stored.excluded_bytes - $stored.aged_bytes) as $wanted
  | [(["7", "30", "90"][] as $days
       | {lever: "KEEP_DAYS=\($days)", gb: (($wanted - $stored["kept_\($days)_bytes"]) / gb)}),
     {lever: "./sync.sh reconcile --remove-unwanted", gb: (($stored.excluded_bytes + $stored.aged_bytes) / gb)}
     | {lever, usd: (.gb * $prices.express_storage_gb_month), why: "\(.gb * 100 | round / 100) GB less to store"}]
  + [(select($setup.min_workers > 0)
       | {lever: "MIN_WORKERS=0", usd: (([$setup.min_workers * hours_a_month, $month.worker_hours] | min)
            * worker_hour($prices)), why: "at most: no worker runs while nothing comes"}),
     (select($setup.poll_minutes < 5)
       | {lever: "LAMBDA_POLL_RATE=5", usd: (hours_a_month * 60 * (1 / $setup.poll_minutes - 1 / 5)
            * ($prices.lambda_request + $prices.sqs_request
               + (if $month.runs > 0 then $month.gb_seconds / $month.runs else 0 end) * $prices.lambda_gb_second)),
          why: "a worker starts up to five minutes later"}),
     {lever: "ANNOUNCE=none", usd: ($month.announced * $prices.event), why: "no event announces a copy"},
     {lever: "EVENT_SOURCE=sqs", usd: (($month.events - $month.announced) * $prices.event),
        why: "a worker starts up to a minute later"}]
  | map(select(.usd > 0));

# Two digits, as jq 1.6 prints 1.15 with seventeen.
def digits($count): (. * pow(10; $count) | round | tostring) as $text
  | ("0" * ([$count + 1 - ($text | length), 0] | max) // "") + $text
  | if $count == 0 then . else .[:-$count] + "." + .[-$count:] end;

def money: if . < 0 then "-\(-. | money)" elif . > 0 and . < 0.005 then "<0.01" else digits(2) end;

# What a reader has to know of the figures.
def notes: monthly.tasks as $tasks | ($tasks * config_items_a_task * .prices.prices.config_item) as $config | [
  (.prices.region as $listed | .setup.region | select(. != $listed)
    | "this deployment is in \(.), where prices may differ"),
  (.setup.arch | select(. == "X86_64") | "ours for vCPUs and memory are those of ARM64: X86_64 costs a quarter more"),
  ($tasks | select(. > 0) | "not in the sum: \($config | money) more if AWS Config continuously records network",
    "interfaces, of which each of the \(. | round) tasks has one"),
  "figures of the last \(.hours / 24 | digits(1)) days, as for a month of \(hours_a_month) hours",
  (select(.hours < 24) | "WARNING: less than a day of history: what its first hours cost, such as a",
    "first fill, is taken for a whole month; ask again after a day or more")];

def bill: .prices as $prices
  | row("GB stored in the directory bucket"; "express_storage_gb_month"; .stored.destination_bytes / gb; "measured")
    as $storage
  | {rows: (items | map(priced($prices.prices))), storage: ($storage | priced($prices.prices)), levers: levers, hours,
      notes: notes, prices: ($prices | del(.prices, .free_a_month))}
  | .free_usd = -free($prices)
  | .rests_on = (.rows as $rows | ["measured", "by the rule", "assumed"]
      | map(. as $from | {key: ltrimstr("by the "), value: ([$rows[] | select(.from == $from).usd] | add // 0)})
      | from_entries)
  | .before_free_usd = ([.rows[].usd] | add)
  | .sync_usd = .before_free_usd + .free_usd
  | .total_usd = .sync_usd + .storage.usd;

def digits_needed: digits(8) | sub("0+$"; "") | sub("[.]$"; "");
def amount: if . == (. | floor) or . >= 1000 then digits(0) else digits(2) end;
def rounded: (.. | objects | select(has("usd")) | .usd) |= (. * 100 | round / 100)
  | .rows[].quantity |= (. * 100 | round / 100) | .storage.quantity |= (. * 100 | round / 100)
  | (.free_usd, .before_free_usd, .sync_usd, .total_usd, .rests_on[]) |= (. * 100 | round / 100);

def padded($width): . + " " * ([$width - length, 0] | max) // .;
def right($width): (" " * ([$width - length, 0] | max) // "") + .;
def line($item; $quantity; $price; $usd; $from):
  "\($item | padded(33))\($quantity | right(11))\($price | right(16))\($usd | right(10))  \($from)";
def unit: if .price == 0 or .price >= 0.0001 then .price | digits_needed
  else "\(.price * 1000000 | digits_needed)/million" end;
def table_line: line(.item; .quantity | amount; unit; .usd | money; .from | ltrimstr("by the "));
def sum_line($item; $usd): line($item; ""; ""; $usd | money; "");

# Lines for people, in 80 columns but for the last column of the levers.
def table: (.prices | "prices of \(.region) of \(.as_of) in \(.currency) without tax",
      if .given then "\(.given) of them are yours" else "your own: --prices FILE, in the format of lib/prices.json" end),
  .notes[], "", line("item"; "quantity"; "unit price"; "\(.prices.currency)/month"; "from"),
  (.rows[] | table_line),
  sum_line("sync, if the free tier is used up"; .before_free_usd),
  sum_line("free tier, if it is unused"; .free_usd), sum_line("sync, a month"; .sync_usd),
  (.storage | table_line), sum_line("total, a month"; .total_usd),
  "the sync before the free tier: "
    + (.rests_on | to_entries | map(select(.value > 0) | "\(.value | money) \(if .key == "rule" then "calculated" else .key end)") | join(", ")),
  (select(.levers != []) | "", "levers, \(.prices.currency) a month saved:",
    (.levers[] | "  \(.lever | padded(38))\(.usd | money | right(9))  \(.why)"));
