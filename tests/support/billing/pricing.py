"""Catalogues to apply, written as a person would write them, and reading what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf import json_format
from payments.pricing.v1 import catalog_service_pb2

from services.runtime.edge.status import RemoteError
from services.runtime.errors import DomainError
from tests.support.postgres.server import DatabaseUrls

TOKEN_TIERS = [
    {"up_to": "10000000", "unit_amount": "0.000003"},
    {"up_to": "20000000", "unit_amount": "0.0000025"},
    {"unit_amount": "0.000002"},
]


def demo() -> dict[str, Any]:
    """Return the catalogue of the demo: three SKUs, one plan, two organisations, one partner."""
    prices = {
        "llm.input_tokens": {"graduated": {"tiers": TOKEN_TIERS}},
        "llm.output_tokens": {"per_unit": {"unit_amount": "0.000015"}, "included_qty": "100000"},
        "llm.requests": {"package": {"package_size": "1000", "package_amount": "0.50"}},
    }
    return {
        "skus": [
            {"sku": sku, "type": "SKU_TYPE_ACTION", "unit": sku.rpartition("_")[2]}
            for sku in prices
        ],
        "plans": [
            {
                "plan_id": "standard-usd",
                "name": "Standard",
                "currency_code": "USD",
                "prices": [{"sku": sku, "price": price} for sku, price in prices.items()],
            }
        ],
        "entitlements": [
            {"org_id": "code-assist", "plan_id": "standard-usd"},
            {"org_id": "chat", "plan_id": "standard-usd"},
        ],
        "partners": [{"partner_id": "northwind", "tier": "gold"}],
        "partners_of_record": [{"org_id": "code-assist", "partner_id": "northwind"}],
        "commission_rates": [{"partner_tier": "gold", "pct": "10"}],
    }


def declaration(
    catalog: Mapping[str, Any], **fields: Any
) -> catalog_service_pb2.ApplyCatalogRequest:
    """Make the request that applies a catalogue."""
    written = {"catalog": dict(catalog), **fields}
    return json_format.ParseDict(written, catalog_service_pb2.ApplyCatalogRequest())


async def refusal(call: Awaitable[Any]) -> DomainError:
    """Return the typed error that a call gets; fail when it gets none."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return RemoteError.of(failed.value, "pricing")


def recorded(urls: DatabaseUrls, query: str, tenant: str) -> list[Any]:
    """Run a query of the database's owner with the tenant as its only parameter."""
    with psycopg.connect(urls.owner_admin) as connection:
        return connection.execute(query.encode(), (tenant,)).fetchall()
