"""Reads amounts of money as people and programs write them. What has two readings is not read.

The rules, in the words of docs/guides/payment-requests.md: an integer counts minor units, a decimal text is in major
units, a currency sign may stand beside it, and nothing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from services.orchestration.domain import fields
from services.orchestration.domain.issues import Findings
from services.orchestration.domain.tree import Number, Object, Tree
from services.runtime.money import CONTEXT, MINOR_UNITS_MAX, exponent, too_many_places

# More digits than a double holds: sender and receiver may have different numbers before them.
SIGNIFICANT_DIGITS_MAX = 15
_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,4}))?")
_PLAIN = re.compile(r"([0-9]+)(?:\.([0-9]+))?")
# Nobody writes thousands with a zero before them: 0,012.50 has lost something, or its comma is a decimal one.
_GROUPED = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+\.[0-9]+")
_MONEY_FIELDS = {"currency": "currency_code", "minor_units": "minor_units"}
# Signs and the currencies that they may stand for; `$` alone is a dozen dollars, so the currency decides.
_SIGNS: dict[str, frozenset[str]] = {
    "$": frozenset({"USD", "CAD", "AUD", "NZD", "SGD", "HKD", "MXN"}),
    "US$": frozenset({"USD"}),
    "€": frozenset({"EUR"}),
    "£": frozenset({"GBP"}),
    "¥": frozenset({"JPY", "CNY"}),
}


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads amounts in one currency, and reports what is odd.

    Attributes:
        currency: ISO 4217 code that is known.
        findings: where findings go.
    """

    currency: str
    findings: Findings

    def minor(self, path: str, value: Tree) -> int | None:
        """Read a field that counts minor units, e.g. `amount_minor`; None when it is in doubt."""
        if isinstance(value, str):
            match = _PLAIN.fullmatch(value.strip())
            if match is None:
                return self._refuse(
                    path, "AMOUNT_UNREADABLE", "is not a whole number of minor units"
                )
            if match[2]:
                return self._too_many_places(path, match[2], minor_only=True)
            self.findings.info(path, "NUMBER_AS_TEXT", "a whole number was sent as a string")
            return self._whole(path, match[1])
        if isinstance(value, Number):
            return self._number(path, value, minor_only=True)
        return self._refuse(path, "WRONG_TYPE", "must be a whole number of minor units")

    def cents(self, path: str, value: Tree) -> int | None:
        """Read `amount_cents`: minor units of a currency that has cents, and doubtful in any other."""
        if exponent(self.currency) != 2:
            return self._refuse(
                path, "AMOUNT_AMBIGUOUS", f"{self.currency} has no cents; send amount_minor"
            )
        return self.minor(path, value)

    def amount(self, path: str, value: Tree) -> int | None:
        """Read a field in either form: integer minor units, decimal text, or a Money object."""
        if isinstance(value, str):
            return self._decimal_text(path, value)
        if isinstance(value, Number):
            return self._number(path, value, minor_only=False)
        if isinstance(value, Object):
            return self._money(path, value)
        return self._refuse(path, "WRONG_TYPE", 'must be a decimal string such as "12.50"')

    # ---- the forms

    def _number(self, path: str, value: Number, *, minor_only: bool) -> int | None:
        match = _NUMBER.fullmatch(value.text)
        if match is None:
            return self._refuse(path, "AMOUNT_NOT_A_NUMBER", "is not a finite number")
        sign, whole, fraction, power = match.groups()
        if self._digits_of(whole + (fraction or "")) > SIGNIFICANT_DIGITS_MAX:
            return self._refuse(
                path,
                "AMOUNT_AMBIGUOUS",
                "has more than 15 significant digits, so its value is ambiguous; send it as a string",
            )
        if power is not None and abs(int(power)) > 20:
            return self._refuse(path, "AMOUNT_OUT_OF_RANGE", "exceeds 64-bit minor units")
        if fraction is None and power is None:
            return self._integer(path, int(sign + whole), value, noted=minor_only)
        # As written, zeros too: 1.080 has three places, and so has 1080e-3.
        places = len(fraction or "") - int(power or 0)
        if places > (0 if minor_only else exponent(self.currency)):
            return self._too_many_places(path, fraction or "", minor_only=minor_only)
        return self._float(path, value)

    def _integer(self, path: str, amount: int, value: Number, *, noted: bool) -> int | None:
        if not noted and value.written:
            self.findings.info(
                path, "AMOUNT_IN_MINOR_UNITS", "the whole number was read as minor units"
            )
        elif not noted:
            message = "the whole number was read as minor units; how it was written is unknown, so send a string"
            self.findings.warn(path, "AMOUNT_IN_MINOR_UNITS", message)
        return self._positive(path, amount)

    def _float(self, path: str, value: Number) -> int | None:
        amount = Decimal(value.text)
        if amount == amount.to_integral_value(context=CONTEXT):
            return self._refuse(
                path,
                "AMOUNT_AMBIGUOUS",
                "is a whole amount written as a float: major or minor units? send it as a string",
            )
        how = "" if value.written else ", and how it was written is unknown"
        self.findings.warn(
            path,
            "AMOUNT_IS_FLOAT",
            f"a float was sent{how}; it was read as major units; send a string instead",
        )
        return self._positive(path, int(amount.scaleb(exponent(self.currency), context=CONTEXT)))

    def _decimal_text(self, path: str, value: str) -> int | None:
        text = value.strip()
        if text != value:
            self.findings.info(path, "SPACE_AROUND_VALUE", "spaces around the amount were removed")
        bare = self._without_sign(path, text)
        if bare is None:
            return None
        if _GROUPED.fullmatch(bare):
            self.findings.warn(path, "AMOUNT_GROUPED", "thousands separators were removed")
            bare = bare.replace(",", "")
        if bare.startswith("-"):
            return self._refuse(path, "AMOUNT_NOT_POSITIVE", "must be more than zero")
        match = _PLAIN.fullmatch(bare)
        if match is None:
            return self._refuse(path, "AMOUNT_UNREADABLE", 'is not a decimal such as "12.50"')
        fraction = match[2] or ""
        places = exponent(self.currency)
        if len(fraction) > places:
            return self._too_many_places(path, fraction, minor_only=False)
        return self._whole(path, match[1] + fraction.ljust(places, "0"))

    def _without_sign(self, path: str, text: str) -> str | None:
        signs = {**_SIGNS, self.currency: frozenset({self.currency})}
        for sign in sorted(signs, key=len, reverse=True):
            if not (text.startswith(sign) or text.endswith(sign)):
                continue
            if self.currency not in signs[sign]:
                self._refuse(
                    path, "CURRENCY_CONFLICT", f"has {sign}, which contradicts the currency"
                )
                return None
            self.findings.warn(path, "CURRENCY_SIGN", f"{sign} next to the amount was removed")
            return text.removeprefix(sign).removesuffix(sign).strip()
        return text

    def _money(self, path: str, value: Object) -> int | None:
        # A field that is not known could change what the others say, e.g. a scale; null is no field.
        known = all(
            fields.canonical_name(spelled) in _MONEY_FIELDS
            for spelled, part in value.pairs
            if part is not None
        )
        found = fields.find(value, f"{path}.", _MONEY_FIELDS, self.findings) if known else {}
        if set(found) != set(_MONEY_FIELDS):
            return self._refuse(
                path,
                "AMOUNT_UNREADABLE",
                "must have currency_code and minor_units, and nothing else",
            )
        code, units = found["currency"], found["minor_units"]
        if not isinstance(code.value, str) or code.value.strip().upper() != self.currency:
            return self._refuse(path, "CURRENCY_CONFLICT", f"is not in {self.currency}")
        if code.value != self.currency:
            self.findings.info(code.path, "OTHER_SPELLING", f"was read as {self.currency}")
        if isinstance(units.value, str) and units.value.isascii() and units.value.isdigit():
            return self._whole(units.path, units.value)
        return self.minor(units.path, units.value)

    # ---- the limits

    def _too_many_places(self, path: str, fraction: str, *, minor_only: bool) -> int | None:
        has = "but minor units have none"
        if not minor_only:
            has = f"but {self.currency} has {exponent(self.currency)}"
        return self._refuse(path, *too_many_places(fraction, has))

    def _whole(self, path: str, digits: str) -> int | None:
        significant = digits.lstrip("0")
        # Python refuses to convert thousands of digits.
        if len(significant) > len(str(MINOR_UNITS_MAX)):
            return self._refuse(path, "AMOUNT_OUT_OF_RANGE", "exceeds 64-bit minor units")
        return self._positive(path, int(significant or "0"))

    def _positive(self, path: str, value: int) -> int | None:
        if value <= 0:
            return self._refuse(path, "AMOUNT_NOT_POSITIVE", "must be more than zero")
        if value > MINOR_UNITS_MAX:
            return self._refuse(path, "AMOUNT_OUT_OF_RANGE", "exceeds 64-bit minor units")
        return value

    def _refuse(self, path: str, code: str, message: str) -> int | None:
        """Report why there is no amount, and return none, so that a reader ends with it."""
        self.findings.refuse(path, code, f"{path} {message}")
        return None

    @staticmethod
    def _digits_of(digits: str) -> int:
        return len(digits.strip("0"))
