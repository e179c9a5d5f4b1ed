"""Keys that end, those of the task role and of an S3 Express session: renewed before that, in a thread of their own."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError
from botocore.parsers import ResponseParserError

from mirror.model.errors import AWS_ERRORS, describe
from mirror.model.log_lines import log

ROLE_MARGIN = 15 * 60  # seconds before their end, when keys are renewed; that of botocore for a role
SESSION_MARGIN = 2 * 60  # a session lasts five minutes
RETRY_SECONDS = 5  # between two attempts; in that time everybody gets the failure of the first
YOUNG_SECONDS = 10  # a session that is younger is not the reason for a refusal


class Keys(NamedTuple):
    """What the signers of botocore and of the CRT take. `ends`: seconds since the epoch."""

    access_key: str
    secret_key: str
    token: str | None
    account_id: str | None = None  # botocore has this field
    ends: float = math.inf


@contextlib.contextmanager
def as_retrieval_error(provider: str) -> Iterator[None]:
    """Raises CredentialRetrievalError for the errors that botocore does not wrap: RuntimeError for keys that have ended
    already, KeyError or ValueError for an odd answer of a credentials endpoint."""
    try:
        yield
    except (RuntimeError, KeyError, ValueError, ResponseParserError) as error:
        raise CredentialRetrievalError(provider=provider, error_msg=f"{type(error).__name__}: {error}") from error


@dataclass(eq=False)
class RenewedKeys:
    """Stands for botocore's credentials object in its signers.

    botocore renews keys within a request, which waits for that, and fails it during the last ten minutes in which they
    are valid (RefreshableCredentials). Here a request waits only if there are no valid keys. The threads of boto3 and
    the event loop share it, so it has a lock.
    """

    method = "renewed"  # botocore asks where credentials come from

    name: str
    fetch: Callable[[], Keys]
    margin: float  # seconds before their end at which they are renewed
    wall: Callable[[], float] = time.time  # seconds since the epoch
    now: Callable[[], float] = time.monotonic
    keys: Keys | None = None
    made: float = -math.inf  # by the monotonic clock
    next_try: float = -math.inf
    failure: Exception | None = None  # of the last attempt
    is_renewing: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def valid(self) -> Keys | None:
        """Returns the keys, or None if there are no valid ones, and never waits. Has them renewed if they end soon."""
        keys = self.keys
        if keys is None:
            return None
        left = keys.ends - self.wall()
        if left < self.margin and not self.is_renewing and self.now() >= self.next_try:
            self.is_renewing = True
            name = f"renews the {self.name}"
            threading.Thread(target=self.renew_in_thread, args=(keys,), name=name, daemon=True).start()
        return keys if left > 0 else None

    def get_frozen_credentials(self) -> Keys:
        """For the signers of botocore. Waits if there are no valid keys. Raises ClientError or BotoCoreError."""
        held = self.keys
        return self.valid() or self.instead_of(held)

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        """botocore asks this way for the account, if an endpoint depends on it."""
        return lambda: getattr(self.get_frozen_credentials(), name, None)

    def instead_of(self, held: Keys | None) -> Keys:
        """Returns other keys than these. One thread fetches them, and the others wait for it. Raises the error if there
        are none."""
        with self.lock:
            if self.keys is held or self.keys is None:
                return self.renew()
            return self.keys

    def after_refusal(self, used: Keys | None) -> Keys | None:
        """Returns other keys than those that S3 refused, or None if these are too young to be the reason."""
        if self.keys is used and self.now() - self.made < YOUNG_SECONDS:
            return None
        return self.instead_of(used)

    # Calls that take long

    def renew_in_thread(self, held: Keys) -> None:
        try:
            with contextlib.suppress(ClientError, BotoCoreError):  # logged by then
                self.instead_of(held)
        finally:
            self.is_renewing = False

    def renew(self) -> Keys:
        """Fetches new keys; fails without asking if that failed a moment ago. To be called with the lock held."""
        if self.failure and self.now() < self.next_try:
            raise self.failure.with_traceback(None)
        try:
            with as_retrieval_error(self.name):
                keys = self.fetch()
            if keys.ends <= self.wall():
                raise CredentialRetrievalError(provider=self.name, error_msg="they have ended already")
            self.keys, self.made = keys, self.now()
        except AWS_ERRORS as error:
            # Once, while the old keys are valid. After that requests fail, which is logged there.
            left = self.keys.ends - self.wall() if self.keys else 0
            if left > 0 and not self.failure:
                log.warning("could not renew the %s yet, they end in %d s: %s", self.name, left, describe(error))
            self.failure = error
            raise
        finally:
            self.next_try = self.now() + RETRY_SECONDS
        if self.failure:
            log.info("renewed the %s", self.name)
        self.failure = None
        return self.keys


# --- Where they come from ---------------------------------------------------------------------------------------------


def find_keys(session: Any) -> RenewedKeys | None:
    """Returns the keys of the credentials that botocore finds for this process, or None if there are none.

    Raises BotoCoreError if there are some that cannot be had.
    """
    with as_retrieval_error("credentials"):
        found = session.get_component("credential_provider").load_credentials()
    return keys_of_role(found) if found else None


def keys_of_role(found: Any) -> RenewedKeys:
    def fetch() -> Keys:
        keys = found.get_frozen_credentials()
        ends = getattr(found, "_expiry_time", None)  # of what botocore can renew
        return Keys(keys.access_key, keys.secret_key, keys.token, ends=ends.timestamp() if ends else math.inf)

    return RenewedKeys("credentials", fetch, ROLE_MARGIN)


def keys_of_session(client: Any, bucket: str) -> RenewedKeys:
    """A session for a directory bucket. `client`: of boto3, with short timeouts."""

    def fetch() -> Keys:
        found = client.create_session(Bucket=bucket)["Credentials"]
        ends = found["Expiration"].timestamp()
        return Keys(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"], ends=ends)

    return RenewedKeys("S3 Express session", fetch, SESSION_MARGIN)
