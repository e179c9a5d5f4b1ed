"""What the function needs as the first to respond, in CPU seconds, and what follows from that for each memory size.

    .venv/bin/python tests/bench/function.py

Lambda gives memory/1769 of a vCPU. The archive holds no bytecode unless it is put there, and nothing of the AWS CRT;
both are as in a copy of the packages that is made for this. The stand-in speaks no TLS: what botocore does for each new
connection, to load the certificates that it trusts, is measured by itself. Not in it: what Lambda takes to make an
environment, and the handshakes.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import boto3

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "standin"))  # the stand-in

from movers import CREDENTIALS, MIRROR, PROJECT, REGION, SOURCE
from runs import clear, set_latency
from small import COPY_MS, HEAD_MS, KIB
from standin import Standin, running_standin

PACKAGES = ("boto3", "botocore", "s3transfer", "urllib3", "jmespath", "dateutil", "six.py")
MEMORY = (128, 256, 512, 1024, 1769)
USD_PER_GB_SECOND, USD_PER_REQUEST = 0.0000133334, 0.20 / 1e6  # arm64
MB_OF_A_VCPU = 1769
POLL_SECONDS = 1.0  # waited for at the end of each invocation
COPY_SECONDS = (2 * HEAD_MS + COPY_MS) / 1000
CONNECTIONS = 7  # receive, list, session, two to look, copy, delete
BURST, WARM = 500, 20

# The process: each line of its input is an invocation, its answer what that took.
PROCESS = """
import json, os, sys, time
sys.modules["awscrt"] = None
begun = time.process_time()
import starter
from mirror import function as first_responder
imported = time.process_time()
first_responder.KEYS = int(sys.argv[1])
first_responder.IDLE_SECONDS = float(sys.argv[2])
first_responder.process_for(first_responder.settings_from(os.environ))
def tell(**figures):
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print("FIGURES " + json.dumps(figures | {"MiB": int(status["VmHWM"].split()[0]) / 1024}), flush=True)
made = time.process_time()
from botocore import httpsession
for _ in range(int(sys.argv[3])):
    httpsession.create_urllib3_context().load_verify_locations(httpsession.where())
trusted = time.process_time()
tell(interpreter=begun, imports=imported - begun, clients=made - imported, TLS=trusted - made)
for line in sys.stdin:
    wall, cpu = time.monotonic(), time.process_time()
    report = first_responder.respond(os.environ, 50)
    tell(cpu=time.process_time() - cpu, wall=time.monotonic() - wall, copied=report["copied"])
"""


class Function:
    def __init__(self, archive: Path, url: str, queue_url: str, keys: int, idle_seconds: float = 0) -> None:
        names = {"REGION": REGION, "SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR, "QUEUE_URL": queue_url}
        given = {"AWS_ENDPOINT_URL": url, "PYTHONPATH": str(archive), "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys._base_executable, "-c", PROCESS, str(keys), str(idle_seconds), str(CONNECTIONS)],
            env={"PATH": os.environ["PATH"]} | CREDENTIALS | names | given,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.start = self.figures()

    def figures(self) -> dict[str, Any]:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("FIGURES "):
                return dict(json.loads(line.removeprefix("FIGURES ")))
        raise RuntimeError("the function's process has ended")

    def invoke(self) -> dict[str, Any]:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.figures()

    def end(self) -> None:
        self.process.communicate()


def build_archive(directory: Path, with_bytecode: bool) -> Path:
    """What the function's archive holds, untrimmed."""
    site, archive = Path(boto3.__file__).parents[1], directory / ("with" if with_bytecode else "without")
    ignore = shutil.ignore_patterns("__pycache__")
    for place, name in [
        *((site, name) for name in PACKAGES),
        *((PROJECT, n) for n in ("mirror", "launch", "starter.py")),
    ]:
        if (place / name).is_dir():
            shutil.copytree(place / name, archive / name, ignore=ignore)
        else:
            shutil.copy(place / name, archive)
    if with_bytecode:
        subprocess.run([sys._base_executable, "-m", "compileall", "-q", str(archive)], check=True)
    return archive


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def measure(standin: Standin, archive: Path, keys: int) -> dict[str, float]:
    """CPU seconds of each step, wall seconds without CPU time and the last poll, of a single object and of many."""
    place = clear(standin, archive.parent)
    set_latency(standin, HEAD_MS, COPY_MS)
    function = Function(archive, standin.url, place.queue_url, keys)
    standin.put(SOURCE, "first", KIB)
    first = function.invoke()
    warm = []
    for number in range(WARM):
        standin.put(SOURCE, f"warm{number}", KIB)
        warm.append(function.invoke())
    standin.put_many(SOURCE, [f"k{number}" for number in range(BURST)], KIB)
    burst = function.invoke()
    if (first["copied"], burst["copied"]) != (1, BURST):
        raise RuntimeError(f"copied {first['copied']} and {burst['copied']}")
    function.end()
    single = median([one["cpu"] for one in warm])
    return function.start | {
        "first": first["cpu"],
        "warm": single,
        "waits": median([one["wall"] - one["cpu"] for one in warm]),
        "object": (burst["cpu"] - single) / BURST,
        "burst wall": burst["wall"] - POLL_SECONDS,
        "MiB": burst["MiB"],
    }


def show_steps(name: str, found: dict[str, float]) -> None:
    steps = ("interpreter", "imports", "clients", "TLS", "first", "warm", "object")
    cpu = "  ".join(f"{step} {1000 * found[step]:.1f}" for step in steps)
    print(f"{name}: CPU ms: {cpu};  waits {found['waits']:.2f} s;  {BURST} objects in {found['burst wall']:.1f} s;"
          f"  {found['MiB']:.0f} MiB")  # fmt: skip


def show_sizes(found: dict[str, float], keys: int) -> None:
    """Seconds from the begin of the function's process, or of an invocation, to the copy of one object."""
    print("   MB  s, cold  s, warm  objects/s  USD/million events: cold   warm  USD/million objects in bursts")
    cold = sum(found[step] for step in ("interpreter", "imports", "clients", "TLS", "first"))
    for memory in MEMORY:
        share, usd_per_second = min(1.0, memory / MB_OF_A_VCPU), memory / 1024 * USD_PER_GB_SECOND
        begin, event = cold / share, (found["TLS"] + found["warm"]) / share
        objects = min(keys / COPY_SECONDS, share / found["object"])
        usd = [1e6 * (USD_PER_REQUEST + (seconds + found["waits"]) * usd_per_second) for seconds in (begin, event)]
        print(
            f"{memory:5}  {begin + COPY_SECONDS:7.2f}  {event + COPY_SECONDS:7.2f}  {objects:9.0f}"
            f"  {usd[0]:24.2f}  {usd[1]:5.2f}  {1e6 / objects * usd_per_second:12.2f}"
        )


def main() -> None:
    with running_standin() as standin, tempfile.TemporaryDirectory() as directory:
        archives = {name: build_archive(Path(directory), name == "with") for name in ("without", "with")}
        for name, archive in archives.items():
            for keys in (8, 16, 32) if name == "with" else (16,):
                found = measure(standin, archive, keys)
                show_steps(f"{name} bytecode, {keys} keys at a time", found)
                if keys == 16:
                    show_sizes(found, keys)


if __name__ == "__main__":
    main()
