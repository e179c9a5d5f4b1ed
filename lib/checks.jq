# The path of a change from the source bucket to the starter: what must hold, and what is said and done if it does not.
# Reads what lib/checks.sh has asked of AWS. The checks are in the order of the path, a row each:
#   check(what is missing if it fails; what must hold; what is said; the cure; the command to look closer)
# A part that could not be read has an .error, and what would need it holds. Only settings that the starter knows are
# compared.

def check($link; holds; fault; cure; look): select(holds | not) | {$link, fault: fault, cure: cure, look: look};

def deploy: "./deploy.sh\(.via)";
def deploy_there: "\(deploy), or set REGION and APP_NAME";
def look_bucket: "aws s3api get-bucket-notification-configuration --bucket \(.name.bucket)";
def look_queue: "aws sqs get-queue-attributes --attribute-names Policy --queue-url \(.name.queue_url)";
def look_rule($name): "aws events describe-rule --name \($name)";
def look_targets($name): "aws events list-targets-by-rule --rule \($name)";
def look_permissions: "aws lambda get-policy --function-name \(.name.starter)";

def filters: [.[].Filter.Key.FilterRules[]?.Value] | sort;
def missing_events: [.ours[].Events as $have | .want.notifications[0].Events - ($have // []) | .[]] | unique;
def admits($sender): (.want.policy.Statement[] | select(.Sid == $sender) | del(.Sid)) as $want
  | .queue == null or any(.queue.Policy.Statement[]?; del(.Sid) == $want);
def has_target($rule; $arn): any($rule.Targets[]?; .Arn == $arn);
def permits($rule): (.permissions | has("error")) or any(.permissions.Statement[]?; .Sid == $rule);

def of_queues:
  check("no event"; .queue; "there is no queue \(.name.queue)"; deploy_there; "aws sqs list-queues"),
  check("no dead-letter queue"; .dead_letters; "there is no dead-letter queue \(.name.dead_letters)"; deploy_there;
    "aws sqs list-queues");

def of_no_way:
  check("no event"; .foreign == []; "the notification \(.foreign[0].Id) of the bucket sends to another queue, \(
    .foreign[0].QueueArn)"; "remove it, then \(deploy)"; look_bucket),
  check("no event"; .foreign != [];
    "no event reaches the queue: there is neither a notification of the bucket nor a rule"; deploy; look_bucket);

def of_notification:
  check("no event"; (.ours | length) >= (.want.notifications | length); "the bucket has \(.ours | length) of \(
    .want.notifications | length) notifications, one for each prefix"; deploy; look_bucket),
  check("no event"; .want.is_known == false or (.ours | length) < (.want.notifications | length)
      or (.ours | filters) == (.want.notifications | filters);
    "the notifications of the bucket are for other prefixes than those that are synced"; deploy; look_bucket),
  check("no event"; missing_events == [];
    "the notifications of the bucket are without \(missing_events | join(", "))"; deploy; look_bucket),
  check("no event"; admits("s3-events");
    "the policy of the queue does not let the bucket \(.name.bucket) send to it"; deploy; look_queue);

def of_event_rule:
  check("no event"; .bucket | has("EventBridgeConfiguration");
    "the bucket \(.name.bucket) sends no events to EventBridge: it is switched off"; deploy; look_bucket),
  check("no event"; .event_rule.State == "ENABLED";
    "the rule \(.name.event_rule), which sends the events, is disabled"; deploy; look_rule(.name.event_rule)),
  check("no event"; .want.is_known == false or .event_rule.EventPattern == .want.pattern;
    "the rule \(.name.event_rule) is for other events than those that are synced"; deploy;
    look_rule(.name.event_rule)),
  check("no event"; has_target(.event_rule; .arn.queue);
    "the rule \(.name.event_rule) does not send to the queue: its target is gone"; deploy;
    look_targets(.name.event_rule)),
  check("no event"; admits("eventbridge");
    "the policy of the queue does not let the rule \(.name.event_rule) send to it"; deploy; look_queue);

def of_starter:
  check("no starter"; .rule; "no rule runs the starter"; deploy; look_rule(.name.rule)),
  check("no starter"; .rule == null or .rule.State == "ENABLED"; "the rule that runs the starter is disabled"; deploy;
    look_rule(.name.rule)),
  check("no starter"; .rule == null or has_target(.rule; .arn.starter);
    "the rule \(.name.rule) does not run the starter: its target is gone"; deploy; look_targets(.name.rule)),
  check("no starter"; .starter; "there is no function that starts workers"; deploy;
    "aws lambda get-function-configuration --function-name \(.name.starter)"),
  check("no starter"; .starter == null or permits(.name.rule);
    "the function \(.name.starter) does not let the rule \(.name.rule) run it"; deploy; look_permissions);

# Without these all goes on, up to LAMBDA_POLL_RATE minutes later. Of an account with too few executions to reserve one
# deploy.sh makes neither the target nor the permission.
def of_start_at_once:
  check("no start at once"; .event_rule == null or has_target(.event_rule; .arn.starter)
      or (.permissions | has("error")) or (permits(.name.event_rule) | not);
    "the rule \(.name.event_rule) does not start the starter at once: its target is gone"; deploy;
    look_targets(.name.event_rule)),
  check("no start at once"; .starter == null or (has_target(.event_rule; .arn.starter) | not)
      or permits(.name.event_rule);
    "the function \(.name.starter) does not let the rule \(.name.event_rule) run it"; deploy; look_permissions);

# While the source of events is being changed there are two ways, and one that is whole is enough.
def of_events: [[select(.ours != []) | [of_notification]], [select(.event_rule) | [of_event_rule]] | .[]] as $ways
  | if $ways == [] then of_no_way elif all($ways[]; . != []) then $ways[][] else empty end;

def faults: [of_queues, (select(.bucket | has("error") | not) | of_events), of_starter, of_start_at_once];
