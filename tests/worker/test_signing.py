"""Our signatures equal those of botocore."""

from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from botocore.auth import S3ExpressAuth, S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest

from mirror.aws.keys import Keys
from mirror.aws.signing import EMPTY_BODY, SESSION_HEADER, TOKEN_HEADER, Request, sign

REGION = "eu-north-1"
KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
KEYS_WITH_TOKEN = Keys("ASIAEXAMPLE", "secret/+=", "token/+==" * 40)

EMPTY = ("x-amz-content-sha256", EMPTY_BODY)
COPY_HEADERS = [
    ("x-amz-copy-source", "source/" + quote("a b+é~(x)'*!?&=#%;,:@$", safe="/~")),
    ("If-None-Match", "*"),
    ("Content-Disposition", '  attachment;   filename="a  b.csv"\t'),
    ("x-amz-meta-sync-source", "e 2026-11-25T01:02:03Z 5 null 0123456789ab"),
    ("x-amz-meta-a-b", ""),
    ("x-amz-meta-a", "=?UTF-8?Q?=E6=97=A5?="),
    ("x-amz-meta-a.b_c", ", ;:\"'\\|`~^<>[]{}()@!#$%&*+=?"),
]
ODD_KEYS = [
    "k",
    "a b+é/~(x)'*!?&=#%;,:@$.txt",
    "/lead//trail/",
    "a/../b/./c",
    "日本/\u00fc\u0301",
    "%41%zz",
    "\x01\x7f",
]
# service, keys, header of the token, further headers, query, body
CASES = {
    "a look": ("s3", KEYS_WITH_TOKEN, TOKEN_HEADER, [EMPTY], "", b""),
    "keys without a token": ("s3", KEYS, TOKEN_HEADER, [EMPTY], "", b""),
    "a look in a session": ("s3express", KEYS_WITH_TOKEN, SESSION_HEADER, [EMPTY], "", b""),
    "a copy": ("s3express", KEYS_WITH_TOKEN, TOKEN_HEADER, [EMPTY, *COPY_HEADERS], "", b""),
    "a part": ("s3express", KEYS_WITH_TOKEN, TOKEN_HEADER, [EMPTY], "?partNumber=7&uploadId=AEu%2B%2F%3D~%20x", b""),
    "the queue": (
        "sqs",
        KEYS_WITH_TOKEN,
        TOKEN_HEADER,
        [("X-Amz-Target", "AmazonSQS.ReceiveMessage")],
        "",
        b'{"a": 1}',
    ),
}


def request_of(key: str, headers: list[tuple[str, str]], query: str, body: bytes) -> Request:
    headers = [("host", "bucket.s3.eu-north-1.amazonaws.com"), *headers]
    return Request("PUT", f"/{quote(key, safe='/~')}{query}", headers, body)


def authorization(headers: list[tuple[str, str]]) -> str:
    return next(value for name, value in headers if name.lower() == "authorization")


def of_botocore(request: Request, service: str, keys: Keys, token_header: str) -> tuple[str, datetime]:
    """With the moment of it, which is now."""
    host = dict(request.headers)["host"]
    signed = AWSRequest(request.method, f"https://{host}{request.path}", dict(request.headers), request.body)
    if token_header == SESSION_HEADER:
        signer = S3ExpressAuth(keys, service, REGION, identity_cache=None)
    else:
        signer = (SigV4Auth if service == "sqs" else S3SigV4Auth)(keys, service, REGION)
    signer.add_auth(signed)
    moment = datetime.strptime(signed.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return str(signed.headers["Authorization"]), moment


@pytest.mark.parametrize("case", CASES)
def test_a_signature_equals_that_of_botocore(case: str) -> None:
    service, keys, token_header, headers, query, body = CASES[case]
    for key in [""] if body else ODD_KEYS:
        request = request_of(key, headers, query, body)
        expected, moment = of_botocore(request, service, keys, token_header)
        sign(request, REGION, service, keys, token_header, wall=moment.timestamp)
        assert authorization(request.headers) == expected


def test_the_date_and_the_key_of_a_signature_are_those_of_its_day() -> None:
    signatures = []
    for moment in ("2026-11-25T23:59:59+00:00", "2026-11-26T00:00:00+00:00"):
        at = datetime.fromisoformat(moment)
        request = request_of("k", [EMPTY], "", b"")
        sign(request, REGION, "s3", KEYS, wall=at.timestamp)
        assert dict(request.headers)["X-Amz-Date"] == f"{at:%Y%m%dT%H%M%SZ}"
        signatures.append(authorization(request.headers))
    assert [signature.split("/")[1] for signature in signatures] == ["20261125", "20261126"]
