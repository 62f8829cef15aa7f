"""Whatever a catalogue holds: what is exported of it is applied again without a change, and exported the same."""

from __future__ import annotations

import asyncio
import io
import itertools
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import grpc
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from payments.pricing.v1 import catalog_service_pb2, catalog_service_pb2_grpc

from services.cli.client import Client
from services.cli.commands.catalog import parse_catalog
from services.cli.commands.price_lists import write_catalog
from services.runtime import documents
from tests.support.billing.pricing import declaration
from tests.support.mesh.serving import Mesh

Kind = catalog_service_pb2.CatalogChange.Kind
SKUS = ("calls", "1e5", "no")
CURRENCY = "KWD"
EPOCH = datetime(2020, 1, 1, tzinfo=UTC)

# Whatever Postgres can hold as text, and a quoted YAML must give back.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
micros = st.integers(0, 10**15)


def moment(since: int) -> str:
    """Write a time as a declaration does."""
    return (EPOCH + timedelta(microseconds=since)).isoformat().replace("+00:00", "Z")


moments = micros.map(moment)
decimals = st.decimals(0, 10**12, places=18, allow_nan=False, allow_infinity=False).map(
    lambda number: format(number, "f")
)
percents = st.integers(0, 10**4).map(lambda number: format(number / 100, ".2f"))


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Documents in which each field may be missing."""
    return st.fixed_dictionaries({}, optional=fields)


models = st.one_of(
    st.fixed_dictionaries({"flat": st.fixed_dictionaries({"amount": decimals})}),
    st.fixed_dictionaries({"per_unit": st.fixed_dictionaries({"unit_amount": decimals})}),
    st.builds(
        lambda first, last: {"graduated": {"tiers": [{"up_to": "10", **first}, last]}},
        optional(unit_amount=decimals, flat_amount=decimals),
        optional(unit_amount=decimals, flat_amount=decimals),
    ),
    st.builds(
        lambda cells, other: {"matrix": {"dimension": "region", "cells": cells, **other}},
        st.dictionaries(texts, decimals, max_size=3),
        optional(default_unit_amount=decimals),
    ),
)
prices = st.builds(
    lambda model, around, units: {**model, **around, **({} if "matrix" in model else units)},
    models,
    optional(discount_percent=percents, minimum_amount=decimals),
    optional(included_qty=decimals),
)
price_lists = st.dictionaries(
    st.sampled_from(SKUS), st.tuples(prices, optional(tax_code=texts)), max_size=3
).map(lambda found: [{"sku": sku, "price": price, **more} for sku, (price, more) in found.items()])
tax_codes = st.sampled_from(("", "T1", "null", "1e5"))
rates = st.builds(
    lambda levied, more: {**levied, **more},
    st.one_of(
        st.integers(1, 10**4).map(lambda number: {"rate_percent": format(number / 100, ".2f")}),
        st.just({"treatment": "TAX_TREATMENT_EXEMPT"}),
    ),
    optional(
        effective_at=moments,
        inclusive=st.booleans(),
        compound=st.booleans(),
        position=st.integers(0, 1000),
        authority=st.just("revenue"),
        reason=texts,
    ),
)
tax_profiles = optional(
    effective_at=moments,
    region=st.just("QC"),
    tax_id=st.just("123 RT-1"),
    exemptions=st.just([{"jurisdiction": "CA", "certificate": "no"}]),
)
tax_policies = optional(
    missing=st.sampled_from(("TAX_MISSING_REFUSE", "TAX_MISSING_UNTAXED")),
    rounding=st.sampled_from(("TAX_ROUNDING_LINE", "TAX_ROUNDING_DOCUMENT")),
)
skus = st.tuples(
    *(
        optional(
            type=st.just("SKU_TYPE_ACTION"),
            unit=texts,
            cost=decimals,
            retail=decimals,
            tax_code=texts,
            metadata=st.dictionaries(texts.filter(bool), texts, max_size=2),
        ).map(lambda item, sku=sku: {"sku": sku, **item})  # type: ignore[misc] # a lambda has no types
        for sku in SKUS
    )
).map(list)
plan_fields = optional(
    name=texts,
    tier=texts,
    notes=texts,
    effective_at=moments,
    proration=st.sampled_from(("PRORATION_NONE", "PRORATION_DAY", "PRORATION_SECOND")),
)


@st.composite
def catalogues(draw: st.DrawFn) -> dict[str, Any]:
    """Every kind of thing, in every column, with references that hold."""
    plans = [
        {
            "plan_id": plan_id,
            "currency_code": CURRENCY,
            "prices": draw(price_lists),
            **draw(plan_fields),
            **({"model_id": "m"} if draw(st.booleans()) else {}),
            "status": status,
        }
        for plan_id, status in (
            ("p", "STATUS_ACTIVE"),
            ("d", "STATUS_DRAFT"),
            ("o", "STATUS_DEPRECATED"),
        )
    ]
    overriding = optional(overrides=price_lists, plan_version=st.sampled_from((0, 1)))
    orgs = st.sampled_from(("acme", "beta", "null"))
    held = draw(st.dictionaries(st.tuples(orgs, moments), overriding, max_size=3))
    assigned = optional(plan_id=st.just("p"), assigned_by=texts, assigned_at=moments, notes=texts)
    starts = [moment(n) for n in sorted(draw(st.sets(micros, min_size=1, max_size=3)))]
    records = [
        {"org_id": "acme", "partner_id": "n", "start_at": start, "end_at": end}
        for start, end in itertools.pairwise(starts)
    ]
    last = {"org_id": "acme", "partner_id": "n", "start_at": starts[-1]}
    return {
        "skus": draw(skus),
        "plans": plans,
        "business_models": [
            {
                "model_id": "m",
                "currency_code": CURRENCY,
                **draw(
                    optional(
                        code=texts,
                        name=texts,
                        status=st.sampled_from(("STATUS_ACTIVE", "STATUS_DEPRECATED")),
                        version=st.integers(0, 9),
                        default_plan_id=st.just("p"),
                    )
                ),
            }
        ],
        "org_business_models": [
            {"org_id": org_id, "model_id": "m", **item}
            for org_id, item in draw(st.dictionaries(orgs, assigned, max_size=2)).items()
        ],
        "entitlements": [
            {"org_id": org_id, "plan_id": "p", "effective_at": at, **item}
            for (org_id, at), item in held.items()
        ],
        "partners": [{"partner_id": "n", "tier": "gold", **draw(optional(name=texts))}],
        "partners_of_record": [
            *records,
            {
                **last,
                "status": draw(
                    st.sampled_from(("STATUS_ACTIVE", "STATUS_DISPUTED", "STATUS_EXPIRED"))
                ),
            },
        ],
        "commission_rates": [
            {"partner_tier": "gold", "pct": draw(percents)},
            {"partner_tier": "gold", "sku": "no", "pct": draw(percents)},
        ],
        "tax_rates": [
            {"jurisdiction": "CA", "tax": "GST", "tax_code": code, **item}
            for code, item in draw(st.dictionaries(tax_codes, rates, max_size=3)).items()
        ],
        "tax_profiles": [
            {"org_id": org_id, "country": "CA", **item}
            for org_id, item in draw(st.dictionaries(orgs, tax_profiles, max_size=2)).items()
        ],
        "tax_policies": [
            {"country": country, **item}
            for country, item in draw(
                st.dictionaries(st.sampled_from(("", "CA")), tax_policies, max_size=2)
            ).items()
        ],
    }


class Calling:
    """What the command line needs of its client, over a channel of the test."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()

    def stub(self, make: Any) -> Any:
        """Make a stub."""
        return make(self._channel)

    def call(self, method: Any, request: Any) -> Any:
        """Call from a thread."""

        async def called() -> Any:
            return await method(request)

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(30)


async def exported(channel: grpc.aio.Channel) -> str:
    """Export as the command does."""
    kept = io.StringIO()
    client = cast("Client", Calling(channel))
    await asyncio.to_thread(write_catalog, kept, client)
    return kept.getvalue()


@given(wanted=catalogues())
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # To shrink a catalogue takes minutes, and says little.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
async def test_what_is_exported_changes_nothing(mesh: Mesh, wanted: dict[str, Any]) -> None:
    channel = mesh.channel(f"t-{uuid.uuid4().hex[:12]}")
    catalog: Any = catalog_service_pb2_grpc.CatalogServiceStub(channel)
    first = await catalog.ApplyCatalog(declaration(wanted))
    text = await exported(channel)
    again = parse_catalog(documents.read(text.encode()), "export")
    applied = await catalog.ApplyCatalog(catalog_service_pb2.ApplyCatalogRequest(catalog=again))
    assert {change.kind for change in applied.changes} == {Kind.KIND_UNCHANGED}
    assert len(applied.changes) == len(first.changes)
    assert await exported(channel) == text
    # Each column that was declared is in there, as it was declared.
    trial = declaration(wanted, validate_only=True)
    assert {change.kind for change in (await catalog.ApplyCatalog(trial)).changes} == {
        Kind.KIND_UNCHANGED
    }
