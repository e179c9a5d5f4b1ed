"""What the scripts would send to AWS: they run in one Bash, or as they are, and each call is a document.

The programs aws, docker, sleep and python3 in their PATH hand their arguments to this process, which reads them as the
CLI would, holds them against botocore's model of the call, and answers out of an account on paper (paper_account.py).
So a whole deployment takes seconds, a single step a tenth of one.
"""

import atexit
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import shlex
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jmespath
import pytest
from account import MIRROR, PROJECT, REGION, SOURCE
from botocore import xform_name
from botocore.model import Shape
from call import Call, service_model, violations, violations_of
from paper_account import ARCHIVES, Interrupted, PaperAccount, Refused

# Named by the CLI otherwise than by the service.
SERVICES = {"s3api": "s3"}
OPTIONS = {("sns", "Subscribe"): {"notification-endpoint": "Endpoint"}}

# In place of a program: asks the process of the tests, and prints what it gets where the answer says.
CLIENT = r"""#!/bin/bash
if [[ ${0##*/} == python3 && $1 != */pack_function.py && "$1 $2" != "-m pip" ]]; then
  IFS=:
  for folder in ${PATH#*:}; do [[ ! -x $folder/python3 ]] || exec "$folder/python3" "$@"; done
fi
exec {connection}<>"/dev/tcp/127.0.0.1/%d"
printf '%%s\0' "$(($# + 1))" "${0##*/}" "$@" >&"$connection"
IFS=' ' read -r status stream length <&"$connection"
LC_ALL=C IFS= read -r -N "$length" answer <&"$connection"
printf '%%s' "$answer" >&"$stream"
exit "$status"
"""
PROGRAMS = ("aws", "docker", "sleep", "python3")

# Reads commands from its input, and runs each in a subshell of its own.
BASH = r"""
source "$PROJECT/$SCRIPT"
set +e
while IFS= read -r -d '' command; do
  (
    set -e
    eval "$command"
  ) >"$FOLDER/output" 2>"$FOLDER/errors" </dev/null
  printf '%d\n' "$?"
done
"""

STEPS = "start_run; check_account deploys; check_network; stop_on_problems; make_plan {}; carry_out; print_left"


class Ran(NamedTuple):
    """A command's calls in their order, and what it printed."""

    calls: list[Call]
    output: str
    errors: str
    status: int = 0

    @property
    def json(self) -> Any:
        return json.loads(self.output)

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.is_write]

    def sent(self, operation: str) -> list[dict[str, Any]]:
        """The parameters of each such call."""
        return [call.parameters for call in self.calls if call.operation == operation]


# --- the arguments of the CLI -------------------------------------------------------------------------------------


def read_call(words: list[str]) -> Call:
    """The call that the CLI makes of these arguments. Raises for what it would not take."""
    service, command, *words = words
    service = SERVICES.get(service, service)
    model = service_model(service)
    operation = {xform_name(name, "-"): name for name in model.operation_names}[command]
    shape = model.operation_model(operation).input_shape
    members = {xform_name(name, "-"): name for name in (shape.members if shape else ())}
    members |= OPTIONS.get((service, operation), {})
    parameters: dict[str, Any] = {}
    for option, values in options(words):
        if option in ("no-paginate", "max-items", "output", "query"):
            continue  # what the CLI does with the answer
        if option == "cli-input-json":
            parameters = json.loads(content(values[0])) | parameters
        elif option == "zip-file" and "ZipFile" not in shape.members:
            parameters["Code"] = {"ZipFile": content(values[0])}
        else:
            name = members[option]
            parameters[name] = converted(shape.members[name], values)
    return Call(service, operation, parameters)


def without_general_options(words: list[str]) -> list[str]:
    """The words from the service on; before it, the scripts name the Region and how the CLI is to answer."""
    start = next(place for place, word in enumerate(words[::2]) if not word.startswith("--")) * 2
    given = dict(zip(words[:start:2], words[1:start:2], strict=True))
    assert given["--region"], words
    assert given["--output"] == "json", words
    return words[start:]


def without_file(words: list[str]) -> tuple[list[str], Path | None]:
    """The words without the name of the file that the answer's body goes to, which is the last of these calls."""
    if words[:2] in (["lambda", "invoke"], ["s3api", "get-object"]):
        return words[:-1], Path(words[-1])
    return words, None


def options(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """(option, its values) in their order."""
    starts = [place for place, word in enumerate(words) if word.startswith("--")]
    assert starts[:1] == [0] or not words, words
    for start, end in pairwise([*starts, len(words)]):
        yield words[start].removeprefix("--"), words[start + 1 : end]


def content(word: str) -> Any:
    """A value as it is, or as it stands in a file."""
    if word.startswith("fileb://"):
        return Path(word.removeprefix("fileb://")).read_bytes()
    return Path(word.removeprefix("file://")).read_text() if word.startswith("file://") else word


def converted(shape: Shape, words: list[str]) -> Any:
    """JSON, the CLI's shorthand, or a plain value, as the member takes it."""
    if not words:
        assert shape.type_name == "boolean"
        return True
    values = [content(word) for word in words]
    if shape.type_name not in ("list", "structure", "map"):
        (value,) = values
        return typed(shape, value)
    if values[0].lstrip()[:1] in ("[", "{"):
        read = [json.loads(value) for value in values]
        return read if shape.type_name == "list" and not isinstance(read[0], list) else read[0]
    if shape.type_name == "list":
        is_plain = shape.member.type_name not in ("structure", "map")
        return [typed(shape.member, value if is_plain else shorthand(value)) for value in values]
    (value,) = values
    return typed(shape, shorthand(value))


def shorthand(text: str) -> dict[str, Any]:
    """Read NAME=VALUE,NAME=VALUE; a value without a name is of the last. Old releases end in NAME=[{...},{...}]."""
    text, is_nested, rest = text.partition("=[{")
    if is_nested:
        text, _, name = text.rpartition(",")
        return shorthand(text) | {name: [shorthand(one) for one in rest.removesuffix("}]").split("},{")]}
    names: dict[str, Any] = {}
    for part in text.split(","):
        name, is_named, value = part.partition("=")
        if is_named:
            last, names[name] = name, value
        else:
            names[last] = [*(names[last] if isinstance(names[last], list) else [names[last]]), part]
    return names


def typed(shape: Shape, value: Any) -> Any:
    """A value of the shorthand in the types of the model."""
    kind = shape.type_name
    if kind == "structure":
        return {name: typed(shape.members[name], item) for name, item in value.items()}
    if kind == "map":
        return {name: typed(shape.value, item) for name, item in value.items()}
    if kind == "list":
        return [typed(shape.member, item) for item in (value if isinstance(value, list) else [value])]
    if kind in ("integer", "long"):
        return int(value)
    return {"true": True, "false": False}[value] if kind == "boolean" else value


def spoken(violations: Iterable[str]) -> list[str]:
    """Without what AWS itself answers against its models: empty lists, and capitals of filters' names and of states."""
    known = re.compile("is not within|'(Prefix|Suffix)' is none of|VpcEndpoints.*State: '(available|pending|deleting)'")
    return [found for found in violations if not known.search(found)]


def decoded(answer: Any) -> Any:
    """The documents of IAM are text in its answers, and the CLI reads them."""
    if isinstance(answer, dict):
        is_text = {"AssumeRolePolicyDocument", "PolicyDocument"}
        return {name: json.loads(value) if name in is_text else decoded(value) for name, value in answer.items()}
    return [decoded(item) for item in answer] if isinstance(answer, list) else answer


# --- the scripts --------------------------------------------------------------------------------------------------


# From the words of a call, and what answers it, to (exit status, file descriptor, text).
Fault = Callable[[list[str], Callable[[], tuple[int, str]]], tuple[int, int, str]]


def save_answer(file: Path, text: bytes) -> None:
    """As the CLI does, with the part of an answer that is a file."""
    try:
        file.write_bytes(text)
    except FileNotFoundError as gone:  # its caller was interrupted meanwhile, and has removed its folder
        raise Interrupted from gone


class Scripts:
    """One Bash that has read deploy.sh and cleanup.sh, and the account that its calls go to."""

    project = PROJECT

    def __init__(self, bash: subprocess.Popen[bytes], folder: Path) -> None:
        self.bash, self.folder = bash, folder
        self.account = PaperAccount()
        self.archives = dict(ARCHIVES)
        self.calls: list[Call] = []
        self.wrong: list[str] = []
        self.fault: Fault | None = None
        self.lock = threading.Lock()

    def run(self, command: str, status: int | None = 0, **settings: str | None) -> Ran:
        """Run a command of the scripts in a subshell with these settings, named as in its environment unless they are
        None, to an end with that status, or with any."""
        given: dict[str, str | None] = {"REGION": REGION, "SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR}
        given |= {"RETRY_LIMIT": "3"} | settings
        lines = [f"export {name}={shlex.quote(value)}" for name, value in given.items() if value]
        lines += [f"NAMED+=$'\\n{name}={'set' if value else ''}'" for name, value in given.items() if value is not None]
        self.calls, self.wrong = [], []
        assert self.bash.stdin and self.bash.stdout
        self.bash.stdin.write("\n".join([*lines, command]).encode() + b"\0")
        self.bash.stdin.flush()
        ended = self.bash.stdout.readline()
        output, errors = ((self.folder / name).read_text() for name in ("output", "errors"))
        assert self.wrong == [], "\n".join(self.wrong)
        assert status in (None, int(ended)), output + errors
        return Ran(self.calls, output, errors, int(ended))

    def program(self, name: str, *arguments: str, status: int | None = 0, **settings: str | None) -> Ran:
        """A script of the project as it is, with these settings in its environment."""
        empty = " ".join(f"{setting}=" for setting, value in settings.items() if value == "")
        return self.run(f'{empty} "$PROJECT/{name}" {shlex.join(arguments)}', status, **settings)

    def deploy(self, *arguments: str, status: int | None = 0, **settings: str | None) -> Ran:
        return self.program("deploy.sh", *arguments, status=status, **settings)

    def clean_up(self, *arguments: str, status: int | None = 0, **settings: str | None) -> Ran:
        return self.program("cleanup.sh", *(arguments or ("--yes",)), status=status, **settings)

    def with_deployment(self, **settings: str) -> PaperAccount:
        """Its account is one with such a deployment, and nothing else."""
        self.account = PaperAccount()
        name = hashlib.sha256(f"{self.project} {sorted(settings.items())}".encode()).hexdigest()
        with (Path(os.environ["TEST_DEPLOYMENTS"]) / name).open("a+") as made:
            fcntl.flock(made, fcntl.LOCK_EX)  # one process deploys, and those that wait have what it made
            if made.seek(0, os.SEEK_END) == 0:
                self.deploy(**settings)
                json.dump(self.account.kept, made)
            made.seek(0)
            self.account.kept = json.load(made)
        return self.account

    def step(self, *steps: str, status: int | None = 0, **settings: str | None) -> Ran:
        """These steps of a deployment alone."""
        return self.run(STEPS.format(shlex.join(steps)), status, **settings)

    def packed(self, words: list[str]) -> str:
        """What pack_function.py makes, or what pip says of itself."""
        if words[0] == "-m":
            return "pip 25.3"
        if not self.archives[words[3]]:
            raise Refused("pip", "no wheels")
        archive, _, said = self.archives[words[3]].partition(" ")
        Path(words[2]).write_text(archive)
        return said

    def shown(self, words: list[str]) -> tuple[int, int, str]:
        """(exit status, file descriptor, text) of one call, or what comes of it with `fault`."""
        if self.fault:
            return self.fault(words, lambda: self.answer(words))
        status, text = self.answer(words)
        return status, 2 if status else 1, text

    def answer(self, words: list[str]) -> tuple[int, str]:
        """(exit status, what is printed) of one call; what it got wrong fails the test."""
        with self.lock:
            try:
                return 0, self.answered(words)
            except Interrupted:
                return 130, ""
            except Refused as refused:
                operation = self.calls[-1].operation if self.calls else ""
                said = f"\nAn error occurred ({refused.code}) when calling the {operation} operation: {refused}\n"
                return self.account.status_of_refusals, said
            except Exception as error:  # noqa: BLE001 - the test fails with it
                self.wrong.append(f"{shlex.join(words)}: {error!r}")
                return 255, repr(error)

    def answered(self, words: list[str]) -> str:
        program, *words = words
        if program == "python3":
            return self.packed(words)
        if program == "sleep":
            self.calls.append(Call("bash", "CheckClock", {"seconds": words[0]}))
            self.account.pass_time(words[0])
            return ""
        if program == "docker":
            looks = not {"version", "imagetools"}.isdisjoint(words)
            self.made(Call("docker", f"Get {words[0]}" if looks else words[0], {"words": words}))
            return self.account.docker(words)
        if words == ["--version"]:
            return "aws-cli/2.34.21 Python/3.13.0"
        words = without_general_options(words)
        if words[:2] == ["ecr", "get-login-password"]:
            self.made(Call("ecr", "GetAuthorizationToken", {}))
            return "password"
        if words[:2] == ["lambda", "wait"]:
            self.made(Call("lambda", f"GetFunction until {words[2]}", {"FunctionName": words[4]}))
            self.account.waited_for(words[4])
            return ""
        words, file = without_file(words)
        call = read_call(words)
        given = self.page(call)
        if call.operation == "ListObjectsV2" and "--no-paginate" not in words:
            given = self.further_pages(call, given, dict(options(words[2:])).get("max-items"))
        if "--query" in words:
            found = jmespath.search(words[words.index("--query") + 1], given)
            return "".join("\t".join(map(str, row)) + "\n" for row in found or [["None"]])
        if file:
            save_answer(file, given.pop("Body", given.pop("Payload", b"")))
        return json.dumps(decoded(given), indent=4) + "\n" if given else ""

    def page(self, call: Call) -> Any:
        self.made(call)
        self.wrong += [
            found for found in violations_of(call) if "'Prefix' is none of" not in found
        ]  # as S3 answered it
        given = self.account.answer(call)
        known = {name: value for name, value in (given or {}).items() if value is not None}
        self.wrong += spoken(violations(call.model.output_shape, known, f"answer of {call.operation}"))
        return given

    def further_pages(self, call: Call, page: Any, max_items: list[str] | None) -> Any:
        """As the CLI answers, which goes on until it has as many as it is to have."""
        most, found = int(max_items[0]) if max_items else sys.maxsize, page.get("Contents", [])
        while page.get("IsTruncated") and len(found) < most:
            token = {"ContinuationToken": page["NextContinuationToken"]}
            page = self.page(call._replace(parameters=call.parameters | token))
            found = found + page.get("Contents", [])
        return {"Contents": found[:most]} if found else {}

    def made(self, call: Call) -> None:
        self.calls.append(call)
        self.account.authorize(call)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 32


@contextlib.contextmanager
def programs(folder: Path, names: Iterable[str], answer: Callable[[list[str]], tuple[int, int, str]]) -> Iterator[Path]:
    """A folder for PATH with programs that do what is answered to their words: exit status, file descriptor, text."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            count = int(self.word())
            words = [self.word() for _ in range(count)]
            if self.is_caller_gone():
                return  # a call that its signal came before
            status, stream, text = answer(words)
            self.wfile.write(f"{status} {stream} {len(text.encode())}\n{text}".encode())

        def word(self) -> str:
            found = b""
            while not found.endswith(b"\0"):
                byte = self.rfile.read(1)
                assert byte, "the caller is gone"
                found += byte
            return os.fsdecode(found[:-1])

        def is_caller_gone(self) -> bool:
            try:
                return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
            except BlockingIOError:
                return False  # it waits for the answer

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (folder / "programs").mkdir(parents=True)
        for name in names:
            (folder / "programs" / name).write_text(CLIENT % server.server_address[1])
            (folder / "programs" / name).chmod(0o755)
        yield folder / "programs"
        server.shutdown()


@contextlib.contextmanager
def sourced_scripts(
    folder: Path, script: str = "cleanup.sh", project: Path = PROJECT, tools: Path | None = None
) -> Iterator[Scripts]:
    """The Bash has read that script, and so deploy.sh; tools in that folder come before those of the machine."""
    assert not tools or (tools / "jq").exists(), f"tests/run makes {tools}"

    with programs(folder, PROGRAMS, lambda words: scripts.shown(words)) as path:
        environment = {
            "PATH": f"{path}:{tools or '/usr/local/bin'}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "LC_ALL": "C.UTF-8",
        }
        environment |= {"PROJECT": str(project), "FOLDER": str(folder), "SCRIPT": script}
        bash = subprocess.Popen(["bash", "-c", BASH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        with bash:
            scripts = Scripts(bash, folder)
            scripts.project = project
            yield scripts
            assert bash.stdin
            bash.stdin.close()


def scripts_of_module(script: str = "cleanup.sh", tools: Path | None = None) -> Any:
    """A fixture: one such Bash for all tests of a module."""

    @pytest.fixture(scope="module")
    def scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripts]:
        with sourced_scripts(tmp_path_factory.mktemp("scripts"), script, tools=tools) as found:
            yield found

    return scripts


# --- functions without a cloud --------------------------------------------------------------------------------------

# The oldest jq that the scripts are for. tests/run builds it; where it is not, the pieces run with the machine's.
OLDEST_JQ = PROJECT / ".cache/oldest-jq/bin"
ENVIRONMENT = os.environ | {"PATH": f"{OLDEST_JQ}:{os.environ['PATH']}"}


@functools.cache
def ready_scripts(tools: Path | None = None) -> Scripts:
    """One Bash that has read sync.sh, which ends with this process; tools in that folder come first."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pieces-")))
    return stack.enter_context(sourced_scripts(folder, "sync.sh", tools=tools))


def printed(script: str, text: str = "") -> str:
    """What a piece that succeeds prints; the text is its standard input."""
    scripts = ready_scripts(OLDEST_JQ if OLDEST_JQ.exists() else None)
    (scripts.folder / "text").write_text(text)
    return scripts.run(f'exec <"$FOLDER/text"; set_names\n{script}').output


def widgets() -> list[dict[str, Any]]:
    """The widgets that deploy.sh gives the dashboard."""
    return json.loads(printed("dashboard"))["widgets"]


def unfolded(output: str) -> str:
    """Each line as it was before it was put into 80 columns."""
    return re.sub(r"\n(?: {14}| {4})(?=\S)", " ", output)
