"""ECS: a Fargate task on this machine, in a container or as a process, and the quota of them."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

from ministack import app
from ministack.core.responses import get_account_id, get_region, json_response
from ministack.services import ecs

from gaps import replaces
from gaps.iam import temporary_credentials

PORT = os.environ.get("GATEWAY_PORT", "4566")
ECR_HOST = re.compile(r"^\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/")


@replaces(ecs, "_resolve_td_key")
def resolve_task_definition(original, reference):
    """A family means its newest active revision (ECS API Reference, DescribeTaskDefinition)."""
    family = reference.rpartition("/")[2]
    if ":" in family:
        return original(reference)
    revisions = [d["revision"] for d in ecs._task_defs.values() if (d["family"], d["status"]) == (family, "ACTIVE")]
    return f"{family}:{max(revisions)}" if revisions else family


@replaces(ecs, "_run_task")
def run_task(original, data):
    """A task has tags of its task definition only if it is asked for (ECS API Reference, RunTask, propagateTags)."""
    if data.get("propagateTags") == "TASK_DEFINITION":
        definition = ecs._task_defs.get(ecs._resolve_td_key(data.get("taskDefinition", ""))) or {}
        inherited = ecs._tags.get(definition.get("taskDefinitionArn"), [])
        data = {**data, "tags": [*inherited, *data.get("tags", [])]}
    return original(data)


ecs._ACTION_MAP["RunTask"] = run_task


@replaces(ecs, "_start_task_worker")
def start_task(original, task, definition, overrides, engine):
    """Start on the host's network, where ministack is 127.0.0.1, the image coming from ministack's own registry."""
    region = {"name": "AWS_REGION", "value": get_region()}, {"name": "AWS_DEFAULT_REGION", "value": get_region()}
    containers = [
        {
            **container,
            "image": ECR_HOST.sub(f"127.0.0.1:{PORT}/", container["image"]),
            "environment": [*region, *container.get("environment", [])],
        }
        for container in definition["containerDefinitions"]
    ]
    take_as_long_as_fargate(task)
    return original(task, {**definition, "networkMode": "host", "containerDefinitions": containers}, overrides, engine)


def take_as_long_as_fargate(task):
    """Let the task be PROVISIONING, then PENDING, for LOCAL_TASK_SECONDS in all; each task has a thread of its own."""
    pause = float(os.environ.get("LOCAL_TASK_SECONDS") or 0) / 2
    time.sleep(pause)
    if pause and ecs._mark_task_pending(task["taskArn"], task):
        time.sleep(pause)


@replaces(ecs, "_register_metadata")
def lend_task_role(original, task_arn, cluster_arn, definition, container, launch_type, env, *network):
    """Give the task a session of its task role, as the credentials endpoint of Fargate does."""
    token = original(task_arn, cluster_arn, definition, container, launch_type, env, *network)
    role = definition.get("taskRoleArn", "").rpartition("/")[2]
    if role:
        task_id = task_arn.rpartition("/")[2]
        arn = f"arn:aws:sts::{get_account_id()}:assumed-role/{role}/{task_id}"
        key_id, secret, session_token, _ = temporary_credentials(arn, f"{role}:{task_id}", 12 * 3600)
        env |= {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": session_token}
    return token


@replaces(ecs, "_build_run_kwargs")
def limit_container(original, container, definition, *rest):
    """Add what the task definition asks for and ministack leaves out; run on this machine's architecture."""
    options = original(container, definition, *rest)
    options.pop("platform", None)
    options["labels"]["stop-timeout"] = str(container.get("stopTimeout", 30))
    options["init"] = bool(container.get("linuxParameters", {}).get("initProcessEnabled"))
    options["read_only"] = bool(container.get("readonlyRootFilesystem"))
    for field, option in (("entryPoint", "entrypoint"), ("user", "user"), ("workingDirectory", "working_dir")):
        if container.get(field):
            options[option] = container[field]
    if definition.get("memory"):
        options["mem_limit"] = f"{definition['memory']}m"
    if definition.get("cpu"):
        options["nano_cpus"] = int(min(int(definition["cpu"]) / 1024, os.cpu_count() or 1) * 10**9)
    limits = container.get("ulimits", [])
    options["ulimits"] = [{"Name": u["name"], "Soft": u["softLimit"], "Hard": u["hardLimit"]} for u in limits]
    return options


@replaces(ecs, "_stop_task")
def stop_task(original, data):
    """StopTask answers at once; SIGTERM, then SIGKILL after stopTimeout (ECS API Reference, StopTask)."""
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    task = cluster and ecs._resolve_task(data.get("task", ""), cluster)
    if not task or not task.get("_docker_ids"):
        return original(data)
    reason = data.get("reason", "Task stopped by user")
    task.update(desiredStatus="STOPPED", stopCode="UserInitiated", stoppedReason=reason, stoppingAt=ecs._iso())
    engine = ecs._get_docker()
    for container_id in task["_docker_ids"]:
        container = engine.containers.get(container_id)
        seconds = int(container.labels["stop-timeout"])
        threading.Thread(target=container.stop, kwargs={"timeout": seconds}, daemon=True).start()
    return json_response({"task": ecs._sanitize(task)})


ecs._ACTION_MAP["StopTask"] = stop_task


@replaces(ecs, "_task_is_active")
def task_is_active(original, task_arn, task):
    """A task that is to stop is watched until its containers are gone, so that their exit codes are known."""
    stopping = task.get("desiredStatus") == "STOPPED" and task.get("lastStatus") == "RUNNING"
    return original(task_arn, task) or (stopping and ecs._tasks.get(task_arn) is task)


@replaces(ecs, "_mark_task_stopped")
def mark_task_stopped(original, task_arn, task, reason, stop_code, exit_code=None):
    """Keep the reason StopTask gave when the watcher finds the containers gone; what never ran has no exit code."""
    if not task.get("_docker_ids"):
        exit_code = None
    if task.get("stopCode"):
        reason, stop_code = task["stoppedReason"], task["stopCode"]
    return original(task_arn, task, reason, stop_code, exit_code=exit_code)


async def get_service_quota(_method, _path, _headers, body, _query):
    """Return the 6 vCPUs that a new account has for Fargate and for Fargate Spot, whatever quota is asked for."""
    return json_response({"Quota": {**json.loads(body), "Value": 6.0}})


app.SERVICE_HANDLERS["servicequotas"] = get_service_quota


# --- without a Docker engine: the part of docker-py that ministack calls, with processes as containers ----------------


class ProcessContainer:
    """worker.py as a process that looks like a container."""

    def __init__(self, environment, labels, arguments):
        """Start it with the environment and the command of the task and nothing else of ours."""
        env = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **environment}
        self.process = subprocess.Popen(
            [sys.executable, os.environ["LOCAL_WORKER"], *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a killed container takes all of its processes along
        )
        self.id, self.labels, self.attrs = f"process-{self.process.pid}", labels, {}

    @property
    def status(self):
        return "running" if self.process.poll() is None else "exited"

    def reload(self):
        pass

    def logs(self, **_):
        return self.process.stdout

    def wait(self):
        code = self.process.wait()
        return {"StatusCode": code if code >= 0 else 128 - code}

    def stop(self, timeout):
        self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.remove()

    def remove(self, **_):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(self.process.pid, signal.SIGKILL)


def process_engine():
    """Return an engine whose containers are processes."""
    started = {}

    def run(_image, *, environment, labels, command=None, **_):
        container = ProcessContainer(environment, labels, command or [])
        return started.setdefault(container.id, container)

    atexit.register(lambda: [container.remove() for container in started.values()])
    return SimpleNamespace(containers=SimpleNamespace(run=run, get=started.__getitem__))


def replace_docker():
    """Have every task run as a process from now on."""
    ecs._docker = process_engine()
