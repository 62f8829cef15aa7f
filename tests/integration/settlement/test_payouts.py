"""What is above the threshold is claimed at once, what is not waits, and nobody is paid more than is owed."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from uuid import uuid4

import grpc
import pytest
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2
from payments.settlement.v1 import payout_service_pb2 as service_pb
from payments.settlement.v1 import settlement_pb2 as pb

from services.ledger.domain.recipes.errors import RecipeNotFound
from services.runtime.errors import DomainError
from services.settlement.clients import LedgerClient
from services.settlement.domain.payouts import PayoutNotBookable
from tests.integration.billing.test_corrections import adjust, reverse
from tests.support.billing.charging import refused
from tests.support.settlement.paying import Desk, Partnered, stamp, usd

NORTH = "payable:partner:north:USD"
TRANSIT = "transit:payout:north:USD"


async def create(partnered: Partnered, minor_units: int, request_id: str = "") -> pb.Payout:
    request = service_pb.CreatePayoutRequest(
        request_id=request_id or str(uuid4()),
        party="north",
        amount=usd(minor_units),
        destination="account on file",
    )
    return (await partnered.payouts.CreatePayout(request)).payout


async def get(partnered: Partnered, payout: pb.Payout) -> pb.Payout:
    request = service_pb.GetPayoutRequest(payout_id=payout.payout_id)
    return (await partnered.payouts.GetPayout(request)).payout


async def give_back(partnered: Partnered, payout: pb.Payout, request_id: str = "") -> pb.Payout:
    request = service_pb.RecordPayoutReturnRequest(
        request_id=request_id or str(uuid4()), payout_id=payout.payout_id, return_code="R03"
    )
    return (await partnered.payouts.RecordPayoutReturn(request)).payout


async def pay(partnered: Partnered, payout: pb.Payout) -> pb.Payout:
    request = service_pb.RecordPayoutPaymentRequest(
        request_id=str(uuid4()), payout_id=payout.payout_id, payment_reference="E2E-1"
    )
    return (await partnered.payouts.RecordPayoutPayment(request)).payout


async def test_a_line_above_the_threshold_is_claimed_at_once(partnered: Partnered) -> None:
    await partnered.threshold(50_00)
    charge = await partnered.charge(50_01, 50_00, 20_00)
    (payout,) = await partnered.list_payouts(charge_id=charge.charge_id)
    assert (payout.amount, payout.party, payout.line_id) == (usd(50_01), "north", "1")
    assert payout.kind == pb.PAYOUT_KIND_REALTIME
    assert payout.status == pb.PAYOUT_STATUS_CLAIMED
    assert [each.recipe for each in payout.postings] == ["payout-claim"]
    # What is exactly at the threshold is not above it.
    assert await partnered.stands() == {
        "earned": 120_01,
        "paid": 0,
        "claimed": 50_01,
        "held": 0,
        "carried": 70_00,
    }
    assert (await partnered.book(NORTH), await partnered.book(TRANSIT)) == (70_00, 50_01)
    await partnered.sound()
    told = [each.payload for each in partnered.desk.world.heard if each.subject == "payout.claimed"]
    assert [each.payout_id for each in told].count(payout.payout_id) == 1  # type: ignore[attr-defined]


async def test_a_currency_without_a_threshold_is_only_swept(partnered: Partnered) -> None:
    # Ours speaks of AUD.
    await partnered.charge(9_000_00)
    assert await partnered.list_payouts() == []
    assert (await partnered.stands())["carried"] == 9_000_00


async def test_a_charge_that_is_told_of_twice_is_taken_in_once(partnered: Partnered) -> None:
    await partnered.threshold(10_00)
    charge = await partnered.charge(60_00)
    commissions = partnered.desk.commissions
    with partnered.acting():
        await asyncio.gather(*[commissions.take_in(charge.charge_id) for _ in range(4)])
    await partnered.desk.work()
    assert len(await partnered.list_payouts()) == 1
    assert (await partnered.stands())["earned"] == 60_00
    await partnered.sound()


async def test_a_claim_whose_answer_is_lost_is_posted_once(
    partnered: Partnered, monkeypatch: pytest.MonkeyPatch
) -> None:
    await partnered.threshold(10_00)
    post = LedgerClient.post
    calls = []

    async def lost(self: LedgerClient, *args: object) -> object:
        found = await post(self, *args)  # type: ignore[arg-type]
        calls.append(found)
        if len(calls) == 1:
            raise TimeoutError
        return found

    monkeypatch.setattr(LedgerClient, "post", lost)
    await partnered.charge(60_00)
    (payout,) = await partnered.list_payouts()
    assert payout.status == pb.PAYOUT_STATUS_PENDING
    # It is not in the books as far as is known: the comparison does not call that a difference.
    assert all(each.settling for each in await partnered.checks())
    partnered.later(seconds=2)
    await partnered.desk.work()
    assert (await get(partnered, payout)).status == pb.PAYOUT_STATUS_CLAIMED
    assert len(calls) == 2
    assert calls[0] == calls[1]
    assert await partnered.book(TRANSIT) == 60_00
    await partnered.sound()


async def test_an_account_that_refuses_holds_a_payout_up_and_somebody_is_told(
    partnered: Partnered, monkeypatch: pytest.MonkeyPatch
) -> None:
    await partnered.threshold(10_00)

    async def refuse(_self: LedgerClient, *_args: object) -> None:
        raise RecipeNotFound("there is no such recipe", recipe="payout-claim", version=0)

    monkeypatch.setattr(LedgerClient, "post", refuse)
    await partnered.charge(60_00)
    for _ in range(8):
        partnered.later(minutes=10)
        await partnered.desk.work()
    heard = [
        each.payload
        for each in partnered.desk.world.heard
        if each.subject == "contract.violated" and each.tenant_id == partnered.tenant_id
    ]
    assert [each.contract_id for each in heard] == ["settlement/payout-stuck"]  # type: ignore[attr-defined]
    assert (await partnered.stands())["claimed"] == 60_00
    monkeypatch.undo()
    partnered.later(minutes=10)
    await partnered.desk.work()
    await partnered.sound()


async def test_what_was_given_back_after_a_payout_goes_before_the_next(
    partnered: Partnered,
) -> None:
    await partnered.threshold(10_00)
    charge = await partnered.charge(60_00, 5_00)
    await reverse(partnered.billing, charge)
    await partnered.desk.work()
    assert (await partnered.stands())["carried"] == -60_00
    # A sweep pays nothing of it, and takes nothing.
    assert (await partnered.sweep()).payout_count == 0
    assert (await partnered.stands())["carried"] == -60_00
    # Less than what was given back pays nothing, the rest of what is more pays at once.
    await partnered.charge(40_00)
    assert (await partnered.stands())["carried"] == -20_00
    await partnered.charge(35_00)
    assert sorted(await partnered.paid_out()) == [
        ("north", 15_00, "REALTIME"),
        ("north", 60_00, "REALTIME"),
    ]
    assert (await partnered.stands())["carried"] == 0
    await partnered.sound()


async def test_an_adjustment_gives_back_to_the_minor_unit(partnered: Partnered) -> None:
    await partnered.threshold(10_00)
    charge = await partnered.charge(60_00, 33)
    partnered.earns(55_01, 33)
    await adjust(partnered.billing, charge)
    await partnered.desk.work()
    assert (await partnered.stands())["carried"] == -4_66
    await partnered.charge(5_00)
    assert (await partnered.sweep()).totals == [usd(34)]
    await partnered.sound()


async def test_what_is_held_is_paid_once_the_dispute_is_resolved(partnered: Partnered) -> None:
    await partnered.threshold(10_00)
    charge = await partnered.charge(60_00, 5_00, dispute="d-1")
    assert (await partnered.stands())["held"] == 65_00
    assert (await partnered.sweep()).payout_count == 0
    assert await partnered.list_payouts() == []
    await partnered.sound()
    # To another partner.
    partnered.earns(60_00, 5_00, partner="south")
    await adjust(partnered.billing, charge)
    await partnered.desk.work()
    assert await partnered.paid_out() == [("south", 60_00, "REALTIME")]
    assert (await partnered.stands("north"))["held"] == 0
    assert (await partnered.stands("south"))["carried"] == 5_00
    await partnered.sound()


async def test_a_payout_that_was_asked_for(partnered: Partnered) -> None:
    await partnered.charge(60_00)
    request_id = str(uuid4())
    made = await create(partnered, 20_00, request_id)
    assert made == await create(partnered, 20_00, request_id)
    info = await refused(create(partnered, 40_01))
    assert (info.reason, info.metadata["carried_minor"]) == ("PAYOUT_EXCEEDS_BALANCE", "4000")
    assert (await refused(create(partnered, 0))).reason == "INVALID_FIELD"
    # Of two at once for all that is left one is refused.
    both = await asyncio.gather(
        create(partnered, 40_00), create(partnered, 40_00), return_exceptions=True
    )
    assert sum(isinstance(each, BaseException) for each in both) == 1
    await partnered.desk.work()
    assert sorted(await partnered.paid_out()) == [
        ("north", 20_00, "REQUESTED"),
        ("north", 40_00, "REQUESTED"),
    ]
    found = await get(partnered, made)
    assert found.destination == "account on file"
    await partnered.sound()


async def test_a_payout_is_paid_and_returned(partnered: Partnered) -> None:
    await partnered.charge(60_00)
    payout = await create(partnered, 60_00)
    assert (await refused(pay(partnered, payout))).metadata["status"] == "PENDING"
    await partnered.desk.work()
    paid = await pay(partnered, payout)
    assert (paid.status, paid.payment_reference) == (pb.PAYOUT_STATUS_PAID, "E2E-1")
    await partnered.desk.work()
    assert await partnered.book("bank:payouts:USD") == 60_00
    assert (await partnered.stands())["paid"] == 60_00
    request_id = str(uuid4())
    back = await give_back(partnered, payout, request_id)
    assert back == await give_back(partnered, payout, request_id)
    assert (back.status, back.return_code) == (pb.PAYOUT_STATUS_RETURNED, "R03")
    assert (await refused(give_back(partnered, payout))).reason == "PAYOUT_STATUS_CONFLICT"
    await partnered.desk.work()
    found = await get(partnered, payout)
    assert [each.recipe for each in found.postings] == [
        "payout-claim",
        "payout-paid",
        "payout-returned",
    ]
    assert all(each.posting_id for each in found.postings)
    assert await partnered.book("bank:payouts:USD") == 0
    assert await partnered.book(TRANSIT) == 0
    assert (await partnered.stands())["carried"] == 60_00
    # The next sweep pays it again.
    assert (await partnered.sweep()).totals == [usd(60_00)]
    await partnered.sound()


async def test_one_that_was_only_claimed_comes_back(partnered: Partnered) -> None:
    await partnered.charge(60_00)
    payout = await create(partnered, 60_00)
    await partnered.desk.work()
    await give_back(partnered, payout)
    # On its way into the books it is no difference.
    assert not [each for each in await partnered.checks() if not each.settling]
    await partnered.desk.work()
    assert await partnered.book(NORTH) == 60_00
    await partnered.sound()


async def test_books_that_somebody_else_moved_are_told_of(partnered: Partnered) -> None:
    await partnered.charge(60_00)
    transfer = ledger_pb2.Transfer(
        transfer_id=str(uuid4()),
        debit_account_id=NORTH,
        credit_account_id="revenue:sku-0:USD",
        amount=usd(1),
        code=9,
        kind=ledger_pb2.KIND_POSTED,
    )
    await partnered.billing.ledger.PostTransfers(
        ledger_service_pb2.PostTransfersRequest(transfers=[transfer])
    )
    (check,) = await partnered.checks()
    assert (check.account_id, check.differs, check.settling) == (NORTH, True, False)
    assert (check.expected, check.booked) == (usd(60_00), usd(59_99))
    await partnered.desk.runtime.violations.drain()
    await partnered.desk.work()
    heard = [
        each.payload
        for each in partnered.desk.world.heard
        if each.subject == "contract.violated" and each.tenant_id == partnered.tenant_id
    ]
    assert [each.contract_id for each in heard] == ["settlement/commissions-in-books"]  # type: ignore[attr-defined]


async def test_commissions_are_listed_line_by_line(partnered: Partnered) -> None:
    await partnered.threshold(10_00)
    charge = await partnered.charge(60_00, 5_00)
    await partnered.charge(7_00, dispute="d-2")
    request = service_pb.ListCommissionsRequest(charge_id=charge.charge_id)
    found = (await partnered.payouts.ListCommissions(request)).commissions
    assert [(each.line_id, each.amount, bool(each.payout_id)) for each in found] == [
        ("2", usd(5_00), False),
        ("1", usd(60_00), True),
    ]
    assert found[0].org_id == "acme"
    held = service_pb.ListCommissionsRequest(dispute_id="d-2")
    assert len((await partnered.payouts.ListCommissions(held)).commissions) == 1
    pages: list[pb.Commission] = []
    token = ""
    while True:
        page = await partnered.payouts.ListCommissions(
            service_pb.ListCommissionsRequest(party="north", page_size=1, page_token=token)
        )
        pages += page.commissions
        token = page.next_page_token
        if not token:
            break
    assert len({(each.charge_id, each.line_id) for each in pages}) == 3


async def test_a_charge_without_partners_leaves_nothing(partnered: Partnered) -> None:
    partnered.desk.world.pricing.partner_pct = ""
    partnered.earns(60_00, partner="")
    await partnered.charge()
    assert await partnered.checks() == []
    found = await partnered.payouts.ListCommissionSweeps(service_pb.ListCommissionSweepsRequest())
    assert not found.sweeps


async def test_billing_that_is_away_is_asked_again(
    desk: Desk, partnered: Partnered, monkeypatch: pytest.MonkeyPatch
) -> None:
    earnings = type(desk.commissions._charges).earnings

    async def away(_self: object, _charge_id: str) -> None:
        raise DomainError("billing is away")

    monkeypatch.setattr(type(desk.commissions._charges), "earnings", away)
    await partnered.charge(60_00)
    assert await partnered.stands() == {}
    monkeypatch.setattr(type(desk.commissions._charges), "earnings", earnings)
    partnered.later(seconds=2)
    await desk.work()
    assert (await partnered.stands())["carried"] == 60_00


CARD = "4111 1111 1111 1111"


async def test_card_numbers_are_not_stored(partnered: Partnered) -> None:
    await partnered.charge(60_00)

    def order(destination: str) -> service_pb.CreatePayoutRequest:
        return service_pb.CreatePayoutRequest(
            request_id=str(uuid4()), party="north", amount=usd(60_00), destination=destination
        )

    for destination in (CARD, f"to {CARD}, Sam", "card=4111%201111%201111%201111"):
        info = await refused(partnered.payouts.CreatePayout(order(destination)))
        assert (info.reason, info.metadata["fields"]) == ("INVALID_FIELD", "destination")
    # Of an IBAN in groups of four, one in eleven looks like a card.
    with pytest.raises(grpc.aio.AioRpcError, match="write an IBAN without spaces"):
        await partnered.payouts.CreatePayout(order("DE15 4822 6584 9083 0570 36"))
    payout = (await partnered.payouts.CreatePayout(order("DE15482265849083057036"))).payout
    await partnered.desk.work()
    paid = await partnered.payouts.RecordPayoutPayment(
        service_pb.RecordPayoutPaymentRequest(
            request_id=str(uuid4()), payout_id=payout.payout_id, payment_reference=f"E2E {CARD}"
        )
    )
    assert paid.payout.payment_reference == "E2E [card number]"
    back = await partnered.payouts.RecordPayoutReturn(
        service_pb.RecordPayoutReturnRequest(
            request_id=str(uuid4()), payout_id=payout.payout_id, return_code=f"R03 {CARD}"
        )
    )
    assert back.payout.return_code == "R03 [card number]"
    assert (await get(partnered, payout)).payment_reference == "E2E [card number]"
    await partnered.desk.work()
    told = [each.payload for each in partnered.desk.world.heard]
    assert "[card number]" in str(told)
    assert "1111 1111" not in str(told)
    await partnered.sound()


async def test_nothing_happened_in_the_future(partnered: Partnered) -> None:
    await partnered.charge(60_00)
    payout = await create(partnered, 60_00)
    await partnered.desk.work()
    now = partnered.desk.world.clock.now()

    def paying(at: datetime) -> service_pb.RecordPayoutPaymentRequest:
        return service_pb.RecordPayoutPaymentRequest(
            request_id=str(uuid4()), payout_id=payout.payout_id, paid_at=stamp(at)
        )

    def giving_back(at: datetime) -> service_pb.RecordPayoutReturnRequest:
        return service_pb.RecordPayoutReturnRequest(
            request_id=str(uuid4()),
            payout_id=payout.payout_id,
            return_code="R03",
            returned_at=stamp(at),
        )

    later = now + timedelta(days=1, minutes=1)
    early = paying(later)
    info = await refused(partnered.payouts.RecordPayoutPayment(early))
    assert (info.reason, info.metadata["fields"]) == ("INVALID_FIELD", "paid_at")
    # Value dates are days of another zone.
    await partnered.payouts.RecordPayoutPayment(paying(now + timedelta(hours=20)))
    info = await refused(partnered.payouts.RecordPayoutReturn(giving_back(later)))
    assert (info.reason, info.metadata["fields"]) == ("INVALID_FIELD", "returned_at")
    before = giving_back(now - timedelta(hours=5))
    info = await refused(partnered.payouts.RecordPayoutReturn(before))
    assert (info.reason, info.metadata["fields"]) == ("INVALID_FIELD", "returned_at")
    await partnered.payouts.RecordPayoutReturn(giving_back(now))
    await partnered.desk.work()
    await partnered.sound()
    # The refusal was of its hour: the same call is judged anew.
    partnered.later(hours=1)
    assert (
        await refused(partnered.payouts.RecordPayoutPayment(early))
    ).reason == "PAYOUT_STATUS_CONFLICT"


async def test_books_that_are_closed_behind_a_payout_do_not_hold_it_up(
    partnered: Partnered,
) -> None:
    await partnered.charge(60_00)
    payout = await create(partnered, 60_00)
    made_at = partnered.desk.world.clock.now()
    partnered.later(hours=1)
    close = ledger_service_pb2.ClosePeriodRequest(
        request_id=str(uuid4()),
        currency_code="USD",
        closed_through=stamp(made_at + timedelta(minutes=1)),
    )
    await partnered.billing.ledger.ClosePeriod(close)
    await partnered.desk.work()
    assert (await get(partnered, payout)).status == pb.PAYOUT_STATUS_CLAIMED
    # What happened then is booked, too.
    await partnered.payouts.RecordPayoutPayment(
        service_pb.RecordPayoutPaymentRequest(
            request_id=str(uuid4()), payout_id=payout.payout_id, paid_at=stamp(made_at)
        )
    )
    await partnered.desk.work()
    assert await partnered.book(TRANSIT) == 0
    await partnered.sound()


async def test_a_payout_that_is_stuck_hides_no_difference_of_others(partnered: Partnered) -> None:
    await partnered.charge(60_00)
    await partnered.charge(70_00, partner="south")
    await create(partnered, 10_00)
    # Somebody takes a minor unit from another party, while the claim is on its way.
    transfer = ledger_pb2.Transfer(
        transfer_id=str(uuid4()),
        debit_account_id="payable:partner:south:USD",
        credit_account_id="revenue:sku-0:USD",
        amount=usd(1),
        code=9,
        kind=ledger_pb2.KIND_POSTED,
    )
    await partnered.billing.ledger.PostTransfers(
        ledger_service_pb2.PostTransfersRequest(transfers=[transfer])
    )
    found = {each.party: (each.differs, each.settling) for each in await partnered.checks()}
    assert found == {"north": (False, True), "south": (True, False)}
    await partnered.desk.work()
    found = {each.party: (each.differs, each.settling) for each in await partnered.checks()}
    assert found == {"north": (False, False), "south": (True, False)}


async def test_an_account_that_takes_no_claim_is_named_by_its_result(partnered: Partnered) -> None:
    await partnered.charge(60_00)
    accounts = [
        ledger_pb2.Account(
            account_id=TRANSIT,
            currency_code="USD",
            type=ledger_pb2.ACCOUNT_TYPE_LIABILITY,
            flags=ledger_pb2.AccountFlags(closed=True),
        )
    ]
    await partnered.billing.ledger.CreateAccounts(
        ledger_service_pb2.CreateAccountsRequest(accounts=accounts)
    )
    payout = await create(partnered, 60_00)
    await partnered.desk.work()
    with partnered.acting(), pytest.raises(PayoutNotBookable) as caught:
        await partnered.desk.payouts.post(f"{payout.payout_id}:1")
    assert caught.value.metadata["result"] == "CREDIT_ACCOUNT_CLOSED"
