"""Run ministack 1.5.33, an AWS stand-in in one process, with what is missing in it for this project's chain.

    GATEWAY_PORT=4566 AUTH=true python local/cloud.py

What is added is in gaps/, one file per service: a function under `@replaces(module, name)` stands in for that function
of ministack and gets it as its first argument. ministack's own settings apply (GATEWAY_PORT, AUTH, ...). Ours, from the
environment too:

    LOCAL_WORKER        path of worker.py: a task is this program as a plain process, for a machine without a Docker
                        engine
    LOCAL_TICK          seconds between two firings of every rate() rule (default: what the rule says; local.sh sets 5)
    LOCAL_TASK_SECONDS  seconds from RunTask to the start of the task's container (default: 0; Fargate takes 30 to 60)
    COPY_MAX            bytes one CopyObject or UploadPartCopy may copy (default: 5 GiB, as S3)
"""

import os

from ministack import app

from gaps import asynchronous, cloudwatch, ecs, events, functions, iam, s3, sqs

GAPS_CLOSED = (s3, iam, ecs, sqs, events, functions, asynchronous, cloudwatch)  # by their import


def main():
    """Serve on loopback only, without the listeners that this chain does not use."""
    os.environ.update(BIND_HOST="127.0.0.1", IOT_MTLS_ENABLED="0", SFTP_ENABLED="0")
    if os.environ.get("LOCAL_WORKER"):
        print("no Docker engine: each task runs worker.py as a process", flush=True)
        ecs.replace_docker()
    app.main()


if __name__ == "__main__":
    main()
