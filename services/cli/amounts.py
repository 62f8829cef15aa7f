"""Amounts as people write them: in major units of a currency, `56.84`."""

from __future__ import annotations

from enum import Enum

from payments.type.v1 import type_pb2

from services.cli.errors import EXIT_USAGE, CliError
from services.runtime.errors import DomainError
from services.runtime.money import (
    CONTEXT,
    MINOR_UNITS_MAX,
    MINOR_UNITS_MIN,
    exponent,
    parse_decimal,
)


class Range(Enum):
    """Which amounts an option takes: in words, and the least and the most minor units."""

    POSITIVE = ("more than zero", 1, MINOR_UNITS_MAX)
    NOT_NEGATIVE = ("zero or more", 0, MINOR_UNITS_MAX)
    NOT_POSITIVE = ("zero or less", MINOR_UNITS_MIN, 0)
    ANY = ("an amount", MINOR_UNITS_MIN, MINOR_UNITS_MAX)


def parse(
    option: str, amount: str, currency: str, allowed: Range = Range.POSITIVE
) -> type_pb2.Money:
    """Read an amount in major units.

    Args:
        option: where it is given, e.g. `--amount`; errors name it.
        amount: as written.
        currency: ISO 4217 code.
        allowed: which amounts are taken.

    Raises:
        CliError: it is no such amount, has more places than the currency, or the currency is unknown.
    """
    try:
        places = exponent(currency)
        minor = parse_decimal(amount, "amount").scaleb(places, context=CONTEXT)
    except (DomainError, ArithmeticError) as error:
        told = error.message if isinstance(error, DomainError) else "it is too large"
        raise CliError(f"{option} {amount} {currency}: {told}", exit_code=EXIT_USAGE) from error
    words, least, most = allowed.value
    # As it is written, zeros too: who writes 1.000 JPY may mean a thousand.
    if len(amount.partition(".")[2]) > places or not least <= minor <= most:
        raise CliError(
            f"{option} {amount} is not an amount of {currency}: {words}, with up to {places} decimal places",
            exit_code=EXIT_USAGE,
        )
    return type_pb2.Money(currency_code=currency, minor_units=int(minor))
