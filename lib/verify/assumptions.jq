# What a run of ./sync.sh verify says of each assumption of assumptions.json that it can show: reads what gather_result prints,
# gives {id, outcome}. A chain that is broken elsewhere neither confirms nor refutes anything.

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

$assumptions[0] | to_entries[] | select(.value) | {id: .key, outcome: (.value | outcome)}
