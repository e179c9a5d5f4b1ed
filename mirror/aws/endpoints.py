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


def bucket_endpoint(
    client: Any, call: Callable[..., Any], bucket: str, signing_name: str, **parameters: str
) -> Endpoint:
    url = url_of(client, call, Bucket=bucket, Key="k", **parameters)[: -len("k")]
    return Endpoint(url, urlsplit(url).netloc, urlsplit(url).path, signing_name)


def queue_endpoint(sqs: Any, queue_url: str) -> Endpoint:
    url = url_of(sqs, sqs.receive_message, QueueUrl=queue_url)
    return Endpoint(url, urlsplit(url).netloc, urlsplit(url).path, "sqs")


def events_endpoint(events: Any) -> Endpoint:
    url = url_of(events, events.put_events, Entries=[{}])
    return Endpoint(url, urlsplit(url).netloc, urlsplit(url).path, "events")


def url_of(client: Any, call: Callable[..., Any], **parameters: Any) -> str:
    """Has boto3 prepare a request, and takes its URL instead of sending it."""

    def stop(request: Any, **_: Any) -> None:
        raise EndpointSeen(request.url)

    client.meta.events.register("before-send", stop)
    try:
        call(**parameters)
    except EndpointSeen as seen:
        return str(seen)
    finally:
        client.meta.events.unregister("before-send", stop)
    raise AssertionError("boto3 sent a request that should have been stopped")
