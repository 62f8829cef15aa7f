"""Channels to other services: deadline forwarded, UNAVAILABLE retried, load spread, the mesh token shown.

gRPC's Python library forwards no deadline and its service config `timeout` is broken (grpc issue 40633), so the
deadline is passed on by hand.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import grpc

from services.runtime.access import SERVICE_PREFIX, MeshTokens, Principal
from services.runtime.config import Settings
from services.runtime.context import current
from services.runtime.edge.status import RemoteError
from services.runtime.edge.weight import MESSAGE_BYTES_MAX
from services.runtime.errors import DeadlineExceeded, DomainError, Internal, ScopeMissing

CALL_TIMEOUT_SECONDS = 30.0
# Time that the caller keeps for itself after a downstream answer.
MARGIN_SECONDS = 0.05

_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        # Once every second call fails, trying again only adds to what is wrong there.
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    }
)
_OPTIONS = [
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.use_local_subchannel_pool", 1),
]


class Channels:
    """Opens one channel a service and keeps it.

    Args:
        settings: where the others are.
        tokens: signs what the calls carry.
        service: who calls.
        scopes: what it may do at the others.
    """

    def __init__(
        self, settings: Settings, tokens: MeshTokens, service: str, scopes: frozenset[str]
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._service = service
        self._scopes = scopes
        self._open: dict[str, grpc.aio.Channel] = {}

    def channel(self, service: str) -> grpc.aio.Channel:
        """Return the channel to a service; its calls act for the tenant of the running call.

        Raises:
            LookupError: no address is configured for the service.
        """
        if service not in self._open:
            self._open[service] = grpc.aio.insecure_channel(
                self._settings.peer(service),
                options=_OPTIONS,
                interceptors=[_Forward(self._tokens, self._service, self._scopes, service)],
            )
        return self._open[service]

    async def close(self) -> None:
        """Close every channel."""
        for channel in self._open.values():
            await channel.close()
        self._open.clear()


class _Forward(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds token, correlation and deadline to each call, and types its errors."""

    def __init__(
        self, tokens: MeshTokens, caller: str, scopes: frozenset[str], service: str
    ) -> None:
        self._tokens = tokens
        self._caller = caller
        self._scopes = scopes
        self._service = service

    async def intercept_unary_unary(
        self,
        continuation: Callable[[Any, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        call = current()
        principal = Principal(
            call.tenant_id,
            f"{SERVICE_PREFIX}{self._caller}({call.principal_id})"[:128],
            self._scopes,
            call.correlation_id,
            call.causation_id,
        )
        metadata = grpc.aio.Metadata(*tuple(client_call_details.metadata or ()))
        metadata.add("authorization", f"Mesh {self._tokens.issue(principal)}")
        metadata.add("x-request-id", call.request_id)
        metadata.add("traceparent", call.traceparent)
        if call.tracestate:
            metadata.add("tracestate", call.tracestate)
        details = grpc.aio.ClientCallDetails(
            client_call_details.method,
            _timeout(call.deadline_at, client_call_details.timeout),
            metadata,
            client_call_details.credentials,
            client_call_details.wait_for_ready,
        )
        try:
            response = await continuation(details, request)
            return await response
        except grpc.aio.AioRpcError as error:
            raise self._answered(error) from error

    def _answered(self, error: grpc.aio.AioRpcError) -> DomainError:
        answer = RemoteError.of(error, self._service)
        if answer.reason != ScopeMissing.reason:
            return answer
        # A call carries the scopes of this service's manifest: no key of whoever it acts for can mend that.
        scope = answer.metadata.get("scope", "")
        return Internal(
            f"{self._service} asks for scope {scope}, which the manifest of {self._caller} lacks"
        )


def _timeout(deadline_at: float | None, own: float | None) -> float:
    limit = CALL_TIMEOUT_SECONDS if own is None else own
    if deadline_at is None:
        return limit
    left = deadline_at - time.monotonic() - MARGIN_SECONDS
    if left <= 0:
        raise DeadlineExceeded("no time is left for calls to other services; set a longer deadline")
    return min(limit, left)
