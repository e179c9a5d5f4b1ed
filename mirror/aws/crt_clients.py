"""The clients over the AWS CRT. The function's archive does not hold the CRT, so only a task imports this."""

from __future__ import annotations

from functools import partial

from mirror.aws.boto3_clients import Clients, make_session
from mirror.aws.crt_json import CrtEvents, CrtSqs
from mirror.aws.crt_s3 import CrtS3
from mirror.aws.http import CrtHttp
from mirror.settings import Settings


def crt_clients(settings: Settings) -> Clients:
    """To be called inside the event loop that uses them. Raises BotoCoreError if there are no credentials."""
    session = make_session()
    given = session, settings, CrtHttp(settings.region, session.get_credentials())
    return Clients(partial(CrtS3, *given), partial(CrtSqs, *given), partial(CrtEvents, *given))
