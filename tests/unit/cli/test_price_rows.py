"""A price of every model as rows of a table."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from payments.pricing.v1 import pricing_pb2

from services.cli import price_rows

TIERS = {"tiers": [{"up_to": "10", "unit_amount": "2", "flat_amount": "1"}, {}]}
ROWS: dict[str, tuple[dict[str, Any], list[tuple[str, str, str]]]] = {
    "flat": ({"amount": "9.99"}, [("", "", "9.99")]),
    "per_unit": ({"unit_amount": "0.5"}, [("", "0.5", "")]),
    "graduated": (TIERS, [("10", "2", "1"), ("no end", "0", "")]),
    "volume": (TIERS, [("10", "2", "1"), ("no end", "0", "")]),
    "package": ({"package_size": "10", "package_amount": "2"}, [("", "2 per 10", "")]),
    "percentage": (
        {
            "rate_percent": "1.5",
            "fixed_per_event": "0.30",
            "free_events": "3",
            "free_amount": "100",
            "minimum_per_event": "0.50",
            "maximum_per_event": "10",
        },
        [
            ("", "1.5 %", "0.30 an event"),
            ("3 events or 100", "free", ""),
            ("", "at least 0.50 an event", ""),
            ("", "at most 10 an event", ""),
        ],
    ),
    "graduated_percentage": (
        {"tiers": [{"up_to": "100", "rate_percent": "3", "flat_amount": "1"}, {}]},
        [("100", "3 %", "1"), ("no end", "0 %", "")],
    ),
    "stairstep": (
        {
            "dimension": "resource",
            "steps": [{"limits": {"disk": "50", "cpu": "2"}, "amount": "20"}, {"amount": "60"}],
        },
        [("2 cpu, 50 disk", "", "20"), ("no end", "", "60")],
    ),
    "matrix": (
        {"dimension": "region", "cells": {"us": "3", "": "1"}, "default_unit_amount": "4"},
        [("region=", "1", ""), ("region=us", "3", ""), ("any other region", "4", "")],
    ),
    "dynamic": ({}, [("", "what events carry", "")]),
}


def rows(price: dict[str, Any]) -> list[tuple[str, ...]]:
    written = {"sku": "s", "price": price}
    return [*price_rows.of(json_format.ParseDict(written, pricing_pb2.PlanPrice()))]


@pytest.mark.parametrize("name", ROWS)
def test_a_price_is_told_row_by_row(name: str) -> None:
    written, expected = ROWS[name]
    found = rows({name: written})
    assert found[0][:3] == ("s", name.replace("_", " "), "")
    assert all(row[:3] == ("", "", "") for row in found[1:])
    assert [row[3:] for row in found] == expected


def test_every_model_has_its_rows() -> None:
    oneof = pricing_pb2.Price.DESCRIPTOR.oneofs_by_name["model"]
    assert [field.name for field in oneof.fields] == list(ROWS)


def test_what_stands_around_a_model_is_told_behind_it() -> None:
    found = rows(
        {
            "flat": {"amount": "1"},
            "included_qty": "5",
            "unit_conversion": {
                "operation": "OPERATION_DIVIDE",
                "factor": "1024",
                "rounding": "ROUNDING_HALF_UP",
                "precision": 2,
            },
            "discount_percent": "12.5",
            "minimum_amount": "1",
            "maximum_amount": "20",
        }
    )
    assert found == [
        ("s", "flat", "5", "", "", "1"),
        ("", "", "", "", "units / 1024, half up to 2 places", ""),
        ("", "", "", "", "less 12.5 %", ""),
        ("", "", "", "", "at least", "1"),
        ("", "", "", "", "at most", "20"),
    ]


def test_a_tax_code_is_told_behind_the_price() -> None:
    item = pricing_pb2.PlanPrice(sku="s", tax_code="T1")
    item.price.flat.amount = "1"
    assert list(price_rows.of(item)) == [
        ("s", "flat", "", "", "", "1"),
        ("", "", "", "", "tax code", "T1"),
    ]


def test_a_model_of_a_later_release_is_not_taken_for_another() -> None:
    assert rows({}) == [("s", "", "", "", "see --output json", "")]
