"""A proxy in front of an AWS stand-in that writes down every call, in the terms of botocore's service models.

It can also refuse calls with an AWS error, and answer what the stand-in does not know.
"""

import contextlib
import functools
import http.client
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree import ElementTree

import botocore.session
from botocore.model import OperationModel, Shape

SERVICES = (
    *("cloudwatch", "ec2", "ecr", "ecs", "events", "iam", "lambda", "logs", "s3", "service-quotas", "sns", "sqs"),
    "sts",
)
SIGNED_AS = {"monitoring": "cloudwatch", "s3express": "s3"}  # where that is not the service's name
READ = re.compile("Get|List|Describe|Head|BatchGet|Receive|CreateSession|Check")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Request(NamedTuple):
    """Header names are in lower case, query values are the last ones given."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Call(NamedTuple):
    """One call: the service's name in botocore, the operation, its input, and the HTTP status of the answer."""

    service: str
    operation: str
    parameters: dict[str, Any]
    status: int

    @property
    def is_write(self) -> bool:
        if self.service == "docker":
            return not {"version", "imagetools"} & set(self.parameters["words"])
        return not READ.match(self.operation)

    @property
    def model(self) -> OperationModel:
        return service_model(self.service).operation_model(self.operation)


class Refusal(NamedTuple):
    """Answer the first calls of an operation with an AWS error; the stand-in never sees them."""

    operation: str
    times: int
    code: str
    message: str = ""
    status: int = 400


@functools.cache
def service_model(name: str) -> Any:
    return botocore.session.Session().get_service_model(name)


# --- which operation ----------------------------------------------------------------------------------------------


@functools.cache
def targets() -> dict[str, str]:
    """The prefix of X-Amz-Target -> service."""
    prefixes = {service_model(name).metadata.get("targetPrefix"): name for name in SERVICES}
    return {prefix: name for prefix, name in prefixes.items() if prefix}


def protocol_of(service: str, request: Request) -> str:
    """What the request is written in; older versions of the CLI speak to some services in another protocol."""
    metadata = service_model(service).metadata
    if "x-amz-target" in request.headers:
        return "json"
    spoken = metadata.get("protocols", [metadata["protocol"]])
    return next((protocol for protocol in ("query", "ec2") if protocol in spoken), metadata["protocol"])


def identify(request: Request) -> tuple[str, str]:
    """(service, operation). Raises LookupError for a request that is no call of SERVICES."""
    target = request.headers.get("x-amz-target")
    if target:
        prefix, _, operation = target.partition(".")
        return targets()[prefix], operation
    scope = re.search(r"Credential=[^/]+/\d+/[^/]*/([^/]+)/", request.headers.get("authorization", ""))
    service = SIGNED_AS.get(scope[1], scope[1]) if scope else "s3"
    if protocol_of(service, request) in ("query", "ec2"):
        return service, form(request)["Action"]
    return service, rest_operation(service, request)


def form(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode(), keep_blank_values=True))


@functools.cache
def routes(service: str) -> list[tuple[OperationModel, re.Pattern[str], dict[str, str]]]:
    """(operation, pattern of the path, fixed query parameters) for a service with a REST protocol."""
    found = []
    for name in service_model(service).operation_names:
        operation = service_model(service).operation_model(name)
        path, _, query = operation.http["requestUri"].partition("?")
        pattern = re.sub(r"\\{(\w+)(\\\+)?\\}", lambda m: f"(?P<{m[1]}>{'.+' if m[2] else '[^/]+'})", re.escape(path))
        found.append((operation, re.compile(pattern + "/?"), dict(parse_qsl(query, keep_blank_values=True))))
    return found


def rest_operation(service: str, request: Request) -> str:
    """The operation whose fixed query parameters and required headers and query parameters fit best."""
    fits = []
    for operation, pattern, fixed in routes(service):
        required = [shape for _, shape in located(operation, "header", "querystring", required=True)]
        given = {**request.query, **request.headers}
        if (
            operation.http["method"] == request.method
            and pattern.fullmatch(request.path)
            and all(request.query.get(name) == value for name, value in fixed.items())
            and all(shape.serialization["name"].lower() in {name.lower() for name in given} for shape in required)
        ):
            fits.append((len(fixed) + len(required), len(pattern.pattern), operation.name))
    if not fits:
        raise LookupError(f"{request.method} {request.path} {request.query} is no operation of {service}")
    return max(fits)[2]


def located(operation: OperationModel, *locations: str, required: bool = False) -> Iterator[tuple[str, Shape]]:
    """Members of the input that travel in one of the places."""
    shape = operation.input_shape
    for name, member in shape.members.items() if shape else ():
        if member.serialization.get("location") in locations and (not required or name in shape.required_members):
            yield name, member


# --- its input ----------------------------------------------------------------------------------------------------


def parse(service: str, operation: str, request: Request) -> dict[str, Any]:
    model = service_model(service).operation_model(operation)
    protocol = protocol_of(service, request)
    if model.input_shape is None:
        return {}
    if protocol == "json":
        return json.loads(request.body or b"{}")
    if protocol in ("query", "ec2"):
        return from_form(model.input_shape, form(request), "", protocol) or {}
    return from_rest(model, request)


def scalar(shape: Shape, text: str) -> Any:
    if shape.type_name in ("integer", "long"):
        return int(text)
    if shape.type_name in ("double", "float"):
        return float(text)
    return text == "true" if shape.type_name == "boolean" else text


def from_form(shape: Shape, values: dict[str, str], prefix: str, protocol: str) -> Any:
    """Turn Name.member.1.Key=... into the structure it came from; None where nothing has the prefix."""
    if shape.type_name == "structure":
        members = {
            name: from_form(
                member, values, f"{prefix}{'.' if prefix else ''}{form_name(name, member, protocol)}", protocol
            )
            for name, member in shape.members.items()
        }
        return {name: value for name, value in members.items() if value is not None} or None
    if shape.type_name == "list":
        flat = protocol == "ec2" or shape.serialization.get("flattened")
        start = f"{prefix}." if flat else f"{prefix}.{shape.member.serialization.get('name', 'member')}."
        numbers = {int(key[len(start) :].split(".")[0]) for key in values if key.startswith(start)}
        return [from_form(shape.member, values, f"{start}{number}", protocol) for number in sorted(numbers)] or None
    return scalar(shape, values[prefix]) if prefix in values else None


def form_name(name: str, shape: Shape, protocol: str) -> str:
    if protocol == "query":
        return shape.serialization.get("name", name)
    written = shape.serialization.get("queryName") or shape.serialization.get("name", name)
    return written[0].upper() + written[1:]


def from_rest(model: OperationModel, request: Request) -> dict[str, Any]:
    pattern = next(
        pattern for operation, pattern, _ in routes(model.service_model.service_name) if operation.name == model.name
    )
    labels = {name: unquote(value) for name, value in pattern.fullmatch(request.path).groupdict().items()}
    query, headers = request.query, request.headers
    given: dict[str, Any] = {}
    for name, member in located(model, "uri", "querystring", "header"):
        place = {"uri": labels, "querystring": query, "header": headers}[member.serialization["location"]]
        written = member.serialization["name"]
        text = place.get(written.lower() if place is headers else written)
        if text is not None:
            given[name] = scalar(member, text)
    for name, member in located(model, "headers"):
        start = member.serialization["name"]
        given[name] = {key[len(start) :]: value for key, value in headers.items() if key.startswith(start)}
    return given | from_body(model, request.body)


def from_body(model: OperationModel, body: bytes) -> dict[str, Any]:
    payload = model.input_shape.serialization.get("payload")
    shape = model.input_shape.members[payload] if payload else None
    if shape is not None and shape.type_name != "structure":
        return {payload: body if shape.type_name == "blob" else body.decode()} if body else {}
    if not body:
        return {}
    if model.service_model.metadata["protocol"] == "rest-json":
        return json.loads(body)
    value = from_xml(shape or model.input_shape, ElementTree.fromstring(body))
    return {payload: value} if payload else value


def from_xml(shape: Shape, element: ElementTree.Element) -> Any:
    if shape.type_name != "structure":
        return scalar(shape, element.text or "")
    value: dict[str, Any] = {}
    for name, member in shape.members.items():
        found = [child for child in element if child.tag.split("}")[-1] == member.serialization.get("name", name)]
        if not found:
            continue
        if member.type_name == "list":
            items = found if member.serialization.get("flattened") else list(found[0])
            value[name] = [from_xml(member.member, item) for item in items]
        else:
            value[name] = from_xml(member, found[0])
    return value


# --- is it what the service's model allows? -----------------------------------------------------------------------

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "double": (int, float),
    "boolean": (bool,),
    "map": (dict,),
    "list": (list,),
    "structure": (dict,),
    "blob": (str, bytes),
}


def violations(shape: Shape | None, value: Any, where: str) -> Iterator[str]:
    """What the model does not allow: unknown and missing members, types, enumerations, patterns, lengths, ranges."""
    if shape is None:
        return
    if not isinstance(value, TYPES.get(shape.type_name, (object,))):
        yield f"{where}: {value!r} is no {shape.type_name}"
        return
    if shape.type_name == "structure":
        yield from (f"{where}.{name} is not in the model" for name in value.keys() - shape.members.keys())
        yield from (f"{where}.{name} is missing" for name in set(shape.required_members) - value.keys())
        for name in value.keys() & shape.members.keys():
            yield from violations(shape.members[name], value[name], f"{where}.{name}")
    elif shape.type_name == "list":
        for index, item in enumerate(value):
            yield from violations(shape.member, item, f"{where}[{index}]")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from violations(shape.key, key, f"{where} key")
            yield from violations(shape.value, item, f"{where}[{key}]")
    yield from outside_limits(shape, value, where)


def outside_limits(shape: Shape, value: Any, where: str) -> Iterator[str]:
    limits = shape.metadata
    if limits.get("enum") and value not in limits["enum"]:
        yield f"{where}: {value!r} is none of {limits['enum']}"
    if isinstance(value, str) and limits.get("pattern") and not fits_pattern(limits["pattern"], value):
        yield f"{where}: {value!r} does not match {limits['pattern']}"
    size = value if isinstance(value, int | float) else len(value)
    if shape.type_name != "blob" and not limits.get("min", size) <= size <= limits.get("max", size):
        yield f"{where}: {value!r} is not within {limits}"


def fits_pattern(pattern: str, value: str) -> bool:
    """Patterns of the models are Java's."""
    python = pattern.replace(r"\p{Z}", " \u00a0\u2000-\u200a\u3000")
    python = re.sub(r"\\p\{[A-Z]\w*\}", r"\\w", python).replace(r"\p{IsAlphabetic}", r"\w").replace("\\u00", "\\x")
    return re.fullmatch(python, value) is not None


def violations_of(call: Call) -> list[str]:
    return list(violations(call.model.input_shape, call.parameters, f"{call.service} {call.operation}"))


# --- the proxy ----------------------------------------------------------------------------------------------------


def error_answer(protocol: str, refusal: Refusal) -> tuple[int, dict[str, str], bytes]:
    """An AWS error as the protocol writes it."""
    code, message = refusal.code, refusal.message or refusal.code
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    body = {
        "query": f"<ErrorResponse>{error}<RequestId>r</RequestId></ErrorResponse>",
        "ec2": f"<Response><Errors>{error}</Errors><RequestID>r</RequestID></Response>",
        "rest-xml": error,
    }.get(protocol, json.dumps({"__type": code, "message": message}))
    return refusal.status, {"x-amzn-errortype": code, "content-type": "application/xml"}, body.encode()


class Recorder:
    """The proxy on a port of its own; `calls` are the calls so far.

    answers: (service, operation) -> body, for what the stand-in does not know.
    """

    def __init__(self, upstream: str, answers: dict[tuple[str, str], bytes]) -> None:
        self.upstream, self.answers = urlsplit(upstream), answers
        self.calls: list[Call] = []
        self.problems: list[str] = []
        self.refusals: list[Refusal] = []
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, self))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def forget(self) -> None:
        self.calls, self.problems, self.refusals = [], [], []

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.is_write]

    def refusal_of(self, operation: str) -> Refusal | None:
        with self.lock:
            for index, refusal in enumerate(self.refusals):
                if refusal.operation == operation and refusal.times > 0:
                    self.refusals[index] = refusal._replace(times=refusal.times - 1)
                    return refusal
        return None

    def answer(self, request: Request, raw_path: str) -> tuple[int, dict[str, str], bytes]:
        """What the caller gets: status, headers, body."""
        try:
            service, operation = identify(request)
            parameters = parse(service, operation, request)
        except Exception as error:
            self.problems.append(f"{request.method} {raw_path}: {error!r}")
            raise
        refusal = self.refusal_of(operation)
        if refusal:
            answer = error_answer(protocol_of(service, request), refusal)
        elif (service, operation) in self.answers:
            answer = 200, {}, self.answers[service, operation]
        else:
            answer = self.forward(request, raw_path)
        call = Call(service, operation, parameters, answer[0])
        with self.lock:
            self.calls.append(call)
        return answer

    def forward(self, request: Request, raw_path: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.upstream.hostname or "", self.upstream.port, timeout=120)
        with contextlib.closing(connection):
            headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP | {"expect"}}
            connection.request(request.method, raw_path, request.body, headers)
            response = connection.getresponse()
            body = response.read()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, body


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the recorder, and the recorder's answer back."""

    protocol_version = "HTTP/1.1"

    def __init__(self, recorder: Recorder, *args: Any) -> None:
        self.recorder = recorder
        super().__init__(*args)

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, dict(parse_qsl(query, keep_blank_values=True)), headers, body)
        status, headers, body = self.recorder.answer(request, self.path)
        self.send_response_only(status)
        length = headers.get("content-length", "0") if self.command == "HEAD" else str(len(body))
        for name, value in (headers | {"content-length": length}).items():
            if name not in HOP_BY_HOP - {"content-length"}:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

    def log_message(self, *_args: Any) -> None:
        """Say nothing: calls are in the recorder."""


def encoded(value: Any) -> bytes:
    """The JSON of an answer."""
    return json.dumps(value).encode()
