"""Lambda: execution environments, each a process of its own that nothing of this cloud leaks into, and one run in them:
what is logged and measured of it."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import io
import json
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zipfile
from pathlib import Path

from ministack.core import lambda_runtime
from ministack.core.responses import get_region
from ministack.services import cloudwatch, cloudwatch_logs, lambda_svc

from gaps import replaces

PORT = os.environ.get("GATEWAY_PORT", "4566")
RUNTIME = Path(__file__).parents[1] / "runtime.py"
INIT_SECONDS = 10  # Lambda Developer Guide, "Init phase"

every, idle, lock = set(), {}, threading.Lock()  # all environments; those that wait, by the function's name


def variables(config, folder, stream):
    """Return all of the environment variables of a function (Lambda Developer Guide, "Defined runtime variables")."""
    region, name = get_region(), config["FunctionName"]
    ours = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),  # no AWS configuration of this machine
        "TMPDIR": str(folder / "tmp"),
        "TZ": ":UTC",
        "_HANDLER": config["Handler"],
        "LAMBDA_TASK_ROOT": str(folder / "task"),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{config['Runtime']}",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": config.get("Version", "$LATEST"),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config.get("MemorySize", 128)),
        "AWS_LAMBDA_LOG_GROUP_NAME": log_group(config),
        "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        "VIA": " --local",  # what the commands that the guard names need here
    }
    credentials = lambda_runtime.execution_credentials(config)
    return {**config.get("Environment", {}).get("Variables", {}), **ours, **credentials}


def log_group(config):
    return config.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{config['FunctionName']}"


class Environment:
    """A process that runs the handler, stopped between two runs as Lambda freezes it, and its log stream."""

    def __init__(self, function):
        """Unpack the archive and start the runtime in it."""
        self.config, self.lines, self.is_cold = dict(function["config"]), [], True
        self.folder = Path(tempfile.mkdtemp(prefix="function-"))
        (self.folder / "tmp").mkdir()
        with zipfile.ZipFile(io.BytesIO(function["code_zip"])) as archive:
            archive.extractall(self.folder / "task")
        self.stream = time.strftime("%Y/%m/%d/[$LATEST]", time.gmtime()) + uuid.uuid4().hex
        self.through = None, threading.Event()
        self.start()

    def start(self):
        """Start the process. Its group is its own: if this cloud dies, the system ends a group that is stopped."""
        asked, requests = os.pipe()
        self.answers, told = os.pipe()
        self.requests = os.fdopen(requests, "wb", buffering=0)
        self.process = subprocess.Popen(
            [sys.executable, RUNTIME, str(asked), str(told)],
            cwd=self.folder / "task",
            env=variables(self.config, self.folder, self.stream),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=(asked, told),
            process_group=0,
        )
        os.close(asked)
        os.close(told)
        self.reader = threading.Thread(target=contextvars.copy_context().run, args=(self.read_lines,), daemon=True)
        self.reader.start()

    def read_lines(self):
        """Log each line when it is printed; the line that ends a run is not logged."""
        for line in self.process.stdout:
            text, (request_id, event) = line.rstrip("\n"), self.through
            through = request_id and text.endswith(request_id)
            if text := text.removesuffix(request_id or ""):
                self.log(text)
            if through:
                event.set()

    def log(self, message):
        """Write one event to the log, whose group and stream are made if they are not there."""
        place = {"logGroupName": log_group(self.config), "logStreamName": self.stream}
        cloudwatch_logs._create_log_group(place)
        cloudwatch_logs._create_log_stream(place)
        event = {"timestamp": int(time.time() * 1000), "message": message}
        cloudwatch_logs._put_log_events({**place, "logEvents": [event]})
        self.lines.append(message)

    def wait_for_start(self, timeout):
        """Return {} if it has run before; else how long its start took, or why it failed."""
        if not self.is_cold:
            self.thaw()
            return {}
        self.is_cold, began = False, time.time()
        answer = self.read_answer(began + INIT_SECONDS + timeout)
        return {**answer, "init": (time.time() - began) * 1000}

    def ask(self, request):
        """Send an event and return the handler's answer, with "ended" if the time was up or the process has ended."""
        self.through = request["id"], threading.Event()
        with contextlib.suppress(BrokenPipeError):  # it has ended
            self.requests.write(json.dumps(request).encode() + b"\n")
        answer = self.read_answer(request["deadline"])
        if "ended" not in answer:
            self.through[1].wait(5)
        return answer

    def read_answer(self, deadline):
        """Read one line that the process wrote."""
        line, poll = b"", select.poll()
        poll.register(self.answers)
        while not line.endswith(b"\n"):
            if not poll.poll(max(0, (deadline - time.time()) * 1000)):
                return {"ended": "timeout"}
            piece = os.read(self.answers, 65536)
            if not piece:
                self.process.wait()
                self.reader.join(5)
                return {"ended": "exit"}
            line += piece
        return json.loads(line)

    def freeze(self):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(self.process.pid, signal.SIGCONT)

    def end(self):
        """End its processes and remove its files."""
        with lock:
            if self not in every:
                return
            every.remove(self)
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join(5)
        self.requests.close()
        os.close(self.answers)
        shutil.rmtree(self.folder, ignore_errors=True)


def take(function):
    """Return an environment of this revision of the function that waits and lives, or a new one."""
    while environment := pop_idle(function["config"]["FunctionName"]):
        if environment.config["RevisionId"] == function["config"]["RevisionId"] and environment.process.poll() is None:
            return environment
        environment.end()
    environment = Environment(function)
    with lock:
        every.add(environment)
    return environment


def pop_idle(name):
    with lock:
        return idle[name].pop() if idle.get(name) else None


def give_back(environment):
    """Keep it for the next run, unless the function has changed since."""
    name = environment.config["FunctionName"]
    function = lambda_svc._functions.get(name) or {"config": {}}
    if function["config"].get("RevisionId") != environment.config["RevisionId"]:
        environment.end()
        return
    environment.freeze()
    with lock:
        idle.setdefault(name, []).append(environment)


@replaces(lambda_svc, "invalidate_worker")
def end_idle(_original, name, **_):
    """End the environments that wait: the function has changed. A run under way goes on to its end, as on AWS."""
    with lock:
        waiting = idle.pop(name, [])
    for environment in waiting:
        environment.end()


@replaces(lambda_svc, "reset")
def reset(original):
    """End all environments; every function is about to go."""
    end_all()
    original()


@atexit.register
def end_all():
    idle.clear()
    for environment in list(every):
        environment.end()


# --- a run ------------------------------------------------------------------------------------------------------------


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
