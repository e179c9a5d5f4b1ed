"""Keys that end: S3 Express sessions, and the credentials that a container asks for."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

CREDENTIALS = "_credentials"  # http://127.0.0.1:PORT/_credentials, for AWS_CONTAINER_CREDENTIALS_FULL_URI
TOKEN_HEADERS = ("x-amz-s3session-token", "x-amz-security-token")
EXPIRED = ("ExpiredToken", "The provided token has expired.", 400)


def utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


@dataclass
class Tokens:
    """What was handed out. A token that is not among it is not looked at: requests are not authenticated."""

    session_seconds: float = 300.0
    key_seconds: float = 3600.0  # below 0: keys are handed out that have ended
    ends: dict[str, float] = field(default_factory=dict)  # token -> seconds since 1970

    def new(self, kind: str) -> tuple[str, float]:
        """A token of a "session" or of a "key", and when it ends."""
        token = f"{kind}-{len(self.ends)}"
        end = time.time() + (self.session_seconds if kind == "session" else self.key_seconds)
        self.ends[token] = end
        return token, end

    def expire(self, kind: str) -> None:
        """All that were handed out so far end now, before the time that they were said to have."""
        for token in self.ends:
            if token.startswith(kind):
                self.ends[token] = 0.0

    def is_expired(self, headers: Mapping[str, str]) -> bool:
        now = time.time()
        return any(self.ends.get(headers.get(name, ""), now) < now for name in TOKEN_HEADERS)

    def credentials(self) -> bytes:
        """As the container credential provider of the SDKs reads them (SDKs and Tools Reference Guide)."""
        token, end = self.new("key")
        names = {"AccessKeyId": "standin", "SecretAccessKey": "standin", "Token": token, "Expiration": utc(end)}
        return json.dumps(names).encode()
