"""Limits of S3 and SQS (S3 User Guide, "Amazon S3 multipart upload limits"; SQS Developer Guide, "Message quotas")."""

MIB = 1024**2
GIB = 1024**3

MIN_PART_SIZE = 5 * MIB
MAX_COPY_SIZE = 5 * GIB  # one CopyObject or one UploadPartCopy
MAX_PARTS = 10_000
MAX_USER_METADATA = 2048  # bytes

MAX_SQS_DELAY = 900  # seconds
MAX_SQS_VISIBILITY = 43_200  # seconds
SQS_BATCH = 10  # messages in one call
EVENTS_BATCH = 10  # events in one PutEvents (Amazon EventBridge API Reference)
