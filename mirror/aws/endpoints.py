"""Where boto3 would send a request, which only boto3 knows for every Region, bucket name and environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


class EndpointSeen(Exception):
    """Ends a boto3 call before it is sent; its argument is the URL that boto3 chose."""


@dataclass(frozen=True)
class Endpoint:
    """Where boto3 sends the requests for one bucket or queue, or for the event bus."""

    url: str  # scheme, host and path, up to the key
    host: str  # with the port if the URL has one, as in the Host header
    path: str
    signing_name: str


def find_endpoint(signing_name: str, client: Any, call: Callable[..., Any], **parameters: Any) -> Endpoint:
    """Has boto3 prepare a call of the client, and takes its URL instead of sending it."""

    def stop(request: Any, **_: Any) -> None:
        raise EndpointSeen(request.url)

    client.meta.events.register("before-send", stop)
    try:
        call(**parameters)
    except EndpointSeen as seen:
        url = str(seen).removesuffix(parameters.get("Key", ""))
        return Endpoint(url, urlsplit(url).netloc, urlsplit(url).path, signing_name)
    finally:
        client.meta.events.unregister("before-send", stop)
    raise AssertionError("boto3 sent a request that should have been stopped")
