"""Parameters: what values a recipe takes, and whether those that came are of that kind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum

from services.runtime.errors import FieldViolation, InvalidField
from services.runtime.money import EXPONENTS, MINOR_UNITS_MIN, Money

NAME = re.compile(r"[A-Za-z0-9._:-]{1,64}")
FAULTS_SHOWN = 20

Value = str | bool | Decimal | Money | tuple[Mapping[str, "Value"], ...]
Values = Mapping[str, Value]


class ParameterType(IntEnum):
    """Type of a parameter; numbers as in payments.ledger.v1.ParameterType."""

    PARTY = 1
    NAME = 2
    CURRENCY = 3
    TEXT = 4
    AMOUNT = 5
    SIGNED_AMOUNT = 6
    RATE = 7
    FLAG = 8
    LIST = 9

    @property
    def is_amount(self) -> bool:
        """True for amounts, signed or not."""
        return self in (ParameterType.AMOUNT, ParameterType.SIGNED_AMOUNT)

    @property
    def is_text(self) -> bool:
        """True for what comes as a text."""
        return self <= ParameterType.TEXT


_T = ParameterType
_PYTHON: Mapping[ParameterType, type] = {
    **dict.fromkeys((_T.PARTY, _T.NAME, _T.CURRENCY, _T.TEXT), str),
    **dict.fromkeys((_T.AMOUNT, _T.SIGNED_AMOUNT), Money),
    _T.RATE: Decimal,
    _T.FLAG: bool,
    _T.LIST: tuple,
}
_SPOKEN = {str: "a text", Money: "an amount", Decimal: "a decimal", bool: "a flag", tuple: "a list"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a recipe, or of the groups of a list.

    Attributes:
        optional: it may be missing.
        same_currency_as: the amount or currency that its currency agrees with; empty for none.
        group: of a list, what each group holds.
        description: for people.
    """

    name: str
    type: ParameterType
    optional: bool = False
    same_currency_as: str = ""
    group: tuple[Parameter, ...] = ()
    description: str = ""


def bind(parameters: Sequence[Parameter], given: Values) -> dict[str, Value]:
    """Return the values that are given, once each is known to be of its parameter's type.

    Raises:
        InvalidField: names the values that are not, those that are missing, and those that nobody asked for.
    """
    values: dict[str, Value] = {}
    faults = list(_bound(parameters, given, "parameters", values, values))
    if faults:
        raise InvalidField.of(faults[:FAULTS_SHOWN])
    return values


def currency_of(value: Value) -> str:
    """Return the currency of an amount, or the currency that a text names."""
    return value.currency_code if isinstance(value, Money) else str(value)


def is_given(value: Value | None) -> bool:
    """True for what a condition holds for: a flag that is set, an amount that is not zero, else what is there."""
    if isinstance(value, Money):
        return value.minor_units != 0
    return bool(value) if isinstance(value, bool | tuple) else value is not None


def _bound(
    parameters: Sequence[Parameter],
    given: Values,
    path: str,
    values: dict[str, Value],
    around: Mapping[str, Value],
) -> Iterator[FieldViolation]:
    known = {parameter.name: parameter for parameter in parameters}
    for name in given.keys() - known.keys():
        yield FieldViolation(f"{path}.{name}", "the recipe takes no such parameter")
    # Lists last: their groups may agree with the currency of what stands beside them.
    for parameter in sorted(parameters, key=lambda item: item.type is _T.LIST):
        value, place = given.get(parameter.name), f"{path}.{parameter.name}"
        if value is None or (value == "" and parameter.optional):
            if not parameter.optional:
                yield FieldViolation(place, "is required by the recipe")
            continue
        fault = _fault(parameter, value)
        if fault:
            yield FieldViolation(place, fault)
        elif parameter.type is _T.LIST:
            yield from _list_bound(parameter, value, place, values, around)
        else:
            values[parameter.name] = value
    yield from _currencies_agree(parameters, path, values, around)


def _list_bound(
    parameter: Parameter,
    value: Value,
    place: str,
    values: dict[str, Value],
    around: Mapping[str, Value],
) -> Iterator[FieldViolation]:
    assert isinstance(value, tuple)
    groups: list[Mapping[str, Value]] = []
    for at, group in enumerate(value):
        found: dict[str, Value] = {}
        yield from _bound(parameter.group, group, f"{place}[{at}]", found, around)
        groups.append(found)
    values[parameter.name] = tuple(groups)


def _currencies_agree(
    parameters: Sequence[Parameter],
    path: str,
    values: Mapping[str, Value],
    around: Mapping[str, Value],
) -> Iterator[FieldViolation]:
    for parameter in parameters:
        own, other = parameter.name, parameter.same_currency_as
        if not other or own not in values:
            continue
        expected = values.get(other, around.get(other))
        if expected is None:
            yield FieldViolation(
                f"{path}.{own}", f"is given without {other}, whose currency it has"
            )
        elif currency_of(values[own]) != currency_of(expected):
            yield FieldViolation(
                f"{path}.{own}", f"must be in {currency_of(expected)}, the currency of {other}"
            )


def _fault(parameter: Parameter, value: Value) -> str:
    """Say what keeps a value from being of a parameter's type; an empty text for nothing."""
    kind = parameter.type
    expected = _PYTHON[kind]
    if not isinstance(value, expected):
        return f"must be {_SPOKEN[expected]}: it is of type {kind.name}"
    if isinstance(value, Money):
        return _amount_fault(kind, value)
    if kind is _T.PARTY and not value:
        return "must not be empty"
    if kind is _T.NAME and not NAME.fullmatch(str(value)):
        return "must be 1 to 64 letters, digits and ._:-"
    if kind is _T.CURRENCY and value not in EXPONENTS:
        return "must be an ISO 4217 code"
    return ""


def _amount_fault(kind: ParameterType, value: Money) -> str:
    if kind is _T.AMOUNT and value.minor_units < 0:
        return "must not be negative"
    # Its opposite is an amount too.
    return "is out of range" if value.minor_units == MINOR_UNITS_MIN else ""
