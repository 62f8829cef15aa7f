"""What the verifier says of taxes: all that was charged is computed again, and whatever is changed is found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.billing.domain.charges import ChargeTooLarge, rated_line
from services.billing.domain.corrections import Billed, NothingToAdjust
from services.pricing.domain.models.per_unit import PerUnit
from services.pricing.domain.prices import Price
from services.pricing.domain.proration import Proration
from services.pricing.domain.tax_table import TaxExemption, TaxMissing, TaxPolicy, TaxRounding
from services.pricing.domain.taxes import TaxRules
from tests.support.billing import exported
from tests.support.billing.exported import PERIOD, Catalogue, Used
from tests.support.pricing.taxing import QUEBEC, any_rules, rate, rules
from tollmesh_verify import Verdict, seal, verify

D = Decimal
TABLE = rules(
    rate(per_cent="5", inclusive=True),
    rate("CA-QC", "QST", "9.975"),
    rate("CA-QC", "LEVY", "1", compound=True),
    rounding=TaxRounding.DOCUMENT,
)
CATALOGUE = Catalogue(
    {"calls": Price(per_unit=PerUnit(D("0.01"))), "sms": Price(per_unit=PerUnit(D("0.05")))},
    currency_code="CAD",
    partner_id="north",
    partner_pcts={"": D(10)},
    later_earners=((PERIOD.start_at + timedelta(days=10), None),),
    taxes=TABLE,
    tax_codes={"sms": "telecom"},
)
USED = [
    Used("calls", "", ((D(1000), ""),)),
    Used("sms", "p", ((D(700), ""),)),
    Used("sms", "q", ((D(333), ""),)),
]


def document() -> dict[str, Any]:
    return exported.tree(exported.charge(exported.rating(CATALOGUE, USED)))


def findings(changed: dict[str, Any]) -> set[str]:
    """Seal a document anew, and return the fields that differ."""
    changed["seal"] = seal(changed["charges"])
    return {each.field for each in verify(exported.content(changed)).findings}


def assert_verified(*charges: Any) -> None:
    report = verify(exported.content(exported.tree(*charges)))
    assert report.verdict is Verdict.VERIFIED, [*report.lines_of_text()]


def line(of: dict[str, Any], number: int = 0) -> Any:
    return of["charges"][0]["lines"][number]["line"]


def test_taxes_of_shared_lines_are_verified() -> None:
    whole = document()
    report = verify(exported.content(whole))
    assert report.verdict is Verdict.VERIFIED, [*report.lines_of_text()]
    assert any("with tax" in text for text in report.lines_of_text())
    # Nobody earns on taxes: of 10.00 by 10 of 31 days, without 5 % that the price holds, 10 %.
    first = line(whole)
    assert first["amount_gross"]["minor_units"] == "323"
    assert first["amount_without_tax"]["minor_units"] == "308"
    assert first["partner_amount"]["minor_units"] == "31"
    legs = [each["leg"] for each in whole["charges"][0]["lines"][0]["postings"]]
    assert legs == ["gross", "partner", "tax", "tax", "tax"]
    posted = [
        (each["credit_account_id"], int(each["amount"]["minor_units"]))
        for item in whole["charges"][0]["lines"]
        for each in item["postings"]
        if each["debit_account_id"].startswith("receivable")
    ]
    owed = int(whole["charges"][0]["total_with_tax"]["minor_units"])
    assert sum(amount for _, amount in posted) == owed


@settings(max_examples=20)
@given(st.lists(any_rules(codes=("", "telecom")), min_size=2, max_size=3), st.data())
def test_whatever_the_table_charges_and_corrections_are_verified(
    tables: list[TaxRules], data: st.DataObject
) -> None:
    quantities = st.integers(0, 2000).map(D)

    def rated(table: TaxRules) -> Any:
        used = [
            replace(each, events=((data.draw(quantities), ""),))
            for each in USED
            if data.draw(st.booleans())
        ]
        cuts = [PERIOD.start_at + timedelta(days=12)] if data.draw(st.booleans()) else []
        return exported.rating(
            replace(CATALOGUE, taxes=table), used, changes_at=cuts, proration=Proration.SECOND
        )

    first, *later = tables
    billed = Billed(exported.charge(rated(first)))
    for table in later:
        try:
            made = exported.adjustment(billed, rated(table))
        except NothingToAdjust:
            continue
        billed = Billed(billed.base, (*billed.corrections, made))
    reversal = exported.reversal(billed)
    report = verify(exported.content(exported.tree(*billed.charges, reversal)))
    assert not report.findings, [*report.lines_of_text()]
    # A part of the period may be without lines, of which nothing can be told.
    assert {gap.what for gap in report.gaps} <= {
        "its lines are of a part of its period; that the rest has none cannot be told"
    }
    sums: dict[Any, int] = {}
    for charge in (*billed.charges, reversal):
        for each in charge.lines:
            for tax in each.rated.taxes:
                sums[tax.key] = sums.get(tax.key, 0) + tax.amount.minor_units
    assert not any(sums.values())
    assert not sum(charge.total_with_tax.minor_units for charge in (*billed.charges, reversal))


def test_an_adjustment_at_the_same_rates_finds_nothing() -> None:
    rated = exported.rating(CATALOGUE, USED)
    with pytest.raises(NothingToAdjust):
        exported.adjustment(Billed(exported.charge(rated)), rated)


def test_a_rate_that_was_wrong_is_given_back_and_the_right_one_is_billed() -> None:
    wrong = replace(CATALOGUE, taxes=rules(rate(per_cent="5")), partner_id="", later_earners=())
    right = replace(wrong, taxes=rules(rate(per_cent="6")))
    base = exported.charge(exported.rating(wrong, USED))
    made = exported.adjustment(Billed(base), exported.rating(right, USED))
    assert_verified(base, made)
    told = [
        (str(tax.key.rate), tax.before and tax.before.minor_units, tax.amount.minor_units)
        for tax in made.lines[0].rated.taxes
    ]
    assert told == [("6", 0, 60), ("5", 50, -50)]
    assert made.total.minor_units == 0
    assert made.total_with_tax.minor_units == 62


def test_an_organisation_that_turns_out_exempt_gets_its_tax_back() -> None:
    exempt = replace(QUEBEC, exemptions=(TaxExemption("CA", "cert-7"),))
    wrong = replace(CATALOGUE, taxes=rules(rate()), partner_id="", later_earners=())
    right = replace(wrong, taxes=rules(rate(), profile=exempt))
    base = exported.charge(exported.rating(wrong, USED))
    made = exported.adjustment(Billed(base), exported.rating(right, USED))
    assert_verified(base, made)
    assert made.total_with_tax.minor_units == -sum(each.amount.minor_units for each in base.taxes)


def test_untaxed_by_the_policy_is_verified() -> None:
    untaxed = TaxRules.of(None, TaxPolicy(missing=TaxMissing.UNTAXED), [])
    base = exported.charge(exported.rating(replace(CATALOGUE, taxes=untaxed), USED))
    assert_verified(base)
    assert not base.taxes


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], set[str]]] = {
    "the tax of a line": (
        lambda made: line(made)["taxes"][0]["amount"].update(minor_units="1"),
        {"line.taxes[0].amount.minor_units"},
    ),
    "the tax of the whole line": (
        lambda made: line(made)["proof"]["tax"]["taxes"][0]["amount"].update(minor_units="1"),
        {"line.proof.tax.taxes[0].amount.minor_units", "line.proof"},
    ),
    "what the line comes to with it": (
        lambda made: line(made)["amount_with_tax"].update(minor_units="1"),
        {"line.amount_with_tax.minor_units"},
    ),
    "what the line comes to without it": (
        lambda made: line(made)["amount_without_tax"].update(minor_units="1"),
        {"line.amount_without_tax.minor_units"},
    ),
    "the sum of a line": (
        lambda made: line(made).pop("amount_tax"),
        {"line.amount_tax"},
    ),
    "a tax left out": (
        lambda made: line(made)["taxes"].pop(),
        {"line.taxes", "postings"},
    ),
    "the total": (
        lambda made: made["charges"][0]["total_with_tax"].update(minor_units="1"),
        {"total_with_tax.minor_units"},
    ),
    "the total of a tax": (
        lambda made: made["charges"][0]["taxes"][0]["amount"].update(minor_units="1"),
        {"taxes[0].amount.minor_units"},
    ),
    "who it is owed to": (
        lambda made: made["charges"][0]["lines"][0]["postings"][2].update(
            credit_account_id="tax:XX:CAD"
        ),
        {"postings[2].credit_account_id"},
    ),
    "when it is levied": (
        lambda made: line(made)["proof"]["tax"].update(taxed_at="2026-10-31T00:00:00Z"),
        {"line.proof.tax.taxed_at", "line.proof"},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_is_named(name: str) -> None:
    change, wanted = CHANGES[name]
    changed = copy.deepcopy(document())
    change(changed)
    assert wanted <= findings(changed)


def test_what_a_line_counts_on_from_is_that_of_the_lines_before() -> None:
    changed = document()
    for number in (2, 3):
        line(changed, number)["proof"]["tax"]["taxes"][0]["prior_amount"]["minor_units"] = "7"
    assert "line.proof.tax.taxes[0].prior_amount.minor_units" in findings(changed)


def test_more_taxes_than_one_posting_takes_are_refused() -> None:
    rated = exported.rating(CATALOGUE, USED)
    many = replace(rated, lines=[rated.lines[0]] * 1700)
    with pytest.raises(ChargeTooLarge, match="5100 taxes"):
        exported.charge(many)
    assert rated_line("1", rated.lines[0]).partner_amount.minor_units == 31
