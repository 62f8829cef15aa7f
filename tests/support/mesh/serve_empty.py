"""Serves an RPC that does nothing, bare or through the whole pipeline; for the bench of the pipeline.

`python -m tests.support.mesh.serve_empty bare` or `… piped <service url> <relay url>` prints its port and serves.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import uvloop
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc
from pydantic import SecretStr

from services.access.servicer import AccessServicer
from services.runtime import telemetry
from services.runtime.config import Settings
from services.runtime.manifests import Manifest
from services.runtime.process.node import Node
from services.runtime.service import Runtime, Service, Servicer
from tests.support.mesh.serving import MESH_SECRET

NAME = "payments.access.v1.AccessService"
# What serves, kept: grpc.aio ends a server that nobody holds.
_HELD: list[Any] = []


class Empty(AccessServicer):
    """AccessService whose list is empty without asking the database."""

    async def ListApiKeys(  # noqa: N802 - gRPC names it
        self, request: access_service_pb2.ListApiKeysRequest, context: Any
    ) -> access_service_pb2.ListApiKeysResponse:
        """Give nothing."""
        return access_service_pb2.ListApiKeysResponse()


def build(runtime: Runtime) -> Service:
    """Build the service for the pipeline."""
    add = access_service_pb2_grpc.add_AccessServiceServicer_to_server
    servicer = Empty(runtime.database, runtime.commands)
    return Service([Servicer(add, servicer, NAME)])


async def bare() -> int:
    """Serve without anything around it."""
    server = grpc.aio.server()
    untyped: Any = None
    access_service_pb2_grpc.add_AccessServiceServicer_to_server(Empty(untyped, untyped), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    _HELD.append(server)
    return port


async def piped(service_url: str, relay_url: str) -> int:
    """Serve through every interceptor."""
    settings = Settings(
        database_url=service_url,
        relay_url=relay_url,
        listen="127.0.0.1:0",
        mesh_secret=SecretStr(MESH_SECRET),
    )
    node = Node(settings, [Manifest("access", builder=build)])
    _HELD.append(node)
    return await node.start()


async def main() -> None:
    """Serve until killed."""
    telemetry.configure_logs("warning")
    port = await (bare() if sys.argv[1] == "bare" else piped(*sys.argv[2:4]))
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
