"""Lambda: one run of a function, what is logged and measured of it."""

from __future__ import annotations

import math
import signal
import time

from ministack.services import cloudwatch, lambda_svc

from gaps.functions import give_back, take
from gaps.replace import replaces


def measure(name, **values):
    """Publish what Lambda reports to CloudWatch."""
    for metric, value in values.items():
        unit = "Milliseconds" if metric == "Duration" else "Count"
        cloudwatch.record_metric("AWS/Lambda", metric, value, unit, {"FunctionName": name})


@replaces(lambda_svc, "_emit_lambda_metrics")
def publish_throttle(_original, function_name, *, error, throttle, **_):
    """Publish what was throttled, once. run() does the rest: ministack measures only what an Invoke request runs."""
    if throttle and not error:
        measure(function_name, Throttles=1)


@replaces(lambda_svc, "_execute_function_dispatch")
def run(_original, function, config, event, request_id, _started):
    """Run the function in one of its environments; return what ministack answers the caller with."""
    environment = take({**function, "config": config})
    environment.lines.clear()
    timeout = config.get("Timeout", 3)
    started = environment.wait_for_start(timeout)
    began = time.time()
    environment.log(f"START RequestId: {request_id} Version: {config.get('Version', '$LATEST')}")
    request = {"id": request_id, "event": event, "arn": config["FunctionArn"], "deadline": began + timeout}
    answer = started if started.keys() & {"error", "ended"} else environment.ask(request)
    milliseconds = (time.time() - began) * 1000
    error = explain(environment, request, answer)
    environment.log(f"END RequestId: {request_id}")
    environment.log(report(config, request_id, milliseconds, {**started, **answer}))
    if "ended" in answer or answer is started:
        environment.end()
    else:
        give_back(environment)
    measure(config["FunctionName"], Invocations=1, Errors=int(bool(error)), Duration=milliseconds)
    log = "\n".join(environment.lines)
    return {"body": error, "error": True, "log": log} if error else {"body": answer["body"], "log": log}


def explain(environment, request, answer):
    """Log why a run failed and return what its caller gets; None if it did not fail."""
    if "body" in answer:
        return None
    if "error" in answer:
        error = answer["error"]
        environment.log(f"[ERROR] {error['errorType']}: {error['errorMessage']}\n{answer['trace'].rstrip()}")
        return {**error, "requestId": request["id"]}
    environment.end()
    code, request_id = environment.process.returncode, request["id"]
    if answer["ended"] == "timeout":
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        message = f"{now} {request_id} Task timed out after {environment.config.get('Timeout', 3):.2f} seconds"
        environment.log(message)
        return {"errorType": "Sandbox.Timedout", "errorMessage": message}
    cause = f"exit status {code}" if code >= 0 else f"signal: {signal.strsignal(-code)}"
    reason = f"with error: {cause}" if code else "without providing a reason"
    message = f"RequestId: {request_id} Error: Runtime exited {reason}"
    environment.log(f"{message}\nRuntime.ExitError")
    return {"errorType": "Runtime.ExitError", "errorMessage": message}


def report(config, request_id, milliseconds, answer):
    """Return the line that Lambda ends the log of a run with; a cold start is billed too."""
    init = answer.get("init", 0)
    parts = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {milliseconds:.2f} ms",
        f"Billed Duration: {math.ceil(milliseconds + init)} ms",
        f"Memory Size: {config.get('MemorySize', 128)} MB",
        f"Max Memory Used: {answer.get('memory', 0) // 1024**2} MB",
    ]
    parts += [f"Init Duration: {init:.2f} ms"] if init else []
    status = {"timeout": "Status: timeout", "exit": "Status: error\tError Type: Runtime.ExitError"}
    return "\t".join([*parts, *filter(None, [status.get(answer.get("ended", ""))])])
