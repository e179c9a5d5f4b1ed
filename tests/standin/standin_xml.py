"""XML and times of the S3 half of the stand-in."""

import time
import xml.etree.ElementTree as ElementTree
from urllib.parse import quote
from xml.sax.saxutils import escape

from standin_store import DECLARATION, Answer, S3Error


def xml(name: str, inner: str, headers: dict[str, str] | None = None) -> Answer:
    body = f'{DECLARATION}<{name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</{name}>'
    return Answer(200, body.encode(), {"content-type": "application/xml", **(headers or {})})


def parse_xml(body: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(body)
    except ElementTree.ParseError:
        raise S3Error("MalformedXML") from None


def listed(name: str, query: dict[str, str]) -> str:
    return quote(name, safe="/") if query.get("encoding-type") == "url" else escape(name)


def encoding_type(query: dict[str, str]) -> str:
    return "<EncodingType>url</EncodingType>" if query.get("encoding-type") == "url" else ""


def iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))
