"""A request and its signature (Signature Version 4), at half of the CPU time of the CRT's, which keeps no signing key.

IAM User Guide, "Create a signed AWS API request". The tests compare the signatures with botocore's.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from mirror.aws.keys import Keys

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_BODY = hashlib.sha256(b"").hexdigest()
TOKEN_HEADER = "X-Amz-Security-Token"
SESSION_HEADER = "x-amz-s3session-token"  # for keys of an S3 Express session


@dataclass(eq=False)
class Request:
    """What is sent: `path` with its query, quoted, the query sorted by name."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes = b""


def sign(
    request: Request,
    region: str,
    service: str,
    keys: Keys,
    token_header: str = TOKEN_HEADER,
    wall: Callable[[], float] = time.time,
) -> None:
    """Adds the headers of a signature; all headers that are there by then are signed."""
    date = date_text(int(wall()))
    request.headers.append(("X-Amz-Date", date))
    if keys.token:
        request.headers.append((token_header, keys.token))
    signed = sorted([(name.lower(), " ".join(value.split())) for name, value in request.headers])
    names = ";".join([name for name, _ in signed])
    lines = "\n".join([f"{name}:{value}" for name, value in signed])
    path, _, query = request.path.partition("?")
    body = hashlib.sha256(request.body).hexdigest() if request.body else EMPTY_BODY
    canonical = f"{request.method}\n{path}\n{query}\n{lines}\n\n{names}\n{body}"
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    text = f"{ALGORITHM}\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(signing_key(keys.secret_key, scope), text.encode(), "sha256").hex()
    value = f"{ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    request.headers.append(("Authorization", value))


@functools.lru_cache(maxsize=8)
def date_text(seconds: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


@functools.lru_cache(maxsize=32)
def signing_key(secret_key: str, scope: str) -> bytes:
    """`scope`: day, Region, service and "aws4_request", separated by slashes."""
    key = b"AWS4" + secret_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
