"""HTTP requests that are almost right, written byte by byte: most clients would refuse to send them."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

from google.api import annotations_pb2, http_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from tests.support.http.odd_requests import BODIES, TEXTS

READ_WITHIN_S = 60.0

# Pieces of JSON that are put in a value's place as they stand.
LITERALS = (
    *(
        "null",
        "true",
        "0",
        "-0",
        "-1",
        "1.5",
        "1e999",
        "-1e999",
        "1e1000000000000000000",
        "NaN",
        "Infinity",
    ),
    *("9" * 25, "9" * 5000, "0.1000000000000000055511151231257827", "01", "+1", ".5", "0x1F"),
    *(
        '""',
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '"\\u0000"',
        '"\\x"',
        '"\t"',
        '"' + "x" * 5000 + '"',
        "'a'",
    ),
    *(
        "[]",
        "{}",
        "[[]]",
        '{"a": {}}',
        '{"@type": 5}',
        '{"@type": "x"}',
        "[" * 200,
        "[" * 70 + "]" * 70,
    ),
    *(
        '{"a": 1, "a": 2}',
        "// no",
        "undefined",
        "",
        ",",
        '"2026-01-01T00:00:00+99:99"',
        '"-1s"',
        '"1e3s"',
    ),
    *(
        '"2026-1-1T0:0:0Z"',
        '"10000-01-01T00:00:00Z"',
        '"0000-12-31T00:00:00Z"',
        '"9999-12-31T23:59:60Z"',
    ),
)
PIECES = (
    *(
        "%ff",
        "%c0%80",
        "%00",
        "%2F",
        "%2e%2e",
        "..",
        "%ed%a0%80",
        "%",
        "%zz",
        "a%20b",
        ":",
        ":x",
        "a:b:c",
    ),
    *(
        "%F0%9F%92%B6",
        "x" * 3000,
        "*",
        "~",
        "-",
        "0",
        "'",
        '"',
        "<",
        "|",
        "\\",
        "%25ff",
        "a;b",
        "@",
    ),
)
QUERIES = (
    *(
        "page_size=1&pageSize=2",
        "pageSize=1&page_size=1",
        "page_size=%ff",
        "%ff=1",
        "page_size=1&page_size=1",
    ),
    *(
        "page_size=-1",
        "page_size=9e9",
        "page_size=",
        "page_size",
        "=",
        "&&",
        ";",
        "a;b=c",
        "%zz=1",
        "x=%zz",
    ),
    *(
        "page_token=%00",
        "page_token=%F0%9F%92%B6",
        "page_size[0]=1",
        "page_size.x=1",
        "unknown=1",
        "?",
        "+",
    ),
    *(
        "period.start_at=2026-01-01T00:00:00+01:00&period.end_at=2026-02-01T00:00:00+01:00",
        "period=1",
    ),
    *(
        "periodstart_at=1",
        "period.start_at=10000-01-01T00:00:00Z",
        "due_before=now",
        "status=99",
        "type=-1",
    ),
)
HEADERS: tuple[tuple[tuple[str, str], ...], ...] = (
    *(
        (("Idempotency-Key", "a"), ("Idempotency-Key", "b")),
        (("Idempotency-Key", "a"), ("idempotency-key", "a")),
    ),
    *((("Idempotency-Key", ""),), (("Idempotency-Key", "ü"),), (("Idempotency-Key", "k" * 9000),)),
    *(
        (("Content-Encoding", "gzip"),),
        (("Content-Encoding", "identity"),),
        (("Content-Encoding", "x, y"),),
    ),
    *(
        (("Accept", "text/html"),),
        (("Accept", "application/cloudevents-batch+json;q=x"),),
        (("Accept", ""),),
    ),
    *((("Content-Type", "text/plain"),), (("Content-Type", "application/json; charset=utf-16"),)),
    *((("Content-Type", "application/x-www-form-urlencoded"),), (("Content-Type", "\x80"),)),
    *((("Content-Type", "application/cloudevents+json"),), (("Ce-Id", "%ff"), ("Ce-Type", "a.b"))),
    *((("Grpc-Timeout", "1"),), (("Grpc-Timeout", "99999999999999H"),), (("Grpc-Timeout", "-5S"),)),
    *(
        (("Grpc-Timeout", "xS"),),
        (("Grpc-Timeout", "5S"),),
        (("X-HTTP-Method-Override", "DELETE"),),
    ),
    *((("Traceparent", "ff-" + "a" * 32 + "-" + "b" * 16 + "-01"),), (("Traceparent", "x"),)),
    *((("Tracestate", "a=b, , c"),), (("X-Request-Id", "ü\x01"),), (("X-Request-Id", "r" * 400),)),
    *(
        (("Authorization", "Bearer a"), ("Authorization", "Bearer b")),
        (("Authorization", "Basic x"),),
    ),
    *(
        (("If-Match", '"x"'),),
        (("Expect", "100-continue"),),
        (("Expect", "what"),),
        (("Upgrade", "h2c"),),
    ),
    *(
        (("X-Forwarded-For", "\x80"),),
        (("X-Long", "y" * 40_000),),
        (("Cookie", "a=b"),),
        (("Te", "gzip"),),
    ),
    *(
        (("Transfer-Encoding", "gzip"),),
        (("Content-Length", "-1"),),
        (("Host", "a b"),),
        ((" x", "y"),),
    ),
)


@dataclass(slots=True)
class OddRequest:
    """One request, to be written as it stands.

    Attributes:
        method: HTTP method.
        target: path and query, already escaped, or not.
        headers: as pairs; a name may come twice.
        body: the bytes.
    """

    method: str
    target: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def written(self, host: str) -> bytes:
        """Write it as HTTP/1.1."""
        named = {name.lower() for name, _ in self.headers}
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        if "host" not in named:
            lines.append(f"Host: {host}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines.append("Connection: close")
        if "content-length" not in named and "transfer-encoding" not in named:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + self.body


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers by lower-case name, the body, and all of it as it stood on the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    raw: bytes


class _Bytes:
    """Stands for a socket that http.client reads from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


async def exchange(address: str, request: OddRequest) -> Answer:
    """Send a request on a connection of its own and read the answer to its end."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(READ_WITHIN_S):
            writer.write(request.written(address))
            raw = await _all(reader)
    finally:
        writer.close()
    answer = http.client.HTTPResponse(_Bytes(raw), method=request.method)  # type: ignore[arg-type]
    answer.begin()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(answer.status, headers, answer.read(), raw)


async def _all(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    try:
        while part := await reader.read(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        # A server that refuses early does not read the body to its end; what it said has arrived before.
        assert parts, "reset without an answer"
    return b"".join(parts)


# ---- From RPCs to HTTP


def rules_of(method: MethodDescriptor) -> list[http_pb2.HttpRule]:
    """The HTTP rules of an RPC."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    return [rule, *rule.additional_bindings] if rule.WhichOneof("pattern") else []


def of(dice: Random, rule: http_pb2.HttpRule, message: Message) -> OddRequest:
    """Write a message as the request that a rule asks for; the path's pieces may be odd."""
    verb = str(rule.WhichOneof("pattern"))
    tree: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=dice.random() < 0.7
    )
    path = str(getattr(rule, verb))
    while "{" in path:
        start, end = path.index("{"), path.index("}")
        name = path[start + 1 : end].partition("=")[0]
        value = tree.pop(name, tree.pop(_camel(name), "x"))
        piece = dice.choice(PIECES) if dice.random() < 0.15 else quote(str(value), safe=":~")
        path = path[:start] + piece + path[end + 1 :]
    request = OddRequest(verb.upper(), path)
    if not rule.body:
        query = "&".join(_flat(tree))
        if dice.random() < 0.25:
            query = "&".join(filter(None, (query, dice.choice(QUERIES))))
        request.target += f"?{query}" if query else ""
    else:
        request.headers.append(("Content-Type", "application/json"))
        raw = getattr(message, "raw_request", b"")
        content: Any = (
            tree if rule.body == "*" else tree.get(rule.body, tree.get(_camel(rule.body), []))
        )
        request.body = raw or _odd_json(dice, content)
    return request


def disturb(dice: Random, request: OddRequest) -> None:
    """Change something of a request that no message has: its method, headers or bytes."""
    match dice.randrange(6):
        case 0:
            request.method = dice.choice(
                ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "X-Y")
            )
        case 1 | 2:
            request.headers += dice.choice(HEADERS)
        case 3:
            request.body = dice.choice((*BODIES, b"\xef\xbb\xbf" + request.body, request.body[:-1]))
        case 4:
            separator = "&" if "?" in request.target else "?"
            request.target += dice.choice(("/", "//", "%2F", separator + dice.choice(QUERIES)))
        case _:
            data = bytearray(request.body or b"{}")
            data[dice.randrange(len(data))] = dice.randrange(256)
            request.body = bytes(data)


def _odd_json(dice: Random, content: Any) -> bytes:
    """Write JSON; one of its values may be another than JSON has."""
    places = list(_places(content))
    if dice.random() < 0.5 or not places:
        return json.dumps(content, ensure_ascii=dice.random() < 0.5).encode(
            "utf-8", "surrogatepass"
        )
    holder, key = dice.choice(places)
    if isinstance(holder, dict) and dice.random() < 0.1:
        holder[dice.choice(TEXTS)] = holder[key]
        return json.dumps(content).encode()
    holder[key] = "\N{SNOWMAN}here"
    return json.dumps(content).replace('"\\u2603here"', dice.choice(LITERALS)).encode()


def _places(content: Any) -> Any:
    pairs: Any = ()
    if isinstance(content, dict):
        pairs = content.items()
    elif isinstance(content, list):
        pairs = enumerate(content)
    for key, value in pairs:
        yield content, key
        yield from _places(value)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Sequence[str]:
    pairs: list[str] = []
    for name, value in tree.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                pairs += _flat(item, f"{prefix}{name}.")
            else:
                text = str(item).lower() if isinstance(item, bool) else str(item)
                pairs.append(f"{prefix}{name}={quote(text.encode('utf-8', 'surrogatepass'))}")
    return pairs


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
