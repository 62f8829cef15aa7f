"""Taxes on charges: kept with their lines, owed to authorities, corrected and taken back, to the minor unit."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from google.protobuf import json_format
from payments.billing.v1 import charge_service_pb2 as service_pb

from services.cli import proofs
from services.runtime.errors import Code, DomainError
from tests.integration.billing.test_corrections import adjust, books, reverse
from tests.support.billing.charging import Tax, Tenant, refused


class TaxRateMissing(DomainError):
    """What pricing says where it knows no rate."""

    code = Code.FAILED_PRECONDITION
    reason = "TAX_RATE_MISSING"
    state_dependent = True
    org_id: str


def tax(tenant: Tenant, *taxes: Tax) -> None:
    tenant.world.pricing.lines = (("a", 1000), ("b", 505))
    tenant.world.pricing.taxes = taxes


async def test_taxes_are_owed_to_their_authorities(tenant: Tenant) -> None:
    tax(tenant, Tax("CA", "GST", 5), Tax("CA-QC", "QST", 10, authority="revenu-quebec"))
    charge = await tenant.charge()
    assert charge.total.minor_units == 1505
    assert charge.tax_total.minor_units == 50 + 100 + 25 + 51
    assert charge.total_with_tax.minor_units == 1731
    assert charge.total_without_tax.minor_units == 1505
    assert [(each.tax, each.amount.minor_units) for each in charge.taxes] == [
        ("GST", 75),
        ("QST", 151),
    ]
    assert await books(tenant) == {
        "receivable:acme:USD": 1731,
        "revenue:a:USD": -1000,
        "revenue:b:USD": -505,
        "commission:USD": 150,
        "payable:partner:north:USD": -150,
        "tax:CA:USD": -75,
        "tax:revenu-quebec:USD": -151,
    }
    assert await tenant.difference() == 0
    request = service_pb.GetChargeRequest(charge_id=charge.charge_id)
    assert (await tenant.charges.GetCharge(request)).charge == charge


async def test_an_inclusive_tax_is_no_revenue_and_nobody_earns_on_it(tenant: Tenant) -> None:
    tax(tenant, Tax("DE", "VAT", 19, inclusive=True))
    charge = await tenant.charge()
    first = charge.lines[0]
    # Of 10.00, 1.60 are tax; 10 % of 8.40 are the partner's.
    assert first.amount_tax.minor_units == 160
    assert first.amount_without_tax.minor_units == 840
    assert first.amount_with_tax.minor_units == 1000
    assert (first.partner_amount.minor_units, first.net.minor_units) == (84, 756)
    assert charge.total_with_tax == charge.total
    found = await books(tenant)
    assert found["receivable:acme:USD"] == 1505
    assert found["revenue:a:USD"] == -840
    assert found["tax:DE:USD"] == -241


async def test_what_is_adjusted_bears_the_difference_of_tax_and_a_reversal_takes_all_back(
    tenant: Tenant,
) -> None:
    tax(tenant, Tax("CA", "GST", 5))
    charge = await tenant.charge()
    tenant.world.pricing.lines = (("a", 1200), ("b", 505))
    made = await adjust(tenant, charge)
    (line,) = made.lines
    (found,) = line.taxes
    assert (found.amount.minor_units, found.amount_before.minor_units) == (10, 50)
    assert (made.total.minor_units, made.total_with_tax.minor_units) == (200, 210)
    assert (await books(tenant))["tax:CA:USD"] == -85
    # At another rate what was billed at the old one is given back.
    tax(tenant, Tax("CA", "GST", 6))
    tenant.world.pricing.lines = (("a", 1200), ("b", 505))
    again = await adjust(tenant, charge)
    assert again.total.minor_units == 0
    assert again.total_with_tax.minor_units == 72 - 60 + 30 - 25
    assert (await books(tenant))["tax:CA:USD"] == -102
    await reverse(tenant, charge)
    assert await books(tenant) == {}
    assert await tenant.difference() == 0


async def test_what_cannot_be_taxed_is_refused_before_anything_is_stored(tenant: Tenant) -> None:
    tenant.world.pricing.error = TaxRateMissing("no tax rate", org_id="acme")
    request_id = str(uuid4())
    assert (await refused(tenant.charge(request_id))).reason == "TAX_RATE_MISSING"
    listed = await tenant.charges.ListCharges(service_pb.ListChargesRequest(org_id="acme"))
    assert not listed.charges
    assert await books(tenant) == {}
    # Once the rate is there the same call is carried out.
    tenant.world.pricing.error = None
    tax(tenant, Tax("CA", "GST", 5))
    charge = await tenant.charge(request_id)
    assert charge.total_with_tax.minor_units == 1580


async def test_a_preview_and_the_explanation_show_taxes(tenant: Tenant) -> None:
    tax(tenant, Tax("CA", "GST", 5))
    charge = await tenant.charge()
    request = service_pb.ExplainChargeRequest(charge_id=charge.charge_id)
    explained = (await tenant.charges.ExplainCharge(request)).explanation
    assert explained.total_with_tax == charge.total_with_tax
    assert [*explained.taxes] == [*charge.taxes]
    assert explained.recipe_version == 3
    first: Any = explained.lines[0]
    assert [posting.leg for posting in first.postings] == ["gross", "partner", "tax"]
    assert "CA GST: 5 % of 10.00 USD without tax, rounded half up: 0.50 USD." in first.steps
    preview = service_pb.PreviewChargeRequest(org_id="acme", period=charge.period)
    await reverse(tenant, charge)
    shown = (await tenant.charges.PreviewCharge(preview)).charge
    assert shown.total_with_tax == charge.total_with_tax
    assert [*shown.taxes] == [*charge.taxes]
    text, _ = proofs.content([proofs._plain(explained)])
    assert json.loads(text)["charges"][0]["taxes"][0]["tax"] == "GST"
    assert json_format.MessageToDict(explained)


async def test_a_list_has_the_taxes_too(tenant: Tenant) -> None:
    tax(tenant, Tax("CA", "GST", 5))
    charge = await tenant.charge()
    request = service_pb.ListChargesRequest(org_id="acme")
    (listed,) = (await tenant.charges.ListCharges(request)).charges
    assert listed.total_with_tax == charge.total_with_tax
    assert [line.taxes[0].amount for line in listed.lines] == [
        line.taxes[0].amount for line in charge.lines
    ]
