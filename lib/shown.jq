# Reads the resources of a deployment without a record, as shown_parts of lib/record.sh puts them together; prints its
# settings that are not the default.

def one_text: if type == "array" then join(",") else . end;

# What the workers are given. By itself, PROCESSES is one for each vCPU.
def of_workers: (worker.environment // [] | map({(.name): .value}) | add // {})
  + {TASK_CPU: .cpu, TASK_MEMORY: .memory, TASK_ARCH: .runtimePlatform.cpuArchitecture,
     ROLE_PATH: ("/" + (.taskRoleArn | split("/")[1:-1] | map(. + "/") | join("")))}
  | ([.TASK_CPU | tonumber / 1024 | floor, 1] | max | tostring) as $processes
  | if .PROCESSES == $processes then del(.PROCESSES) else . end;

def of_starter: .Environment.Variables // {} | {SUBNETS, ASSIGN_PUBLIC_IP, MAX_WORKERS, MIN_WORKERS, MESSAGES_PER_WORKER,
  AUDIT_DAYS, STARTER_COPIES, STARTER_MAX_SIZE};

def given_tags: .Tags // {} | to_entries | map(select(.key | IN($own | splits(" ")) | not) | "\(.key)=\(.value)") | join(",");

def of_the_rest: [.policy.PolicyDocument.Statement[]?] as $rights | {
  ALARM_EMAIL: [.subscriptions.Subscriptions[]? | select(.Protocol == "email" and .SubscriptionArn != "Deleted").Endpoint][0],
  ALARM_AGE_SECONDS: [.alarms[]? | select(.AlarmName == $age).Threshold | floor | tostring][0],
  EVENT_SOURCE: (if .event_rule then "eventbridge" else null end),
  LAMBDA_POLL_RATE: [.rule.ScheduleExpression // "" | match("^rate\\((\\d+) minutes?\\)$").captures[0].string][0],
  LOG_RETENTION_DAYS: [.logs.logGroups[]? | select(.logGroupName == $log).retentionInDays | numbers | tostring][0],
  SRC_KMS_KEY_ARN: [$rights[] | select(.Action == "kms:Decrypt").Resource | one_text][0],
  DST_KMS_KEY_ARN: [$rights[] | select(.Action | type == "array" and any(. == "kms:GenerateDataKey")).Resource
    | one_text][0],
  TAGS: (if .function.Environment.Variables.TAG_TASKS == "true" then .tags | given_tags else null end)};

(.definition | of_workers) + (.function | of_starter) + of_the_rest
| with_entries(select(.value != null and (.key | in($default)) and .value != $default[.key]))
| del(.REGION, .APP_NAME)
