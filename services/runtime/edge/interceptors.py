"""What every call passes through, in order: request id and log context, telemetry, errors, authentication, room on
the disk, its message, a place to work, deadline ceiling, validation. One pipeline, built once a method, so that a call
pays for work and not for layers.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from services.runtime.access import KeyRing, MeshTokens, Principal, digest, refusal
from services.runtime.cards import SPAN_MAX, holds_card_number
from services.runtime.config import Settings
from services.runtime.context import _CURRENT, CallContext, Credential
from services.runtime.contracts import INVARIANT, REQUEST_VALIDATION
from services.runtime.edge import methods, validation, weight
from services.runtime.edge.admission import REFLECTION_SECONDS, Admission
from services.runtime.edge.methods import Method
from services.runtime.edge.status import RemoteError, grpc_code, to_status, trailers
from services.runtime.edge.streams import on_begin
from services.runtime.errors import (
    DeadlineExceeded,
    DomainError,
    IdempotencyKeyMismatch,
    IdempotencyKeyUnused,
    Internal,
    InvalidField,
    ScopeMissing,
    Unauthenticated,
    UndecodableRequest,
)
from services.runtime.ids import new_uuid, request_id_of
from services.runtime.storage import Storage
from services.runtime.telemetry import (
    Telemetry,
    log,
    read_traceparent,
    read_tracestate,
    trace_id,
)
from services.runtime.violations import Violation, ViolationReporter

HEADER_MAX = 128
# Between two looks at the key of a stream: with the time for which a key is remembered, less than a second.
RECHECK_SECONDS = 0.25
_Servicer = grpc.aio.ServicerContext


class Call:
    """One call on its way through the pipeline."""

    __slots__ = (
        "_sent",
        "checked_at",
        "context",
        "credential",
        "headers",
        "method",
        "named",
        "parent",
        "refused",
        "sending_since",
        "started",
        "who",
    )

    def __init__(self, method: Method, context: Any) -> None:
        self.method = method
        self.context = context
        self.started = time.perf_counter()
        self._sent: Sequence[tuple[str, Any]] = context.invocation_metadata() or ()
        self.headers: Mapping[str, Any] = dict(self._sent)
        # Trace context of its caller; empty for none.
        self.parent = ""
        self.who: CallContext | None = None
        # Its key, where it may be held while the database is away.
        self.credential: Credential | None = None
        # Monotonic seconds at which its credential was looked at last.
        self.checked_at = time.monotonic()
        # Why its credential does not count any more.
        self.refused: Unauthenticated | None = None
        # Monotonic seconds since which the transport has a message of it; None while its handler is at work.
        self.sending_since: float | None = None
        # Its caller was told its id.
        self.named = False

    def header(self, name: str) -> str:
        """Return a header as text, cut to a bounded length, or an empty text."""
        value = self.headers.get(name, "")
        return value[:HEADER_MAX] if isinstance(value, str) else ""

    def trail(self, name: str) -> str:
        """Return a header that names the call or its chain; empty when it holds a card number.

        Such ids stand in every log line, event and violation, and in the answer, whose metadata is printable ASCII.
        """
        value = self.headers.get(name, "")
        if not isinstance(value, str) or holds_card_number(value[: HEADER_MAX + SPAN_MAX]):
            return ""
        return value[:HEADER_MAX] if value.isascii() and value.isprintable() else ""

    def all(self, name: str) -> list[str]:
        """Return every value that was sent under a name, in order."""
        return [value for key, value in self._sent if key == name and isinstance(value, str)]

    @property
    def idempotency_key(self) -> str:
        """Header Idempotency-Key, never cut: keys that differ only at their end name different requests.

        gRPC's own limit on metadata bounds it.

        Raises:
            IdempotencyKeyMismatch: it came twice, with different keys.
        """
        if "idempotency-key" not in self.headers:
            return ""
        values = self.all("idempotency-key")
        if len(set(values)) > 1:
            raise IdempotencyKeyMismatch(
                "header Idempotency-Key was sent twice with different keys; send only one",
                header=values[0][:HEADER_MAX],
                field=values[1][:HEADER_MAX],
            )
        return values[0] if values else ""


class Pipeline(grpc.aio.ServerInterceptor):
    """Wraps the handler of every RPC."""

    def __init__(
        self,
        settings: Settings,
        known: Mapping[str, Method],
        keys: KeyRing,
        tokens: MeshTokens,
        telemetry: Telemetry,
        violations: ViolationReporter,
        storage: Storage,
    ) -> None:
        self._settings = settings
        self._known = known
        self._keys = keys
        self._tokens = tokens
        self._telemetry = telemetry
        self._violations = violations
        self._storage = storage
        self.admission = Admission(settings)
        self._wrapped: dict[str, Any] = {}
        # Bound once: finding out each time what it is configured to takes half of what a line takes.
        self._log = log.bind()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the wrapped handler of the method, made at its first call."""
        path = handler_call_details.method
        handler = self._wrapped.get(path)
        if handler is None:
            inner = await continuation(handler_call_details)
            if inner is None:
                return None
            handler = self._wrap(path, inner)
            self._wrapped[path] = handler
        return handler

    def _wrap(self, path: str, inner: Any) -> Any:
        method = self._known.get(path) or methods.foreign(path)
        decode = inner.request_deserializer or bytes
        streaming_in, streaming_out = inner.request_streaming, inner.response_streaming
        # What there is of the four is the one that it is.
        behaviour = (
            inner.unary_unary or inner.unary_stream or inner.stream_unary or inner.stream_stream
        )
        if not method.scope:
            wrapped: Any = self._open(method, behaviour, decode, streaming_in, streaming_out)
        elif streaming_out:
            wrapped = self._streaming(method, behaviour, decode, streaming_in)
        else:
            wrapped = self._unary(method, behaviour, decode, streaming_in)
        # To gRPC each is one that reads a stream: so its message is read when we say so, behind the check of its key.
        # And it is decoded here and not by gRPC, whose own refusal of bad bytes carries no ErrorInfo.
        make = (
            grpc.stream_stream_rpc_method_handler
            if streaming_out
            else grpc.stream_unary_rpc_method_handler
        )
        return make(wrapped, response_serializer=inner.response_serializer)

    def _unary(
        self, method: Method, behaviour: Any, decode: Any, streaming_in: bool
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def handle(_: Any, context: Any) -> Any:
            call = Call(method, context)
            try:
                principal = await self._enter(call)
                if streaming_in:
                    requests = self._requests(call, decode)
                    with self.admission.stream(principal):
                        async with self._watched(call):
                            response = await self._bounded(call, behaviour, requests)
                else:
                    sent = await self.admission.message(principal, context, method.path)
                    with self.admission.work(principal, len(sent)):
                        request = await self._request(call, sent, decode)
                        response = await self._bounded(call, behaviour, request)
            except BaseException as error:
                await self._fail(call, error)
            else:
                call.context.set_trailing_metadata(_name_of(call))
                self._leave(call, "OK")
                return response

        return handle

    def _streaming(
        self, method: Method, behaviour: Any, decode: Any, streaming_in: bool
    ) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def handle(_: Any, context: Any) -> AsyncIterator[Any]:
            call = Call(method, context)
            try:
                principal = await self._enter(call)
                with self.admission.stream(principal):
                    if streaming_in:
                        request: Any = self._requests(call, decode)
                    else:
                        sent = await self.admission.message(principal, context, method.path)
                        # Until it is read: a stream may last for hours, and what is kept of its message is small.
                        with self.admission.request(principal, len(sent)):
                            request = await self._request(call, sent, decode)
                    on_begin(partial(self._name, call))
                    # Closed here: what the handler still works on ends before its call does.
                    async with (
                        self._watched(call),
                        aclosing(behaviour(request, context)) as responses,
                    ):
                        async for response in responses:
                            await self._recheck(call)
                            await self._name(call)
                            call.sending_since = time.monotonic()
                            yield response
                            call.sending_since = None
            except GeneratorExit:
                self._leave(call, "CANCELLED")
                raise
            except BaseException as error:
                await self._fail(call, error)
            else:
                call.context.set_trailing_metadata(_name_of(call))
                self._leave(call, "OK")

        return handle

    def _open(
        self, method: Method, behaviour: Any, decode: Any, streaming_in: bool, streaming_out: bool
    ) -> Any:
        """Wrap what needs no key: health and reflection, within budgets of their own."""
        admission = self.admission

        async def unary(_: Any, context: Any) -> Any:
            try:
                request = decode(await admission.keyless_message(context, method.path))
            except (DecodeError, DomainError) as error:
                await self._refuse(context, error)
            return await behaviour(request, context)

        async def watch(_: Any, context: Any) -> None:
            try:
                with admission.watch(context.peer()):
                    request = decode(await admission.keyless_message(context, method.path))
                    await behaviour(request, context)
            except (DecodeError, DomainError) as error:
                await self._refuse(context, error)

        async def reflection(_: Any, context: Any) -> None:
            try:
                with admission.reflection(context.peer()):
                    async with asyncio.timeout(REFLECTION_SECONDS):
                        async with aclosing(behaviour(_decoded(context, decode), context)) as told:
                            async for response in told:
                                await context.write(response)
            except (DecodeError, DomainError, TimeoutError) as error:
                await self._refuse(context, error)

        if streaming_in:
            return reflection
        return watch if streaming_out else unary

    async def _refuse(self, context: Any, error: Exception) -> NoReturn:
        """Refuse a call that needs no key."""
        if isinstance(error, DecodeError):
            error = UndecodableRequest("the request's bytes are not a message of this call's type")
        elif isinstance(error, TimeoutError):
            error = DeadlineExceeded(
                f"reflection lasts {REFLECTION_SECONDS:g} seconds at most; call again"
            )
        assert isinstance(error, DomainError)
        status = to_status(error)
        await context.abort(grpc_code(error.code), status.message, trailers(status))
        raise AssertionError("abort raises")

    # ---- on the way in

    async def _enter(self, call: Call) -> Principal:
        """Give the call its ids, check its credential, set its context. Nothing of its message was read."""
        request_id = call.trail("x-request-id") or str(new_uuid())
        call.parent = read_traceparent(call.header("traceparent"))
        # Without the one the other means nothing.
        tracestate = read_tracestate(call.all("tracestate")) if call.parent else ""
        traceparent = self._telemetry.own_traceparent(call.parent)
        structlog.contextvars.bind_contextvars(
            request_id=request_id, trace_id=trace_id(traceparent), method=call.method.path
        )
        call.who = CallContext(
            tenant_id="",
            principal_id="",
            scopes=frozenset(),
            request_id=request_id,
            correlation_id=request_id,
            traceparent=traceparent,
            tracestate=tracestate,
        )
        principal = await self._authenticate(call)
        if not principal.may(call.method.scope):
            raise ScopeMissing(
                f"{call.method.path} needs scope {call.method.scope}; "
                "use a key that has it, or create one with `tollmesh keys create --scope`",
                scope=call.method.scope,
                method=call.method.path,
            )
        self._check_room(call)
        call.who = CallContext(
            tenant_id=principal.tenant_id,
            principal_id=principal.principal_id,
            scopes=principal.scopes,
            request_id=request_id,
            correlation_id=principal.correlation_id or call.trail("x-correlation-id") or request_id,
            causation_id=principal.causation_id,
            traceparent=traceparent,
            tracestate=tracestate,
            deadline_at=self._deadline_at(call),
            idempotency_key=call.idempotency_key,
            expires_at=principal.expires_at,
            credential=call.credential,
        )
        # gRPC runs each call in a task of its own, so the context needs no reset.
        _CURRENT.set(call.who)
        return principal

    async def _authenticate(self, call: Call) -> Principal:
        if len(set(call.all("authorization"))) > 1:
            raise refusal("several_keys", "send one authorization header, with one key")
        header = call.headers.get("authorization", "")
        scheme, _, secret = header.partition(" ") if isinstance(header, str) else ("", "", "")
        if not secret:
            raise refusal("no_key", "send an API key: `authorization: Bearer <key>`")
        if scheme.lower() == "mesh":
            return self._tokens.resolve(secret)
        if scheme.lower() != "bearer":
            raise refusal("scheme", "the authorization header must be `Bearer <key>`")
        secret = secret.strip()
        if not (call.method.spooled and self._settings.spool_url.get_secret_value()):
            return await self._keys.resolve(secret)
        principal, confirmed = await self._keys.resolve_or_recall(
            secret, self._settings.spool_keys_seconds
        )
        if call.credential is None:
            call.credential = Credential(digest(secret), confirmed)
        # Of a stream, for whatever it carries from now on.
        call.credential.confirmed = confirmed
        return principal

    def _check_room(self, call: Call) -> None:
        """Refuse what changes state while storage is low; reading goes on. Raises StorageLow."""
        if call.method.mutates and not call.method.vital:
            self._storage.check()

    async def _recheck(self, call: Call) -> None:
        """Refuse what a stream carries once its key was revoked, or its key or mesh token has expired."""
        if call.refused is not None:
            raise call.refused
        now = time.monotonic()
        if now - call.checked_at < RECHECK_SECONDS:
            return
        call.checked_at = now
        await self._authenticate(call)

    @asynccontextmanager
    async def _watched(self, call: Call) -> AsyncIterator[None]:
        """End a stream soon after its key or mesh token, also while it carries nothing."""
        task = asyncio.current_task()
        if task is None:
            yield
            return
        watch = asyncio.create_task(self._watch(call, task))
        try:
            yield
        except asyncio.CancelledError:
            if call.refused is None:
                raise
            task.uncancel()
            raise call.refused from None
        finally:
            watch.cancel()

    async def _watch(self, call: Call, task: asyncio.Task[Any]) -> None:
        while call.refused is None:
            await asyncio.sleep(RECHECK_SECONDS)
            since = call.sending_since
            if since is not None and time.monotonic() - since > self._settings.stream_write_seconds:
                # Who takes nothing is told nothing either: the stream is broken off.
                self._log.warning("rpc_not_read", seconds=self._settings.stream_write_seconds)
                task.cancel()
                return
            try:
                await self._authenticate(call)
            except Unauthenticated as error:
                call.refused = error
                if call.sending_since is None:
                    # Else it is found as soon as the transport has taken the last message.
                    task.cancel()
            except DomainError:
                continue  # the database is away: nothing is known against the key

    def _deadline_at(self, call: Call) -> float:
        remaining = call.context.time_remaining()
        ceiling = self._settings.deadline_ceiling_ms / 1000
        # Without a deadline grpcio reports None, or 9.2e18 seconds.
        return time.monotonic() + (ceiling if remaining is None else min(remaining, ceiling))

    async def _bounded(self, call: Call, behaviour: Any, request: Any) -> Any:
        """Run a unary handler under the ceiling; gRPC itself cancels at an earlier deadline of the caller's."""
        assert call.who is not None and call.who.deadline_at is not None
        loop = asyncio.get_running_loop()
        remaining = call.who.deadline_at - time.monotonic()
        async with asyncio.timeout_at(loop.time() + remaining):
            result = behaviour(request, call.context)
            return await result if inspect.isawaitable(result) else result

    async def _request(self, call: Call, data: bytes, decode: Callable[[bytes], Any]) -> Any:
        if call.method.request is not None:
            await weight.check(data, call.method.request, call.method.path)
        try:
            request = decode(data)
        except (DecodeError, UnicodeDecodeError) as error:
            raise UndecodableRequest(
                f"the request's {len(data)} bytes are not a message of the type that {call.method.path} takes",
                method=call.method.path,
            ) from error
        if call.method.has_request_id:
            _adopt_idempotency_key(call, request)
        elif call.method.mutates and call.idempotency_key:
            raise IdempotencyKeyUnused(
                "this call takes no Idempotency-Key, its items are recognised by ids of their own: give them ids that "
                "stay the same, leave the header out, and repeat the call as it is",
                method=call.method.path,
            )
        if call.method.validated:
            await validation.check_in_turns(request)
        return request

    async def _requests(self, call: Call, decode: Callable[[bytes], Any]) -> AsyncIterator[Any]:
        while True:
            try:
                async with asyncio.timeout(self._settings.stream_idle_seconds):
                    item = await call.context.read()
            except TimeoutError as error:
                raise DeadlineExceeded(
                    f"nothing was sent on this stream for {self._settings.stream_idle_seconds:g} seconds; call again",
                    method=call.method.path,
                ) from error
            if item is grpc.aio.EOF:
                return
            await self._recheck(call)
            self._check_room(call)
            yield await self._request(call, item, decode)

    # ---- on the way out

    async def _name(self, call: Call) -> None:
        """Say before the first message of a stream which id it has; all calls say it at their end."""
        if not call.named:
            call.named = True
            await call.context.send_initial_metadata(_name_of(call))

    def _leave(self, call: Call, code: str) -> None:
        seconds = time.perf_counter() - call.started
        traceparent = call.who.traceparent if call.who else ""
        self._telemetry.record(call.method.path, code, seconds, traceparent, call.parent)
        self._log.info("rpc", code=code, latency_ms=round(seconds * 1000, 3))

    async def _fail(self, call: Call, error: BaseException) -> NoReturn:
        if isinstance(error, asyncio.CancelledError | grpc.aio.AbortError):
            self._leave(call, "CANCELLED")
            raise error
        domain_error = self._typed(call, error)
        self._leave(call, domain_error.code.value)
        self._tell_monitor(call, error, domain_error)
        status = to_status(domain_error)
        await call.context.abort(
            grpc_code(domain_error.code), status.message, (*trailers(status), *_name_of(call))
        )
        raise AssertionError("abort raises")

    def _typed(self, call: Call, error: BaseException) -> DomainError:
        if isinstance(error, DomainError):
            return error
        if isinstance(error, TimeoutError):
            return DeadlineExceeded(
                "the call took longer than its deadline; the same request can be repeated safely",
                method=call.method.path,
            )
        if isinstance(error, grpc.aio.AioRpcError):
            return RemoteError.of(error, "downstream")
        request_id = call.who.request_id if call.who else ""
        log.error("rpc_fault", error=type(error).__name__, exc_info=error)
        return Internal(
            "internal error; repeating the same request is safe, nothing is done twice. "
            f"Give the operator request id {request_id}",
            request_id=request_id,
        )

    def _tell_monitor(self, call: Call, error: BaseException, typed: DomainError) -> None:
        if call.who is None or not call.who.tenant_id:
            return
        if isinstance(typed, InvalidField | UndecodableRequest):
            contract_id, severity = REQUEST_VALIDATION, "LOW"
        elif isinstance(error, AssertionError):
            contract_id, severity = INVARIANT, "CRITICAL"
        else:
            return
        self._violations.report(
            Violation(call.who, contract_id, severity, typed.message, call.method.path)
        )


async def _decoded(context: Any, decode: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    """Give the messages of a stream that needs no key."""
    while (data := await context.read()) is not grpc.aio.EOF:
        yield decode(data)


def _name_of(call: Call) -> tuple[tuple[str, str], ...]:
    """Return the metadata that tells a caller the id of its call, which need not be the one that it sent."""
    return (("x-request-id", call.who.request_id),) if call.who else ()


def _adopt_idempotency_key(call: Call, request: Message) -> None:
    """Fill request_id from header Idempotency-Key; a key that is no UUID is mapped to one."""
    header = call.idempotency_key
    if not header:
        return
    mapped = request_id_of(header)
    given = getattr(request, "request_id", "")
    if given and given.lower() != mapped and given != header:
        raise IdempotencyKeyMismatch(
            "header Idempotency-Key and field request_id differ; send only one of them",
            header=header[:HEADER_MAX],
            field=given,
        )
    if not given:
        request.request_id = mapped  # type: ignore[attr-defined] # checked by has_request_id
