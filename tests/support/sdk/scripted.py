"""A gRPC server that answers any RPC as a test tells it, call by call, and keeps what it was sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc


@dataclass(frozen=True)
class Fault:
    """An answer that is an error.

    Attributes:
        code: of gRPC.
        details: an encoded google.rpc.Status.
    """

    code: grpc.StatusCode
    details: bytes = b""

    def abort(self, context: Any) -> None:
        """End the call with it."""
        trailers = (("grpc-status-details-bin", self.details), ("x-request-id", "call-1"))
        context.set_trailing_metadata(trailers)
        context.abort(self.code, f"it is {self.code.name}")


@dataclass
class Script:
    """What the server answers, in order; the last answer stays.

    Attributes:
        answers: encoded messages, or faults; for a stream a list of them. A function is given the request.
        payloads, headers: of the calls, in order.
        streams: methods whose requests and answers are streams, and those with a stream of answers only.
        hold: calls wait until it is set.
        ended: set when a call was ended by its caller.
    """

    answers: list[Any]
    payloads: list[bytes] = field(default_factory=list)
    headers: list[dict[str, Any]] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.hold.set()

    def _next(self, context: Any) -> Any:
        self.headers.append(dict(context.invocation_metadata()))
        context.add_callback(self.ended.set)
        self.hold.wait(60)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def unary(self, payload: bytes, context: Any) -> bytes:
        """Answer a call with one answer."""
        self.payloads.append(payload)
        answer = self._next(context)
        if isinstance(answer, Fault):
            answer.abort(context)
        told: bytes = answer(payload) if callable(answer) else answer
        return told

    def stream(self, payload: bytes, context: Any) -> Iterator[bytes]:
        """Answer a call with a stream."""
        self.payloads.append(payload)
        for answer in self._next(context):
            if isinstance(answer, Fault):
                answer.abort(context)
            yield answer

    def both_ways(self, payloads: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """Answer each message of a stream."""
        answer: Callable[[bytes], bytes] = self._next(context)
        for payload in payloads:
            self.payloads.append(payload)
            yield answer(payload)


class _Any(grpc.GenericRpcHandler):
    def __init__(self, script: Script) -> None:
        self._script = script

    def service(self, details: Any) -> Any:
        name = details.method.rpartition("/")[2]
        if name == "StreamEvents":
            return grpc.stream_stream_rpc_method_handler(self._script.both_ways)
        if name == "TailEvents":
            return grpc.unary_stream_rpc_method_handler(self._script.stream)
        return grpc.unary_unary_rpc_method_handler(self._script.unary)


@contextmanager
def serving(script: Script, credentials: grpc.ServerCredentials | None = None) -> Iterator[str]:
    """Serve until the block ends; gives the address."""
    server = grpc.server(ThreadPoolExecutor(8), handlers=[_Any(script)])
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        script.hold.set()
        server.stop(None).wait(60)
