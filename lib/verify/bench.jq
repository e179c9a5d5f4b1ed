# The figures of ./sync.sh verify --bench; null stands for what is not known. Reads [the workers' lines on keys of the
# run, the summaries of the workers that have ended, the seconds of each page of the source, those of the destination].
# A rate goes from the first line to the last: the line of the first object says when the others began to count.

. as [$lines, $summaries, $source, $destination]
| def at: .message | split(" ")[0] | epoch;
  def span: (map(at) | max) - (map(at) | min);
  def rate: if length > 1 and span > 0 then (length - 1) / span else null end;
  def by_worker: group_by(.stream);
  def median: if . == [] then null else sort | .[length / 2 | floor] end;
  def page: ($objects / $page | ceil) as $least
    | {count: length, least: $least, median: median,
       keys: (if length > $least then $objects / length | ceil else $page end)};
  # In 50 columns from the first line to the last: how many objects are left at the end of each, its longest lag.
  def over_time: if length < 2 or span == 0 then null else
    span as $seconds | (map(at) | min) as $from
    | map({column: ((at - $from) / $seconds * 50 | ceil - 1 | if . < 0 then 0 else . end), lag: (.lag // 0 | tonumber)})
    | . as $all | {seconds: $seconds, waiting: [range(50) as $n | $objects - ([$all[] | select(.column <= $n)] | length)],
      lag: [range(50) as $n | [$all[] | select(.column == $n).lag] | max // 0]} end;
  def synced: . as $line | .message | capture($synced) | $line + .;
  [$lines[] | select(.message | contains($folder)) | synced] as $small
| ($small | map(select(.action == "copied"))) as $copied
| ($small | map(select(.action == "deleted"))) as $deleted
| ($small | map(.stream) | unique | map(select(contains("[$LATEST]") | not))) as $tasks # and not the function
| [$summaries[] | select(.stream | IN($tasks[]))] as $ended
| ($ended | map(.copied + .deleted + .skipped) | add) as $changes
| [$lines[] | select(.message | contains($large))] as $of_large
| ([$of_large[] | select(.message | test($parts.ended))] | last) as $parts_end
| ([$of_large[] | select(.message | test($parts.begun)) # the last one has no parts left if its completion was refused
    | select($parts_end and at <= ($parts_end | at))] | last) as $began
| ([$of_large[] | synced | select(.action == "copied")] | last) as $large_copy
| {
    bytes: $bytes,
    running: (($tasks | length) - ($ended | length)),
    over_time: ($copied | over_time),
    copied: ($copied | by_worker as $by | {count: length, workers: ($by | length), rate: rate,
      one: ($by | max_by(length) // [] | rate)}),
    deleted: ($deleted | {count: length, rate: rate}),
    cpu_ms: (if ($changes // 0) > 0 and ($ended | length) == ($tasks | length)
      then 1000 * ($ended | map(.cpu) | add) / $changes else null end),
    busy: (if $summaries == [] then null else $summaries | map(.busy) | add end),
    large: (if $began and $parts_end and $large_copy then
      ($began.message | capture($parts.begun) | map_values(tonumber)) as $of
      | (($parts_end | at) - ($began | at)) as $seconds
      | {size: $of.size, parts: $of.parts, rate: (if $seconds > 0 then $of.parts / $seconds else null end),
         gb_s: (($large_copy.seconds | tonumber) as $s | if $s > 0 then $of.size / 1e9 / $s else null end)} else null end),
    pages: {source: ($source | page), destination: ($destination | page)},
    events: $events
  }
