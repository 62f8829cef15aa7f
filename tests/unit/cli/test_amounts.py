"""Amounts of the command line: what is written counts, zeros too."""

from __future__ import annotations

import re

import pytest

from services.cli import amounts
from services.cli.amounts import Range
from services.cli.errors import EXIT_USAGE, CliError
from services.orchestration.domain.amounts import Reader
from services.orchestration.domain.issues import Findings, Severity


@pytest.mark.parametrize(
    ("amount", "currency", "minor_units"),
    [("10.50", "USD", 1050), ("10.5", "USD", 1050), ("10", "USD", 1000), ("1000", "JPY", 1000)],
)
def test_an_amount_is_read_in_major_units(amount: str, currency: str, minor_units: int) -> None:
    assert amounts.parse("--amount", amount, currency).minor_units == minor_units


REFUSED = [
    ("1.000", "JPY", "AMOUNT_AMBIGUOUS"),
    ("1.080", "EUR", "AMOUNT_AMBIGUOUS"),
    ("10.500", "USD", "AMOUNT_AMBIGUOUS"),
    ("5.0", "JPY", "AMOUNT_PRECISION"),
    ("1.0800", "EUR", "AMOUNT_PRECISION"),
    ("1.0000", "KWD", "AMOUNT_PRECISION"),
    ("1." + "0" * 30, "EUR", "AMOUNT_PRECISION"),
    ("0", "USD", "AMOUNT_NOT_POSITIVE"),
    ("-1", "USD", "AMOUNT_NOT_POSITIVE"),
    ("92233720368547758.08", "USD", "AMOUNT_OUT_OF_RANGE"),
    ("9" * 30, "USD", "AMOUNT_OUT_OF_RANGE"),
    ("9" * 5000, "USD", "AMOUNT_OUT_OF_RANGE"),
    ("1e3", "USD", "AMOUNT_UNREADABLE"),
    ("1,50", "USD", "AMOUNT_UNREADABLE"),
    ("", "USD", "AMOUNT_UNREADABLE"),
    ("\u0661", "USD", "AMOUNT_UNREADABLE"),
    ("1", "XXQ", "UNKNOWN_CURRENCY"),
]


@pytest.mark.parametrize(("amount", "currency", "reason"), REFUSED)
def test_a_refusal_says_why_to_people_and_programs(amount: str, currency: str, reason: str) -> None:
    with pytest.raises(CliError, match=f"^--amount {re.escape(amount[:64])} ") as refused:
        amounts.parse("--amount", amount, currency)
    told = refused.value.as_dict()["error"]
    assert (told["reason"], told["exit_code"]) == (reason, EXIT_USAGE)
    assert told["fields"][0]["field"] == "--amount"
    assert len(told["message"]) < 250


@pytest.mark.parametrize(
    ("amount", "currency", "reason"), [row for row in REFUSED if row[2].startswith("AMOUNT")]
)
def test_payment_requests_are_refused_for_the_same_reason(
    amount: str, currency: str, reason: str
) -> None:
    findings = Findings()
    assert Reader(currency, findings).amount("amount", amount) is None
    assert [issue.code for issue in findings.issues if issue.severity is Severity.ERROR] == [reason]


@pytest.mark.parametrize("allowed", [Range.NOT_NEGATIVE, Range.NOT_POSITIVE])
def test_every_option_has_the_same_rule(allowed: Range) -> None:
    for amount, reason in (("1.080", "AMOUNT_AMBIGUOUS"), ("0.0000", "AMOUNT_PRECISION")):
        with pytest.raises(CliError) as refused:
            amounts.parse("--floor", amount, "USD", allowed)
        assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("allowed", "amount", "minor_units"),
    [
        (Range.POSITIVE, "0.01", 1),
        (Range.POSITIVE, "92233720368547758.07", 2**63 - 1),
        (Range.NOT_NEGATIVE, "0.00", 0),
        (Range.NOT_POSITIVE, "-0.00", 0),
        (Range.NOT_POSITIVE, "-500", -50_000),
        (Range.NOT_POSITIVE, "-92233720368547758.08", -(2**63)),
    ],
)
def test_an_option_takes_the_amounts_of_its_range(
    allowed: Range, amount: str, minor_units: int
) -> None:
    found = amounts.parse("--x", amount, "USD", allowed)
    assert (found.currency_code, found.minor_units) == ("USD", minor_units)


@pytest.mark.parametrize(
    ("allowed", "amount"),
    [
        (Range.POSITIVE, "-0.01"),
        (Range.POSITIVE, "92233720368547758.08"),
        (Range.NOT_NEGATIVE, "-0.01"),
        (Range.NOT_POSITIVE, "0.01"),
        (Range.NOT_POSITIVE, "-92233720368547758.09"),
    ],
)
def test_an_option_takes_no_other_amounts(allowed: Range, amount: str) -> None:
    with pytest.raises(CliError, match=f"--x {amount} .*: {allowed.value[0]}") as refused:
        amounts.parse("--x", amount, "USD", allowed)
    assert refused.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(("amount", "currency"), [("1e3", "USD"), ("x", "USD"), ("1", "XXQ")])
def test_what_is_no_amount_is_refused(amount: str, currency: str) -> None:
    with pytest.raises(CliError, match=f"--floor {amount} {currency}: "):
        amounts.parse("--floor", amount, currency, Range.NOT_POSITIVE)
