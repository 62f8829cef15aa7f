"""What an export may hold: each field, its kind, and which ones must be there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any, Protocol

from tollmesh_verify.reading import path_below

_DECIMAL = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?")
_INT64 = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z")
_ENUM = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_ITEMS_MAX = 10_000
_DAY = 86_400
_NANOS = 10**9


@dataclass(frozen=True)
class Problem:
    """A value that may not stand where it stands.

    Attributes:
        is_unknown: it may be of a later release, so that it is no fault.
    """

    path: str
    value: Any
    must: str
    is_unknown: bool = False


class Kind(Protocol):
    """A kind of value."""

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        """Say what is wrong with a value."""


@dataclass(frozen=True)
class Text:
    """A text of a form."""

    form: re.Pattern[str] | None = None
    must: str = "a text"
    may_be_empty: bool = True

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        """Say what is wrong with a value."""
        if not isinstance(value, str):
            yield Problem(path, value, f"must be {self.must}, in quotes")
        elif not value:
            if not self.may_be_empty:
                yield Problem(path, value, "must not be empty")
        elif self.form is not None and not self.form.fullmatch(value):
            yield Problem(path, value, f"must be {self.must}")


@dataclass(frozen=True)
class Whole:
    """A whole number, not negative."""

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        """Say what is wrong with a value."""
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
            yield Problem(path, value, "must be a whole number")


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        """Say what is wrong with a value."""
        if not isinstance(value, bool):
            yield Problem(path, value, "must be true or false")


@dataclass(frozen=True)
class Name:
    """A name of an enumeration: of these, or of a later release."""

    names: frozenset[str]

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        """Say what is wrong with a value."""
        if not isinstance(value, str) or not _ENUM.fullmatch(value):
            yield Problem(path, value, "must be a name in capitals")
        elif value not in self.names:
            yield Problem(path, value, "is not known to this verifier", is_unknown=True)


@dataclass(frozen=True)
class Items:
    """A list of one kind."""

    kind: Kind

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        """Say what is wrong with a value."""
        if not isinstance(value, list):
            yield Problem(path, value, "must be a list")
        elif len(value) > _ITEMS_MAX:
            yield Problem(path, len(value), f"must be a list of {_ITEMS_MAX:,} items at most")
        else:
            for number, item in enumerate(value):
                yield from self.kind.problems(item, f"{path}[{number}]")


@dataclass(frozen=True)
class ByName:
    """An object with any keys and values of one kind."""

    kind: Kind

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        """Say what is wrong with a value."""
        if not isinstance(value, dict):
            yield Problem(path, value, "must be an object")
        else:
            for key, item in value.items():
                yield from self.kind.problems(item, path_below(path, key))


@dataclass(frozen=True)
class Fields:
    """An object of named fields."""

    fields: Mapping[str, Kind]
    required: tuple[str, ...] = ()

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        """Say what is wrong with a value."""
        if not isinstance(value, dict):
            yield Problem(path, value, "must be an object")
            return
        before = f"{path}." if path else ""
        for name in self.required:
            if name not in value:
                yield Problem(f"{before}{name}", None, "is missing")
        for name, item in value.items():
            kind = self.fields.get(name)
            if kind is None:
                must = "is a field that this verifier does not know"
                yield Problem(f"{before}{name}", item, must, is_unknown=True)
            else:
                yield from kind.problems(item, f"{before}{name}")


TEXT = Text()
ID = Text(must="a name", may_be_empty=False)
DECIMAL = Text(_DECIMAL, "a decimal")
A_DECIMAL = Text(_DECIMAL, "a decimal", may_be_empty=False)
INT64 = Text(_INT64, "a whole number of 64 bits", may_be_empty=False)
TIME = Text(_TIME, "a time such as 2024-05-01T00:00:00Z", may_be_empty=False)
HASH = Text(re.compile(r"[0-9a-f]{64}"), "64 hexadecimal digits")
CURRENCY = Text(re.compile(r"[A-Z]{3}"), "a code of ISO 4217", may_be_empty=False)
DECIMALS = ByName(A_DECIMAL)


def names(prefix: str, words: str) -> Name:
    """Return the kind of an enumeration, from the words of its names behind their prefix."""
    return Name(frozenset(f"{prefix}{word}" for word in words.split()))


ROUNDING = names("ROUNDING_", "UNSPECIFIED NONE CEILING FLOOR HALF_UP")
STATUS = names("CHARGE_STATUS_", "PENDING SETTLED REVERSED")
CHARGE_KIND = names("CHARGE_KIND_", "USAGE ADJUSTMENT REVERSAL")
AGGREGATION = names("AGGREGATION_", "SUM COUNT MAX MIN AVG LATEST UNIQUE WEIGHTED_SUM P50 P95 P99")
PLAN_SOURCE = names("PLAN_SOURCE_", "ENTITLEMENT ORG_BUSINESS_MODEL MODEL_DEFAULT")
STEP_KIND = names(
    "KIND_",
    "INCLUDED FLAT PER_UNIT TIER PACKAGE CONVERSION FREE PERCENTAGE PER_EVENT EVENT_MINIMUM EVENT_MAXIMUM"
    " STAIR CELL AMOUNTS DISCOUNT MINIMUM MAXIMUM",
)
OPERATION = names("OPERATION_", "MULTIPLY DIVIDE")

MONEY = Fields({"currency_code": CURRENCY, "minor_units": INT64}, ("currency_code",))
PERIOD = Fields({"start_at": TIME, "end_at": TIME}, ("start_at", "end_at"))

TIER = Fields({"up_to": DECIMAL, "unit_amount": DECIMAL, "flat_amount": DECIMAL})
PERCENTAGE_TIER = Fields({"up_to": DECIMAL, "rate_percent": DECIMAL, "flat_amount": DECIMAL})
MODELS: Mapping[str, Fields] = {
    "flat": Fields({"amount": A_DECIMAL}, ("amount",)),
    "per_unit": Fields({"unit_amount": A_DECIMAL}, ("unit_amount",)),
    "graduated": Fields({"tiers": Items(TIER)}, ("tiers",)),
    "volume": Fields({"tiers": Items(TIER)}, ("tiers",)),
    "package": Fields(
        {"package_size": A_DECIMAL, "package_amount": A_DECIMAL, "rounding": ROUNDING},
        ("package_size", "package_amount"),
    ),
    "percentage": Fields(
        {
            "rate_percent": A_DECIMAL,
            "fixed_per_event": DECIMAL,
            "free_events": INT64,
            "free_amount": DECIMAL,
            "minimum_per_event": DECIMAL,
            "maximum_per_event": DECIMAL,
        },
        ("rate_percent",),
    ),
    "graduated_percentage": Fields({"tiers": Items(PERCENTAGE_TIER)}, ("tiers",)),
    "stairstep": Fields(
        {
            "steps": Items(Fields({"limits": DECIMALS, "amount": A_DECIMAL}, ("amount",))),
            "dimension": TEXT,
        },
        ("steps",),
    ),
    "matrix": Fields(
        {"dimension": ID, "cells": DECIMALS, "default_unit_amount": DECIMAL}, ("dimension",)
    ),
    "dynamic": Fields({}),
}
PRICE = Fields(
    {
        **MODELS,
        "included_qty": DECIMAL,
        "minimum_amount": DECIMAL,
        "maximum_amount": DECIMAL,
        "discount_percent": DECIMAL,
        "unit_conversion": Fields(
            {
                "operation": OPERATION,
                "factor": A_DECIMAL,
                "rounding": ROUNDING,
                "precision": Whole(),
            },
            ("operation", "factor"),
        ),
    }
)
STEP = Fields(
    {
        "kind": STEP_KIND,
        "from_quantity": DECIMAL,
        "to_quantity": DECIMAL,
        "units": DECIMAL,
        "unit_amount": DECIMAL,
        "flat_amount": DECIMAL,
        "amount": DECIMAL,
        "label": TEXT,
    },
    ("kind",),
)
GROUP = Fields(
    {"count": INT64, "amount": DECIMAL, "smallest": DECIMAL, "largest": DECIMAL},
    ("count", "amount"),
)
EVENTS = Fields(
    {
        "event_count": INT64,
        "free": GROUP,
        "crossing_amount": DECIMAL,
        "charged": GROUP,
        "raised": GROUP,
        "lowered": GROUP,
    }
)
PRORATION = Fields(
    {"unit": TEXT, "from_units": INT64, "until_units": INT64, "period_units": INT64}, ("unit",)
)
COMMISSION = Fields(
    {
        "partner_tier": TEXT,
        "rate_sku": TEXT,
        "record_start_at": TIME,
        "stretches": Items(PERIOD),
        "billing_account_id": TEXT,
    }
)
TAX_TREATMENT = Name(
    frozenset(
        {
            "TAX_TREATMENT_TAXED",
            "TAX_TREATMENT_ZERO_RATED",
            "TAX_TREATMENT_EXEMPT",
            "TAX_TREATMENT_OUT_OF_SCOPE",
            "TAX_TREATMENT_CUSTOMER_EXEMPT",
            "TAX_TREATMENT_REVERSE_CHARGE",
        }
    )
)
TAX_ROUNDING = Name(frozenset({"TAX_ROUNDING_LINE", "TAX_ROUNDING_DOCUMENT"}))
TAX_LINE = Fields(
    {
        "jurisdiction": ID,
        "tax": ID,
        "tax_code": TEXT,
        "authority": ID,
        "treatment": TAX_TREATMENT,
        "rate_percent": DECIMAL,
        "inclusive": Flag(),
        "compound": Flag(),
        "rounding": TAX_ROUNDING,
        "rate_effective_at": TIME,
        "taxable_amount": MONEY,
        "amount": MONEY,
        "prior_amount": MONEY,
        "certificate": TEXT,
        "reason": TEXT,
        "amount_before": MONEY,
    },
    ("jurisdiction", "tax", "authority", "treatment", "rounding", "taxable_amount", "amount"),
)
TAX_TOTAL = Fields(
    {
        "jurisdiction": ID,
        "tax": ID,
        "treatment": TAX_TREATMENT,
        "rate_percent": DECIMAL,
        "inclusive": Flag(),
        "taxable_amount": MONEY,
        "amount": MONEY,
    },
    ("jurisdiction", "tax", "treatment", "taxable_amount", "amount"),
)
TAX_PROOF = Fields(
    {
        "tax_code": TEXT,
        "taxed_at": TIME,
        "country": TEXT,
        "region": TEXT,
        "profile_effective_at": TIME,
        "tax_id": TEXT,
        "reverse_charge": Flag(),
        "taxes": Items(TAX_LINE),
    },
    ("taxed_at",),
)
_PART = Fields(
    {
        "period": PERIOD,
        "aggregation": AGGREGATION,
        "usage_snapshot": TEXT,
        "usage_ordinal": INT64,
        "usage_log_root": HASH,
        "event_count": INT64,
        "first_event_at": TIME,
        "last_event_at": TIME,
        "plan_source": PLAN_SOURCE,
        "plan_id": ID,
        "plan_version": Whole(),
        "entitlement_effective_at": TIME,
        "overridden": Flag(),
        "price": PRICE,
        "prior_quantity": DECIMAL,
        "included_qty_used": DECIMAL,
        "billable_quantity": DECIMAL,
        "steps": Items(STEP),
        "unrounded": A_DECIMAL,
        "rounding": ROUNDING,
        "rounding_places": Whole(),
        "quantities": DECIMALS,
        "prior_quantities": DECIMALS,
        "prior_event_count": INT64,
        "prior_amount": DECIMAL,
        "quantity": DECIMAL,
        "part_no": Whole(),
        "events": EVENTS,
        "proration": PRORATION,
        "whole_price": PRICE,
        "commission": COMMISSION,
        "tax": TAX_PROOF,
    },
    ("period", "plan_id", "price", "unrounded"),
)
# A line of a correction may come to several parts of its period; the parts before its own have none before them.
PROOF = Fields({**_PART.fields, "earlier_parts": Items(_PART)}, _PART.required)
CORRECTION = Fields(
    {
        "quantity_before": A_DECIMAL,
        "quantity_after": A_DECIMAL,
        "amount_before": MONEY,
        "amount_after": MONEY,
        "partner_amount_before": MONEY,
        "partner_amount_after": MONEY,
    },
    (
        "quantity_before",
        "quantity_after",
        "amount_before",
        "amount_after",
        "partner_amount_before",
        "partner_amount_after",
    ),
)
CHARGE_LINE = Fields(
    {
        "line_id": ID,
        "sku": ID,
        "project_id": TEXT,
        "quantity": A_DECIMAL,
        "exact_amount": A_DECIMAL,
        "amount_gross": MONEY,
        "partner_id": TEXT,
        "partner_pct": DECIMAL,
        "partner_amount": MONEY,
        "net": MONEY,
        "status": STATUS,
        "proof": PROOF,
        "correction": CORRECTION,
        "dispute_id": TEXT,
        "taxes": Items(TAX_LINE),
        "amount_tax": MONEY,
        "amount_with_tax": MONEY,
        "amount_without_tax": MONEY,
    },
    (
        "line_id",
        "sku",
        "quantity",
        "exact_amount",
        "amount_gross",
        "partner_amount",
        "net",
        "status",
        "proof",
    ),
)
POSTING = Fields(
    {
        "transfer_id": ID,
        "debit_account_id": ID,
        "credit_account_id": ID,
        "amount": MONEY,
        "leg": TEXT,
    },
    ("transfer_id", "debit_account_id", "credit_account_id", "amount"),
)
LINE = Fields({"line": CHARGE_LINE, "postings": Items(POSTING)}, ("line",))
CHARGE = Fields(
    {
        "charge_id": ID,
        "org_id": ID,
        "period": PERIOD,
        "total": MONEY,
        "status": STATUS,
        "lines": Items(LINE),
        "recipe": TEXT,
        "recipe_version": Whole(),
        "posting_id": TEXT,
        "kind": CHARGE_KIND,
        "adjusts_charge_id": TEXT,
        "reversed_by_charge_id": TEXT,
        "correction_no": Whole(),
        "taxes": Items(TAX_TOTAL),
        "total_with_tax": MONEY,
    },
    ("charge_id", "org_id", "period", "total", "status", "kind"),
)


def decimal(message: Mapping[str, Any], name: str) -> Fraction:
    """Return a decimal field; what is absent or empty is 0."""
    return Fraction(message.get(name) or 0)


def minor_units_of(money: Mapping[str, Any]) -> int:
    """Return an amount of money in minor units."""
    return whole(money, "minor_units")


def optional(message: Mapping[str, Any], name: str) -> Fraction | None:
    """Return a decimal field; None for what is absent or empty."""
    text = message.get(name)
    return Fraction(text) if text else None


def whole(message: Mapping[str, Any], name: str) -> int:
    """Return a field of whole numbers; what is absent is 0."""
    return int(message.get(name) or 0)


def decimals(message: Mapping[str, Any], name: str) -> dict[str, Fraction]:
    """Return a field of decimals by name."""
    return {key: Fraction(text) for key, text in message.get(name, {}).items()}


def instant(text: str) -> Fraction:
    """Return seconds since the year 1; -1 for a time that no calendar has."""
    written, _, fraction = text.removesuffix("Z").partition(".")
    try:
        at = datetime.fromisoformat(written)
    except ValueError:
        return Fraction(-1)
    second = at.toordinal() * _DAY + at.hour * 3600 + at.minute * 60 + at.second
    return second + Fraction(int(fraction.ljust(9, "0")), _NANOS)


def moment(text: str) -> tuple[str, str]:
    """Return what orders times."""
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    return seconds, fraction.ljust(9, "0")
