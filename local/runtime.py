"""Lambda's Python runtime: gaps/functions.py starts it in the folder that holds the archive's files.

    runtime.py REQUESTS ANSWERS

Both are file descriptors with one JSON document per line. What the function prints is its log; a line with the ID of
the request in it shows that all lines of that run have been written.
"""

import importlib
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

STATUS = Path("/proc/self/status")


def load_handler():
    """Import what the function's setting Handler names."""
    module, _, name = os.environ["_HANDLER"].rpartition(".")
    return getattr(importlib.import_module(module.replace("/", ".")), name)


def context_of(request):
    """Return the object that the handler gets as its second argument."""
    return SimpleNamespace(
        function_name=os.environ["AWS_LAMBDA_FUNCTION_NAME"],
        function_version=os.environ["AWS_LAMBDA_FUNCTION_VERSION"],
        memory_limit_in_mb=os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"],
        log_group_name=os.environ["AWS_LAMBDA_LOG_GROUP_NAME"],
        log_stream_name=os.environ["AWS_LAMBDA_LOG_STREAM_NAME"],
        invoked_function_arn=request["arn"],
        aws_request_id=request["id"],
        identity=None,
        client_context=None,
        get_remaining_time_in_millis=lambda: max(0, int((request["deadline"] - time.time()) * 1000)),
    )


def describe(error):
    """Return an exception as Lambda answers with it, and its traceback."""
    name = "Runtime.ImportModuleError" if isinstance(error, ImportError) else type(error).__name__
    body = {"errorMessage": str(error), "errorType": name, "stackTrace": traceback.format_tb(error.__traceback__)}
    return {"error": body, "trace": "".join(traceback.format_exception(error))}


def most_memory():
    """Return the bytes of memory this process took at most; ru_maxrss of a child on Linux includes its parent's."""
    if STATUS.exists():
        return int(STATUS.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def answer_to(handler, request):
    """Run the handler; return what it returned or raised, and the most memory this process ever took."""
    try:
        answer = {"body": json.loads(json.dumps(handler(request["event"], context_of(request))))}
    except Exception as error:  # noqa: BLE001 as Lambda does; SystemExit ends the process
        answer = describe(error)
    return {**answer, "memory": most_memory()}


def main(requests, answers):
    """Say that the handler is there, then run it for each request."""
    sys.path[0] = str(Path.cwd())
    sys.stdout.reconfigure(line_buffering=True)
    with os.fdopen(requests) as asked, os.fdopen(answers, "w", buffering=1) as told:
        try:
            handler = load_handler()
        except Exception as error:  # noqa: BLE001 whatever the module raises while it is imported
            told.write(json.dumps(describe(error)) + "\n")
            return
        told.write("{}\n")
        for line in asked:
            request = json.loads(line)
            told.write(json.dumps(answer_to(handler, request)) + "\n")
            sys.stdout.flush()
            os.write(1, f"{request['id']}\n".encode())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
