# The result of ./sync.sh verify as Markdown in 80 columns: what was checked, how long it took, which assumptions hold, and
# what it ran on. Reads what gather_result prints; $assumptions[0] is assumptions.json.

# All is well if every object was seen and nothing differs.
def is_well: .breaks == [] and all(.results[]; .state == "arrived" and (.bytes | IN("equal", "-"))
  and (.metadata | IN("equal", "-")) and .checksum != "different");

# A row for each object, then what differs. Each was described before it was put. There is room for one of two columns: who
# copied, if the starter copies, too, or else the checksum.
def objects:
  def object: "`" + (.key | sub("^.*sync-verify-[^/]*/"; "") | if . == "" then "*" else . end) + "`";
  def rounded: if . == null then . else . * 10 | round / 10 end;
  def result: split(":")[0] | if . == "different" then "differ" else . end;
  .synced as $synced | .copying as $copying
  | ([["object", "seen", "bytes", "metadata", "lag", if $copying then "by" else "checksum" end]]
  + (.results | map(. as $one
    | [$synced[] | select(.key == $one.key)] as $lines
    | (if $one.name == "deleted" then [$lines[] | select(.action == "deleted")][0]
       else [$lines[] | select(.action == "copied")] | last end) as $line
    | [object, ({arrived: "yes", failed: "no", missing: "no"}[.state] // "-"), (.bytes | result), (.metadata | result),
       (if .state == "arrived" and .name != "removed" then $line.lag | rounded | seconds else "-" end)]
      + [if $copying then $line.by // "-" else .checksum | result end])) | table),
  ([.results[] | select(.metadata | startswith("different: "))] | select(. != [])
    | "", (.[] | "- \(object): metadata \(.metadata)" | folded(2))),
  ([.results[] | select(.checksum == "different")] | select(. != [])
    | "", (.[] | "- \(object): the checksums differ" | folded(2)));

def times:
  .times | .by as $by
  | def of_task: if $by == "starter" then "none: the starter copied" elif . and . < 0 then "ran already"
      else seconds end;
  [["from the first upload to", "", "measured by"],
  ["first message queued",
    (if .event then "at most \(.event) s" elif .busy then "unknown: others waited"
      elif $by == "starter" then "before the first copy" elif .created and .created >= 0 then "before the task"
      else "unknown" end), "this clock"],
  ["task requested", (.created | of_task), "ECS createdAt"],
  ["network attached", (.connected | of_task), "ECS connectivityAt"],
  ["pull of the image began", (.pulling | of_task), "ECS pullStartedAt"],
  ["image pulled", (.pulled | of_task), "ECS pullStoppedAt"],
  ["worker started", (.started | of_task), "ECS startedAt"],
  ["first message received", (.received | of_task), "the worker's log"],
  ["first copy", (.first | seconds), "S3 LastModified"],
  ["last copy before changes", (.last | seconds), "S3 LastModified"],
  ["(this clock is ahead by)", (.clock | seconds), "S3 LastModified"]] | table;

def bench:
  .bench | select(.) as $bench
  | def known(text): if . == null then "unknown" else text end;
  def short: if . >= 100 then round else . * 10 | round / 10 end;
  def rate: known("\(short) a second");
  def bytes_a_second: if . < 0.1 then "\(. * 1000 | short) MB/s" else "\(short) GB/s" end;
  def page($name; $side): ["page of the \($name)", ($side.median | known("\(. * 1000 | round) ms")),
    "median of \($side.count), \($side.keys) keys each"];
  [["measured", "figure", "of what"],
  ["small objects copied", (.copied.rate | rate), "\(.copied.count) of \(.bytes) bytes; workers: \(.copied.workers)"],
  ["by one worker", (.copied.one | rate), "the one that copied most"],
  ["small objects deleted", (.deleted.rate | rate), "\(.deleted.count) of them"],
  ["CPU time of a worker", (.cpu_ms | known("\(short) ms")), "for each copy or delete"],
  ["large object", (.large.gb_s | known(bytes_a_second)), (.large.size | known("\(.) bytes"))],
  ["its parts", (.large.rate | rate), (.large.parts | known("\(.) parts"))],
  page("source"; .pages.source), page("destination"; .pages.destination),
  ["events in the queue", (.events | known("at most \(.) s")), "after the last small object"],
  ["S3 was too busy", (.busy | known("\(.) times")), "beyond a client's own retries"]] | table,
  ($bench.over_time | select(.) | def bars: max as $most
      | map(if . <= 0 then " " else (. / $most * 8 | ceil) as $n | "▁▂▃▄▅▆▇█"[$n - 1:$n] end) | add;
    "", "```", "waiting \(.waiting | bars) \(.waiting[0]) at first",
    "lag     \(.lag | bars) \(.lag | max | short) s at most",
    "        the first copy, and \(.seconds | short) s later the last one", "```"), "";

# What this run has shown of each assumption that it can show, {id, outcome}. A chain that is broken elsewhere neither
# confirms nor refutes anything.
def outcomes:
  (.results | map({key: .name, value: .}) | from_entries) as $by
  | .refused as $refused | .encoding as $encoding | .times as $times | .breaks as $breaks
  | .conditions as $conditions | .etags as $etags | .page as $page | (.bench // {} | .pages.destination) as $pages

  | def equal: IN("equal", "-");
    def copied($name): $by[$name] // {state: "not asked"}
      | if .state == "failed" then "refuted: not copied"
        elif .state != "arrived" then "not tested"
        elif (.bytes | equal) and (.metadata | equal) then "confirmed"
        else "refuted: the copy differs" end;
    def in_parts: [copied("multipart"), copied("large")] | map(select(. != "not tested")) | .[0] // "not tested";
    def unless_refused($write): if . == "confirmed" and any($refused[]; . == $write) then "refuted: refused" else . end;
    def task: if $times.started then "confirmed"
      elif any($breaks[]; .link == "no task") then "refuted: no task" else "not tested" end;
    def gzip: if . == "confirmed" and $encoding != "gzip" then "refuted: kept as sync-content-encoding" else . end;
    def full_pages: if $page.more then "refuted: \($page.keys) keys in a page"
      elif ($pages.count // 0) == 0 then "not tested"
      elif $pages.count > $pages.least then "refuted: \($pages.keys) keys in a page" else "confirmed" end;
    def source_condition: if $conditions == null then "not tested"
      elif any($conditions[]; . == "") then "refuted: ignored"
      elif all($conditions[]; . == "PreconditionFailed") then "confirmed"
      elif any($conditions[]; IN("NotImplemented", "InvalidRequest", "InvalidArgument")) then "refuted: refused"
      else "not tested" end;
    def new_etag: if ($etags // []) == [] then "not tested"
      elif all($etags[]; .first != .last) then "confirmed" else "refuted: the same again" end;
    def checksum: copied("small") | if . != "confirmed" then . else
      {equal: "confirmed", different: "refuted: different", none: "refuted: none"}[$by.small.checksum] // "not tested" end;
    def outcome: if . == "encoded" then copied("encoded") | gzip
      elif . == "conditions" then copied("small") | unless_refused("CopyObject")
      elif . == "conditional-delete" then copied("deleted") | unless_refused("DeleteObject")
      elif . == "conditions-in-parts" then in_parts | unless_refused("CompleteMultipartUpload")
      elif . == "parts" then in_parts
      elif . == "task" then task
      elif . == "pages" then full_pages
      elif . == "source-condition" then source_condition
      elif . == "new-etag" then new_etag
      elif . == "checksum" then checksum
      else copied(.) end;

  $assumptions[0] | to_entries[] | select(.value) | {id: .key, outcome: (.value | outcome)};

def assumptions:
  ([["assumption", "outcome"], (outcomes | ["`\(.id)`", .outcome])] | table), "",
  "- \($assumptions[0] | map(select(. == null)) | length) more that no run can show: docs/evidence.md";

def report:
  "# sync.sh verify: \(if is_well then "all is well" else "not all is well" end)", "",
  "s3://\(.source) to", "s3://\(.mirror)", "",
  (.breaks[] | ("- **\(.link)**: \(.why)" | folded(2)), "  Look closer: `\(.command)`"), (select(.breaks != []) | ""),
  objects, "", times, "", bench, assumptions, "",
  ([.synced[] | select(.action == "copied")] | max_by(.size) | select(.)
    | "- largest copy: \(.size) bytes in \(.seconds) s"),
  (.versions[] | "- \(.[0]): \(.[1])" | folded(2));
