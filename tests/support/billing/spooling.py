"""Metering with a spool, at the end of a wire to its database that a test can cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import psycopg
from payments.metering.v1 import metering_service_pb2_grpc, spool_pb2
from pydantic import SecretStr

from services.access import manifest as access
from services.metering import manifest as metering
from services.runtime.clock import ManualClock
from services.runtime.edge.status import RemoteError
from services.runtime.errors import DomainError
from services.runtime.events.jetstream.options import Options
from services.runtime.events.jetstream.spool import SpoolState, SpoolStream
from tests.support.billing.metering import NOW, Catalogue, catalogue_of
from tests.support.jetstream.nats import Nats
from tests.support.jetstream.sites import eventually
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls
from tests.support.postgres.wire import Wire, wired

SKU = "llm.tokens"
SERVICE = "payments.metering.v1.MeteringService"


@dataclass(slots=True)
class Far:
    """A mesh whose database is far.

    Attributes:
        mesh: metering, access and a catalogue.
        wire: between it and its database.
        urls: of the database, past the wire.
        nats: what holds the spool.
        site: whose spool it is.
        clock: business time.
        catalogue: has SKU.
    """

    mesh: Mesh
    wire: Wire
    urls: DatabaseUrls
    nats: Nats
    site: str
    clock: ManualClock
    catalogue: Catalogue
    _streams: list[SpoolStream] = field(default_factory=list)

    def stub(self, tenant: str) -> Any:
        """Metering, called by a tenant through the mesh."""
        return metering_service_pb2_grpc.MeteringServiceStub(self.mesh.channel(tenant))

    async def cut(self) -> None:
        """Take the database away, and wait until that is known."""
        self.wire.cut()
        await eventually(self._is(gone=True))

    async def mend(self) -> None:
        """Give the database back, and wait until that is known."""
        self.wire.mend()
        await eventually(self._is(gone=False))

    def _is(self, *, gone: bool) -> Any:
        async def is_known() -> bool:
            return self.mesh.node.conditions.database_gone is gone

        return is_known

    async def drained(self, tenant: str, receipt_id: str) -> spool_pb2.SpooledBatch:
        """Wait until a batch is stored; returns what is told of it."""
        found = spool_pb2.SpooledBatch()
        request = spool_pb2.GetSpooledBatchRequest(receipt_id=receipt_id)

        async def is_stored() -> bool:
            nonlocal found
            found = (await self.stub(tenant).GetSpooledBatch(request)).spooled_batch
            return bool(found.status == spool_pb2.SPOOL_STATUS_DRAINED)

        await eventually(is_stored)
        return found

    async def empty(self) -> None:
        """Wait until the spool holds nothing."""

        async def is_empty() -> bool:
            return (await self.held()).messages == 0

        await eventually(is_empty)

    def stream(self) -> SpoolStream:
        """The spool itself."""
        if not self._streams:
            options = Options(tuple(self.nats.url.split(",")), self.site)
            self._streams.append(SpoolStream(options, "nobody"))
        return self._streams[0]

    async def held(self) -> SpoolState:
        """What the spool holds."""
        state = await self.stream().look()
        assert state is not None
        return state

    def owner(self) -> psycopg.Connection[Any]:
        """A connection of the owner, past the wire."""
        return psycopg.connect(self.urls.owner_admin, autocommit=True)

    def rows(self, statement: str, *parameters: object) -> list[Any]:
        """Read as the owner."""
        with self.owner() as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    @contextmanager
    def drained_elsewhere(self, tenant: str) -> Iterator[None]:
        """Have another process at work on what is held of a tenant, and not get on with it, until the block ends."""
        with self.owner() as connection:
            connection.execute(
                "SELECT pg_advisory_lock(hashtextextended('metering.spool/' || %s, 0))", (tenant,)
            )
            yield

    async def close(self) -> None:
        """End the connections."""
        for stream in self._streams:
            await stream.close()


@asynccontextmanager
async def far_mesh(
    urls: DatabaseUrls, nats: Nats, site: str, *, spool: bool = True, **settings: Any
) -> AsyncIterator[Far]:
    """Run a mesh at the end of a wire until the block ends; it is NOW there."""
    catalogue, clock = catalogue_of(SKU), ManualClock(NOW)
    given = {"spool_url": SecretStr(nats.url), "nats_site": site, "spool_bytes_max": 1024**2}
    async with (
        wired(urls) as (wire, far),
        running(
            far,
            [metering.SERVICE, access.SERVICE, catalogue.build],
            clock=clock,
            **{**(given if spool else {}), **settings},
        ) as mesh,
    ):
        found = Far(mesh, wire, urls, nats, site, clock, catalogue)
        try:
            yield found
        finally:
            wire.mend()
            await found.close()


async def refused(call: Any) -> DomainError:
    """Return the typed error of a call that has to fail."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return RemoteError.of(error, "metering")
    raise AssertionError("the call succeeded")
