"""Exact money: integers of minor units, decimals for rates and quantities. No float touches an amount.

Rules (house, `docs/decisions/`): context precision 80 until a line is closed; a line rounds once, half up,
from the unrounded value, to the exponent of ISO 4217; a split uses largest remainder and leaves ties to the
residual owner, so the parts always sum to the whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal, DivisionByZero, InvalidOperation
from decimal import Overflow as DecimalOverflow

from services.runtime.errors import (
    AmountOverflow,
    CurrencyMismatch,
    FieldViolation,
    InvalidField,
    UnknownCurrency,
)

CONTEXT = Context(
    prec=80, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, DecimalOverflow]
)
MINOR_UNITS_MAX = 2**63 - 1
MINOR_UNITS_MIN = -(2**63)
DECIMAL_PATTERN = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,18})?")

# ISO 4217 active codes, by the number of digits after the point.
_EXPONENT_0 = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_EXPONENT_2 = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD "
    "CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS "
    "GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD "
    "LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB "
    "PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP "
    "SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)
_EXPONENT_3 = "BHD IQD JOD KWD LYD OMR TND"
_EXPONENT_4 = "CLF UYW"
EXPONENTS: dict[str, int] = {
    code: exponent
    for exponent, codes in (
        (0, _EXPONENT_0),
        (2, _EXPONENT_2),
        (3, _EXPONENT_3),
        (4, _EXPONENT_4),
    )
    for code in codes.split()
}


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units of one currency.

    Attributes:
        currency_code: ISO 4217, e.g. `USD`.
        minor_units: 64-bit integer; 1050 is 10.50 USD and 1050 JPY.

    Raises:
        UnknownCurrency: the code is not in ISO 4217.
        AmountOverflow: the amount leaves 64 bits.
    """

    currency_code: str
    minor_units: int

    def __post_init__(self) -> None:
        if self.currency_code not in EXPONENTS:
            exponent(self.currency_code)
        if not MINOR_UNITS_MIN <= self.minor_units <= MINOR_UNITS_MAX:
            raise AmountOverflow(
                f"an amount in {self.currency_code} exceeds the range of 64-bit minor units",
                currency_code=self.currency_code,
            )

    def __add__(self, other: Money) -> Money:
        return Money(self.currency_code, self.minor_units + other._in(self.currency_code))

    def __sub__(self, other: Money) -> Money:
        return Money(self.currency_code, self.minor_units - other._in(self.currency_code))

    def __neg__(self) -> Money:
        return Money(self.currency_code, -self.minor_units)

    def _in(self, currency_code: str) -> int:
        if currency_code != self.currency_code:
            raise CurrencyMismatch(
                f"{currency_code} and {self.currency_code} cannot be added",
                left=currency_code,
                right=self.currency_code,
            )
        return self.minor_units


def exponent(currency_code: str) -> int:
    """Return the digits after the point: JPY 0, USD 2, KWD 3. Raises UnknownCurrency."""
    try:
        return EXPONENTS[currency_code]
    except KeyError:
        raise UnknownCurrency(
            f"{currency_code!r} is not an ISO 4217 currency code", currency_code=currency_code
        ) from None


def parse_decimal(text: str, field: str = "decimal") -> Decimal:
    """Read a decimal string: up to 20 digits, 18 after the point, never an exponent.

    Raises:
        InvalidField: the text is anything else; `field` names it.
    """
    if not DECIMAL_PATTERN.fullmatch(text):
        violation = FieldViolation(
            field, f"{text[:64]!r} is not a decimal such as 1.25 (20 digits, 18 after the point)"
        )
        raise InvalidField.of([violation])
    return Decimal(text)


def too_many_places(fraction: str, has: str) -> tuple[str, str]:
    """Return the reason, and the words, that refuse an amount with more places than its currency has.

    Args:
        fraction: digits after the point as they were written, zeros too.
        has: how many there may be, `but EUR has 2`.
    """
    # 1.080 is a thousand and eighty to many: no other excess has a second reading.
    if len(fraction) == 3:
        return (
            "AMOUNT_AMBIGUOUS",
            f"has three digits after the point, {has}: is it a fraction or thousands?",
        )
    return "AMOUNT_PRECISION", f"has too many decimal places, {has}"


def format_decimal(value: Decimal) -> str:
    """Write a decimal without exponent and without trailing zeros after the point."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def format_exact(value: Decimal) -> str:
    """Write an exact amount with 18 places, rounded half up once from the unrounded value."""
    return format(value.quantize(Decimal("1e-18"), rounding=ROUND_HALF_UP, context=CONTEXT), "f")


def to_decimal(money: Money) -> Decimal:
    """Return the amount in major units: 1050 USD is 10.50."""
    return Decimal(money.minor_units).scaleb(-exponent(money.currency_code), context=CONTEXT)


def format_money(money: Money) -> str:
    """Write the amount in major units with all its places: 10.50."""
    return format(to_decimal(money), "f")


def round_to_minor(amount: Decimal, currency_code: str) -> Money:
    """Round an unrounded amount in major units once, half up (away from zero on a tie).

    Raises:
        UnknownCurrency, AmountOverflow
    """
    # The context rounds half up.
    scaled = CONTEXT.scaleb(amount, exponent(currency_code))
    return Money(currency_code, int(CONTEXT.to_integral_value(scaled)))


def allocate(total: Money, weights: Sequence[Decimal]) -> list[Money]:
    """Split `total` by weights with largest remainder; the parts sum to the whole.

    The last weight belongs to the residual owner, who wins ties.

    Raises:
        ValueError: no weight, a negative one, or all zero.
    """
    weight_sum = sum(weights, Decimal(0))
    if not weights or min(weights) < 0 or weight_sum <= 0:
        raise ValueError("weights must not be negative and not all zero")
    sign = -1 if total.minor_units < 0 else 1
    units = Decimal(abs(total.minor_units))
    exact = [CONTEXT.divide(CONTEXT.multiply(units, w), weight_sum) for w in weights]
    parts = [int(share.to_integral_value(rounding=ROUND_FLOOR)) for share in exact]
    left = abs(total.minor_units) - sum(parts)
    by_remainder = sorted(
        range(len(parts)),
        key=lambda i: (exact[i] - parts[i], i == len(parts) - 1, -i),
        reverse=True,
    )
    for index in by_remainder[:left]:
        parts[index] += 1
    assert sum(parts) == abs(total.minor_units)
    return [Money(total.currency_code, sign * part) for part in parts]


def share(total: Money, percent: Decimal) -> tuple[Money, Money]:
    """Split off `percent` (0 to 100) of `total`; a tie goes to the rest, which stays with us.

    Raises:
        ValueError: percent is outside 0 to 100.
    """
    if not 0 <= percent <= 100:
        raise ValueError("percent must be between 0 and 100")
    part, rest = allocate(total, [percent, Decimal(100) - percent])
    return part, rest
