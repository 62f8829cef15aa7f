"""Between services each is its own principal, with the scopes that its manifest names and no others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import grpc
import pytest
from payments.billing.v1 import charge_service_pb2, charge_service_pb2_grpc
from payments.metering.v1 import metering_service_pb2, metering_service_pb2_grpc
from payments.pricing.v1 import pricing_service_pb2_grpc

from services.billing import manifest as billing
from services.metering import manifest as metering
from services.runtime import manifests
from services.runtime.context import CallContext, acting, current
from services.runtime.errors import Internal, NotFound
from services.runtime.manifests import Manifest
from services.runtime.service import Runtime, Service, Servicer
from tests.support.events.lab import call, new_tenant
from tests.support.mesh.serving import Mesh, Served, running
from tests.support.postgres.server import DatabaseUrls


@asynccontextmanager
async def asking(urls: DatabaseUrls, *needs: str) -> AsyncIterator[Runtime]:
    """A service of its own beside metering, which needs these scopes."""
    runtimes: list[Runtime] = []

    def build(runtime: Runtime) -> Service:
        runtimes.append(runtime)
        return Service([])

    asker = Manifest("asker", needs=frozenset(needs), builder=build)
    async with running(urls, [metering.SERVICE, asker]):
        yield runtimes[0]


async def change_settings(runtime: Runtime, who: CallContext) -> None:
    stub: Any = metering_service_pb2_grpc.MeteringServiceStub(runtime.channels.channel("metering"))
    request = metering_service_pb2.UpdateIngestSettingsRequest(request_id=str(uuid4()))
    request.accept_past.seconds = 86_400
    with acting(who):
        await stub.UpdateIngestSettings(request)


@pytest.mark.parametrize("needs", [(), ("metering:read", "metering:write"), ("ledger:admin",)])
async def test_a_service_that_lacks_the_scope_is_refused(
    database_url: DatabaseUrls, needs: tuple[str, ...]
) -> None:
    async with asking(database_url, *needs) as runtime:
        with pytest.raises(Internal, match="metering:admin"):
            # Whoever it acts for may do everything: that does not widen what it may do itself.
            await change_settings(runtime, replace(call(new_tenant()), scopes=frozenset({"*"})))


async def test_an_audit_names_the_service_and_whom_it_acted_for(
    database_url: DatabaseUrls,
) -> None:
    who = call(new_tenant())
    async with asking(database_url, "metering:admin") as runtime:
        await change_settings(runtime, who)
        with acting(who):
            found = await runtime.database.ask("SELECT actor FROM mesh.audit", {})
    assert [row.actor for row in found] == [f"mesh:asker({who.principal_id})"]


class Pricing(pricing_service_pb2_grpc.PricingServiceServicer):
    """Notes who asks, and has no plan for anybody."""

    def __init__(self) -> None:
        self.asked: list[CallContext] = []

    async def RateUsage(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC names it
        self.asked.append(current())
        raise NotFound("plan", request.org_id)

    def build(self, runtime: Runtime) -> Service:
        add = pricing_service_pb2_grpc.add_PricingServiceServicer_to_server
        return Service([Servicer(add, self, "payments.pricing.v1.PricingService")])


async def test_billing_asks_as_billing_with_the_scopes_of_its_manifest(
    database_url: DatabaseUrls,
) -> None:
    pricing = Pricing()  # type: ignore[abstract] # the other RPCs answer UNIMPLEMENTED
    served: Served = [billing.SERVICE, pricing.build]
    tenant = new_tenant()
    async with running(database_url, served) as mesh:
        with pytest.raises(grpc.aio.AioRpcError):
            await _charge(mesh, tenant)
    (who,) = pricing.asked
    assert who.principal_id == f"mesh:billing(test:{tenant})"
    assert who.scopes == {"ledger:write", "pricing:read"}
    assert who.tenant_id == tenant


async def test_reactions_act_as_the_service_that_they_are_of(database_url: DatabaseUrls) -> None:
    """The principal of a reaction is `mesh:` and the name of its consumer."""
    served = manifests.found()
    async with running(database_url, served) as mesh:
        consumers = [
            (manifest.name, reaction.consumer.partition(".")[0])
            for manifest, service in zip(served, mesh.node._services, strict=True)
            for reaction in service.reactions
        ]
    assert len(consumers) >= 4
    assert all(name == consumer for name, consumer in consumers)


async def _charge(mesh: Mesh, tenant: str) -> None:
    stub = charge_service_pb2_grpc.ChargeServiceStub(mesh.channel(tenant))
    request = charge_service_pb2.CreateChargeRequest(request_id=str(uuid4()), org_id="org")
    request.period.start_at.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    request.period.end_at.FromDatetime(datetime(2026, 2, 1, tzinfo=UTC))
    await stub.CreateCharge(request)
