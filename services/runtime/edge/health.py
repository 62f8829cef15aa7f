"""Health of each service, as gRPC's health protocol tells it.

The library's own servicer writes to a watcher while it holds a lock that every change of health needs: one client that
reads nothing would keep all others from hearing anything, and this process from saying it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_States = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """Tells how each service is, to who asks and to who watches."""

    def __init__(self) -> None:
        self._states: dict[str, int] = {"": _States.NOT_SERVING}
        self._changed = asyncio.Event()
        self._retired = False

    def set(self, name: str, serving: bool) -> None:
        """Say whether a service can be relied on; without effect once the process has retired."""
        if self._retired:
            return
        self._states[name] = _States.SERVING if serving else _States.NOT_SERVING
        self._tell()

    def retire(self) -> None:
        """Say NOT_SERVING of everything, for good."""
        self._retired = True
        self._states = dict.fromkeys(self._states, _States.NOT_SERVING)
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def Check(self, request: Any, context: Any) -> Any:
        """Tell how a service is."""
        state = self._states.get(request.service)
        if state is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service here")
        return _States(status=state)

    async def List(self, request: Any, context: Any) -> Any:
        """Tell how all services are."""
        statuses = {name: _States(status=state) for name, state in self._states.items()}
        return health_pb2.HealthListResponse(statuses=statuses)  # type: ignore[attr-defined] # newer than its stubs

    async def Watch(self, request: Any, context: Any) -> None:
        """Tell how a service is, and again at each change."""
        told = None
        while True:
            changed = self._changed
            state = self._states.get(request.service, _States.SERVICE_UNKNOWN)
            if state != told:
                await context.write(_States(status=state))
                told = state
            # What changed while it was written is seen at once.
            await changed.wait()
