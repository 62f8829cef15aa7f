"""Each RPC of ChargeService on a real server with real Postgres and the real ledger; pricing is played."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from payments.billing.v1 import billing_pb2 as pb
from payments.billing.v1 import charge_service_pb2 as service_pb
from payments.billing.v1.charge_service_pb2_grpc import ChargeServiceStub
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2
from payments.type.v1.type_pb2 import Money, Period

from services.billing import store as billing_store
from services.billing.app import charges as billing_app
from services.billing.app.charges import Charges
from services.billing.clients import LedgerClient, PricingClient
from services.billing.domain import frozen
from services.billing.domain.charges import LINES_MAX
from services.billing.work import Resumable, resuming
from services.ledger.app.recipes import Recipes
from services.ledger.domain.recipes.recipe import Recipe
from services.runtime import database as database_module
from services.runtime.access import MeshTokens, Principal
from services.runtime.context import CallContext, acting
from services.runtime.errors import DependencyUnavailable, DomainError
from services.runtime.postgres.session import Call, Rows, Session
from services.runtime.service import Runtime
from services.runtime.telemetry import Silent
from services.runtime.work import Claim
from tests.support.billing.charging import (
    DAY,
    NoPlan,
    Tenant,
    info_of,
    refused,
)
from tests.support.billing.frozen import freeze
from tests.support.mesh.serving import MESH_SECRET
from tests.support.postgres.server import DatabaseUrls

if TYPE_CHECKING:
    pass

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e47aa-00f067aa0ba902b7-00"


async def test_a_charge_is_rated_posted_and_told(tenant: Tenant) -> None:
    charge = await tenant.charge()
    assert charge.status == pb.CHARGE_STATUS_SETTLED
    assert charge.total == Money(currency_code="USD", minor_units=5684)
    assert charge.partner_total.minor_units == 568
    assert [line.partner_amount.minor_units for line in charge.lines] == [501, 22, 45]
    assert [line.net.minor_units for line in charge.lines] == [4514, 197, 405]
    first = charge.lines[0]
    assert (first.line_id, first.quantity, first.exact_amount) == (
        "1",
        "8819.5",
        "50.15" + "0" * 16,
    )
    assert (first.partner_id, first.partner_pct, first.status) == (
        "north",
        "10",
        pb.CHARGE_STATUS_SETTLED,
    )
    assert first.proof.event_count == 8819
    assert len(charge.transfer_ids) == 6
    assert (charge.usage_snapshot, charge.plan_id, charge.plan_version) == (
        "1:1:",
        "standard-usd",
        3,
    )
    assert charge.HasField("settled_at")
    assert await tenant.balance("receivable:acme:USD") == 5684
    assert await tenant.balance("revenue:llm.requests:USD") == -450
    assert await tenant.balance("commission:USD") == 568
    assert await tenant.balance("payable:partner:north:USD") == -568
    assert await tenant.difference() == 0
    await tenant.world.mesh.drain_events()
    # A mesh of another test on this database may have metering in it, which tells of the period.
    told = [
        e
        for e in tenant.world.heard
        if e.tenant_id == tenant.tenant_id and e.subject != "usage.period.closed"
    ]
    assert sorted(e.subject for e in told) == [
        "charge.created",
        "ledger.batch.posted",
        "rating.completed",
        "usage.aggregated",
        "usage.rated",
    ]
    events = {e.subject: e.payload for e in told}
    rated: Any = events["usage.rated"]
    assert [(line.sku, line.project_id, line.quantity) for line in rated.lines] == [
        (line.sku, "main", "8819.5") for line in charge.lines
    ]
    assert [line.amount for line in rated.lines] == [line.amount_gross for line in charge.lines]
    assert (rated.charge_id, rated.usage_snapshot) == (charge.charge_id, "1:1:")
    assert rated.period == charge.period
    summed: Any = events["usage.aggregated"]
    assert [(total.sku, total.project_id, total.quantity) for total in summed.totals] == [
        (line.sku, line.project_id, line.quantity) for line in rated.lines
    ]
    assert (summed.charge_id, summed.period) == (charge.charge_id, charge.period)
    assert summed.usage_snapshot == "1:1:"
    assert [e.subject for e in told if e.key == "acme"] == [
        "usage.aggregated",
        "usage.rated",
        "rating.completed",
        "charge.created",
    ]
    assert events["charge.created"].charge_id == charge.charge_id  # type: ignore[attr-defined]
    assert events["rating.completed"].total == charge.total  # type: ignore[attr-defined]
    assert events["ledger.batch.posted"].transfer_count == 6  # type: ignore[attr-defined]


async def test_the_same_request_gets_the_same_answer(tenant: Tenant) -> None:
    request_id = str(uuid4())
    first = await tenant.charge(request_id)
    tenant.world.pricing.lines = (("other", 1),)
    assert await tenant.charge(request_id) == first
    assert tenant.world.pricing.calls == 1
    assert (await refused(tenant.charge(request_id, org="other"))).reason == "REQUEST_ID_REUSED"
    got = await tenant.charges.GetCharge(service_pb.GetChargeRequest(charge_id=first.charge_id))
    assert got.charge == first


async def test_the_same_request_many_times_at_once_makes_one_charge(tenant: Tenant) -> None:
    tenant.world.pricing.delay_seconds = 0.05
    request_id = str(uuid4())
    charges = await asyncio.gather(*[tenant.charge(request_id) for _ in range(8)])
    assert all(charge == charges[0] for charge in charges)
    assert await tenant.balance("receivable:acme:USD") == 5684
    await tenant.world.mesh.drain_events()
    subjects = [e.subject for e in tenant.world.heard if e.tenant_id == tenant.tenant_id]
    assert subjects.count("charge.created") == subjects.count("rating.completed") == 1
    assert subjects.count("usage.aggregated") == subjects.count("usage.rated") == 1


async def test_charges_of_an_organisation_never_overlap(tenant: Tenant) -> None:
    first = await tenant.charge(days=2)
    for day, days in ((0, 2), (1, 1), (1, 5), (-1, 2)):
        found = await refused(tenant.charge(day=day, days=days))
        assert found.reason == "CHARGE_OVERLAPS"
        assert found.metadata["charge_id"] == first.charge_id
    assert (await tenant.charge(day=2)).status == pb.CHARGE_STATUS_SETTLED
    assert (await tenant.charge(org="other")).status == pb.CHARGE_STATUS_SETTLED
    assert await tenant.difference() == 0


async def test_of_overlapping_requests_at_once_one_wins(tenant: Tenant) -> None:
    tenant.world.pricing.delay_seconds = 0.05
    results = await asyncio.gather(
        *[tenant.charge(day=day, days=5) for day in range(5)], return_exceptions=True
    )
    won = [r for r in results if isinstance(r, pb.Charge)]
    lost = [r for r in results if isinstance(r, grpc.aio.AioRpcError)]
    assert (len(won), len(lost)) == (1, 4)
    assert {info_of(r).metadata["charge_id"] for r in lost} == {won[0].charge_id}
    assert await tenant.balance("receivable:acme:USD") == 5684


async def test_a_refusal_that_others_can_mend_is_no_answer_for_ever(tenant: Tenant) -> None:
    request_id = str(uuid4())
    tenant.world.pricing.error = NoPlan("acme has no plan", org_id="acme")
    for _ in range(2):
        assert (await refused(tenant.charge(request_id))).reason == "NO_PLAN"
    tenant.world.pricing.error = None
    made = await tenant.charge(request_id)
    assert made.total.minor_units == 5684
    tenant.world.pricing.error = NoPlan("acme has no plan", org_id="acme")
    assert await tenant.charge(request_id) == made, "a charge is the answer for ever"
    assert (await refused(tenant.charge(request_id, org="other"))).reason == "REQUEST_ID_REUSED"


async def test_a_rating_that_failed_is_told_once_while_it_fails_alike(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = str(uuid4())
    tenant.world.pricing.error = NoPlan("acme has no plan", org_id="acme")
    for _ in range(2):
        await refused(tenant.charge(request_id))
    tenant.world.pricing.error = DependencyUnavailable("metering is away", service="metering")
    await refused(tenant.charge())
    tenant.world.pricing.error = None
    monkeypatch.setattr("services.billing.facts.LINES_TOLD_MAX", 2)
    await tenant.charge()
    assert (await refused(tenant.charge())).reason == "CHARGE_OVERLAPS"
    await tenant.world.mesh.drain_events()
    told = [e for e in tenant.world.heard if e.tenant_id == tenant.tenant_id]
    (failed,) = [e for e in told if e.subject == "rating.failed"]
    payload: Any = failed.payload
    assert (failed.key, payload.org_id, payload.request_id) == ("acme", "acme", request_id)
    assert (payload.reason, payload.message) == ("NO_PLAN", "acme has no plan")
    assert payload.HasField("failed_at")
    assert payload.HasField("period")
    rated: Any = next(e.payload for e in told if e.subject == "usage.rated")
    assert (rated.lines_omitted, len(rated.lines)) == (True, 0)
    summed: Any = next(e.payload for e in told if e.subject == "usage.aggregated")
    assert (summed.totals_omitted, len(summed.totals)) == (True, 0)


@pytest.mark.parametrize(
    "error",
    [
        DependencyUnavailable("metering is away", service="metering"),
        NoPlan("usage is not ready yet", org_id="acme", retry_after_ms=10),
    ],
)
async def test_what_may_pass_is_no_answer(tenant: Tenant, error: DomainError) -> None:
    request_id = str(uuid4())
    tenant.world.pricing.error = error
    assert (await refused(tenant.charge(request_id))).reason == error.reason
    tenant.world.pricing.error = None
    assert (await tenant.charge(request_id)).total.minor_units == 5684


async def test_a_refusal_beside_a_charge_of_the_same_request(tenant: Tenant) -> None:
    """Two calls at once, the plan vanishing between them: one is refused, the other makes the charge of both."""
    request_id = str(uuid4())
    pricing = tenant.world.pricing
    pricing.gate = asyncio.Event()
    slow = asyncio.create_task(tenant.charge(request_id))
    await pricing.entered.wait()
    gate, pricing.gate = pricing.gate, None
    pricing.error = NoPlan("gone", org_id="acme")
    assert (await refused(tenant.charge(request_id))).reason == "NO_PLAN"
    pricing.error = None
    gate.set()
    made = await slow
    assert await tenant.charge(request_id) == made
    found = await tenant.charges.ListCharges(service_pb.ListChargesRequest())
    assert len(found.charges) == 1


class Crash(Exception):
    """Stands for the end of the process."""


def crash_after_posting(name: str) -> None:
    if name == "billing.after_posting":
        raise Crash(name)


@pytest.mark.parametrize("point", ["billing.after_claim", "billing.after_posting"])
async def test_a_retry_after_a_crash_finishes_with_the_same_lines(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    request_id = str(uuid4())

    def crash(name: str) -> None:
        if name == point:
            raise Crash(name)

    monkeypatch.setattr(billing_app, "crashpoint", crash)
    assert (await refused(tenant.charge(request_id))).reason == "INTERNAL"
    monkeypatch.undo()
    if point == "billing.after_posting":
        tenant.world.pricing.lines = (("other", 1),)
        listed = await tenant.charges.ListCharges(service_pb.ListChargesRequest())
        assert [c.status for c in listed.charges] == [pb.CHARGE_STATUS_PENDING]
    charge = await tenant.charge(request_id)
    assert charge.status == pb.CHARGE_STATUS_SETTLED
    assert charge.total.minor_units == 5684
    assert await tenant.balance("receivable:acme:USD") == 5684
    assert await tenant.difference() == 0
    assert await tenant.charge(request_id) == charge


async def test_the_sweep_finishes_what_a_caller_left(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, database: DatabaseUrls
) -> None:
    request_id = str(uuid4())
    monkeypatch.setattr(billing_app, "crashpoint", crash_after_posting)
    assert (await refused(tenant.charge(request_id))).reason == "INTERNAL"
    monkeypatch.undo()
    runtime = tenant.world.runtime
    worker = resuming(runtime.database, charges_of(runtime), Silent())
    before = await state_of(tenant)
    await worker.sweep()
    assert await state_of(tenant) == before, "its caller still has a minute"
    await make_due(tenant)
    assert await worker.sweep() >= 1
    [made] = await state_of(tenant)
    assert (made["due_at"], made["lease_until"], made["epoch"]) == (None, None, 1)
    [charge] = (await tenant.charges.ListCharges(service_pb.ListChargesRequest())).charges
    assert charge.status == pb.CHARGE_STATUS_SETTLED
    assert await tenant.balance("receivable:acme:USD") == 5684
    assert (await tenant.charge(request_id)).charge_id == charge.charge_id
    await tenant.world.mesh.drain_events()
    subjects = [e.subject for e in tenant.world.heard if e.tenant_id == tenant.tenant_id]
    assert subjects.count("charge.created") == 1


async def left_half_way(tenant: Tenant, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    """Let a caller with a chain of its own die once its charge is frozen."""

    def crash(name: str) -> None:
        if name == "billing.freeze_charge.after_commit":
            raise Crash(name)

    principal = Principal(tenant.tenant_id, "caller", frozenset({"*"}), "the-chain", "the-cause")
    token = MeshTokens(MESH_SECRET).issue(principal)
    period = Period()
    period.start_at.FromDatetime(DAY)
    period.end_at.FromDatetime(DAY + timedelta(days=1))
    request = service_pb.CreateChargeRequest(
        request_id=str(uuid4()), org_id="acme", period=period, **fields
    )
    with monkeypatch.context() as patched:
        patched.setattr(database_module, "crashpoint", crash)
        async with grpc.aio.insecure_channel(tenant.world.mesh.address) as channel:
            call = ChargeServiceStub(channel).CreateCharge(
                request,
                metadata=(("authorization", f"Mesh {token}"), ("traceparent", TRACE)),
            )
            assert (await refused(call)).reason == "INTERNAL"


async def test_a_resumed_charge_belongs_to_the_chain_of_its_first_call(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await left_half_way(tenant, monkeypatch)
    await make_due(tenant)
    runtime = tenant.world.runtime
    await resuming(runtime.database, charges_of(runtime), Silent()).sweep()
    await tenant.world.mesh.drain_events()
    heard = [e for e in tenant.world.heard if e.tenant_id == tenant.tenant_id]
    # It follows from one of the others, which is its cause.
    told = [event for event in heard if event.subject != "usage.period.closed"]
    subjects = {event.subject for event in told}
    assert {"usage.rated", "rating.completed", "charge.created", "ledger.batch.posted"} <= subjects
    trails = {(event.subject, event.correlation_id, event.causation_id) for event in told}
    assert trails == {(subject, "the-chain", "the-cause") for subject in subjects}
    with acting(as_lab(tenant)):
        async with runtime.database.read() as work:
            found = await work.execute("SELECT DISTINCT traceparent FROM mesh.event")
    assert list(found.scalars()) == [TRACE]


async def test_a_charge_that_cannot_be_resumed_is_put_off_and_a_zombie_changes_nothing(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await left_half_way(tenant, monkeypatch)
    await make_due(tenant)
    runtime = tenant.world.runtime

    async def away(*_: object) -> None:
        raise DependencyUnavailable("the ledger is away", service="ledger")

    waits = []
    with monkeypatch.context() as patched:
        patched.setattr(Charges, "resume", away)
        worker = resuming(runtime.database, charges_of(runtime), Silent())
        for tries in range(1, 9):
            await worker.sweep()
            [state] = await state_of(tenant)
            assert (state["tries"], state["epoch"], state["lease_until"]) == (tries, tries, None)
            waits.append((state["due_at"] - tenant.world.clock.now()) / timedelta(minutes=1))
            await worker.sweep()
            assert await state_of(tenant) == [state], "it is not due before"
            await make_due(tenant)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    zombie = Claim(tenant.tenant_id, state["charge_id"], 8, "")
    queue = Resumable(runtime.database, charges_of(runtime))
    claimed, _ = await queue.claim("another", 100)
    assert 9 in [each.epoch for each in claimed if each.tenant_id == tenant.tenant_id]
    before = await state_of(tenant)
    with acting(as_lab(tenant)):
        await queue.failed(zombie, Crash("it was paused"))
    assert await state_of(tenant) == before, "whoever holds it now decides"
    await make_due(tenant)
    await resuming(runtime.database, charges_of(runtime), Silent()).sweep()
    [charge] = (await tenant.charges.ListCharges(service_pb.ListChargesRequest())).charges
    assert charge.status == pb.CHARGE_STATUS_SETTLED
    assert await tenant.balance("receivable:acme:USD") == 5684


def charges_of(runtime: Runtime) -> Charges:
    """Billing's use cases, as its bootstrap builds them."""
    pricing, ledger = PricingClient(runtime.channels), LedgerClient(runtime.channels)
    return Charges(runtime.database, pricing, ledger)


async def state_of(tenant: Tenant) -> list[dict[str, Any]]:
    """The tenant's charges as due work."""
    with acting(as_lab(tenant)):
        async with tenant.world.runtime.database.read() as work:
            columns = "charge_id, due_at, lease_until, epoch, tries, correlation_id, causation_id"
            return (await work.execute(f"SELECT {columns} FROM billing.charge")).mappings()


async def make_due(tenant: Tenant) -> None:
    """Let the minute pass that a caller has, and the time for which a charge was put off."""
    with acting(as_lab(tenant)):
        async with tenant.world.runtime.database.unit_of_work("lab.make_due") as work:
            await work.execute(
                "UPDATE billing.charge SET due_at = created_at, lease_until = NULL WHERE status = 1"
            )


def as_lab(tenant: Tenant) -> CallContext:
    return CallContext(tenant.tenant_id, "lab", frozenset(), "lab", "lab")


async def make_limited(tenant: Tenant) -> None:
    """Make the receivable of acme one that must be paid in advance, and an account to pay it from."""
    limited = ledger_pb2.Account(
        account_id="receivable:acme:USD",
        currency_code="USD",
        type=ledger_pb2.ACCOUNT_TYPE_ASSET,
        flags=ledger_pb2.AccountFlags(debits_must_not_exceed_credits=True),
    )
    cash = ledger_pb2.Account(
        account_id="cash", currency_code="USD", type=ledger_pb2.ACCOUNT_TYPE_ASSET
    )
    request = ledger_service_pb2.CreateAccountsRequest(accounts=[limited, cash])
    await tenant.ledger.CreateAccounts(request)


async def prepay(tenant: Tenant) -> str:
    """Pay 100 USD in advance for acme; returns the id of the transfer."""
    prepaid = ledger_pb2.Transfer(
        transfer_id=str(uuid4()),
        debit_account_id="cash",
        credit_account_id="receivable:acme:USD",
        amount=Money(currency_code="USD", minor_units=10_000),
    )
    await tenant.ledger.PostTransfers(ledger_service_pb2.PostTransfersRequest(transfers=[prepaid]))
    return prepaid.transfer_id


async def test_a_charge_that_the_ledger_refuses_is_posted_once_the_account_is_right(
    tenant: Tenant,
) -> None:
    await make_limited(tenant)
    request_id = str(uuid4())
    for _ in range(2):
        found = await refused(tenant.charge(request_id))
        assert found.reason == "POSTING_REFUSED"
        assert found.metadata["account_id"] == "receivable:acme:USD"
        assert found.metadata["result"] == "EXCEEDS_CREDITS"
    assert await tenant.balance("receivable:acme:USD") == 0, "none of it was posted"
    request = ledger_service_pb2.GetAccountRequest(account_id="revenue:llm.requests:USD")
    assert (await refused(tenant.ledger.GetAccount(request))).reason == "NOT_FOUND"
    prepaid = await prepay(tenant)
    charge = await tenant.charge(request_id)
    assert charge.status == pb.CHARGE_STATUS_SETTLED
    assert await tenant.balance("receivable:acme:USD") == 5684 - 10_000
    entries = await tenant.ledger.ListEntries(
        ledger_service_pb2.ListEntriesRequest(account_id="receivable:acme:USD")
    )
    posted = {entry.transfer_id for entry in entries.entries}
    assert posted - {prepaid} <= set(charge.transfer_ids)


async def dies(*_: object) -> None:
    """Stand in for a call to a ledger that is away."""
    raise DependencyUnavailable("the ledger is away", service="ledger")


async def shown(tenant: Tenant) -> list[object]:
    """Everything that billing says of the tenant's charges."""
    found: list[object] = []
    for item in (await tenant.charges.ListCharges(service_pb.ListChargesRequest())).charges:
        get = service_pb.GetChargeRequest(charge_id=item.charge_id)
        explain = service_pb.ExplainChargeRequest(charge_id=item.charge_id)
        found += [
            item,
            await tenant.charges.GetCharge(get),
            await tenant.charges.ExplainCharge(explain),
        ]
    return found


async def explained(tenant: Tenant, charge_id: str) -> pb.ChargeExplanation:
    request = service_pb.ExplainChargeRequest(charge_id=charge_id)
    return (await tenant.charges.ExplainCharge(request)).explanation


async def entries_of(tenant: Tenant, account_id: str) -> list[ledger_pb2.Entry]:
    request = ledger_service_pb2.ListEntriesRequest(account_id=account_id)
    return [*(await tenant.ledger.ListEntries(request)).entries]


def by_another_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the ledger a second version of the recipe, by which revenue goes to an account of another name."""
    find = Recipes.find

    async def found(recipes: Recipes, work: Any, wanted: Any) -> dict[tuple[str, int], Recipe]:
        changed = dict(await find(recipes, work, wanted))
        if (first := changed.get(("charge", 0))) is not None:
            accounts = tuple(
                replace(account, account_id="earned:{gross.currency}")
                if account.name == "revenue"
                else account
                for account in first.accounts
            )
            changed["charge", 0] = replace(first, version=4, accounts=accounts)
        return changed

    monkeypatch.setattr(Recipes, "find", found)


async def test_what_was_posted_is_shown_as_the_ledger_has_it(tenant: Tenant) -> None:
    charge = await tenant.charge()
    told = await explained(tenant, charge.charge_id)
    assert (told.recipe, told.recipe_version) == ("charge", 3)
    postings = [posting for line in told.lines for posting in line.postings]
    assert [posting.transfer_id for posting in postings] == list(charge.transfer_ids)
    assert [posting.leg for posting in postings] == ["gross", "partner"] * 3
    ends_at = charge.period.end_at.ToDatetime(UTC)
    for place, posting in enumerate(postings):
        request = ledger_service_pb2.GetTransferRequest(transfer_id=posting.transfer_id)
        found = (await tenant.ledger.GetTransfer(request)).transfer
        transfer = found.transfer
        assert found.posting_id == told.posting_id
        assert transfer.reference == ledger_pb2.Reference(kind="charge", id=charge.charge_id)
        assert transfer.code == (1002 if place % 2 else 1001)
        line_id = str(place // 2 + 1)
        assert dict(transfer.metadata) == {"charge_id": charge.charge_id, "line_id": line_id}
        assert transfer.effective_at.ToDatetime(UTC) == ends_at - timedelta(microseconds=1)
        assert (transfer.debit_account_id, transfer.credit_account_id, transfer.amount) == (
            posting.debit_account_id,
            posting.credit_account_id,
            posting.amount,
        )
    [entry] = await entries_of(tenant, "revenue:llm.requests:USD")
    assert (entry.code, entry.reference.id) == (1001, charge.charge_id)


async def test_a_line_below_zero_goes_the_other_way(tenant: Tenant) -> None:
    tenant.world.pricing.lines = (("free", 0), ("back", -1000))
    charge = await tenant.charge()
    told = await explained(tenant, charge.charge_id)
    assert [len(line.postings) for line in told.lines] == [0, 2]
    gross, partner = told.lines[1].postings
    assert (gross.debit_account_id, gross.credit_account_id, gross.amount.minor_units) == (
        "revenue:back:USD",
        "receivable:acme:USD",
        1000,
    )
    assert (partner.debit_account_id, partner.amount.minor_units) == (
        "payable:partner:north:USD",
        100,
    )
    assert await tenant.balance("receivable:acme:USD") == -1000


async def test_a_recipe_that_changes_changes_nothing_of_what_was_posted(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled = await tenant.charge()
    left = str(uuid4()), str(uuid4())
    with monkeypatch.context() as patch:
        patch.setattr(billing_app, "crashpoint", crash_after_posting)
        for day, request_id in enumerate(left, start=1):
            assert (await refused(tenant.charge(request_id, day=day))).reason == "INTERNAL"
    before = await shown(tenant)

    by_another_chart(monkeypatch)
    assert await shown(tenant) == before
    retried = await tenant.charge(left[0], day=1)
    runtime = tenant.world.runtime
    await make_due(tenant)
    assert await resuming(runtime.database, charges_of(runtime), Silent()).sweep() == 1
    resumed = (await tenant.charge(left[1], day=2)).charge_id
    assert await tenant.balance("receivable:acme:USD") == 3 * 5684
    assert await tenant.balance("payable:partner:north:USD") == -3 * 568
    for charge_id in (settled.charge_id, retried.charge_id, resumed):
        told = await explained(tenant, charge_id)
        assert told.recipe_version == 3
        assert told.lines[0].postings[0].credit_account_id == "revenue:llm.input_tokens:USD"

    changed = await explained(tenant, (await tenant.charge(day=3)).charge_id)
    assert (changed.recipe_version, await tenant.balance("earned:USD")) == (4, -5684)
    assert {line.postings[0].credit_account_id for line in changed.lines} == {"earned:USD"}


async def test_a_charge_that_is_read_asks_the_ledger_nothing(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tenant.charge()
    before = await shown(tenant)
    monkeypatch.setattr(LedgerClient, "_stub", None)
    assert await shown(tenant) == before


async def test_a_pending_charge_shows_no_transfers(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, database: DatabaseUrls
) -> None:
    request_id = str(uuid4())
    with monkeypatch.context() as patch:
        patch.setattr(LedgerClient, "post_recipe", dies)
        assert (await refused(tenant.charge(request_id))).reason == "DEPENDENCY_UNAVAILABLE"
    [listed] = (await tenant.charges.ListCharges(service_pb.ListChargesRequest())).charges
    told = await explained(tenant, listed.charge_id)
    assert (listed.status, list(listed.transfer_ids)) == (pb.CHARGE_STATUS_PENDING, [])
    assert (told.recipe, [len(line.postings) for line in told.lines]) == ("", [0, 0, 0])
    with (
        psycopg.connect(database.owner_admin) as owner,
        pytest.raises(psycopg.errors.CheckViolation, match="charge_settled_with_transfers"),
    ):
        settle = "UPDATE billing.charge SET status = 2, settled_at = now(), due_at = NULL WHERE tenant_id = %s"
        owner.execute(settle, [tenant.tenant_id])
    assert (await tenant.charge(request_id)).status == pb.CHARGE_STATUS_SETTLED


async def test_what_the_ledger_refuses_otherwise_passes_on_as_it_came(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = str(uuid4())
    with monkeypatch.context() as patch:
        patch.setattr("services.billing.domain.postings.RECIPE", "tariff")
        assert (await refused(tenant.charge(request_id))).reason == "RECIPE_NOT_FOUND"
    assert (await tenant.charge(request_id)).status == pb.CHARGE_STATUS_SETTLED


# ---- Charges of the releases before, with the transfers that they were about to post


async def frozen_before(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, database: DatabaseUrls
) -> tuple[str, list[str]]:
    """Leave a charge as an earlier release does; returns its request and the ids of its transfers."""
    request_id = str(uuid4())
    with monkeypatch.context() as patch:
        patch.setattr(LedgerClient, "post_recipe", dies)
        await refused(tenant.charge(request_id))
    return request_id, freeze(database.owner_admin, tenant.tenant_id)


async def assert_posted_as_frozen(tenant: Tenant, charge: pb.Charge, ids: list[str]) -> None:
    assert (charge.status, list(charge.transfer_ids)) == (pb.CHARGE_STATUS_SETTLED, ids)
    assert await tenant.balance("receivable:acme:USD") == 5684
    assert await tenant.balance("payable:partner:north:USD") == -568
    assert {entry.transfer_id for entry in await entries_of(tenant, "commission:USD")} == {
        *ids[1::2]
    }
    told = await explained(tenant, charge.charge_id)
    assert (told.recipe, told.recipe_version, told.posting_id) == ("", 0, "")
    assert [posting.transfer_id for line in told.lines for posting in line.postings] == ids
    assert told.lines[0].postings[1].credit_account_id == "payable:partner:north:USD"


async def test_what_was_frozen_before_is_posted_as_it_is(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, database: DatabaseUrls
) -> None:
    request_id, ids = await frozen_before(tenant, monkeypatch, database)
    charges = await asyncio.gather(*[tenant.charge(request_id) for _ in range(4)])
    assert all(charge == charges[0] for charge in charges)
    await assert_posted_as_frozen(tenant, charges[0], ids)


async def test_what_was_frozen_and_posted_before_is_not_posted_again(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, database: DatabaseUrls
) -> None:
    """The release before posted it, and the answer was lost."""
    request_id, ids = await frozen_before(tenant, monkeypatch, database)
    runtime = tenant.world.runtime
    [state] = await state_of(tenant)
    with acting(as_lab(tenant)):
        charge = await charges_of(runtime).get(state["charge_id"])
        books = LedgerClient(runtime.channels)
        assert await books.create_accounts(frozen.accounts(charge.frozen)) == []
        verdicts = await books.post(charge.frozen)
    assert {verdict.result for verdict in verdicts} == {"OK"}
    await make_due(tenant)
    assert await resuming(runtime.database, charges_of(runtime), Silent()).sweep() == 1
    await assert_posted_as_frozen(tenant, await tenant.charge(request_id), ids)


async def test_what_was_frozen_and_can_never_be_posted_goes_by_the_recipe(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, database: DatabaseUrls
) -> None:
    await make_limited(tenant)
    request_id, ids = await frozen_before(tenant, monkeypatch, database)
    for _ in range(2):
        found = await refused(tenant.charge(request_id))
        assert (found.reason, found.metadata["result"]) == ("POSTING_REFUSED", "EXCEEDS_CREDITS")
        assert found.metadata["account_id"] == "receivable:acme:USD"
    await prepay(tenant)
    with monkeypatch.context() as patch:
        patch.setattr(billing_app, "crashpoint", crash_after_posting)
        assert (await refused(tenant.charge(request_id))).reason == "INTERNAL"
    charge = await tenant.charge(request_id)
    assert await tenant.charge(request_id) == charge
    assert await tenant.balance("receivable:acme:USD") == 5684 - 10_000
    assert (len(charge.transfer_ids), set(charge.transfer_ids) & set(ids)) == (6, set())
    assert (await explained(tenant, charge.charge_id)).recipe == "charge"
    query = (
        "SELECT posting_round, array_agg(transfer_id::text ORDER BY transfer_no)"
        " FROM billing.charge_transfer WHERE tenant_id = %s GROUP BY 1 ORDER BY 1"
    )
    with psycopg.connect(database.owner_admin) as owner:
        rows = owner.execute(query.encode(), [tenant.tenant_id]).fetchall()
    assert rows == [(1, ids), (2, list(charge.transfer_ids))], "what was tried stays on record"


async def test_what_was_frozen_waits_while_an_account_cannot_serve(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, database: DatabaseUrls
) -> None:
    wrong = ledger_pb2.Account(
        account_id="commission:USD", currency_code="USD", type=ledger_pb2.ACCOUNT_TYPE_ASSET
    )
    await tenant.ledger.CreateAccounts(ledger_service_pb2.CreateAccountsRequest(accounts=[wrong]))
    request_id, _ = await frozen_before(tenant, monkeypatch, database)
    found = await refused(tenant.charge(request_id))
    assert (found.reason, found.metadata["account_id"]) == ("POSTING_REFUSED", "commission:USD")
    assert found.metadata["result"] == "EXISTS_WITH_DIFFERENT_TYPE"
    assert await tenant.balance("receivable:acme:USD") == 0


async def test_a_frozen_charge_that_lacks_transfers_is_neither_shown_nor_posted(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, database: DatabaseUrls
) -> None:
    request_id, _ = await frozen_before(tenant, monkeypatch, database)
    with psycopg.connect(database.owner_admin) as owner:
        owner.execute(
            "DELETE FROM billing.charge_transfer WHERE tenant_id = %s", [tenant.tenant_id]
        )
    assert (await refused(tenant.charge(request_id))).reason == "INTERNAL"
    with psycopg.connect(database.owner_admin) as owner:
        query = "SELECT status FROM billing.charge WHERE tenant_id = %s"
        assert owner.execute(query, [tenant.tenant_id]).fetchall() == [(1,)]
        # Else the sweep of other tests would try it again and again.
        owner.execute(
            "UPDATE billing.charge SET due_at = 'infinity' WHERE tenant_id = %s",
            [tenant.tenant_id],
        )


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The statements on billing's tables, from now on."""
    found: list[bytes] = []
    run = Session.run

    async def listen(session: Session, *calls: Call) -> list[Rows]:
        found.extend(
            call.statement.query for call in calls if b"billing.charge" in call.statement.query
        )
        return await run(session, *calls)

    monkeypatch.setattr(Session, "run", listen)
    return found


async def test_however_large_a_charge_it_takes_as_many_statements(
    tenant: Tenant, sent: list[bytes]
) -> None:
    await tenant.charge()
    few = len(sent)
    tenant.world.pricing.lines = tuple((f"sku-{n}", 100) for n in range(LINES_MAX))
    charge = await tenant.charge(day=1)
    assert len(charge.transfer_ids) == 2 * LINES_MAX
    assert len(sent) == 2 * few
    got = await tenant.charges.GetCharge(service_pb.GetChargeRequest(charge_id=charge.charge_id))
    assert got.charge == charge


async def test_however_many_charges_a_page_takes_three_statements(
    tenant: Tenant, sent: list[bytes]
) -> None:
    for day in range(4):
        await tenant.charge(day=day)
    for page_size in (1, 4):
        sent.clear()
        page = await tenant.charges.ListCharges(service_pb.ListChargesRequest(page_size=page_size))
        assert [len(charge.transfer_ids) for charge in page.charges] == [6] * page_size
        assert len(sent) == 3


async def test_an_account_that_cannot_serve_is_named(tenant: Tenant) -> None:
    wrong = ledger_pb2.Account(
        account_id="commission:USD", currency_code="USD", type=ledger_pb2.ACCOUNT_TYPE_ASSET
    )
    await tenant.ledger.CreateAccounts(ledger_service_pb2.CreateAccountsRequest(accounts=[wrong]))
    found = await refused(tenant.charge())
    assert found.reason == "POSTING_REFUSED"
    assert found.metadata["account_id"] == "commission:USD"
    assert found.metadata["result"] == "EXISTS_WITH_DIFFERENT_TYPE"


async def test_a_charge_too_large_is_refused(tenant: Tenant) -> None:
    tenant.world.pricing.lines = tuple((f"sku-{n}", 1) for n in range(2001))
    assert (await refused(tenant.charge())).reason == "CHARGE_TOO_LARGE"


async def test_a_rating_that_cannot_be_read_is_no_answer(tenant: Tenant) -> None:
    request_id = str(uuid4())
    tenant.world.pricing.partner_pct = "ten"
    assert (await refused(tenant.charge(request_id))).reason == "INTERNAL"
    tenant.world.pricing.partner_pct = "10"
    assert (await tenant.charge(request_id)).total.minor_units == 5684


async def test_lines_of_zero_and_periods_without_usage_move_nothing(tenant: Tenant) -> None:
    tenant.world.pricing.lines = (("free", 0),)
    charge = await tenant.charge()
    assert (charge.status, len(charge.lines), len(charge.transfer_ids)) == (
        pb.CHARGE_STATUS_SETTLED,
        1,
        0,
    )
    tenant.world.pricing.lines = ()
    charge = await tenant.charge(day=1)
    assert (charge.status, len(charge.lines), charge.total.minor_units) == (
        pb.CHARGE_STATUS_SETTLED,
        0,
        0,
    )
    assert charge.total.currency_code == "USD"


async def test_an_explanation_leads_from_events_to_postings(tenant: Tenant) -> None:
    charge = await tenant.charge()
    request = service_pb.ExplainChargeRequest(charge_id=charge.charge_id)
    explained = (await tenant.charges.ExplainCharge(request)).explanation
    assert [item.line for item in explained.lines] == list(charge.lines)
    posted = [p.transfer_id for item in explained.lines for p in item.postings]
    assert posted == list(charge.transfer_ids)
    first = explained.lines[0]
    assert [p.amount.minor_units for p in first.postings] == [5015, 501]
    assert "8819 events" in first.steps[0]
    entries = await tenant.ledger.ListEntries(
        ledger_service_pb2.ListEntriesRequest(account_id=first.postings[0].debit_account_id)
    )
    assert entries.entries[0].transfer_id == first.postings[0].transfer_id
    assert entries.entries[0].metadata["charge_id"] == charge.charge_id


async def test_lists_filter_and_page(tenant: Tenant) -> None:
    made = [await tenant.charge(day=day) for day in range(5)]
    await tenant.charge(org="other", day=9)
    seen: list[str] = []
    token = ""
    while True:
        page = await tenant.charges.ListCharges(
            service_pb.ListChargesRequest(org_id="acme", page_size=2, page_token=token)
        )
        seen += [charge.charge_id for charge in page.charges]
        assert not any(line.HasField("proof") for charge in page.charges for line in charge.lines)
        token = page.next_page_token
        if not token:
            break
    assert seen == [charge.charge_id for charge in reversed(made)]
    period = made[2].period
    found = await tenant.charges.ListCharges(service_pb.ListChargesRequest(period=period))
    assert [charge.charge_id for charge in found.charges] == [made[2].charge_id]
    bad = tenant.charges.ListCharges(service_pb.ListChargesRequest(page_token="AAAA"))
    assert (await refused(bad)).reason == "INVALID_PAGE_TOKEN"


async def test_a_page_of_large_charges_ends_sooner(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [await tenant.charge(day=day) for day in range(3)]
    monkeypatch.setattr(billing_store, "PAGE_LINES_MAX", 7)
    first = await tenant.charges.ListCharges(service_pb.ListChargesRequest())
    assert [charge.charge_id for charge in first.charges] == [made[2].charge_id, made[1].charge_id]
    request = service_pb.ListChargesRequest(page_token=first.next_page_token)
    second = await tenant.charges.ListCharges(request)
    assert [charge.charge_id for charge in second.charges] == [made[0].charge_id]
    assert second.next_page_token == ""
    monkeypatch.setattr(billing_store, "PAGE_LINES_MAX", 1)
    assert len((await tenant.charges.ListCharges(service_pb.ListChargesRequest())).charges) == 1


async def test_bad_input_is_named(tenant: Tenant) -> None:
    assert (await refused(tenant.charge("no-uuid"))).reason == "INVALID_FIELD"
    assert (await refused(tenant.charge(org="a b"))).reason == "INVALID_FIELD"
    assert (await refused(tenant.charge(days=0))).reason == "INVALID_FIELD"
    for call in (
        tenant.charges.GetCharge(service_pb.GetChargeRequest(charge_id="chg_none")),
        tenant.charges.ExplainCharge(service_pb.ExplainChargeRequest(charge_id="chg_none")),
    ):
        assert (await refused(call)).reason == "NOT_FOUND"


async def test_tenants_do_not_see_each_other(tenant: Tenant) -> None:
    charge = await tenant.charge()
    other = ChargeServiceStub(tenant.world.mesh.channel(f"{tenant.tenant_id}-other"))
    call = other.GetCharge(service_pb.GetChargeRequest(charge_id=charge.charge_id))
    assert (await refused(call)).reason == "NOT_FOUND"
    explain = other.ExplainCharge(service_pb.ExplainChargeRequest(charge_id=charge.charge_id))
    assert (await refused(explain)).reason == "NOT_FOUND"
    assert list((await other.ListCharges(service_pb.ListChargesRequest())).charges) == []


HOUR = timedelta(hours=1)


async def test_a_period_that_has_not_ended_is_refused_until_it_has(tenant: Tenant) -> None:
    now, request_id = tenant.world.clock.now(), str(uuid4())
    bounds = (now - HOUR, now + HOUR)
    for _ in range(2):
        told = await refused(tenant.charge_between(*bounds, request_id))
        assert told.reason == "PERIOD_NOT_ENDED"
        assert told.metadata["end_at"] == bounds[1].isoformat().replace("+00:00", "Z")
    assert tenant.world.pricing.calls == 0
    tenant.world.clock.advance(HOUR)
    # Nothing was stored: the same call succeeds, and goes on being the same charge.
    charge = await tenant.charge_between(*bounds, request_id)
    assert charge.period.end_at.ToDatetime(UTC) == bounds[1]
    assert await tenant.charge_between(*bounds, request_id) == charge


async def test_an_open_period_closes_at_the_call_and_the_next_charge_begins_there(
    tenant: Tenant,
) -> None:
    now, request_id = tenant.world.clock.now(), str(uuid4())
    bounds = (now - HOUR, now + HOUR)
    charge = await tenant.charge_between(*bounds, request_id, allow_open=True)
    assert charge.period.start_at.ToDatetime(UTC) == now - HOUR
    assert charge.period.end_at.ToDatetime(UTC) == now
    assert charge.lines[0].proof.period == charge.period, "what was rated is what is charged"
    tenant.world.clock.advance(HOUR / 2)
    assert await tenant.charge_between(*bounds, request_id, allow_open=True) == charge
    told = await refused(tenant.charge_between(*bounds, allow_open=True))
    assert told.reason == "CHARGE_OVERLAPS"
    following = await tenant.charge_between(now, now + HOUR, allow_open=True)
    assert following.period.end_at.ToDatetime(UTC) == now + HOUR / 2
    told = await refused(tenant.charge_between(*bounds, request_id))
    assert told.reason == "REQUEST_ID_REUSED"


async def test_a_period_that_has_not_begun_is_refused_whatever_is_allowed(tenant: Tenant) -> None:
    now = tenant.world.clock.now()
    for start_at in (now, now + timedelta(days=40)):
        for allow_open in (False, True):
            told = await refused(
                tenant.charge_between(start_at, start_at + HOUR, allow_open=allow_open)
            )
            assert told.reason == "PERIOD_NOT_ENDED"


async def test_an_open_charge_that_died_half_way_keeps_the_end_that_it_was_given(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, request_id = tenant.world.clock.now(), str(uuid4())
    bounds = (now - HOUR, now + HOUR)

    with monkeypatch.context() as patch:
        patch.setattr(LedgerClient, "post_recipe", dies)
        told = await refused(tenant.charge_between(*bounds, request_id, allow_open=True))
    assert told.reason == "DEPENDENCY_UNAVAILABLE"
    tenant.world.clock.advance(HOUR / 2)
    charge = await tenant.charge_between(*bounds, request_id, allow_open=True)
    assert charge.status == pb.CHARGE_STATUS_SETTLED
    assert charge.period.end_at.ToDatetime(UTC) == now
    await tenant.world.mesh.drain_events()
    (frozen,) = [
        item.payload
        for item in tenant.world.heard
        if item.tenant_id == tenant.tenant_id and item.subject == "usage.aggregated"
    ]
    closed: Any = frozen
    assert closed.period == charge.period
