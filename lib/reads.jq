# What ./sync.sh cost --reads reports, for cost.jq, which stands before it.
#   filters  [{id, folder, began, days}], those that are on
#   stored   [{bytes, objects, old_bytes, folder}] of each, and of all with an empty folder
#   read     {MetricDataResults} of CloudWatch: the id of a result is "gets" or "bytes" and the number of the filter
#   prices   lib/prices.json; now: seconds since the epoch

def sum_of($id): [.read.MetricDataResults[]? | select(.Id == $id) | .Values[]?] | add // 0;

# EXCLUDE is a list of patterns of whole keys: its signs are escaped.
def pattern: gsub("(?<sign>[*?\\[])"; "[\(.sign)]") | gsub(","; "\\,") + "*";

def rows: . as $all | .prices.prices.express_storage_gb_month as $price | [.filters | to_entries[]
  | .key as $number | .value.folder as $folder | ($all.now - .value.began >= 3600) as $has_figures
  | ([$all.stored[] | select(.folder == $folder)][0] // {bytes: 0, objects: 0}) as $stored
  | {$folder, stored_gb: ($stored.bytes / gb), objects: $stored.objects,
     read_gb: ($all | sum_of("bytes\($number)") / gb), gets: ($all | sum_of("gets\($number)")),
     usd: ($stored.bytes / gb * $price)}
  | . + if .gets == 0 and .usd > 0 and $has_figures then {lever: "EXCLUDE=\($folder | pattern)", saves_usd: .usd}
        else {lever: null, saves_usd: 0} end]
  # What costs and is not read comes first.
  | sort_by([-.saves_usd, -.usd, .folder]);

# Folders inside of others would count twice.
def outermost: . as $rows | map(select(.folder as $folder
  | any($rows[]; .folder as $other | $other != $folder and ($folder | startswith($other))) | not));

def levers_of_all($all): .rows as $rows | $all.prices.prices.express_storage_gb_month as $price
  | ([$all.stored[] | select(.folder == "")][0] // {bytes: 0, old_bytes: 0}) as $total
  | ($rows | map(select(.gets > 0)) | outermost) as $read
  | [{lever: "PREFIX_FILTER=\($read | map(.folder | gsub(","; "\\,")) | sort | join(","))",
      saves_usd: (($total.bytes / gb - ($read | map(.stored_gb) | add // 0)) * $price),
      why: "only what was read; also drops what is in none of these folders"} | select($read != []),
     {lever: "KEEP_DAYS=30", saves_usd: ($total.old_bytes / gb * $price), why: "by the time of the copies"}]
  | map(select(.saves_usd > 0.005));

def report: . as $all | {since: (.filters | map(.began) | min | todate),
    until: (.filters | map(.began + .days * 86400) | max), rows: rows}
  | .is_over = (.until <= $all.now) | .until |= todate
  | .hours = (($all.now - ($all.filters | map(.began) | min)) / 3600)
  | .levers = levers_of_all($all);

def rounded_report: (.rows[] | .stored_gb, .read_gb, .usd, .saves_usd) |= (. * 100 | round / 100)
  | .levers[].saves_usd |= (. * 100 | round / 100) | .hours |= (. * 10 | round / 10);

# In 80 columns, unless a name or setting is longer by itself: it is to be copied, so it is not broken.
def beside($last): if (. + $last | length) <= 80 then . + $last else ., $last end;

def reads_line($stored; $read; $gets; $usd; $folder):
  "\($stored | right(12))\($read | right(12))\($gets | right(11))\($usd | right(11))" | beside("  " + $folder);

def reads_table: "reads since \(.since), \(.hours | digits(1)) hours",
  (select(.hours < 1) | "the first figures come after about 15 minutes"), "",
  reads_line("GB stored"; "GB read"; "GETs"; "USD/month"; "folder"),
  (.rows[] | reads_line(.stored_gb | digits(2); .read_gb | digits(2); .gets | digits(0); .usd | money; .folder | tojson),
    (select(.lever) | .lever as $lever | "  not read, saves \(.saves_usd | money):" | beside("  " + $lever))),
  (select(.levers != []) | "", "levers for all of it, USD a month saved:",
    (.levers[] | .lever as $lever | ("  \(.saves_usd | money | right(9))" | beside("  " + $lever)), "    \(.why)"));
