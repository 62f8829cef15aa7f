"""The client that waits for its answers. Safe to use from many threads, in the process that made it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import grpc
from payments_sdk.rpc import Method, RequestT, ResponseT
from payments_sdk.services import Services

from tollmesh_client import calls, forks
from tollmesh_client.errors import CallError, ClientClosed
from tollmesh_client.retries import Attempts, Retries
from tollmesh_client.settings import TIMEOUT_DEFAULT, Settings, Tls


class Client(Services):
    """Calls a mesh: `client.charge.create_charge(CreateChargeRequest(…))`. Use as a context manager, or close it.

    In a process that was forked from its own every call raises UsedAfterFork, and closing it does nothing.

    Args:
        address: `host:port` of the gRPC port; else TOLLMESH_ADDRESS, else 127.0.0.1:7443.
        api_key: else TOLLMESH_API_KEY.
        tls: True for TLS as the system trusts it, or what exactly to trust and to show; False for plain text.
        timeout: seconds for a call with all its tries; `timeout=` of a call stands above it. Streams have none unless
            their call names one.
        retries: when a call is made again.
        metadata: further headers of every call.

    Raises:
        ConfigurationError: one of them cannot be used.
        UsedAfterFork: this process was forked from one that had made a client.
    """

    def __init__(
        self,
        address: str | None = None,
        api_key: str | None = None,
        *,
        tls: Tls | bool = False,
        timeout: float = TIMEOUT_DEFAULT,
        retries: Retries | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        settings = Settings.of(
            address, api_key, tls=tls, timeout=timeout, retries=retries, metadata=metadata
        )
        self._open(settings)

    @classmethod
    def of(cls, settings: Settings) -> Client:
        """Return a client with these settings."""
        client = cls.__new__(cls)
        client._open(settings)
        return client

    def _open(self, settings: Settings) -> None:
        self.settings = settings
        self.transport = Transport(settings)
        super().__init__(self.transport)

    def close(self) -> None:
        """End the connection; calls that run end with Cancelled."""
        self.transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Transport:
    """Makes the calls of a Client: key, deadline, retries, errors."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._headers = settings.headers()
        self.owner = forks.Owner("client")
        self._opened: Any = _channel(settings)
        self._callables: dict[str, Any] = {}
        self._closed = threading.Event()

    @property
    def _channel(self) -> Any:
        """The channel, in the process that opened it. Raises UsedAfterFork."""
        self.owner.check()
        return self._opened

    def close(self) -> None:
        """End the connection, if it is of this process."""
        if self.owner.is_here:
            self._closed.set()
            self._opened.close()

    def unary(
        self, method: Method[RequestT, ResponseT], request: RequestT, timeout: float | None
    ) -> ResponseT:
        """Call one that has one answer. Raises CallError."""
        prepared = calls.prepare(method, request)
        attempts = Attempts(
            self._settings.retries,
            repeatable=method.repeatable,
            timeout=self._settings.timeout if timeout is None else timeout,
        )
        while True:
            try:
                answer = self.once(method.path, prepared.payload, attempts.remaining())
            except CallError as error:
                wait = attempts.wait_after(prepared.told(error))
                if wait is None or self._closed.wait(wait):
                    raise
            else:
                return method.response.parse(answer)

    def once(self, path: str, payload: bytes, timeout: float | None) -> bytes:
        """Make one try of a call with an encoded request. Raises CallError, ClientClosed, UsedAfterFork."""
        try:
            answer: bytes = self._callable(path)(payload, timeout=timeout, metadata=self._headers)
        except grpc.RpcError as error:
            raise calls.explained(error, path) from error
        except ValueError as error:
            raise self._why_closed(error) from error
        return answer

    def begin(self, path: str, payload: bytes, timeout: float | None) -> Any:
        """Begin one try of a call; the future has `result` and `cancel`. Raises ClientClosed, UsedAfterFork."""
        try:
            return self._callable(path).future(payload, timeout=timeout, metadata=self._headers)
        except ValueError as error:
            raise self._why_closed(error) from error

    def _callable(self, path: str) -> Any:
        channel = self._channel
        call = self._callables.get(path)
        if call is None:
            # No serializers: messages are encoded by us, whose errors gRPC would swallow.
            call = self._callables[path] = channel.unary_unary(path)
        return call

    def stream(
        self, method: Method[RequestT, ResponseT], request: RequestT, timeout: float | None
    ) -> Iterator[ResponseT]:
        """Begin a call that answers with a stream; closing the iterator ends it. Raises CallError as it goes."""
        prepared = calls.prepare(method, request)
        start = self._channel.unary_stream(method.path)
        answers = self._begin(start, prepared.payload, timeout)
        return self._read(method, answers, prepared)

    def both_ways(
        self,
        method: Method[RequestT, ResponseT],
        requests: Iterable[RequestT],
        timeout: float | None,
    ) -> Iterator[ResponseT]:
        """Begin a call in which both sides stream; gRPC takes requests from a thread of its own."""
        failed: list[BaseException] = []

        def payloads() -> Iterator[bytes]:
            try:
                for request in requests:
                    yield calls.prepare(method, request).payload
            # Whatever the caller's iterator raises: gRPC would swallow it; `_read` raises it to the caller.
            except Exception as error:
                failed.append(error)

        start = self._channel.stream_stream(method.path)
        answers = self._begin(start, payloads(), timeout)
        return self._read(method, answers, calls.Prepared(b"", ""), failed)

    def _begin(self, start: Callable[..., Any], sent: object, timeout: float | None) -> Any:
        try:
            return start(sent, timeout=timeout, metadata=self._headers)
        except ValueError as error:
            raise self._why_closed(error) from error

    def _read(
        self,
        method: Method[RequestT, ResponseT],
        answers: Any,
        prepared: calls.Prepared,
        failed: Iterable[BaseException] = (),
    ) -> Iterator[ResponseT]:
        try:
            self.owner.check()
            for answer in answers:
                yield method.response.parse(answer)
                self.owner.check()
        except grpc.RpcError as error:
            raise prepared.told(calls.explained(error, method.path)) from error
        finally:
            if self.owner.is_here:
                answers.cancel()
        for why in failed:
            raise why

    def _why_closed(self, error: ValueError) -> Exception:
        return ClientClosed("the client is closed") if self._closed.is_set() else error


def _channel(settings: Settings) -> grpc.Channel:
    forks.opening_channel()
    options = settings.options()
    if settings.tls is None:
        return grpc.insecure_channel(settings.address, options)
    return grpc.secure_channel(settings.address, settings.tls.credentials(), options)
