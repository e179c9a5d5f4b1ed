# shellcheck shell=bash
# The names and ARNs of everything that deploy.sh makes.

# Names follow from the settings when a command runs, so that a caller may still change the settings after sourcing.
set_names() {
  QUEUE_NAME=$APP_NAME-q
  DLQ_NAME=$APP_NAME-dlq
  STARTER_NAME=$APP_NAME-starter
  RULE_NAME=$APP_NAME-starter-rule
  EVENT_RULE_NAME=$APP_NAME-event-rule
  CLUSTER_NAME=$APP_NAME-cluster
  TASK_FAMILY=$APP_NAME-task
  STARTER_ROLE=$APP_NAME-starter-role
  TASK_ROLE=$APP_NAME-task-role
  EXEC_ROLE=$APP_NAME-exec-role
  SECURITY_GROUP_NAME=$APP_NAME-sg
  DLQ_ALARM=$APP_NAME-dead-letters
  AGE_ALARM=$APP_NAME-behind
  STARTER_ALARM=$APP_NAME-starter-fails
  SILENT_ALARM=$APP_NAME-starter-silent
  OUTAGE_ALARM=$APP_NAME-outage
  OUTAGE_METRIC=Outages
  EVENTS_ALARM=$APP_NAME-events
  AUDIT_ALARM=$APP_NAME-audit
  AUDIT_METRIC=Audits
  LATE_ALARM=$APP_NAME-late
  TOPIC_NAME=$APP_NAME-alarms
  DASHBOARD_NAME=$APP_NAME
  STARTER_LOG_GROUP=/aws/lambda/$STARTER_NAME
  WORKER_LOG_GROUP=/ecs/$TASK_FAMILY
  STARTED_BY=$APP_NAME-starter
  AUDIT_STARTED_BY=$APP_NAME-audit
  NOTIFICATION_ID=$APP_NAME
  LIFECYCLE_RULE_ID=$APP_NAME-abort-incomplete-uploads
  KEEP_RULE_ID=$APP_NAME-keep # the first one's
}

# ARNs are made of names and the account, so that a dry run and a clean-up know them without the resource.
set_account() {
  ACCOUNT=$1
  : "${SRC_BUCKET_OWNER:=$ACCOUNT}" "${DST_BUCKET_OWNER:=$ACCOUNT}"
  QUEUE_ARN=arn:aws:sqs:$REGION:$ACCOUNT:$QUEUE_NAME
  DLQ_ARN=arn:aws:sqs:$REGION:$ACCOUNT:$DLQ_NAME
  STARTER_ARN=arn:aws:lambda:$REGION:$ACCOUNT:function:$STARTER_NAME
  RULE_ARN=arn:aws:events:$REGION:$ACCOUNT:rule/$RULE_NAME
  EVENT_RULE_ARN=arn:aws:events:$REGION:$ACCOUNT:rule/$EVENT_RULE_NAME
  CLUSTER_ARN=arn:aws:ecs:$REGION:$ACCOUNT:cluster/$CLUSTER_NAME
  TASK_ROLE_ARN=arn:aws:iam::$ACCOUNT:role$ROLE_PATH$TASK_ROLE
  EXEC_ROLE_ARN=arn:aws:iam::$ACCOUNT:role$ROLE_PATH$EXEC_ROLE
  STARTER_ROLE_ARN=arn:aws:iam::$ACCOUNT:role$ROLE_PATH$STARTER_ROLE
  TOPIC_ARN=arn:aws:sns:$REGION:$ACCOUNT:$TOPIC_NAME
  REPOSITORY_ARN=arn:aws:ecr:$REGION:$ACCOUNT:repository/$APP_NAME
  DST_BUCKET_ARN=arn:aws:s3express:$REGION:$DST_BUCKET_OWNER:bucket/$DST_BUCKET
}
