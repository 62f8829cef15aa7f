"""The trial balance: all accounts added up, by currency and type. Debits and credits agree, or the books are broken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from services.ledger.domain.accounts import AccountType
from services.runtime.money import Money


@dataclass(frozen=True, slots=True)
class TypeSums:
    """Accounts of one type in one currency, added up; sums may exceed 64 bits until they become Money."""

    currency_code: str
    type: AccountType
    accounts: int
    debits_minor: int
    credits_minor: int

    @property
    def debits(self) -> Money:
        """Sum of the debits. Raises AmountOverflow."""
        return Money(self.currency_code, self.debits_minor)

    @property
    def credits(self) -> Money:
        """Sum of the credits. Raises AmountOverflow."""
        return Money(self.currency_code, self.credits_minor)

    @property
    def balance(self) -> Money:
        """Balance on the side that the type grows on. Raises AmountOverflow."""
        return Money(self.currency_code, self.type.balance(self.debits_minor - self.credits_minor))


@dataclass(frozen=True, slots=True)
class CurrencySums:
    """One currency's trial balance."""

    currency_code: str
    types: tuple[TypeSums, ...]
    debits: Money
    credits: Money
    difference: Money


def add_up(sums: Iterable[TypeSums]) -> list[CurrencySums]:
    """Add the types up by currency, both in order.

    Raises:
        AmountOverflow: a currency's sum leaves the range of 64-bit minor units.
    """
    ordered = sorted(sums, key=lambda item: (item.currency_code, item.type))
    return [
        _currency(currency_code, tuple(types))
        for currency_code, types in groupby(ordered, key=lambda item: item.currency_code)
    ]


def _currency(currency_code: str, types: tuple[TypeSums, ...]) -> CurrencySums:
    debits = Money(currency_code, sum(item.debits_minor for item in types))
    credits = Money(currency_code, sum(item.credits_minor for item in types))
    return CurrencySums(currency_code, types, debits, credits, debits - credits)
