"""Commission that is contested is held, released to whom the dispute's end names, and given back from where it is."""

from __future__ import annotations

from payments.ledger.v1 import ledger_service_pb2

from tests.integration.billing.test_corrections import adjust, books, reverse
from tests.support.billing.charging import Tenant


def contest(tenant: Tenant, dispute_id: str = "d-7", partner_id: str = "north") -> None:
    tenant.world.pricing.dispute_id = dispute_id
    tenant.world.pricing.partner_id = partner_id
    tenant.world.pricing.lines = (("a", 1000), ("b", 505))


async def test_what_is_earned_under_a_dispute_is_held_in_its_account(tenant: Tenant) -> None:
    contest(tenant)
    charge = await tenant.charge()
    assert {(line.partner_id, line.dispute_id) for line in charge.lines} == {("north", "d-7")}
    assert await books(tenant) == {
        "receivable:acme:USD": 1505,
        "revenue:a:USD": -1000,
        "revenue:b:USD": -505,
        "commission:USD": 150,
        "held:commission:d-7:USD": -150,
    }
    account = await tenant.ledger.GetAccount(
        ledger_service_pb2.GetAccountRequest(account_id="held:commission:d-7:USD")
    )
    assert account.account.owner == ""


async def test_it_is_released_to_whom_the_dispute_ends_for(tenant: Tenant) -> None:
    contest(tenant)
    charge = await tenant.charge()
    contest(tenant, dispute_id="", partner_id="south")
    made = await adjust(tenant, charge)
    assert (made.total.minor_units, made.partner_total.minor_units) == (0, 0)
    assert await books(tenant) == {
        "receivable:acme:USD": 1505,
        "revenue:a:USD": -1000,
        "revenue:b:USD": -505,
        "commission:USD": 150,
        "payable:partner:south:USD": -150,
    }
    # Taken back from where it is by then, to nothing.
    await reverse(tenant, charge)
    assert await books(tenant) == {}
    assert await tenant.difference() == 0


async def test_for_the_same_partner_and_at_another_rate(tenant: Tenant) -> None:
    contest(tenant)
    charge = await tenant.charge()
    contest(tenant, dispute_id="")
    tenant.world.pricing.partner_pct = "12.5"
    await adjust(tenant, charge)
    found = await books(tenant)
    # 125 and 63.125: an exact share of each line, rounded by itself.
    assert found["payable:partner:north:USD"] == -188
    assert found["commission:USD"] == 188
    assert "held:commission:d-7:USD" not in found


async def test_to_nobody(tenant: Tenant) -> None:
    contest(tenant)
    charge = await tenant.charge()
    contest(tenant, dispute_id="", partner_id="")
    tenant.world.pricing.partner_pct = ""
    await adjust(tenant, charge)
    found = await books(tenant)
    assert found == {"receivable:acme:USD": 1505, "revenue:a:USD": -1000, "revenue:b:USD": -505}


async def test_what_is_held_is_given_back_before_the_dispute_ends(tenant: Tenant) -> None:
    contest(tenant)
    charge = await tenant.charge()
    tenant.world.pricing.lines = (("a", 600),)
    await adjust(tenant, charge)
    assert (await books(tenant))["held:commission:d-7:USD"] == -60
    await reverse(tenant, charge)
    assert await books(tenant) == {}


async def test_disputes_hold_apart(tenant: Tenant) -> None:
    contest(tenant)
    await tenant.charge()
    contest(tenant, dispute_id="d-8")
    await tenant.charge(day=1)
    found = await books(tenant)
    assert found["held:commission:d-7:USD"] == found["held:commission:d-8:USD"] == -150
