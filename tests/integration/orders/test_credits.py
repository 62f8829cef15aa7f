"""Grants of credits: given, told, taken back, ended, and in the books."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from services.orders.app.credits import Credits
from services.orders.domain.credits import Entry, not_bookable
from services.orders.work.credits import credit_work
from services.runtime.ids import new_id
from tests.integration.orders.test_orders import DASHED, check
from tests.support.billing.charging import refused
from tests.support.orders.wallet import Wallet, stamped

DAY = timedelta(days=1)
ORDER = "ord_0190c1de-0000-7000-8000-00000000000a"


def now(wallet: Wallet) -> datetime:
    return wallet.customer.shop.clock.now()


async def pass_time(wallet: Wallet, span: timedelta) -> None:
    """Let time pass, and all be done that falls due in it."""
    wallet.customer.shop.clock.advance(span)
    await swept(wallet)


async def swept(wallet: Wallet) -> None:
    while await wallet.customer.shop.credits.sweep():
        pass


async def test_what_is_bought_is_told_once_and_in_the_books(wallet: Wallet) -> None:
    request_id = str(uuid4())
    bought: dict[str, Any] = {"source": "PURCHASED", "order_id": ORDER}
    calls = [wallet.grant("120.00", request_id, **bought) for _ in range(3)]
    first, *others = await asyncio.gather(*calls)
    assert all(other == first for other in others)
    assert first.grant_id.startswith("gra_")
    assert (first.available, first.used, first.held) == ("120.00", "0.00", "0.00")
    assert await wallet.balance() == ("120.00", "0.00")
    ((subject, payload),) = await wallet.told()
    check(subject, payload)
    assert payload == {
        "purchase_id": first.grant_id,
        "order_id": ORDER,
        "person_id": wallet.customer.person_id,
        "credit_count": 12000,
        "unit": "USD",
        "purchased_at": payload["purchased_at"],
    }
    await swept(wallet)
    person = wallet.customer.person_id
    assert await wallet.customer.balance(f"credit-balance:{person}:USD") == -12000
    assert await wallet.customer.balance(f"receivable:{person}:USD") == 12000
    assert await wallet.customer.difference() == 0


async def test_a_promotion_is_our_expense_and_nobody_is_told_of_a_purchase(wallet: Wallet) -> None:
    await wallet.grant("5.00")
    await swept(wallet)
    assert await wallet.told() == []
    assert await wallet.customer.balance("credits-granted:USD") == 500


async def test_units_of_ones_own_come_whole_and_stay_out_of_the_books(wallet: Wallet) -> None:
    grant = await wallet.grant("10", unit="lesson", source="PURCHASED", order_id=ORDER)
    assert (grant.amount, grant.available) == ("10", "10")
    assert await wallet.balance("lesson") == ("10", "0")
    assert await wallet.balance() == ("0.00", "0.00")
    ((subject, payload),) = await wallet.told()
    check(subject, payload)
    assert (payload["credit_count"], payload["unit"]) == (10, "lesson")
    with psycopg.connect(wallet.customer.shop.database.owner_admin) as owner:
        due = owner.execute(
            "SELECT count(*) FROM orders.credit_due WHERE tenant_id = %s",
            [wallet.customer.tenant_id],
        ).fetchone()
    assert due == (0,)


async def test_a_balance_is_told_at_any_time(wallet: Wallet) -> None:
    start = now(wallet)
    await wallet.grant("10.00", expires_at=start + 10 * DAY)
    await wallet.grant("7.00", effective_at=start + 5 * DAY)
    wallet.customer.shop.clock.advance(DAY)
    late = await wallet.grant("100.00")
    wallet.customer.shop.clock.advance(DAY)
    await wallet.reverse(late.grant_id)
    expected = [
        (start - DAY, "0.00"),
        (start, "10.00"),
        (start + DAY, "110.00"),
        (start + 2 * DAY, "10.00"),
        (start + 5 * DAY, "17.00"),
        (start + 10 * DAY - timedelta.resolution, "17.00"),
        (start + 10 * DAY, "7.00"),
    ]
    assert [await wallet.balance(at=at) for at, _ in expected] == [
        (available, "0.00") for _, available in expected
    ]
    await pass_time(wallet, 20 * DAY)
    assert [(await wallet.balance(at=at))[0] for at, _ in expected] == [
        available for _, available in expected
    ]
    assert await wallet.balance() == ("7.00", "0.00")


async def test_what_expires_lapses_once_and_is_breakage(wallet: Wallet) -> None:
    grant = await wallet.grant("30.00", expires_at=now(wallet) + DAY)
    await pass_time(wallet, DAY - timedelta.resolution)
    assert (await wallet.grants())[0].lapsed == "0.00"
    await pass_time(wallet, timedelta.resolution)
    (after,) = await wallet.grants()
    assert (after.grant_id, after.lapsed, after.available) == (grant.grant_id, "30.00", "0.00")
    await pass_time(wallet, 10 * DAY)
    assert await wallet.customer.balance("breakage:USD") == -3000
    assert await wallet.customer.balance(f"credit-balance:{wallet.customer.person_id}:USD") == 0
    assert await wallet.customer.difference() == 0


async def test_a_reset_carries_the_rollover_for_as_many_periods_as_there_are(
    wallet: Wallet,
) -> None:
    rollover = {"amount_max": "20.00", "periods": 2, "period_days": 30}
    await wallet.grant("30.00", expires_at=now(wallet) + DAY, rollover=rollover)
    await pass_time(wallet, DAY)
    assert await wallet.balance() == ("20.00", "0.00")
    (grant,) = await wallet.grants()
    assert (grant.lapsed, grant.rollover.periods) == ("10.00", 1)
    await pass_time(wallet, 30 * DAY)
    assert await wallet.balance() == ("20.00", "0.00")
    await pass_time(wallet, 30 * DAY)
    assert await wallet.balance() == ("0.00", "0.00")
    assert await wallet.customer.balance("breakage:USD") == -3000


async def test_a_reversal_is_told_once_and_changes_nothing_twice(wallet: Wallet) -> None:
    grant = await wallet.grant("30.00", source="PURCHASED", order_id=ORDER)
    calls = [wallet.reverse(grant.grant_id) for _ in range(4)]
    answers = await asyncio.gather(*calls)
    assert sorted(answer.taken_back for answer in answers) == ["0.00"] * 3 + ["30.00"]
    assert all(answer.grant.taken_back == "30.00" for answer in answers)
    assert all(answer.grant.HasField("reversed_at") for answer in answers)
    told = [payload for subject, payload in await wallet.told() if subject == "credit.reversed"]
    (payload,) = told
    check("credit.reversed", payload)
    assert (payload["amount_cents"], payload["credit_count"]) == (3000, 3000)
    assert (payload["currency"], payload["used_count"], payload["held_count"]) == ("USD", 0, 0)
    await swept(wallet)
    # Where the ledger had the second before the first, it was put off.
    await pass_time(wallet, timedelta(minutes=1))
    person = wallet.customer.person_id
    assert await wallet.customer.balance(f"receivable:{person}:USD") == 0
    assert (await refused(wallet.reverse(new_id("gra")))).reason == "NOT_FOUND"


async def test_grants_are_listed_the_latest_first(wallet: Wallet) -> None:
    made = []
    for number in range(5):
        wallet.customer.shop.clock.advance(timedelta(seconds=1))
        fields = {"unit": "lesson"} if number == 2 else {}
        if number == 3:
            fields = {"source": "PURCHASED", "order_id": ORDER}
        made.append((await wallet.grant("1", **fields)).grant_id)
    latest = list(reversed(made))
    assert [each.grant_id for each in await wallet.grants(page_size=2)] == latest
    assert [each.grant_id for each in await wallet.grants(unit="lesson")] == [made[2]]
    assert [each.grant_id for each in await wallet.grants(order_id=ORDER)] == [made[3]]
    assert await wallet.grants(owner_id="nobody") == []


PAST = stamped(datetime(2020, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"amount": "0"}, "INVALID_FIELD", "grant.amount"),
        ({"amount": "1.005"}, "INVALID_FIELD", "grant.amount"),
        ({"amount": "-1"}, "INVALID_FIELD", "grant.amount"),
        ({"amount": "999999999999999"}, "INVALID_FIELD", "grant.amount"),
        ({"amount": "1.5", "unit": "lesson"}, "INVALID_FIELD", "grant.amount"),
        ({"unit": "XQZ"}, "UNKNOWN_CURRENCY", ""),
        ({"source": "GIFT"}, "INVALID_FIELD", "grant.source"),
        ({"source": "PURCHASED"}, "INVALID_FIELD", "grant.order_id"),
        ({"order_id": ORDER}, "INVALID_FIELD", "grant.order_id"),
        ({"owner_id": DASHED}, "INVALID_FIELD", "grant.owner_id"),
        ({"owner_id": ""}, "INVALID_FIELD", "grant.owner_id"),
        ({"expires_at": PAST}, "INVALID_FIELD", "grant.expires_at"),
        ({"available": "5"}, "INVALID_FIELD", "grant.available"),
        (
            {"rollover": {"amount_max": "1", "periods": 1, "period_days": 1}},
            "INVALID_FIELD",
            "grant.rollover",
        ),
    ],
)
async def test_what_is_refused_leaves_nothing(
    wallet: Wallet, fields: dict[str, Any], reason: str, field: str
) -> None:
    info = await refused(wallet.grant(**fields))
    assert (info.reason, info.metadata.get("fields", "")) == (reason, field)
    assert await wallet.grants() == []
    assert await wallet.told() == []


async def test_a_balance_in_what_is_no_currency_is_refused(wallet: Wallet) -> None:
    assert (await refused(wallet.balance("XQZ"))).reason == "UNKNOWN_CURRENCY"


class Refusing:
    """Books that take nothing."""

    async def post(self, entry: Entry) -> UUID:
        raise not_bookable(entry, "ACCOUNT_CLOSED")


async def test_what_the_ledger_refuses_is_tried_again_and_told(wallet: Wallet) -> None:
    await wallet.grant("5.00")
    shop = wallet.customer.shop
    refusing = Credits(shop.runtime.database, Refusing())
    worker = credit_work(shop.runtime.database, refusing, shop.runtime.telemetry)
    for _ in range(8):
        await worker.sweep()
        shop.clock.advance(timedelta(minutes=6))
    with psycopg.connect(shop.database.owner_admin) as owner:
        told = owner.execute(
            "SELECT count(*) FROM mesh.event WHERE tenant_id = %s AND subject = 'contract.violated'",
            [wallet.customer.tenant_id],
        ).fetchone()
    assert told == (1,)
    await swept(wallet)
    assert await wallet.customer.balance("credits-granted:USD") == 500
