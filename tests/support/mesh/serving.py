"""A real mesh in the test's own event loop: real gRPC on port 0, real Postgres, chosen services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from pydantic import SecretStr

from services.runtime.access import MeshTokens, Principal
from services.runtime.clock import Clock
from services.runtime.config import Settings
from services.runtime.manifests import Build, Manifest
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.process.node import Node

MESH_SECRET = "a mesh secret of tests, thirty-two characters and more"
ALL_SCOPES = frozenset({"*"})

Served = Sequence[Manifest | Build]


class Mesh:
    """A running node, and channels to it as any tenant.

    Attributes:
        node: the process that serves.
        address: `127.0.0.1:<port>` of its gRPC server.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.address = f"127.0.0.1:{node.port}"
        self._channels: dict[object, grpc.aio.Channel] = {}
        self._loop = asyncio.get_running_loop()

    def channel(
        self, tenant: str, scopes: Collection[str] = ALL_SCOPES, **options: Any
    ) -> grpc.aio.Channel:
        """Return the channel whose calls come from `tenant` with `scopes`."""
        key = (tenant, frozenset(scopes), frozenset(options.items()))
        if key in self._channels:
            return self._channels[key]
        principal = Principal(tenant, f"test:{tenant}", frozenset(scopes))
        # A fixture that is not async runs outside of the loop, and `asyncio.run` in an earlier test leaves none there.
        asyncio.set_event_loop(self._loop)
        channel = grpc.aio.insecure_channel(
            self.address,
            interceptors=[signer(MeshTokens(MESH_SECRET), principal) for signer in _SIGNERS],
            options=[("grpc.use_local_subchannel_pool", 1), *options.items()],
        )
        self._channels[key] = channel
        return channel

    async def drain_events(self) -> None:
        """Wait until every event published so far was handled or dead-lettered."""
        await self.node.drain_events()

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels.values():
            await channel.close()


def as_manifest(served: Manifest | Build) -> Manifest:
    """Return the manifest of a service of the tests."""
    return served if isinstance(served, Manifest) else Manifest("test", builder=served)


@asynccontextmanager
async def running(
    urls: DatabaseUrls,
    served: Served,
    *,
    clock: Clock | None = None,
    **settings: Any,
) -> AsyncIterator[Mesh]:
    """Serve the services on a migrated database until the block ends.

    A function that builds one stands for a service of the tests, which needs nothing of others.
    """
    node = Node(
        Settings(
            database_url=urls.service,
            relay_url=urls.relay,
            mesh_secret=SecretStr(MESH_SECRET),
            # A machine that runs eight suites lets the feed of any of them stand for seconds.
            **{"listen": "127.0.0.1:0", "feed_stall_seconds": 60, **settings},
        ),
        [as_manifest(item) for item in served],
        clock,
    )
    await node.start()
    mesh = Mesh(node)
    try:
        yield mesh
    finally:
        await mesh.close()
        await node.stop()


@dataclass(frozen=True, slots=True)
class _Signer:
    """Gives every call of a channel a fresh token.

    Its kinds stand here and not in the function that makes a channel: each class that is made is one more that
    `isinstance` asks from then on, and grpc asks four times for every channel.
    """

    tokens: MeshTokens
    principal: Principal

    def signed(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        """Return the details of a call with a token in them."""
        metadata = grpc.aio.Metadata(*tuple(details.metadata or ()))
        metadata.add("authorization", f"Mesh {self.tokens.issue(self.principal)}")
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )


class _UnaryUnary(_Signer, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(self.signed(details), request)


class _UnaryStream(_Signer, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(self.signed(details), request)


class _StreamUnary(_Signer, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await continuation(self.signed(details), requests)


class _StreamStream(_Signer, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await continuation(self.signed(details), requests)


_SIGNERS = (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)
