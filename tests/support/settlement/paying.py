"""PayoutService with real Postgres, billing and ledger; pricing is played, and work runs when it is asked to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
from google.protobuf.timestamp_pb2 import Timestamp
from payments.billing.v1 import billing_pb2
from payments.ledger.v1 import ledger_service_pb2
from payments.settlement.v1 import payout_service_pb2 as service_pb
from payments.settlement.v1 import settlement_pb2 as pb
from payments.settlement.v1 import settlement_service_pb2
from payments.settlement.v1.payout_service_pb2_grpc import PayoutServiceStub
from payments.settlement.v1.settlement_service_pb2_grpc import SettlementServiceStub
from payments.type.v1.type_pb2 import Money

from services.runtime.context import CallContext, acting
from services.runtime.manifests import Manifest
from services.runtime.service import Runtime, Service
from services.runtime.work import Claim, Worker
from services.settlement import bootstrap
from services.settlement import manifest as settlement
from services.settlement.app.commissions import Commissions
from services.settlement.app.payouts import Payouts
from services.settlement.app.sweeps import Sweeps
from services.settlement.clients import BillingClient, LedgerClient
from services.settlement.work import posting, sweeping, taking_in
from tests.support.billing.charging import Tenant, World, billing_world, new_tenant
from tests.support.postgres.server import DatabaseUrls

if TYPE_CHECKING:
    from payments.settlement.v1.payout_service_pb2_grpc import PayoutServiceAsyncStub
    from payments.settlement.v1.settlement_service_pb2_grpc import SettlementServiceAsyncStub

# Balances of one page of a sweep, in these tests: few, so that there are several.
PAGE = 2


@dataclass
class Desk:
    """Settlement in a running mesh, its work in the hands of the test."""

    world: World
    runtime: Runtime
    commissions: Commissions
    payouts: Payouts
    sweeps: Sweeps
    intake: Worker[Claim]
    posting: Worker[Claim]
    sweeping: Worker[Claim]

    async def work(self) -> None:
        """Do all that is due, until nothing is."""
        await self.world.mesh.drain_events()
        for worker in (self.intake, self.sweeping, self.posting):
            await worker.sweep()
        await self.world.mesh.drain_events()


def nobody() -> None:
    """Wake nobody."""


@asynccontextmanager
async def settlement_world(database: DatabaseUrls, *, works: bool = False) -> AsyncIterator[Desk]:
    """Serve settlement, billing and the ledger, with pricing played, until the block ends.

    Its workers are the test's to run, unless it `works` by itself.
    """
    runtimes: list[Runtime] = []

    def build(runtime: Runtime) -> Service:
        runtimes.append(runtime)
        service = bootstrap.build(runtime)
        return service if works else replace(service, start=None, stop=None)

    served = Manifest("settlement", needs=settlement.SERVICE.needs, builder=build)
    async with billing_world(database, [served]) as world:
        (runtime,) = runtimes
        books = LedgerClient(runtime.channels)
        commissions = Commissions(runtime.database, BillingClient(runtime.channels), nobody)
        payouts = Payouts(runtime.database, books, nobody)
        sweeps = Sweeps(runtime.database, nobody, page=PAGE)
        yield Desk(
            world,
            runtime,
            commissions,
            payouts,
            sweeps,
            taking_in(runtime.database, commissions, runtime.telemetry),
            posting(runtime.database, payouts, runtime.telemetry),
            sweeping(runtime.database, sweeps, runtime.telemetry),
        )
    with psycopg.connect(database.owner_admin) as owner:
        # What was left half-way would be picked up by any mesh on this database.
        for table in ("intake", "posting", "sweep"):
            owner.execute(
                f"UPDATE settlement.{table} SET due_at = 'infinity' WHERE due_at IS NOT NULL"
            )


def usd(minor_units: int) -> Money:
    return Money(currency_code="USD", minor_units=minor_units)


def stamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message


@dataclass
class Partnered:
    """One tenant's view of settlement, in few words; pricing gives a tenth to partners."""

    desk: Desk
    billing: Tenant
    payouts: PayoutServiceAsyncStub
    policies: SettlementServiceAsyncStub
    day: int = 0

    @property
    def tenant_id(self) -> str:
        return self.billing.tenant_id

    def earns(self, *lines: int, partner: str = "north", dispute: str = "") -> None:
        """Have charges from now on earn these amounts, on a line each."""
        pricing = self.desk.world.pricing
        pricing.lines = tuple((f"sku-{place}", minor * 10) for place, minor in enumerate(lines))
        pricing.partner_id, pricing.dispute_id = partner, dispute

    def acting(self) -> AbstractContextManager[CallContext]:
        """Run use cases as this tenant, without a call."""
        return acting(self.desk.intake.call(self.tenant_id))

    def later(self, **amount: float) -> None:
        """Let business time pass."""
        self.desk.world.clock.advance(timedelta(**amount))

    async def charge(
        self, *lines: int, partner: str = "north", dispute: str = "", org: str = "acme"
    ) -> billing_pb2.Charge:
        """Charge a day of its own, and have it taken in."""
        if lines:
            self.earns(*lines, partner=partner, dispute=dispute)
        self.day += 1
        charge = await self.billing.charge(day=self.day, org=org)
        await self.desk.work()
        return charge

    async def policy(self, request_id: str = "", **fields: Any) -> pb.SettlementPolicy:
        request = settlement_service_pb2.PutSettlementPolicyRequest(
            request_id=request_id or str(uuid4()), policy=pb.SettlementPolicy(**fields)
        )
        return (await self.policies.PutSettlementPolicy(request)).policy

    async def threshold(self, minor_units: int, **more: Any) -> None:
        await self.policy(payout_threshold=usd(minor_units), **more)

    async def sweep(
        self, request_id: str = "", through: datetime | None = None
    ) -> pb.CommissionSweep:
        request = service_pb.SweepCommissionsRequest(
            request_id=request_id or str(uuid4()),
            through=None if through is None else stamp(through),
        )
        sweep = (await self.payouts.SweepCommissions(request)).sweep
        await self.desk.work()
        return sweep

    async def list_payouts(self, **filters: Any) -> list[pb.Payout]:
        request = service_pb.ListPayoutsRequest(page_size=1000, **filters)
        return [*(await self.payouts.ListPayouts(request)).payouts]

    async def paid_out(self, **filters: Any) -> list[tuple[str, int, str]]:
        """Party, amount and kind of each payout, the earliest first."""
        found = await self.list_payouts(**filters)
        kind = pb.PayoutKind.Name
        return [
            (each.party, each.amount.minor_units, kind(each.kind).removeprefix("PAYOUT_KIND_"))
            for each in reversed(found)
        ]

    async def stands(self, party: str = "north") -> dict[str, int]:
        """How a party stands in its only currency; checks the law of conservation."""
        request = service_pb.ListCommissionBalancesRequest(party=party)
        found = (await self.payouts.ListCommissionBalances(request)).balances
        if not found:
            return {}
        (row,) = found
        names = ("earned", "paid", "claimed", "held", "carried")
        stands = {name: getattr(row, name).minor_units for name in names}
        parts = ("paid", "claimed", "held", "carried")
        assert stands["earned"] == sum(stands[name] for name in parts)
        return stands

    async def book(self, account_id: str) -> int:
        """Credits less debits of an account."""
        request = ledger_service_pb2.GetAccountRequest(account_id=account_id)
        sums = (await self.billing.ledger.GetAccount(request)).account.balances
        return sums.credits_posted - sums.debits_posted

    async def checks(self) -> list[pb.CommissionCheck]:
        request = service_pb.VerifyCommissionsRequest(page_size=100)
        return [*(await self.payouts.VerifyCommissions(request)).comparisons]

    async def sound(self) -> None:
        """Check that the books hold what is kept, and that nothing is on its way."""
        found = await self.checks()
        assert not [each for each in found if each.differs or each.settling]
        assert await self.billing.difference() == 0


def new_partnered(desk: Desk) -> Partnered:
    billing = new_tenant(desk.world)
    channel = desk.world.mesh.channel(billing.tenant_id)
    return Partnered(desk, billing, PayoutServiceStub(channel), SettlementServiceStub(channel))
