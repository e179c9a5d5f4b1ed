"""Functions of sync.sh without a cloud: one Bash has sourced all of them, and forks for each piece that is run.

To source some forty files takes longer than most functions do. A piece runs as in a script of its own: errors end it,
its variables and traps are its own, and what it does not get on standard input is empty.
"""

import functools
import json
import os
import re
import shlex
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# The oldest jq that the scripts are for. tests/run builds it; where it is not, the pieces run with the machine's.
OLDEST_JQ = ROOT / ".cache/oldest-jq/bin"
ENVIRONMENT = os.environ | {"PATH": f"{OLDEST_JQ}:{os.environ['PATH']}"}
SERVER = """
source "$0/sync.sh"
set_names
set +e
while read -r folder; do
  (set -e; source "$folder/script") <"$folder/in" >"$folder/out" 2>"$folder/err"
  printf '%d\\n' "$?"
done
"""


class Server:
    """The Bash that forks: it reads folders and answers exit statuses, and ends with this process."""

    def __init__(self) -> None:
        self.temporary = tempfile.TemporaryDirectory(prefix="sourced-")
        self.folder = Path(self.temporary.name)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            ["bash", "-c", SERVER, ROOT],
            stdin=pipe,
            stdout=pipe,
            env=ENVIRONMENT,
            text=True,
            bufsize=1,
            start_new_session=True,
            # Ctrl-C is ignored, and cannot be trapped, where the tests run in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, script: str, text: str, seconds: float) -> subprocess.CompletedProcess[str]:
        assert self.process.stdin and self.process.stdout
        (self.folder / "script").write_text(script)
        (self.folder / "in").write_text(text)
        self.process.stdin.write(f"{self.folder}\n")
        too_long = threading.Timer(seconds, os.killpg, (self.process.pid, signal.SIGKILL))
        too_long.start()
        status = self.process.stdout.readline()
        too_long.cancel()
        output, errors = ((self.folder / name).read_text() for name in ("out", "err"))
        assert status, f"it ended the Bash, or took more than {seconds} s: {output}{errors}"
        return subprocess.CompletedProcess(script, int(status), output, errors)


@functools.cache
def server() -> Server:
    return Server()


def as_text(value: Any) -> str:
    """Text as it is, "" for None, and JSON for everything else: what AWS answers."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def unfolded(output: str) -> str:
    """Each line as it was before it was put into 80 columns."""
    return re.sub(r"\n(?: {14}| {4})(?=\S)", " ", output)


def bash(script: str, text: str = "", seconds: float = 300, **variables: Any) -> subprocess.CompletedProcess[str]:
    """A piece of Bash that knows all functions of sync.sh; the variables are in its environment, too."""
    exports = [f"export {name}={shlex.quote(as_text(value))}\n" for name, value in variables.items()]
    return server().run("".join(exports) + "set_names\n" + script, text, seconds)


def alone(start: str, script: str, folder: Path, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """A piece in a Bash of its own, in the folder of its files, after a start that sources what it needs from $0."""
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "DRY_RUN"}
    command = ["bash", "-c", start + script, str(ROOT), *arguments]
    return subprocess.run(command, input=text, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def printed(script: str, text: str = "", **variables: Any) -> str:
    """What a piece that succeeds prints."""
    done = bash(script, text, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout
