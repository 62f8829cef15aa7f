"""Sites: databases that are joined by NATS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from nats.errors import Error as NatsError

from services.runtime.events.backbone import EventBackbone
from services.runtime.events.envelope import Reaction
from services.runtime.events.jetstream import Options, Transport
from services.runtime.events.jetstream.broker import BrokerAway
from tests.support.events.lab import Lab

T = TypeVar("T")

WITHIN_SECONDS = 45.0
_POLL_SECONDS = 0.02
_WAITING = (
    "SELECT (SELECT count(*) FROM mesh.delivery WHERE consumer = 'transport.jetstream') "
    "+ (SELECT count(*) FROM mesh.back_fill) AS n"
)
_LOG = (
    "SELECT e.tenant_id, e.event_id, e.subject, e.schema_version, e.key, e.message_name, e.payload, e.correlation_id, "
    "e.causation_id, e.traceparent, e.created_at, e.origin FROM mesh.event e "
    "JOIN mesh.feed f ON f.tenant_id = e.tenant_id AND f.recorded_at = e.recorded_at AND f.event_id = e.event_id "
    "WHERE e.tenant_id = %s ORDER BY f.position"
)


@dataclass(slots=True)
class Site:
    """A database, its backbone and its transport, at work.

    Attributes:
        lab: publishes into it and looks at it.
        backbone: its events.
        transport: its connection to NATS.
    """

    lab: Lab
    backbone: EventBackbone
    transport: Transport


def options(url: str, name: str, *sources: str, **fields: Any) -> Options:
    """How a site is joined to the servers of a test."""
    given = {"stream_bytes_max": 16 * 1024**2, **fields}
    return Options(tuple(url.split(",")), name, sources, **given)


@asynccontextmanager
async def running(
    lab: Lab, how: Options, reactions: Sequence[Reaction] = (), **fields: Any
) -> AsyncIterator[Site]:
    """Run a site until the block ends, as a node does."""
    backbone = EventBackbone(lab.urls.relay, reactions, bus=lab.bus, clock=lab.clock)
    transport = Transport(how, lab.urls.relay, bus=lab.bus, **fields)
    try:
        await transport.subscribe()
        await backbone.start()
        transport.start()
        yield Site(lab, backbone, transport)
    finally:
        await transport.stop()
        await backbone.stop()


async def eventually(what: Callable[[], Awaitable[bool]], within_s: float = WITHIN_SECONDS) -> None:
    """Wait until something is true.

    Raises:
        AssertionError: it did not become true in time.
    """
    give_up_at = time.monotonic() + within_s
    while not await what():
        assert time.monotonic() < give_up_at, f"not within {within_s} s: {what}"
        await asyncio.sleep(_POLL_SECONDS)


async def patiently(ask: Callable[[], Awaitable[T]], within_s: float = WITHIN_SECONDS) -> T:
    """Ask until there is an answer, for what may be asked twice.

    On a busy machine three servers take longer to agree than a client waits.

    Raises:
        Exception: the last refusal, when there was no answer in time.
    """
    give_up_at = time.monotonic() + within_s
    while True:
        try:
            return await ask()
        except (NatsError, BrokerAway):
            if time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(_POLL_SECONDS)


async def sent(lab: Lab) -> None:
    """Wait until everything that was published at a site lies in its stream."""

    async def nothing_waits() -> bool:
        published = await lab.rows("SELECT count(*) AS n FROM mesh.event")
        sequenced = await lab.rows("SELECT count(*) AS n FROM mesh.feed")
        return published == sequenced and (await lab.rows(_WAITING))[0]["n"] == 0

    await eventually(nothing_waits)


async def arrived(lab: Lab, tenant: str, count: int) -> list[dict[str, Any]]:
    """Wait until a site's feed has so many events of a tenant; returns them in order."""
    found: list[dict[str, Any]] = []

    async def all_are_there() -> bool:
        nonlocal found
        found = await lab.rows(_LOG, tenant)
        return len(found) >= count

    await eventually(all_are_there)
    return found
