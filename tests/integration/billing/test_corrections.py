"""AdjustCharge, ReverseCharge and PreviewCharge with the real ledger; pricing is played."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from payments.billing.v1 import billing_pb2 as pb
from payments.billing.v1 import charge_service_pb2 as service_pb
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2
from payments.type.v1.type_pb2 import Money, Period

from services.billing.app import charges as charges_module
from tests.support.billing.charging import Tenant, refused


async def adjust(tenant: Tenant, charge: pb.Charge, request_id: str = "", **more: Any) -> pb.Charge:
    request = service_pb.AdjustChargeRequest(
        request_id=request_id or str(uuid4()), charge_id=charge.charge_id, **more
    )
    return (await tenant.charges.AdjustCharge(request)).charge


async def reverse(tenant: Tenant, charge: pb.Charge, request_id: str = "") -> pb.Charge:
    request = service_pb.ReverseChargeRequest(
        request_id=request_id or str(uuid4()), charge_id=charge.charge_id, reason="wrong plan"
    )
    return (await tenant.charges.ReverseCharge(request)).charge


async def get(tenant: Tenant, charge: pb.Charge) -> pb.Charge:
    request = service_pb.GetChargeRequest(charge_id=charge.charge_id)
    return (await tenant.charges.GetCharge(request)).charge


def usd(minor_units: int) -> Money:
    return Money(currency_code="USD", minor_units=minor_units)


async def books(tenant: Tenant) -> dict[str, int]:
    """Debits less credits of every account, without those that come to nothing."""
    request = ledger_service_pb2.ListAccountsRequest(page_size=1000)
    accounts = (await tenant.ledger.ListAccounts(request)).accounts
    sums = {
        each.account_id: each.balances.debits_posted - each.balances.credits_posted
        for each in accounts
    }
    return {name: amount for name, amount in sums.items() if amount}


async def subjects(tenant: Tenant) -> list[str]:
    await tenant.world.mesh.drain_events()
    of_billing = ("charge.", "rating.", "usage.aggregated", "usage.rated")
    return [
        e.subject
        for e in tenant.world.heard
        if e.tenant_id == tenant.tenant_id and e.subject.startswith(of_billing)
    ]


async def test_an_adjustment_is_the_difference_with_postings_of_its_own(tenant: Tenant) -> None:
    tenant.world.pricing.lines = (("a", 1000), ("b", 500), ("c", 50))
    charge = await tenant.charge()
    tenant.world.pricing.lines = (("a", 1205), ("c", 50), ("d", 7))
    request_id = str(uuid4())
    made = await adjust(tenant, charge, request_id)
    assert made.status == pb.CHARGE_STATUS_SETTLED
    assert made.kind == pb.CHARGE_KIND_ADJUSTMENT
    assert (made.adjusts_charge_id, made.correction_no) == (charge.charge_id, 1)
    assert made.period == charge.period
    assert [(line.sku, line.amount_gross) for line in made.lines] == [
        ("a", usd(205)),
        ("b", usd(-500)),
        ("d", usd(7)),
    ]
    # A tenth, an exact half to us: 100 before and 120 now; 50 given back; 1 of 7.
    assert [line.partner_amount.minor_units for line in made.lines] == [20, -50, 1]
    assert (made.total, made.partner_total) == (usd(-288), usd(-29))
    first = made.lines[0].correction
    assert (first.amount_before, first.amount_after) == (usd(1000), usd(1205))
    assert (first.quantity_before, first.quantity_after) == ("8819.5", "8819.5")
    assert len(made.transfer_ids) == 6
    assert await books(tenant) == {
        "receivable:acme:USD": 1262,
        "revenue:a:USD": -1205,
        "revenue:c:USD": -50,
        "revenue:d:USD": -7,
        "commission:USD": 126,
        "payable:partner:north:USD": -126,
    }
    # What was billed stays as it was, and the same request gets the same answer.
    assert await get(tenant, charge) == charge
    tenant.world.pricing.lines = (("a", 1),)
    assert await adjust(tenant, charge, request_id) == made
    assert await get(tenant, made) == made
    assert (await subjects(tenant))[-3:] == ["usage.aggregated", "usage.rated", "charge.created"]
    summed: Any = [e.payload for e in tenant.world.heard if e.subject == "usage.aggregated"][-1]
    assert [total.sku for total in summed.totals] == ["a", "b", "c", "d"]
    assert [total.quantity for total in summed.totals] == ["8819.5", "0", "8819.5", "8819.5"]
    assert summed.adjusts_charge_id == charge.charge_id
    assert (charge.usage_ordinal, made.usage_ordinal, summed.usage_ordinal) == (1, 2, 2)


async def test_it_takes_effect_when_it_is_made_whatever_month_is_closed(tenant: Tenant) -> None:
    charge = await tenant.charge()
    through = charge.period.end_at
    close = ledger_service_pb2.ClosePeriodRequest(
        request_id=str(uuid4()), currency_code="USD", closed_through=through
    )
    await tenant.ledger.ClosePeriod(close)
    tenant.world.pricing.lines = (("a", 1),)
    made = await adjust(tenant, charge)
    request = ledger_service_pb2.GetTransferRequest(transfer_id=made.transfer_ids[0])
    found = (await tenant.ledger.GetTransfer(request)).transfer
    assert found.transfer.effective_at == made.created_at
    assert tenant.world.clock.now().timestamp() == made.created_at.seconds


async def test_without_a_difference_there_is_nothing_to_adjust(tenant: Tenant) -> None:
    charge = await tenant.charge()
    request_id = str(uuid4())
    assert (await refused(adjust(tenant, charge, request_id))).reason == "NOTHING_TO_ADJUST"
    # Not the request's answer for ever.
    tenant.world.pricing.lines = (*tenant.world.pricing.lines, ("more", 1))
    made = await adjust(tenant, charge, request_id)
    assert [(line.sku, line.amount_gross) for line in made.lines] == [("more", usd(1))]
    assert (await refused(adjust(tenant, charge))).reason == "NOTHING_TO_ADJUST"


async def test_the_difference_is_previewed_and_nothing_is_stored(tenant: Tenant) -> None:
    charge = await tenant.charge()
    tenant.world.pricing.lines = (("a", 3),)
    before = await books(tenant)
    shown = await adjust(tenant, charge, validate_only=True)
    assert (shown.charge_id, shown.status) == ("", pb.CHARGE_STATUS_UNSPECIFIED)
    assert shown.total == usd(3 - charge.total.minor_units)
    assert await books(tenant) == before
    made = await adjust(tenant, charge)
    assert made.total == shown.total


async def test_a_charge_is_previewed_and_nothing_is_stored(tenant: Tenant) -> None:
    request = service_pb.PreviewChargeRequest(org_id="acme")
    period = Period()
    period.start_at.FromJsonString("2023-11-16T00:00:00Z")
    period.end_at.FromJsonString("2023-11-17T00:00:00Z")
    request.period.CopyFrom(period)
    shown = (await tenant.charges.PreviewCharge(request)).charge
    assert (shown.charge_id, shown.status) == ("", pb.CHARGE_STATUS_UNSPECIFIED)
    assert await books(tenant) == {}
    listed = await tenant.charges.ListCharges(service_pb.ListChargesRequest())
    assert not listed.charges
    made = await tenant.charge()
    assert [line.amount_gross for line in shown.lines] == [line.amount_gross for line in made.lines]
    found = await refused(tenant.charges.PreviewCharge(request))
    assert (found.reason, found.metadata["charge_id"]) == ("CHARGE_OVERLAPS", made.charge_id)


async def test_a_reversal_takes_all_back_and_frees_the_period(tenant: Tenant) -> None:
    charge = await tenant.charge()
    tenant.world.pricing.lines = (("a", 1234),)
    adjustment = await adjust(tenant, charge)
    request_id = str(uuid4())
    made = await reverse(tenant, charge, request_id)
    assert (made.kind, made.reason) == (pb.CHARGE_KIND_REVERSAL, "wrong plan")
    assert made.correction_no == 2
    assert made.total == usd(-1234)
    # It has seen nothing by itself.
    assert made.usage_ordinal == adjustment.usage_ordinal == 2
    assert made.status == pb.CHARGE_STATUS_SETTLED
    assert await books(tenant) == {}
    assert await tenant.difference() == 0
    for each in (charge, adjustment):
        now = await get(tenant, each)
        assert now.status == pb.CHARGE_STATUS_REVERSED
        assert now.reversed_by_charge_id == made.charge_id
        assert now.transfer_ids == each.transfer_ids
    assert await reverse(tenant, charge, request_id) == made
    for again in (adjust(tenant, charge), reverse(tenant, charge)):
        found = await refused(again)
        assert (found.reason, found.metadata["why"]) == ("CHARGE_NOT_CORRECTABLE", "REVERSED")
    anew = await tenant.charge()
    assert anew.total == usd(1234)
    assert (await refused(tenant.charge())).metadata["charge_id"] == anew.charge_id
    assert (await subjects(tenant)).count("charge.reversed") == 1


async def test_a_correction_takes_no_correction(tenant: Tenant) -> None:
    charge = await tenant.charge()
    tenant.world.pricing.lines = (("a", 3),)
    adjustment = await adjust(tenant, charge)
    for call in (adjust(tenant, adjustment), reverse(tenant, adjustment)):
        found = await refused(call)
        assert found.reason == "CHARGE_NOT_CORRECTABLE"
        assert found.metadata["why"] == "IS_CORRECTION"
        assert found.metadata["correct_charge_id"] == charge.charge_id
    unknown = pb.Charge(charge_id="chg_none")
    assert (await refused(adjust(tenant, unknown))).reason == "NOT_FOUND"
    assert (await refused(reverse(tenant, unknown))).reason == "NOT_FOUND"


async def test_corrections_at_once_bill_the_difference_once(tenant: Tenant) -> None:
    charge = await tenant.charge()
    tenant.world.pricing.lines = (("a", 90_000),)
    tenant.world.pricing.delay_seconds = 0.05
    calls = [adjust(tenant, charge) for _ in range(6)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    made = [answer for answer in answers if isinstance(answer, pb.Charge)]
    assert len(made) == 1
    assert (await books(tenant))["receivable:acme:USD"] == 90_000
    assert await tenant.difference() == 0


async def test_a_reversal_and_an_adjustment_at_once_leave_nothing_behind(tenant: Tenant) -> None:
    for day in range(4):
        charge = await tenant.charge(day=day)
        tenant.world.pricing.lines = (("a", 90_000 + day),)
        tenant.world.pricing.delay_seconds = 0.02 * day
        calls = (reverse(tenant, charge), adjust(tenant, charge))
        taken_back, _ = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(taken_back, pb.Charge)
        assert await books(tenant) == {}


async def test_an_account_that_takes_nothing_leaves_it_for_later(tenant: Tenant) -> None:
    charge = await tenant.charge()
    closed = ledger_pb2.Account(
        account_id="revenue:late:USD",
        currency_code="USD",
        type=ledger_pb2.ACCOUNT_TYPE_INCOME,
        flags=ledger_pb2.AccountFlags(closed=True),
    )
    await tenant.ledger.CreateAccounts(ledger_service_pb2.CreateAccountsRequest(accounts=[closed]))
    before = await books(tenant)
    tenant.world.pricing.lines = (*tenant.world.pricing.lines, ("late", 5))
    found = await refused(adjust(tenant, charge))
    assert (found.reason, found.metadata["account_id"]) == ("POSTING_REFUSED", "revenue:late:USD")
    assert await books(tenant) == before
    listed = await tenant.charges.ListCharges(
        service_pb.ListChargesRequest(adjusts_charge_id=charge.charge_id)
    )
    (pending,) = listed.charges
    assert (pending.status, pending.total) == (pb.CHARGE_STATUS_PENDING, usd(5))
    # What is frozen counts as billed, and has to be in the books before it is taken back.
    assert (await refused(reverse(tenant, charge))).reason == "POSTING_REFUSED"


async def test_corrections_of_a_charge_that_is_none_are_not_found(tenant: Tenant) -> None:
    charge = await tenant.charge()
    wanted = service_pb.ListChargesRequest(adjusts_charge_id=charge.charge_id)
    assert not (await tenant.charges.ListCharges(wanted)).charges
    wanted.adjusts_charge_id = "chg_none"
    found = await refused(tenant.charges.ListCharges(wanted))
    assert (found.reason, found.metadata["id"]) == ("NOT_FOUND", "chg_none")


async def test_a_call_that_dies_after_posting_is_finished_by_the_same_call(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge = await tenant.charge()
    tenant.world.pricing.lines = (("a", 3),)
    request_id = str(uuid4())

    def crash(name: str) -> None:
        if name == "billing.after_posting":
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(charges_module, "crashpoint", crash)
        assert (await refused(adjust(tenant, charge, request_id))).reason == "INTERNAL"
    tenant.world.pricing.lines = (("b", 8),)
    made = await adjust(tenant, charge, request_id)
    assert made.total == usd(3 - charge.total.minor_units)
    assert (await books(tenant))["receivable:acme:USD"] == 3


async def test_it_is_explained_from_what_was_billed_to_what_it_comes_to(tenant: Tenant) -> None:
    tenant.world.pricing.lines = (("a", 1000), ("b", 500))
    charge = await tenant.charge()
    tenant.world.pricing.lines = (("a", 1205),)
    made = await adjust(tenant, charge)
    request = service_pb.ExplainChargeRequest(charge_id=made.charge_id)
    explained = (await tenant.charges.ExplainCharge(request)).explanation
    changed, gone = (list(line.steps) for line in explained.lines)
    assert any("rounded once, half up, to" in step and "12.05 USD" in step for step in changed)
    assert changed[-2].endswith("the difference is 0 units and 2.05 USD.")
    assert changed[-1] == "Partner north had earned 1.00 USD: the difference is 0.20 USD."
    assert gone[0] == "The period has no billable usage of b like that any more."
    back = await reverse(tenant, charge)
    request = service_pb.ExplainChargeRequest(charge_id=back.charge_id)
    explained = (await tenant.charges.ExplainCharge(request)).explanation
    assert "wrong plan" in explained.lines[0].steps[0]
    assert explained.adjusts_charge_id == charge.charge_id


async def test_a_correction_proves_every_part_of_its_period(tenant: Tenant) -> None:
    tenant.world.pricing.lines = (("a", 1000),)
    charge = await tenant.charge()
    tenant.world.pricing.lines = (("a", 700), ("a", 500))
    made = await get(tenant, await adjust(tenant, charge))
    (line,) = made.lines
    assert line.correction.amount_after == usd(1200)
    assert [part.unrounded for part in line.proof.earlier_parts] == ["7.00"]
    assert line.proof.unrounded == "5.00"
    request = service_pb.ExplainChargeRequest(charge_id=made.charge_id)
    (explained,) = (await tenant.charges.ExplainCharge(request)).explanation.lines
    told = "\n".join(explained.steps)
    assert "places: 7.00 USD.\n" in told
    assert "places: 5.00 USD.\n" in told
    assert "The parts add up to 17639 units and 12.00 USD.\n" in told
    back = await get(tenant, await reverse(tenant, charge))
    (line,) = back.lines
    assert [part.unrounded for part in line.proof.earlier_parts] == ["7.00"]


async def test_the_reason_of_a_reversal_is_kept_without_card_numbers(tenant: Tenant) -> None:
    charge = await tenant.charge()
    request = service_pb.ReverseChargeRequest(
        request_id=str(uuid4()), charge_id=charge.charge_id, reason="paid by 4111 1111 1111 1111"
    )
    for _ in range(2):
        made = (await tenant.charges.ReverseCharge(request)).charge
        assert made.reason == "paid by [card number]"
    assert (await get(tenant, made)).reason == "paid by [card number]"
