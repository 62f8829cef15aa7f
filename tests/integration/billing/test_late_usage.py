"""Usage that is corrected behind its charge, through every service: an adjustment bills exactly the difference."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import pytest_asyncio
from payments.billing.v1 import billing_pb2 as pb
from payments.billing.v1 import charge_service_pb2 as service_pb
from payments.billing.v1.charge_service_pb2_grpc import ChargeServiceStub
from payments.ledger.v1 import ledger_service_pb2
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.metering.v1 import corrections_pb2, metering_pb2, metering_service_pb2
from payments.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from payments.pricing.v1.catalog_service_pb2_grpc import CatalogServiceStub
from payments.type.v1.type_pb2 import Period

from services.billing import manifest as billing
from services.ledger import manifest as ledger
from services.metering import manifest as metering
from services.pricing import manifest as pricing
from services.runtime.clock import ManualClock
from tests.support.billing.charging import refused
from tests.support.billing.metering import NOW, batch, event, usage_query
from tests.support.billing.pricing import declaration
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls, Server

if TYPE_CHECKING:
    from payments.billing.v1.charge_service_pb2_grpc import ChargeServiceAsyncStub
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub
    from payments.metering.v1.metering_service_pb2_grpc import MeteringServiceAsyncStub

START = NOW.replace(hour=0, minute=0) - timedelta(days=1)
IN_PERIOD = START + timedelta(hours=3)
OWED = "receivable:chat:USD"
CATALOG: dict[str, Any] = {
    "skus": [
        *({"sku": sku, "type": "SKU_TYPE_ACTION", "unit": "unit"} for sku in ("calls", "seats")),
        {
            "sku": "disk",
            "type": "SKU_TYPE_HOSTING",
            "unit": "hour",
            "aggregation": "AGGREGATION_WEIGHTED_SUM",
        },
    ],
    "plans": [
        {
            "plan_id": "flat",
            "name": "Flat",
            "currency_code": "USD",
            "prices": [
                {"sku": "calls", "price": {"per_unit": {"unit_amount": "0.5"}}},
                {"sku": "seats", "price": {"per_unit": {"unit_amount": "2"}}},
                {"sku": "disk", "price": {"per_unit": {"unit_amount": "1"}}},
            ],
        }
    ],
    "entitlements": [{"org_id": "chat", "plan_id": "flat", "effective_at": "2020-01-01T00:00:00Z"}],
}


@dataclass
class Chain:
    """One tenant's view of metering, billing and the ledger."""

    mesh: Mesh
    meter: MeteringServiceAsyncStub
    charges: ChargeServiceAsyncStub
    ledger: LedgerServiceAsyncStub

    async def send(self, *events: metering_pb2.UsageEvent) -> None:
        """Send new events."""
        assert (await self.meter.IngestEvents(batch(*events))).accepted == len(events)

    async def amend(self, *events: metering_pb2.UsageEvent) -> None:
        """Give events another content."""
        request = corrections_pb2.AmendEventsRequest(request_id=str(uuid4()))
        for item in events:
            request.amendments.add(event=item, reason="misread")
        assert (await self.meter.AmendEvents(request)).accepted == len(events)

    async def cancel(self, *ids: str) -> None:
        """Have events count nowhere."""
        request = corrections_pb2.CancelEventsRequest(
            request_id=str(uuid4()), request_ids=ids, reason="a test run"
        )
        assert (await self.meter.CancelEvents(request)).accepted == len(ids)

    async def late(self) -> list[tuple[str, str]]:
        """Name what no charge bills, each with its change."""
        answer = await self.meter.ListLateEvents(metering_service_pb2.ListLateEventsRequest())
        name = metering_pb2.UsageChange.Name
        return [
            (item.request_id, name(item.change).removeprefix("USAGE_CHANGE_"))
            for item in answer.late_events
        ]

    async def usage(self, charge: pb.Charge) -> dict[str, str]:
        """Read the usage of the period as a charge saw it."""
        asked = usage_query(start_at=START, at_ordinal=charge.usage_ordinal)
        return {row.sku: row.value for row in (await self.meter.QueryUsage(asked)).rows}

    async def charge(self, start_at: datetime = START) -> pb.Charge:
        """Charge the day, or another one."""
        request = service_pb.CreateChargeRequest(
            request_id=str(uuid4()), org_id="chat", period=day(start_at)
        )
        return (await self.charges.CreateCharge(request)).charge

    async def adjust(self, charge: pb.Charge) -> pb.Charge:
        """Bill the difference."""
        request = service_pb.AdjustChargeRequest(
            request_id=str(uuid4()), charge_id=charge.charge_id
        )
        return (await self.charges.AdjustCharge(request)).charge

    async def owed(self) -> int:
        """Return what the organisation owes, in cents."""
        request = ledger_service_pb2.GetAccountRequest(account_id=OWED)
        sums = (await self.ledger.GetAccount(request)).account.balances
        return sums.debits_posted - sums.credits_posted


def day(start_at: datetime = START) -> Period:
    """The day before NOW, or another one."""
    period = Period()
    period.start_at.FromDatetime(start_at)
    period.end_at.FromDatetime(start_at + timedelta(days=1))
    return period


def used(request_id: str, quantity: str, sku: str = "calls", **changes: Any) -> Any:
    """Make an event of the day."""
    return event(request_id, sku=sku, quantity=quantity, **{"at": IN_PERIOD, **changes})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def whole(postgres_server: Server, worker_id: str) -> AsyncIterator[Mesh]:
    urls: DatabaseUrls = postgres_server.new_database(f"late_usage_{worker_id}")
    builds = [metering.SERVICE, pricing.SERVICE, billing.SERVICE, ledger.SERVICE]
    async with running(urls, builds, clock=ManualClock(NOW)) as mesh:
        yield mesh


@pytest.fixture
async def chain(whole: Mesh) -> Chain:
    channel = whole.channel(f"t-{uuid4().hex[:12]}")
    await CatalogServiceStub(channel).ApplyCatalog(declaration(CATALOG, request_id=str(uuid4())))
    return Chain(
        whole, MeteringServiceStub(channel), ChargeServiceStub(channel), LedgerServiceStub(channel)
    )


@pytest.mark.parametrize("heard", [True, False])
async def test_corrections_of_a_billed_period_are_billed_as_one_difference(
    chain: Chain, *, heard: bool
) -> None:
    """Whether metering has heard of the charge when they come, or hears of it afterwards."""
    await chain.send(*(used(name, "10") for name in ("amended", "cancelled", "kept")))
    charge = await chain.charge()
    assert (charge.total.minor_units, await chain.owed()) == (1500, 1500)
    if heard:
        await chain.mesh.drain_events()
    await chain.amend(used("amended", "4"))
    await chain.cancel("cancelled")
    await chain.send(used("late", "3"))
    await chain.mesh.drain_events()
    assert sorted(await chain.late()) == [
        ("amended", "AMENDED"),
        ("cancelled", "CANCELLED"),
        ("late", "STORED"),
    ]

    made = await chain.adjust(charge)
    assert (made.kind, made.total.minor_units) == (pb.CHARGE_KIND_ADJUSTMENT, -650)
    (line,) = made.lines
    assert (line.sku, line.quantity) == ("calls", "-13")
    assert (line.correction.quantity_before, line.correction.quantity_after) == ("30", "17")
    (transfer_id,) = made.transfer_ids
    request = ledger_service_pb2.GetTransferRequest(transfer_id=transfer_id)
    posted = (await chain.ledger.GetTransfer(request)).transfer.transfer
    assert (posted.credit_account_id, posted.amount.minor_units) == (OWED, 650)
    assert await chain.owed() == 850
    assert charge.usage_ordinal < made.usage_ordinal
    assert await chain.usage(charge) == {"calls": "30"}
    assert await chain.usage(made) == {"calls": "17"}
    await chain.mesh.drain_events()
    assert await chain.late() == []
    assert (await refused(chain.adjust(charge))).reason == "NOTHING_TO_ADJUST"


async def test_what_comes_behind_an_adjustment_is_billed_by_the_next(chain: Chain) -> None:
    await chain.send(used("a", "10"), used("b", "10"))
    charge = await chain.charge()
    await chain.mesh.drain_events()
    await chain.amend(used("a", "8"))
    first = await chain.adjust(charge)
    # Metering has not heard of the adjustment, which did not see these.
    await chain.amend(used("a", "3", "seats"))
    await chain.amend(used("b", "10", at=START - timedelta(days=1)))
    await chain.mesh.drain_events()
    assert await chain.late() == [("a", "AMENDED"), ("b", "AMENDED")]
    second = await chain.adjust(charge)
    assert [charge.total.minor_units, first.total.minor_units] == [1000, -100]
    lines = {line.sku: (line.quantity, line.amount_gross.minor_units) for line in second.lines}
    assert lines == {"calls": ("-18", -900), "seats": ("3", 600)}
    assert await chain.owed() == 600
    await chain.mesh.drain_events()
    assert await chain.late() == []
    await chain.cancel("a")
    assert await chain.late() == [("a", "CANCELLED")]
    third = await chain.adjust(charge)
    assert (third.total.minor_units, await chain.owed()) == (-600, 0)


async def test_a_charge_anew_bills_what_was_corrected_before_the_reversal(chain: Chain) -> None:
    await chain.send(used("a", "10"), used("b", "10"))
    charge = await chain.charge()
    await chain.mesh.drain_events()
    await chain.amend(used("a", "8"))
    reverse = service_pb.ReverseChargeRequest(
        request_id=str(uuid4()), charge_id=charge.charge_id, reason="wrong plan"
    )
    taken_back = (await chain.charges.ReverseCharge(reverse)).charge
    assert taken_back.usage_ordinal == charge.usage_ordinal
    await chain.mesh.drain_events()
    assert await chain.late() == []
    await chain.cancel("b")
    assert await chain.late() == []
    anew = await chain.charge()
    assert (anew.total.minor_units, await chain.owed()) == (400, 400)
    await chain.mesh.drain_events()
    assert await chain.late() == []


async def test_a_level_that_comes_late_is_listed_for_every_charge_until_it_has_it(
    chain: Chain,
) -> None:
    """Also for one whose period had no level at all."""
    days = [START - timedelta(days=1), START]
    await chain.send(used("calls", "1"), used("calls before", "1", at=days[0]))
    charges = [await chain.charge(at) for at in days]
    await chain.mesh.drain_events()
    await chain.send(used("disk", "5", "disk", at=days[0] - timedelta(days=3)))
    for number, charge in enumerate(charges):
        assert await chain.late() == [("disk", "STORED")] * (2 - number)
        (line,) = (await chain.adjust(charge)).lines
        assert (line.sku, line.amount_gross.minor_units) == ("disk", 24 * 5 * 100)
        await chain.mesh.drain_events()
    assert await chain.late() == []
    await chain.cancel("disk")
    assert await chain.late() == [("disk", "CANCELLED")] * 2
