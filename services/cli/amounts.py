"""Amounts as people write them: in major units of a currency, `56.84`."""

from __future__ import annotations

import re
from enum import Enum
from typing import NoReturn

from payments.type.v1 import type_pb2

from services.cli.errors import EXIT_USAGE, CliError
from services.runtime.errors import UnknownCurrency
from services.runtime.money import MINOR_UNITS_MAX, MINOR_UNITS_MIN, exponent, too_many_places

_DECIMAL = re.compile(r"(-?)0*([0-9]+)(?:\.([0-9]+))?")
# Python refuses to convert thousands of digits.
_DIGITS_MAX = len(str(MINOR_UNITS_MAX))


class Range(Enum):
    """Which amounts an option takes: in words, and the least and the most minor units."""

    POSITIVE = ("more than zero", 1, MINOR_UNITS_MAX)
    NOT_NEGATIVE = ("zero or more", 0, MINOR_UNITS_MAX)
    NOT_POSITIVE = ("zero or less", MINOR_UNITS_MIN, 0)
    ANY = ("of either sign, or zero", MINOR_UNITS_MIN, MINOR_UNITS_MAX)


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
        CliError: it is no such amount, has more places than the currency, or the currency is unknown; its reason is
            the one that a payment request with this amount is refused with.
    """
    try:
        places = exponent(currency)
    except UnknownCurrency as error:
        _refuse(option, f"{amount} {currency}: {error.message}", error.reason)
    read = _DECIMAL.fullmatch(amount)
    if read is None:
        said = "it is not a decimal such as 12.50"
        _refuse(option, f"{amount[:64]} {currency}: {said}", "AMOUNT_UNREADABLE")
    sign, whole, fraction = read[1], read[2], read[3] or ""
    # As it is written, zeros too: who writes 1.000 JPY may mean a thousand.
    if len(fraction) > places:
        reason, said = too_many_places(fraction, f"but {currency} has {places}")
        _refuse(option, f"{amount[:64]} is not an amount of {currency}: it {said}", reason)
    if len(whole) > _DIGITS_MAX or not _within(
        minor := int(sign + whole + fraction.ljust(places, "0")), allowed
    ):
        below = sign or not (whole + fraction).strip("0")
        is_low = allowed is Range.POSITIVE and below
        reason = "AMOUNT_NOT_POSITIVE" if is_low else "AMOUNT_OUT_OF_RANGE"
        said = f"{allowed.value[0]}, with up to {places} decimal places"
        _refuse(option, f"{amount[:64]} is not an amount of {currency}: {said}", reason)
    return type_pb2.Money(currency_code=currency, minor_units=minor)


def _within(minor: int, allowed: Range) -> bool:
    _, least, most = allowed.value
    return least <= minor <= most


def _refuse(option: str, said: str, reason: str) -> NoReturn:
    raise CliError(f"{option} {said}", exit_code=EXIT_USAGE, reason=reason, fields=[(option, said)])
