"""Reads amounts of money as people and programs write them. What has two readings is not read.

The rules, in the words of docs/guides/payment-requests.md: an integer counts minor units, a decimal text is in major
units, a currency sign may stand beside it, and nothing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from services.orchestration.domain.issues import Findings
from services.orchestration.domain.tree import Number, Object, Tree
from services.runtime.money import CONTEXT, MINOR_UNITS_MAX, exponent

# More digits than a double holds: sender and receiver may have different numbers before them.
SIGNIFICANT_DIGITS_MAX = 15
_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,4}))?")
_INTEGER = re.compile(r"[0-9]{1,20}")
_PLAIN = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,18})?")
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+\.[0-9]{1,18}")
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
            text = value.strip()
            if not _INTEGER.fullmatch(text):
                return self._refuse(path, "AMOUNT_UNREADABLE", "is no whole number of minor units")
            self.findings.info(path, "NUMBER_AS_TEXT", "a whole number was sent as a text")
            return self._positive(path, int(text))
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
        return self._refuse(path, "WRONG_TYPE", 'must be a decimal text such as "12.50"')

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
                "has more than 15 significant digits, so it has two readings; send it as a text",
            )
        if power is not None and abs(int(power)) > 20:
            return self._refuse(path, "AMOUNT_OUT_OF_RANGE", "leaves 64-bit minor units")
        if fraction is None and power is None:
            return self._integer(path, int(sign + whole), noted=minor_only)
        return self._float(path, Decimal(value.text), minor_only=minor_only)

    def _integer(self, path: str, value: int, *, noted: bool) -> int | None:
        if not noted:
            self.findings.info(path, "AMOUNT_IN_MINOR_UNITS", "a whole number counts minor units")
        return self._positive(path, value)

    def _float(self, path: str, value: Decimal, *, minor_only: bool) -> int | None:
        integral = value == value.to_integral_value(context=CONTEXT)
        if integral:
            return self._refuse(
                path,
                "AMOUNT_AMBIGUOUS",
                "is a whole amount written as a float: major or minor units? send it as a text",
            )
        if minor_only:
            return self._refuse(path, "AMOUNT_PRECISION", "is a fraction of a minor unit")
        self.findings.warn(
            path, "AMOUNT_IS_FLOAT", "a float was sent; read as major units, send a text"
        )
        return self._major(path, value)

    def _decimal_text(self, path: str, value: str) -> int | None:
        text = value.strip()
        if text != value:
            self.findings.info(path, "SPACE_AROUND_VALUE", "spaces around the amount were dropped")
        bare = self._without_sign(path, text)
        if bare is None:
            return None
        if _GROUPED.fullmatch(bare):
            self.findings.warn(path, "AMOUNT_GROUPED", "commas between thousands were dropped")
            bare = bare.replace(",", "")
        if bare.startswith("-"):
            return self._refuse(path, "AMOUNT_NOT_POSITIVE", "must be more than zero")
        if not _PLAIN.fullmatch(bare):
            return self._refuse(path, "AMOUNT_UNREADABLE", 'is no decimal such as "12.50"')
        return self._major(path, Decimal(bare))

    def _without_sign(self, path: str, text: str) -> str | None:
        signs = {**_SIGNS, self.currency: frozenset({self.currency})}
        for sign in sorted(signs, key=len, reverse=True):
            if not (text.startswith(sign) or text.endswith(sign)):
                continue
            if self.currency not in signs[sign]:
                self._refuse(
                    path, "CURRENCY_CONFLICT", f"carries {sign}, the currency says otherwise"
                )
                return None
            self.findings.warn(path, "CURRENCY_SIGN", f"{sign} beside the amount was dropped")
            return text.removeprefix(sign).removesuffix(sign).strip()
        return text

    def _money(self, path: str, value: Object) -> int | None:
        fields = dict(value.pairs)
        if len(fields) != len(value.pairs) or set(fields) != {"currency_code", "minor_units"}:
            return self._refuse(
                path, "AMOUNT_UNREADABLE", "must hold currency_code and minor_units, each once"
            )
        if fields["currency_code"] != self.currency:
            return self._refuse(path, "CURRENCY_CONFLICT", f"is not in {self.currency}")
        units = fields["minor_units"]
        if isinstance(units, str) and _INTEGER.fullmatch(units):
            return self._positive(path, int(units))
        return self.minor(f"{path}.minor_units", units)

    # ---- the limits

    def _major(self, path: str, value: Decimal) -> int | None:
        scaled = value.scaleb(exponent(self.currency), context=CONTEXT)
        if scaled != scaled.to_integral_value(context=CONTEXT):
            return self._refuse(
                path,
                "AMOUNT_PRECISION",
                f"has more than the {exponent(self.currency)} places of {self.currency}",
            )
        return self._positive(path, int(scaled))

    def _positive(self, path: str, value: int) -> int | None:
        if value <= 0:
            return self._refuse(path, "AMOUNT_NOT_POSITIVE", "must be more than zero")
        if value > MINOR_UNITS_MAX:
            return self._refuse(path, "AMOUNT_OUT_OF_RANGE", "leaves 64-bit minor units")
        return value

    def _refuse(self, path: str, code: str, message: str) -> int | None:
        """Report why there is no amount, and return none, so that a reader ends with it."""
        self.findings.refuse(path, code, f"{path} {message}")
        return None

    @staticmethod
    def _digits_of(digits: str) -> int:
        return len(digits.strip("0"))
