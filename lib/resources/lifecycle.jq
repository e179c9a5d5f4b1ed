# What lib/resources/destination.sh asks of a lifecycle: {Rules: [...]}, or null where there is none.
# $keep: id of the first rule of KEEP_DAYS; $abort: the rule that aborts uploads, as we make it; $rules: rules of
# KEEP_DAYS, and what they are compared with or put into is the input.

def keeps: .ID // "" | test("^" + $keep + "(-[0-9]+)?$");
def aborts: .Status = $abort.Status | . as $rule
  | all($abort | paths(scalars); . as $path | ($rule | getpath($path)) == ($abort | getpath($path)));
def prefix: .Filter.Prefix // .Filter.And.Prefix // .Prefix // "";
def compared: map({ID, Status, prefix: prefix, more: (.Filter // {} | del(.Prefix)), days: .Expiration.Days}) | sort;

# From [{prefix, days}, ...].
def numbered: to_entries | map({ID: ($keep + if .key == 0 then "" else "-\(.key + 1)" end), Status: "Enabled",
  Filter: {Prefix: .value.prefix}, Expiration: {Days: .value.days}});

# --- of a lifecycle ---

def has_ours: any(.Rules[]?; keeps or .ID == $abort.ID);
def has_keeping: any(.Rules[]?; keeps);
def ids: [.Rules[]? | select(keeps or aborts).ID] | join(", ");

# A rule of our id that aborts in another way has become someone else's; one that is only disabled has not.
def others: [.Rules[]? | select(keeps or aborts | not)];

def has_just: ([.Rules[]? | select(keeps)] | compared) == ($rules | compared);

def is_off: any(.Rules[]?; aborts and .Status != $abort.Status);

# With these rules instead of those that it has. S3 takes no empty one, so our other rule is in it then.
def with_rules: {Rules: ([.Rules[]? | select(keeps | not) | if aborts then $abort else . end]
  | (if . == [] then [$abort] else . end) + $rules)};

# What both its rules and $rules expire, as rules: under the longer prefix, after the more days.
def agreed: [.Rules[]? | select(keeps and .Status == "Enabled") as $old | $rules[] as $new
    | ($old | prefix) as $one | ($new | prefix) as $other
    | select(($one | startswith($other)) or ($other | startswith($one)))
    | {prefix: ([$one, $other] | max), days: ([$old, $new | .Expiration.Days] | max)}]
  | unique | numbered;
