"""ChargeService on a real server with real Postgres and the real ledger; pricing is played."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from payments.billing.v1 import billing_pb2 as pb
from payments.billing.v1 import charge_service_pb2 as service_pb
from payments.billing.v1.charge_service_pb2_grpc import ChargeServiceStub
from payments.ledger.v1 import ledger_service_pb2
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.pricing.v1 import pricing_pb2, pricing_service_pb2, pricing_service_pb2_grpc
from payments.type.v1.type_pb2 import Money, Period

from services.billing import manifest as billing
from services.ledger import manifest as ledger
from services.runtime.clock import ManualClock
from services.runtime.errors import Code, DomainError
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.manifests import Manifest
from services.runtime.service import Runtime, Service, Servicer
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

if TYPE_CHECKING:
    from payments.billing.v1.charge_service_pb2_grpc import ChargeServiceAsyncStub
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub

DEMO = (("llm.input_tokens", 5015), ("llm.output_tokens", 219), ("llm.requests", 450))
DAY = datetime(2023, 11, 16, tzinfo=UTC)


class NoPlan(DomainError):
    """What pricing says of an organisation without a plan."""

    code = Code.FAILED_PRECONDITION
    reason = "NO_PLAN"
    state_dependent = True
    org_id: str


@dataclass(frozen=True)
class Tax:
    """A tax that the played pricing puts on each line."""

    jurisdiction: str
    name: str
    per_cent: int
    inclusive: bool = False
    authority: str = ""

    def on(self, amount: int) -> int:
        """Return the tax on an amount, half up."""
        whole = 100 + self.per_cent if self.inclusive else 100
        return (2 * amount * self.per_cent + whole) // (2 * whole)


class Pricing(pricing_service_pb2_grpc.PricingServiceServicer):
    """Plays pricing: answers with what the test put in."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: DomainError | None = None
        self.lines: tuple[tuple[str, int], ...] = DEMO
        self.partner_pct = "10"
        self.partner_id = "north"
        self.dispute_id = ""
        self.taxes: tuple[Tax, ...] = ()
        self.delay_seconds = 0.0
        self.entered = asyncio.Event()
        self.gate: asyncio.Event | None = None

    async def RateUsage(  # noqa: N802 - the name of the RPC
        self, request: pricing_service_pb2.RateUsageRequest, context: object
    ) -> pricing_service_pb2.RateUsageResponse:
        self.calls += 1
        self.entered.set()
        error, lines = self.error, self.lines
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(self.delay_seconds)
        if error is not None:
            raise error
        response = pricing_service_pb2.RateUsageResponse(
            plan_id="standard-usd",
            plan_version=3,
            usage_snapshot=f"{self.calls}:{self.calls}:",
            usage_ordinal=self.calls,
        )
        response.total.currency_code = "USD"
        for sku, minor in lines:
            line = response.lines.add(
                sku=sku,
                project_id="main",
                quantity="8819.5",
                exact_amount=f"{minor // 100}.{minor % 100:02}{'0' * 16}",
                partner_id=self.partner_id,
                partner_pct=self.partner_pct,
                dispute_id=self.dispute_id,
            )
            line.amount.CopyFrom(Money(currency_code="USD", minor_units=minor))
            line.proof.event_count = 8819
            line.proof.plan_id, line.proof.plan_version = "standard-usd", 3
            line.proof.period.CopyFrom(request.period)
            line.proof.price.per_unit.unit_amount = "0.01"
            line.proof.quantity, line.proof.unrounded = line.quantity, f"{minor / 100:.2f}"
            line.proof.steps.add(kind=pricing_pb2.PriceStep.KIND_PER_UNIT, units="1", amount="1")
            self._tax(line, minor)
            response.total.minor_units += minor
        return response

    def _tax(self, line: pricing_pb2.RatedLine, minor: int) -> None:
        if self.taxes:
            line.proof.tax.country = self.taxes[0].jurisdiction[:2]
            line.proof.tax.taxed_at.FromNanoseconds(line.proof.period.end_at.ToNanoseconds() - 1000)
        for tax in self.taxes:
            made = line.proof.tax.taxes.add(
                jurisdiction=tax.jurisdiction,
                tax=tax.name,
                authority=tax.authority or tax.jurisdiction,
                treatment=pricing_pb2.TAX_TREATMENT_TAXED,
                rate_percent=str(tax.per_cent),
                inclusive=tax.inclusive,
                rounding=pricing_pb2.TAX_ROUNDING_LINE,
            )
            amount = tax.on(minor)
            taxable = minor - amount if tax.inclusive else minor
            made.taxable_amount.CopyFrom(Money(currency_code="USD", minor_units=taxable))
            made.amount.CopyFrom(Money(currency_code="USD", minor_units=amount))
        line.taxes.extend(line.proof.tax.taxes)


@dataclass
class World:
    """A running mesh with billing and ledger, the played pricing, and what was heard."""

    mesh: Mesh
    pricing: Pricing
    runtime: Runtime
    clock: ManualClock
    heard: list[Envelope] = field(default_factory=list)


@asynccontextmanager
async def billing_world(
    database: DatabaseUrls, beside: Sequence[Manifest] = ()
) -> AsyncIterator[World]:
    """Serve billing and the ledger, with pricing played and other services beside, until the block ends."""
    pricing = Pricing()  # type: ignore[abstract] # the other RPCs answer UNIMPLEMENTED
    runtimes: list[Runtime] = []
    heard: list[Envelope] = []

    async def hear(_work: object, envelope: Envelope) -> None:
        heard.append(envelope)

    def build_pricing(runtime: Runtime) -> Service:
        runtimes.append(runtime)
        add = pricing_service_pb2_grpc.add_PricingServiceServicer_to_server
        return Service(
            servicers=[Servicer(add, pricing, "payments.pricing.v1.PricingService")],
            reactions=[
                Reaction(
                    "test.billing",
                    (
                        "charge.*",
                        "rating.*",
                        "usage.*",
                        "ledger.batch.posted",
                        "payout.*",
                        "commissions.*",
                        "contract.violated",
                    ),
                    hear,
                )
            ],
        )

    # Tests run billing's use cases with this runtime too.
    stand_in = Manifest("pricing", needs=billing.SERVICE.needs, builder=build_pricing)
    builds = [ledger.SERVICE, billing.SERVICE, stand_in, *beside]
    clock = ManualClock(datetime(2026, 11, 20, 9, 30, tzinfo=UTC))
    async with running(database, builds, clock=clock) as mesh:
        yield World(mesh, pricing, runtimes[0], clock, heard)
    with psycopg.connect(database.owner_admin) as owner:
        # What was left half-way would be resumed by any mesh on this database, without this pricing.
        owner.execute("UPDATE billing.charge SET due_at = 'infinity' WHERE status = 1")


@dataclass
class Tenant:
    """One tenant's view of the world, in few words."""

    world: World
    tenant_id: str
    charges: ChargeServiceAsyncStub
    ledger: LedgerServiceAsyncStub

    async def charge(
        self, request_id: str = "", org: str = "acme", day: int = 0, days: int = 1
    ) -> pb.Charge:
        bounds = (DAY + timedelta(days=day), DAY + timedelta(days=day + days))
        return await self.charge_between(*bounds, request_id, org)

    async def charge_between(
        self,
        start_at: datetime,
        end_at: datetime,
        request_id: str = "",
        org: str = "acme",
        **fields: Any,
    ) -> pb.Charge:
        period = Period()
        period.start_at.FromDatetime(start_at)
        period.end_at.FromDatetime(end_at)
        request = service_pb.CreateChargeRequest(
            request_id=request_id or str(uuid4()), org_id=org, period=period, **fields
        )
        return (await self.charges.CreateCharge(request)).charge

    async def balance(self, account_id: str) -> int:
        """Debits less credits."""
        request = ledger_service_pb2.GetAccountRequest(account_id=account_id)
        sums = (await self.ledger.GetAccount(request)).account.balances
        return sums.debits_posted - sums.credits_posted

    async def difference(self) -> int:
        """Of the trial balance."""
        request = ledger_service_pb2.GetTrialBalanceRequest()
        found = (await self.ledger.GetTrialBalance(request)).trial_balance
        return sum(abs(item.difference.minor_units) for item in found.currencies)


def new_tenant(world: World) -> Tenant:
    """Make a tenant, and pricing as it was at first."""
    world.pricing.__init__()  # type: ignore[misc] # as it was at first
    tenant_id = f"t-{uuid4().hex[:12]}"
    channel = world.mesh.channel(tenant_id)
    return Tenant(world, tenant_id, ChargeServiceStub(channel), LedgerServiceStub(channel))


def info_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # typed for the other API
    assert status is not None
    found = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(found) for detail in status.details)
    return found


async def refused(call: Any) -> error_details_pb2.ErrorInfo:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return info_of(caught.value)
