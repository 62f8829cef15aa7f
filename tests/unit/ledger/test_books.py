"""The comparison of processor books, payments and ledger finds what any of them lacks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.billing.books import Books, Movement, differences

CHARGE = Movement("att_1", "CHARGE", "USD", 500)
REFUND = Movement("att_2", "REFUND", "USD", 500)
BOTH = [CHARGE, REFUND]
AGREED = Books(BOTH, BOTH, BOTH)


@pytest.mark.parametrize(
    "books",
    [
        AGREED,
        Books([], [], []),
        # Charged, and nobody knows yet.
        Books([CHARGE], [], [], frozenset({"att_1"})),
    ],
)
def test_agreement(books: Books) -> None:
    assert differences(books) == []


@pytest.mark.parametrize(
    ("books", "what"),
    [
        (replace(AGREED, ledger=[CHARGE]), "processor and payment without ledger"),
        (replace(AGREED, processors=[REFUND]), "payment and ledger without processor"),
        (replace(AGREED, payments=[CHARGE]), "processor and ledger without payment"),
        (Books([CHARGE], [], []), "processor without payment and ledger"),
        (Books([CHARGE], [], [CHARGE], frozenset({"att_1"})), "without payment"),
        (replace(AGREED, ledger=[CHARGE, CHARGE, REFUND]), "more than once in ledger"),
        (replace(AGREED, ledger=[replace(CHARGE, amount_minor=499), REFUND]), "499"),
        (replace(AGREED, processors=[replace(CHARGE, currency="EUR"), REFUND]), "EUR"),
        (replace(AGREED, ledger=[CHARGE, replace(REFUND, operation="THE WRONG WAY")]), "WRONG"),
    ],
)
def test_differences(books: Books, what: str) -> None:
    (difference,) = differences(books)
    assert what in difference
