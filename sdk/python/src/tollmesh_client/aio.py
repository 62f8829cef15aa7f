"""The client for asyncio. Use one in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any

import grpc
from payments_sdk.rpc import Method, RequestT, ResponseT
from payments_sdk.services import AsyncServices

from tollmesh_client import calls, forks
from tollmesh_client.errors import CallError, ClientClosed
from tollmesh_client.retries import Attempts, Retries
from tollmesh_client.settings import TIMEOUT_DEFAULT, Settings, Tls


class AsyncClient(AsyncServices):
    """Calls a mesh from an event loop: `await client.charge.create_charge(CreateChargeRequest(…))`.

    Use as an asynchronous context manager, or close it. Arguments and errors are those of Client. It belongs to the
    process of its first call.
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
        self.settings = Settings.of(
            address, api_key, tls=tls, timeout=timeout, retries=retries, metadata=metadata
        )
        self.transport = AsyncTransport(self.settings)
        super().__init__(self.transport)

    async def close(self) -> None:
        """End the connection; calls that run end with Cancelled."""
        await self.transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncTransport:
    """Makes the calls of an AsyncClient: key, deadline, retries, errors."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._headers = settings.headers()
        self._owner = forks.Owner("client")
        self._opened: Any = None
        self._callables: dict[str, Any] = {}
        self._closed = False

    @property
    def _channel(self) -> Any:
        """The channel, made in the loop that uses it. Raises ClientClosed, UsedAfterFork."""
        if self._closed:
            raise ClientClosed("the client is closed")
        if self._opened is None:
            opened = _channel(self._settings)
            self._owner, self._opened = forks.Owner("client"), opened
        self._owner.check()
        return self._opened

    async def close(self) -> None:
        """End the connection, if it is of this process."""
        self._closed = True
        if self._opened is not None and self._owner.is_here:
            await self._opened.close()

    async def unary(
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
                answer = await self._once(method.path, prepared.payload, attempts.remaining())
            except CallError as error:
                wait = attempts.wait_after(prepared.told(error))
                if wait is None:
                    raise
                await asyncio.sleep(wait)
            else:
                return method.response.parse(answer)

    async def _once(self, path: str, payload: bytes, timeout: float | None) -> bytes:
        channel = self._channel
        call = self._callables.get(path)
        if call is None:
            call = self._callables[path] = channel.unary_unary(path)
        try:
            answer: bytes = await call(payload, timeout=timeout, metadata=self._headers)
        except grpc.RpcError as error:
            raise calls.explained(error, path) from error
        return answer

    def stream(
        self, method: Method[RequestT, ResponseT], request: RequestT, timeout: float | None
    ) -> AsyncIterator[ResponseT]:
        """Begin a call that answers with a stream; closing the iterator ends it. Raises CallError as it goes."""
        prepared = calls.prepare(method, request)
        answers = self._channel.unary_stream(method.path)(
            prepared.payload, timeout=timeout, metadata=self._headers
        )
        return self._read(method, answers, prepared)

    def both_ways(
        self,
        method: Method[RequestT, ResponseT],
        requests: AsyncIterable[RequestT],
        timeout: float | None,
    ) -> AsyncIterator[ResponseT]:
        """Begin a call in which both sides stream."""
        failed: list[BaseException] = []

        async def payloads() -> AsyncIterator[bytes]:
            try:
                async for request in requests:
                    yield calls.prepare(method, request).payload
            # Whatever the caller's iterator raises: gRPC would swallow it; `_read` raises it to the caller.
            except Exception as error:
                failed.append(error)

        answers = self._channel.stream_stream(method.path)(
            payloads(), timeout=timeout, metadata=self._headers
        )
        return self._read(method, answers, calls.Prepared(b"", ""), failed)

    async def _read(
        self,
        method: Method[RequestT, ResponseT],
        answers: Any,
        prepared: calls.Prepared,
        failed: Iterable[BaseException] = (),
    ) -> AsyncIterator[ResponseT]:
        try:
            self._owner.check()
            async for answer in answers:
                yield method.response.parse(answer)
                self._owner.check()
        except grpc.RpcError as error:
            raise prepared.told(calls.explained(error, method.path)) from error
        finally:
            if self._owner.is_here:
                answers.cancel()
        for why in failed:
            raise why


def _channel(settings: Settings) -> grpc.aio.Channel:
    forks.opening_channel()
    options = settings.options()
    if settings.tls is None:
        return grpc.aio.insecure_channel(settings.address, options)
    return grpc.aio.secure_channel(settings.address, settings.tls.credentials(), options)
