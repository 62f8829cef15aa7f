"""A large request is checked part by part, and with the same result as whole."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from google.protobuf.message import Message
from payments.access.v1 import access_service_pb2
from payments.billing.v1 import charge_service_pb2
from payments.contracts.v1 import contracts_service_pb2
from payments.events.v1 import events_service_pb2
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2
from payments.metering.v1 import metering_service_pb2
from payments.orchestration.v1 import orchestration_service_pb2
from payments.pricing.v1 import catalog_service_pb2, pricing_service_pb2

from services.runtime.edge import methods, validation
from services.runtime.errors import FieldViolation, InvalidField
from tests.support.billing.pricing import declaration, demo
from tests.support.http.odd_requests import mutate

SERVICES = [
    service.full_name
    for module in (
        *(access_service_pb2, catalog_service_pb2, charge_service_pb2, contracts_service_pb2),
        *(events_service_pb2, ledger_service_pb2, metering_service_pb2),
        *(orchestration_service_pb2, pricing_service_pb2),
    )
    for service in module.DESCRIPTOR.services_by_name.values()
]


async def in_turns(message: Message) -> list[FieldViolation]:
    try:
        await validation.check_in_turns(message)
    except InvalidField as error:
        return list(error.fields)
    return []


async def test_parts_are_judged_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "PART_BYTES", 0)
    dice, faulty, cut = Random(8), 0, 0
    for kind in methods.request_types(SERVICES):
        for _ in range(60):
            message = kind()
            for _ in range(dice.randrange(1, 12)):
                mutate(dice, message, {})
            # Thousands of messages are no single step of the loop.
            await asyncio.sleep(0)
            whole = validation.violations(message)
            parts = await in_turns(message)
            assert bool(whole) == bool(parts), message
            # A list that is too long, or a value that is none of its type, is told alone, here of its part.
            alone = ("must have at most", "must be")
            if not any(said.description.startswith(alone) for said in whole):
                assert {str(said) for said in whole} <= {str(said) for said in parts}
            faulty += bool(whole)
            cut += len(list(validation._parts(message))) > 1
    assert faulty > 1_000
    assert cut > 20


async def test_faults_keep_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "PART_BYTES", 100)
    request = declaration(demo())
    assert not await in_turns(request)
    request.catalog.skus[1].sku = "!"
    request.catalog.plans[0].prices[2].sku = "#"
    tiers = request.catalog.plans[0].prices[0].price.graduated.tiers
    tiers[1].unit_amount = "x"
    found = await in_turns(request)
    assert found == validation.violations(request)
    assert [said.field for said in found] == [
        "catalog.skus[1].sku",
        "catalog.plans[0].prices[0].price.graduated.tiers[1].unit_amount",
        "catalog.plans[0].prices[2].sku",
    ]


async def test_a_list_that_is_too_long_is_told_before_its_items_are_looked_at() -> None:
    request = catalog_service_pb2.ApplyCatalogRequest()
    for _ in range(1_001):
        request.catalog.skus.add(sku="!" * 40)
    assert [said.field for said in await in_turns(request)] == ["catalog.skus"]


@pytest.mark.parametrize(
    ("message", "field", "allowed"),
    [
        (
            declaration({"skus": [{"sku": "a", "aggregation": 99}]}),
            "catalog.skus[0].aggregation",
            "must be one of AGGREGATION_SUM, AGGREGATION_COUNT, AGGREGATION_MAX, AGGREGATION_MIN, AGGREGATION_AVG,"
            " AGGREGATION_LATEST, AGGREGATION_UNIQUE, AGGREGATION_WEIGHTED_SUM, AGGREGATION_P50, AGGREGATION_P95,"
            " AGGREGATION_P99",
        ),
        *(
            (
                ledger_pb2.Account(account_id="a", currency_code="USD", type=number),
                "type",
                "must be one of ACCOUNT_TYPE_ASSET, ACCOUNT_TYPE_LIABILITY, ACCOUNT_TYPE_EQUITY,"
                " ACCOUNT_TYPE_INCOME, ACCOUNT_TYPE_EXPENSE",
            )
            for number in map(ledger_pb2.AccountType.ValueType, (0, 99))
        ),
    ],
)
def test_an_enum_names_what_it_may_be(message: Message, field: str, allowed: str) -> None:
    assert FieldViolation(field, allowed) in validation.violations(message)
