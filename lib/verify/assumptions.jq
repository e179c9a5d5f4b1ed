# What a run of ./sync.sh verify says of each row of assumptions.json: reads what gather_result prints, gives {id, outcome}.
# A chain that is broken elsewhere neither confirms nor refutes anything.

(.results | map({key: .name, value: .}) | from_entries) as $by
| .refused as $refused | .encoding as $encoding | .times as $times | .breaks as $breaks

| def equal: IN("equal", "-");
  def copied($name): $by[$name] // {state: "not asked"}
    | if .state == "failed" then "refuted: not copied"
      elif .state != "arrived" then "not tested"
      elif (.bytes | equal) and (.metadata | equal) then "confirmed"
      else "refuted: the copy differs" end;
  def in_parts: [copied("multipart"), copied("large")] | map(select(. != "not tested")) | .[0] // "not tested";
  def unless_refused: if $refused and . == "confirmed" then "refuted: refused" else . end;
  def task: if $times.started then "confirmed"
    elif any($breaks[]; .link == "no task") then "refuted: no task" else "not tested" end;
  def gzip: if . == "confirmed" and $encoding != "gzip" then "refuted: kept as sync-content-encoding" else . end;
  def outcome: if . == "encoded" then copied("encoded") | gzip
    elif . == "conditions" then copied("small") | unless_refused
    elif . == "conditional-delete" then copied("deleted") | unless_refused
    elif . == "conditions-in-parts" then in_parts | unless_refused
    elif . == "parts" then in_parts
    elif . == "task" then task
    else copied(.) end;

$assumptions[0][] | {id, outcome: (if .check then .check | outcome else "not tested: no run can show it" end)}
