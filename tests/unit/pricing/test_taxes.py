"""Taxes of a document: worked by hand, and laws that hold whatever the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.pricing.domain.catalog import Catalog
from services.pricing.domain.changes import check, decide
from services.pricing.domain.errors import TaxesTooMany, TaxProfileMissing, TaxRateMissing
from services.pricing.domain.models.flat import Flat
from services.pricing.domain.models.per_unit import PerUnit
from services.pricing.domain.prices import Price
from services.pricing.domain.rating import (
    PartTerms,
    PlanSource,
    RatedPart,
    Span,
    Term,
    Terms,
    Usage,
    estimated_items,
    rate_whole,
    tax_items,
)
from services.pricing.domain.tax_table import (
    TaxExemption,
    TaxMissing,
    TaxPolicy,
    TaxProfile,
    TaxRate,
    TaxRounding,
    Treatment,
)
from services.pricing.domain.taxes import (
    TaxDocument,
    TaxItem,
    TaxLine,
    TaxRules,
    included,
    on_top,
    taxed,
    totals,
)
from services.pricing.domain.values import ONE
from services.runtime.errors import CurrencyMismatch, InvalidField
from services.runtime.money import Money
from tests.support.pricing.taxing import QUEBEC, SINCE, any_rules, rate, rules

AMOUNTS = st.integers(-(10**9), 10**9)
ITEMS = st.lists(st.tuples(st.sampled_from(["", "a", "b", "other"]), AMOUNTS), max_size=8)
POSITIVE = st.lists(
    st.tuples(st.sampled_from(["", "a", "b"]), st.integers(0, 10**9)), min_size=1, max_size=8
)


def on(
    found: TaxRules, *items: tuple[str, int], currency: str = "CAD"
) -> list[tuple[TaxLine, ...]]:
    listed = [TaxItem(code, Money(currency, amount)) for code, amount in items]
    return taxed(TaxDocument("acme", found.profile, SINCE, listed), found)


def amounts(taxes: Sequence[TaxLine]) -> list[tuple[str, int, int]]:
    return [(each.tax, each.taxable.minor_units, each.amount.minor_units) for each in taxes]


# ---- By hand


def test_a_country_and_a_region_each_have_their_tax() -> None:
    (found,) = on(rules(rate(), rate("CA-QC", "QST", "9.975")), ("", 10_000))
    # 9.975 % of 100.00 is 9.975, half up.
    assert amounts(found) == [("GST", 10_000, 500), ("QST", 10_000, 998)]


def test_a_compound_tax_is_levied_on_the_one_before() -> None:
    (found,) = on(rules(rate(), rate("CA-QC", "QST", "7.5", compound=True)), ("", 10_000))
    # 7.5 % of 105.00.
    assert amounts(found) == [("GST", 10_000, 500), ("QST", 10_500, 788)]


def test_an_inclusive_tax_is_taken_out() -> None:
    (found,) = on(rules(rate(per_cent="19", inclusive=True)), ("", 11_900))
    assert amounts(found) == [("GST", 10_000, 1_900)]
    # 100.00 by 19 of 119 is 15.966…
    (found,) = on(rules(rate(per_cent="19", inclusive=True)), ("", 10_000))
    assert amounts(found) == [("GST", 8_403, 1_597)]


def test_inclusive_taxes_leave_what_is_left_of_the_amount() -> None:
    table = rules(
        rate(per_cent="5", inclusive=True),
        rate("CA-QC", "QST", "10", inclusive=True, compound=True),
        rate("CA-QC", "LEVY", "1"),
    )
    (found,) = on(table, ("", 10_000))
    # 1 + 0.05 + 0.105 = 1.155: of 100.00, 4.329 and 9.0909; 86.58 are left, and 1 % of that is 0.87.
    assert amounts(found) == [("GST", 8_658, 433), ("QST", 9_091, 909), ("LEVY", 8_658, 87)]
    assert included(found) == 1_342
    assert on_top(found) == 87


def test_rounding_by_the_document_adds_up_to_its_tax() -> None:
    by_line = on(rules(rate()), *[("", 10)] * 3)
    # 0.005 each, half up, is a cent too much.
    assert [each.amount.minor_units for (each,) in by_line] == [1, 1, 1]
    by_document = on(rules(rate(), rounding=TaxRounding.DOCUMENT), *[("", 10)] * 3)
    # 0.5, 1.0 and 1.5 cents so far: 1, 1 and 2.
    assert [each.amount.minor_units for (each,) in by_document] == [1, 0, 1]
    assert [each.prior and each.prior.minor_units for (each,) in by_document] == [0, 10, 20]


@pytest.mark.parametrize(("currency", "tax"), [("JPY", 10), ("KWD", 10), ("CLF", 10)])
def test_minor_units_are_those_of_the_currency(currency: str, tax: int) -> None:
    ((found,),) = on(rules(rate(per_cent="8")), ("", 125), currency=currency)
    assert found.amount == Money(currency, tax)


def test_a_tax_code_has_its_own_rate_before_the_one_for_all() -> None:
    table = rules(
        rate(per_cent="20"),
        rate(per_cent="7", tax_code="books"),
        rate(tax_code="post", treatment=Treatment.EXEMPT),
        rate(tax_code="export", treatment=Treatment.ZERO_RATED),
        rate(tax_code="gift", treatment=Treatment.OUT_OF_SCOPE),
    )
    found = on(table, *((code, 100) for code in ("books", "post", "export", "gift", "other")))
    assert [(each.treatment.name, each.amount.minor_units) for (each,) in found] == [
        ("TAXED", 7),
        ("EXEMPT", 0),
        ("ZERO_RATED", 0),
        ("OUT_OF_SCOPE", 0),
        ("TAXED", 20),
    ]


def test_a_certificate_exempts_from_its_jurisdiction_only() -> None:
    profile = replace(QUEBEC, exemptions=(TaxExemption("CA-QC", "cert-7"),))
    table = rules(rate(), rate("CA-QC", "QST", "9.975"), profile=profile)
    (found,) = on(table, ("", 10_000))
    told = [(each.treatment.name, each.amount.minor_units, each.certificate) for each in found]
    assert told == [("TAXED", 500, ""), ("CUSTOMER_EXEMPT", 0, "cert-7")]
    # What it would be stands there.
    assert found[1].rate == Decimal("9.975")


def test_who_accounts_for_its_taxes_bears_none_and_prices_stay_as_they_are() -> None:
    profile = replace(QUEBEC, reverse_charge=True)
    (found,) = on(rules(rate(inclusive=True), profile=profile), ("", 10_000))
    assert [(each.treatment.name, *amounts([each])[0][1:]) for each in found] == [
        ("REVERSE_CHARGE", 10_000, 0)
    ]


# ---- Refusals


def test_what_is_not_known_is_refused() -> None:
    unknown = rules(rate(), profile=None)
    with pytest.raises(TaxProfileMissing, match="tax_profiles"):
        on(unknown, ("", 1))
    with pytest.raises(TaxRateMissing, match=r"CA-QC.*'', 'saas'") as refused:
        on(rules(rate(tax_code="books")), ("saas", 1), ("books", 1), ("", 1))
    assert refused.value.metadata["tax_codes"] == ",saas"
    with pytest.raises(CurrencyMismatch):
        taxed(
            TaxDocument(
                "acme",
                QUEBEC,
                SINCE,
                [TaxItem("", Money("CAD", 1)), TaxItem("", Money("USD", 1))],
            ),
            rules(rate()),
        )


def test_what_is_not_known_is_untaxed_where_the_policy_says_so() -> None:
    policy = TaxPolicy(missing=TaxMissing.UNTAXED)
    table = TaxRules.of(QUEBEC, policy, [rate(tax_code="books")])
    assert [len(taxes) for taxes in on(table, ("saas", 100), ("books", 100))] == [0, 1]
    assert on(TaxRules.of(None, policy, []), ("saas", 100)) == [()]


@pytest.mark.parametrize(
    ("declared", "field"),
    [
        (Catalog(tax_rates=(TaxRate("CA", "GST"),)), "tax_rates[0].rate_percent"),
        (
            Catalog(
                tax_rates=(
                    TaxRate("CA", "GST", treatment=Treatment.EXEMPT, rate_percent=Decimal(1)),
                )
            ),
            "tax_rates[0].rate_percent",
        ),
        (
            Catalog(tax_profiles=(TaxProfile("acme", "CA", reverse_charge=True),)),
            "tax_profiles[0].tax_id",
        ),
        (
            Catalog(
                tax_profiles=(TaxProfile("acme", "CA", exemptions=(TaxExemption("CA-QC", "c"),)),)
            ),
            "tax_profiles[0].exemptions[0].jurisdiction",
        ),
        (
            Catalog(
                tax_profiles=(
                    TaxProfile(
                        "acme",
                        "CA",
                        exemptions=(TaxExemption("CA", "c"), TaxExemption("CA", "d")),
                    ),
                )
            ),
            "tax_profiles[0].exemptions[1].jurisdiction",
        ),
    ],
)
def test_a_declaration_that_does_not_fit_together_is_refused(declared: Catalog, field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        check(declared)
    assert [each.field for each in refused.value.fields] == [f"catalog.{field}"]


def test_a_jurisdiction_has_four_taxes_at_most() -> None:
    four = tuple(rate(tax=f"T{number}") for number in range(4))
    assert len(decide(Catalog(tax_rates=four), {}, SINCE)) == 4
    with pytest.raises(TaxesTooMany, match="limit is 4"):
        decide(Catalog(tax_rates=(*four, rate(tax="T5"))), {}, SINCE)


# ---- Laws


@given(any_rules(), ITEMS)
def test_every_amount_is_the_tax_within_a_minor_unit_or_is_not_levied(
    table: TaxRules, items: list[tuple[str, int]]
) -> None:
    for (_, amount), taxes in zip(items, on(table, *items), strict=True):
        net = amount - included(taxes)
        before = 0
        for each in taxes:
            base = net + before if each.compound else net
            assert each.taxable.minor_units == base
            if each.treatment is not Treatment.TAXED:
                assert not each.amount.minor_units
            elif not each.inclusive:
                exact = Decimal(base) * each.rate / 100
                assert abs(each.amount.minor_units - exact) < 1
                if each.rounding is TaxRounding.LINE:
                    rounded = exact.quantize(Decimal(1), rounding=ROUND_HALF_UP)
                    assert each.amount.minor_units == rounded
            before += each.amount.minor_units


@given(any_rules(), ITEMS)
def test_nothing_is_gained_or_lost(table: TaxRules, items: list[tuple[str, int]]) -> None:
    found = on(table, *items)
    lines = [tax for taxes in found for tax in taxes]
    owed = sum(amount + on_top(taxes) for (_, amount), taxes in zip(items, found, strict=True))
    kept = sum(amount - included(taxes) for (_, amount), taxes in zip(items, found, strict=True))
    assert owed == kept + sum(each.amount.minor_units for each in lines)
    summed = totals(lines)
    assert sum(each.amount.minor_units for each in summed) == owed - kept
    assert len({each[:5] for each in summed}) == len(summed)


@given(any_rules(), ITEMS)
def test_a_credit_is_the_opposite_of_its_debit(
    table: TaxRules, items: list[tuple[str, int]]
) -> None:
    credits = on(table, *((code, -amount) for code, amount in items))
    for taxes, opposite in zip(on(table, *items), credits, strict=True):
        assert amounts(taxes) == [(tax, -base, -amount) for tax, base, amount in amounts(opposite)]


@given(any_rules(), POSITIVE)
def test_the_same_document_has_the_same_taxes_whatever_the_order_of_the_table(
    table: TaxRules, items: list[tuple[str, int]]
) -> None:
    turned = [one for codes in table.rates.values() for one in codes.values()][::-1]
    assert on(TaxRules.of(table.profile, table.policy, turned), *items) == on(table, *items)


@given(
    st.decimals(Decimal("0.001"), 100, places=3),
    st.booleans(),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=8),
)
def test_a_split_document_has_the_tax_of_the_whole(
    per_cent: Decimal, inclusive: bool, split: list[int]
) -> None:
    table = rules(rate(per_cent=str(per_cent), inclusive=inclusive), rounding=TaxRounding.DOCUMENT)
    ((whole,),) = on(table, ("", sum(split)))
    parts = [each for (each,) in on(table, *(("", amount) for amount in split))]
    assert sum(each.amount.minor_units for each in parts) == whole.amount.minor_units
    for each, amount in zip(parts, split, strict=True):
        assert 0 <= each.amount.minor_units <= amount


@given(st.decimals(Decimal("0.001"), 100, places=3), st.integers(0, 10**9))
def test_what_was_added_is_what_is_taken_out(per_cent: Decimal, net: int) -> None:
    ((added,),) = on(rules(rate(per_cent=str(per_cent))), ("", net))
    gross = net + added.amount.minor_units
    ((taken,),) = on(rules(rate(per_cent=str(per_cent), inclusive=True)), ("", gross))
    assert abs(taken.amount.minor_units - added.amount.minor_units) <= 1
    assert taken.taxable.minor_units + taken.amount.minor_units == gross


@given(any_rules(), ITEMS, st.integers(0, 1000), st.integers(0, 1000))
def test_shares_of_a_tax_add_up_to_it(
    table: TaxRules, items: list[tuple[str, int]], first: int, second: int
) -> None:
    cuts = sorted((first, second))
    for taxes in on(table, *items):
        for tax in taxes:
            parts = [
                tax.part(lambda number, a=a, b=b: number * b // 1000 - number * a // 1000)  # type: ignore[misc]
                for a, b in ((0, cuts[0]), (cuts[0], cuts[1]), (cuts[1], 1000))
            ]
            assert sum(each.amount.minor_units for each in parts) == tax.amount.minor_units
            assert sum(each.taxable.minor_units for each in parts) == tax.taxable.minor_units


@given(
    any_rules(codes=("", "saas")),
    st.integers(0, 10**6),
    st.decimals(Decimal("0.0001"), 100, places=4),
    st.integers(0, 10**4),
)
def test_an_estimate_bears_what_rating_the_same_usage_does(
    table: TaxRules, quantity: int, each: Decimal, flat: int
) -> None:
    terms = Terms(
        "plan",
        1,
        "CAD",
        PlanSource.ENTITLEMENT,
        SINCE,
        {
            "calls": Term(Price(per_unit=PerUnit(each)), tax_code="saas"),
            "seats": Term(Price(flat=Flat(Decimal(flat) / 100))),
            "unused": Term(Price(per_unit=PerUnit(each))),
        },
    )
    usages = [Usage("calls", "", Decimal(quantity), 1)] if quantity else []
    lines = rate_whole(terms, usages)
    parts = (RatedPart(Span(SINCE, SINCE), terms, lines),)
    asked = estimated_items(
        [PartTerms(Span(SINCE, SINCE), terms)], {"calls": Decimal(quantity)}, ONE
    )
    charged = taxed(TaxDocument("acme", table.profile, SINCE, tax_items(parts)), table)
    estimated = taxed(TaxDocument("acme", table.profile, SINCE, asked), table)
    assert estimated == charged
