"""The gRPC server of a process: options, health of each service, reflection, channelz, graceful drain."""

from __future__ import annotations

import asyncio

import grpc
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.runtime.edge.health import Health
from services.runtime.edge.interceptors import Pipeline
from services.runtime.edge.weight import MESSAGE_BYTES_MAX

GRACE_SECONDS = 10.0

_OPTIONS = [
    # Two servers on one port would split its calls without a word: a port in use must be an error.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Long connections move on now and then, so that load finds new servers.
    ("grpc.max_connection_age_ms", 30 * 60 * 1000),
    ("grpc.max_connection_age_grace_ms", 60 * 1000),
    ("grpc.max_metadata_size", 16 * 1024),
    # A stream has 64 KiB of room until its message is read, and then that of its message. Room that is measured grows
    # for all streams of a connection alike: it would hold megabytes of each message that is about to be refused.
    ("grpc.http2.bdp_probe", 0),
    # Of one connection; what it may have under way of them is for the pipeline to say, which says why.
    ("grpc.max_concurrent_streams", 1024),
    # Calls that this process has not looked at yet. Beyond the first some, beyond the second all are CANCELLED by the
    # library, with nothing that says why: a refusal of ours says when to come again.
    ("grpc.server.max_pending_requests", 4096),
    ("grpc.server.max_pending_requests_hard_limit", 8192),
    # Who connects and says nothing, and who is gone without having said so.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.http2.settings_timeout", 10_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]


class PortInUse(RuntimeError):
    """The address cannot be bound."""


class Server:
    """A grpc.aio server with everything that each server of ours has.

    Args:
        pipeline: what every call of ours passes through.
        connections_max: connections at once.
    """

    def __init__(self, pipeline: Pipeline, connections_max: int) -> None:
        # No maximum_concurrent_rpcs: it counts calls that wait as those that work, so that who opens as many and says
        # nothing has everybody refused. The pipeline counts, and says why.
        self.grpc = grpc.aio.server(
            interceptors=[pipeline],
            options=[*_OPTIONS, ("grpc.max_allowed_incoming_connections", connections_max)],
        )
        self._health = Health()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        channelz.add_channelz_servicer(self.grpc)
        self._names: list[str] = []

    def bind(self, listen: str) -> int:
        """Bind the address; port 0 takes a free one. Returns the port.

        Raises:
            PortInUse: another process has it, or it is not an address of this machine.
        """
        try:
            port = self.grpc.add_insecure_port(listen)
        except RuntimeError as error:
            raise PortInUse(f"cannot listen on {listen}: the port is in use or not ours") from error
        if port == 0:
            raise PortInUse(f"cannot listen on {listen}: the port is in use or not ours")
        return int(port)

    async def start(self, names: list[str]) -> None:
        """Answer calls; every name is NOT_SERVING until `set_serving` says otherwise."""
        self._names = names
        shown = (*names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(shown, self.grpc)
        for name in ("", *names):
            self._health.set(name, serving=False)
        await self.grpc.start()

    async def set_serving(self, name: str, serving: bool) -> None:
        """Say whether one service can be relied on. Once the server drains nothing is SERVING any more."""
        self._health.set(name, serving)

    async def retire(self, notice_seconds: float) -> None:
        """Say NOT_SERVING for good, and give balancers time to notice; calls are answered meanwhile."""
        self._health.retire()
        await asyncio.sleep(notice_seconds)

    async def drain(self) -> None:
        """Say NOT_SERVING, end the running calls and stop."""
        self._health.retire()
        await self.grpc.stop(GRACE_SECONDS)
