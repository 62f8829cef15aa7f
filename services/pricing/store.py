"""Every statement of pricing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import ARRAY, ColumnElement, Table, Text, any_, literal, or_, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert

from services.pricing import tables
from services.pricing.domain.catalog import (
    Aggregation,
    BillingAccountOrg,
    BillingAccountPartner,
    BusinessModel,
    Catalog,
    CommissionRate,
    Entitlement,
    Entity,
    OrgBusinessModel,
    Partner,
    PartnerOfRecord,
    Plan,
    PlanVersion,
    Sku,
)
from services.pricing.domain.changes import (
    Change,
    PricedAt,
    StoredEntities,
    disputes,
    entity_key,
    named,
    pinned,
)
from services.pricing.domain.commissions import Earner, Record
from services.pricing.domain.moves import Leaving
from services.pricing.domain.prices import Price
from services.pricing.domain.tax_table import TaxPolicy, TaxProfile, TaxRate
from services.pricing.domain.values import document
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql
from services.runtime.turns import in_slices

_SQL = sql.load("services.pricing", "queries.sql")
# Rows that are made or written before others have their turn.
_PART_ROWS = 200
# Entitlements of one period that are read, as the statement has it.
ENTITLEMENTS_MAX = 1_000
_PLAN = TypeAdapter(Plan)
_ENTITLEMENT = TypeAdapter(Entitlement)
_PRICE = TypeAdapter(Price)
_TAX_RATE = TypeAdapter(TaxRate)
_TAX_PROFILE = TypeAdapter(TaxProfile)
_TAX_POLICY = TypeAdapter(TaxPolicy)
EntityT = TypeVar(
    "EntityT",
    BusinessModel,
    OrgBusinessModel,
    Partner,
    PartnerOfRecord,
    CommissionRate,
    TaxRate,
    TaxProfile,
    TaxPolicy,
    BillingAccountOrg,
    BillingAccountPartner,
)


@dataclass(frozen=True, slots=True)
class _EntityTable:
    """How a kind of entity is kept: its table, and the column by which a declaration finds it."""

    table: Table
    adapter: TypeAdapter[Any]
    found_by: str


# Plans are kept in three tables and have statements of their own.
_ENTITY_TABLES: dict[str, _EntityTable] = {
    Sku.entity: _EntityTable(tables.sku, TypeAdapter(Sku), "sku"),
    BusinessModel.entity: _EntityTable(
        tables.business_model, TypeAdapter(BusinessModel), "model_id"
    ),
    OrgBusinessModel.entity: _EntityTable(
        tables.org_business_model, TypeAdapter(OrgBusinessModel), "org_id"
    ),
    Entitlement.entity: _EntityTable(tables.entitlement, TypeAdapter(Entitlement), "org_id"),
    Partner.entity: _EntityTable(tables.partner, TypeAdapter(Partner), "partner_id"),
    PartnerOfRecord.entity: _EntityTable(
        tables.partner_of_record, TypeAdapter(PartnerOfRecord), "org_id"
    ),
    CommissionRate.entity: _EntityTable(
        tables.commission_rate, TypeAdapter(CommissionRate), "partner_tier"
    ),
    TaxRate.entity: _EntityTable(tables.tax_rate, _TAX_RATE, "jurisdiction"),
    TaxProfile.entity: _EntityTable(tables.tax_profile, _TAX_PROFILE, "org_id"),
    TaxPolicy.entity: _EntityTable(tables.tax_policy, _TAX_POLICY, "country"),
    BillingAccountOrg.entity: _EntityTable(
        tables.billing_account_org, TypeAdapter(BillingAccountOrg), "org_id"
    ),
    BillingAccountPartner.entity: _EntityTable(
        tables.billing_account_partner, TypeAdapter(BillingAccountPartner), "billing_account_id"
    ),
}


async def lock_catalog(work: UnitOfWork) -> None:
    """Wait until no other transaction applies a catalogue of this tenant."""
    await work.execute(_SQL["lock_catalog"], {"tenant_id": work.tenant_id})


async def load_stored(work: UnitOfWork, catalog: Catalog) -> StoredEntities:
    """Load all that a declaration names, and what it could collide with."""
    ids = named(catalog)
    found: list[Entity | PlanVersion] = []
    for entity, kept in _ENTITY_TABLES.items():
        if wanted := ids.get(entity):
            found += await _load(work, kept, _is_any(kept.table.c[kept.found_by], wanted))
    if contested := disputes(catalog):
        record = _ENTITY_TABLES[PartnerOfRecord.entity]
        found += await _load(
            work, record, _is_any(record.table.c.dispute["dispute_id"].astext, contested)
        )
    codes = {model.code or model.model_id for model in catalog.business_models}
    if codes:
        model = _ENTITY_TABLES[BusinessModel.entity]
        found += await _load(work, model, _is_any(model.table.c.code, codes))
    model_ids = {model.model_id for model in catalog.business_models}
    found += await _newest_plans(work, ids.get(Plan.entity, set()), model_ids)
    if pins := pinned(catalog):
        found += await versions_of_plans(work, pins)
    return {entity_key(entity): entity for entity in found}


async def versions_of_plans(
    work: UnitOfWork, wanted: Iterable[tuple[str, int]]
) -> list[PlanVersion]:
    """Return those of some versions of plans that there are."""
    pairs = sorted(wanted)
    parameters = {
        "tenant_id": work.tenant_id,
        "plan_ids": [plan_id for plan_id, _ in pairs],
        "versions": [version for _, version in pairs],
    }
    rows = await work.execute(_SQL["versions_of_plans"], parameters)
    return [PlanVersion(row.plan_id, row.version) for row in rows]


async def subscribers(
    work: UnitOfWork, leaving: Leaving, limit: int
) -> tuple[list[tuple[str, bool]], int]:
    """Return whom a migration is to move, by id, and how many there are in all.

    Of each: whether it is on the plan by its business model, without an entitlement at the instant.
    """
    wanted = leaving.migration
    rows = await work.execute(
        _SQL["subscribers"],
        {
            "tenant_id": work.tenant_id,
            "plan_id": wanted.plan_id,
            "any_version": leaving.any_version,
            "version": wanted.version,
            "unpinned": leaving.unpinned,
            "to_plan_id": wanted.to_plan_id,
            "to_version": wanted.to_version,
            "effective_at": wanted.effective_at,
            "limit": limit,
        },
    )
    found = list(rows)
    return [(row.org_id, row.by_model) for row in found], found[0].total if found else 0


async def entitlements_of(
    work: UnitOfWork, org_ids: Collection[str]
) -> dict[str, list[Entitlement]]:
    """Return all entitlements of some organisations, oldest first."""
    kept = _ENTITY_TABLES[Entitlement.entity]
    by_org: dict[str, list[Entitlement]] = {org_id: [] for org_id in org_ids}
    for item in await _load(work, kept, _is_any(kept.table.c.org_id, org_ids)):
        assert isinstance(item, Entitlement)
        by_org[item.org_id].append(item)
    for found in by_org.values():
        found.sort(key=lambda item: item.effective_at)
    return by_org


async def model_with_default(work: UnitOfWork, plan_id: str) -> str | None:
    """Return a business model in use that gives the plan by default, if there is one."""
    parameters = {"tenant_id": work.tenant_id, "plan_id": plan_id}
    model_id: str | None = (await work.execute(_SQL["model_with_default"], parameters)).scalar()
    return model_id


async def prices_of(work: UnitOfWork, skus: Collection[str]) -> list[PricedAt]:
    """Read every stored price of some SKUs: in all versions of plans, and in overrides."""
    parameters = {"tenant_id": work.tenant_id, "skus": sorted(skus)}
    rows = await work.execute(_SQL["prices_of_skus"], parameters)
    return [
        PricedAt(row.place, row.sku, _PRICE.validate_python(json.loads(row.price)))
        async for row in in_slices(rows, _PART_ROWS)
    ]


async def save(work: UnitOfWork, changes: Sequence[Change]) -> None:
    """Store what changed, in the order of the changes."""
    for entity, kept in _grouped(changes):
        if entity == Plan.entity:
            await _save_plans(work, kept)
        else:
            await _upsert(work, _ENTITY_TABLES[entity].table, [change.after for change in kept])


async def catalog_stamp(work: UnitOfWork) -> int:
    """Return which state of the catalogue the transaction sees; each write to what estimates read makes another."""
    row = (await work.execute(_SQL["catalog_stamp"], {"tenant_id": work.tenant_id})).first()
    return row.stamp if row else 0


async def next_change(
    work: UnitOfWork, org_id: str, plan_id: str, now: datetime
) -> datetime | None:
    """Return when the next list of a plan, entitlement or tax profile of an organisation, or tax rate takes effect."""
    parameters = {
        "tenant_id": work.tenant_id,
        "org_id": org_id,
        "plan_id": plan_id,
        "now_at": now,
    }
    at: datetime | None = (await work.execute(_SQL["next_change"], parameters)).scalar()
    return at


async def plan(work: UnitOfWork, plan_id: str, version: int = 0) -> Plan | None:
    """Read a plan with a version of its price list; 0 means the newest."""
    rows = await work.execute(
        _SQL["plan_at_version"],
        {"tenant_id": work.tenant_id, "plan_id": plan_id, "version": version},
    )
    row = rows.first()
    return None if row is None else _plan(row)


async def version_in_force(work: UnitOfWork, plan_id: str, at: datetime) -> int | None:
    """Return the version of a plan whose price list holds at a moment."""
    rows = await work.execute(
        _SQL["version_in_force"], {"tenant_id": work.tenant_id, "plan_id": plan_id, "at": at}
    )
    version: int | None = rows.scalar()
    return version


async def page_of_plans(
    work: UnitOfWork, model_id: str, after: str, limit: int
) -> AsyncIterator[Plan]:
    """Read plans in the order of their ids, those behind `after`."""
    rows = await work.execute(
        _SQL["page_of_plans"],
        {"tenant_id": work.tenant_id, "model_id": model_id, "after": after, "limit": limit},
    )
    async for row in in_slices(rows, _PART_ROWS):
        yield _plan(row)


async def has_model(work: UnitOfWork, model_id: str) -> bool:
    """True when there is such a business model."""
    table = tables.business_model
    query = select(table.c.model_id).where(
        table.c.tenant_id == work.tenant_id, table.c.model_id == model_id
    )
    return (await work.execute(query)).first() is not None


async def page_of_skus(
    work: UnitOfWork, skus: Collection[str], after: str, limit: int
) -> list[Sku]:
    """Read SKUs in the order of their ids, those behind `after`; only `skus`, unless it is empty."""
    table = tables.sku
    query = select(table).where(table.c.tenant_id == work.tenant_id, table.c.sku > after)
    if skus:
        query = query.where(_is_any(table.c.sku, skus))
    rows = await work.execute(query.order_by(table.c.sku).limit(limit))
    return [_ENTITY_TABLES[Sku.entity].adapter.validate_python(row._asdict()) for row in rows]


async def page_of_entitlements(
    work: UnitOfWork, org_id: str, after: tuple[str, datetime], limit: int
) -> AsyncIterator[Entitlement]:
    """Read entitlements by organisation and time, those behind `after`."""
    rows = await work.execute(
        _SQL["page_of_entitlements"],
        {
            "tenant_id": work.tenant_id,
            "org_id": org_id,
            "after_org": after[0],
            "after_at": after[1],
            "limit": limit,
        },
    )
    async for row in in_slices(rows, _PART_ROWS):
        yield _entitlement(row)


async def page_of_entities(
    work: UnitOfWork,
    kind: type[EntityT],
    after: Sequence[object],
    limit: int,
    only: tuple[str, str] | None = None,
) -> list[EntityT]:
    """Read things of a kind in the order of their keys, those behind `after`.

    Args:
        work: the transaction.
        kind: which things; plans have a statement of their own.
        after: the key behind which the page begins; empty for the first page.
        limit: how many at most.
        only: a column, and the value that it is to have.
    """
    kept = _ENTITY_TABLES[kind.entity]
    keys = [column for column in kept.table.primary_key if column.name != "tenant_id"]
    query = select(kept.table).where(kept.table.c.tenant_id == work.tenant_id)
    if after:
        bounds = [literal(value, column.type) for value, column in zip(after, keys, strict=True)]
        query = query.where(tuple_(*keys) > tuple_(*bounds))
    if only:
        query = query.where(kept.table.c[only[0]] == only[1])
    rows = await work.execute(query.order_by(*keys).limit(limit))
    return [kept.adapter.validate_python(row._asdict()) for row in rows]


async def entitlements_of_period(
    work: UnitOfWork, org_id: str, start_at: datetime, end_at: datetime
) -> list[Entitlement]:
    """Read the entitlement in force at start_at and those that begin before end_at, oldest first."""
    rows = await work.execute(
        _SQL["entitlements_of_period"],
        {
            "tenant_id": work.tenant_id,
            "org_id": org_id,
            "start_at": start_at,
            "end_at": end_at,
        },
    )
    return [_entitlement(row) async for row in in_slices(rows, _PART_ROWS)]


async def plan_of_model(work: UnitOfWork, org_id: str) -> tuple[str, str] | None:
    """Return (own plan, the model's default plan) of an organisation on a model; "" for none."""
    rows = await work.execute(
        _SQL["plan_of_model"], {"tenant_id": work.tenant_id, "org_id": org_id}
    )
    row = rows.first()
    return None if row is None else (row.own_plan_id, row.default_plan_id)


async def sold(work: UnitOfWork, skus: Collection[str]) -> dict[str, tuple[Aggregation, str]]:
    """Return how the events of each SKU become its quantity, and its tax code."""
    table = tables.sku
    query = select(table.c.sku, table.c.aggregation, table.c.tax_code).where(
        table.c.tenant_id == work.tenant_id, _is_any(table.c.sku, skus)
    )
    return {
        row.sku: (Aggregation(row.aggregation), row.tax_code) for row in await work.execute(query)
    }


async def tax_place(work: UnitOfWork, org_id: str, at: datetime) -> tuple[bool, TaxProfile | None]:
    """Say whether the tenant has to do with taxes at an instant, and return the organisation's tax profile then."""
    parameters = {"tenant_id": work.tenant_id, "org_id": org_id, "taxed_at": at}
    row = (await work.execute(_SQL["tax_place"], parameters)).one()
    if row.org_id is None:
        return row.is_taxed, None
    return True, _TAX_PROFILE.validate_python(row._asdict())


async def tax_rates(
    work: UnitOfWork, jurisdictions: Collection[str], tax_codes: Collection[str], at: datetime
) -> list[TaxRate]:
    """Return the rates of some jurisdictions that are in force at an instant, for some tax codes and for all others."""
    parameters = {
        "tenant_id": work.tenant_id,
        "jurisdictions": sorted(jurisdictions),
        "tax_codes": sorted({"", *tax_codes}),
        "taxed_at": at,
    }
    rows = await work.execute(_SQL["tax_rates_in_force"], parameters)
    return [_TAX_RATE.validate_python(row._asdict()) for row in rows]


async def has_tax_rates(work: UnitOfWork, at: datetime) -> bool:
    """True when any rate of the tenant is in force at an instant."""
    parameters = {"tenant_id": work.tenant_id, "taxed_at": at}
    return bool((await work.execute(_SQL["has_tax_rates"], parameters)).scalar())


async def tax_policy(work: UnitOfWork, country: str) -> TaxPolicy:
    """Return the policy of a country, else that of all others, else what holds without any."""
    parameters = {"tenant_id": work.tenant_id, "country": country}
    row = (await work.execute(_SQL["tax_policy"], parameters)).first()
    return TaxPolicy() if row is None else _TAX_POLICY.validate_python(row._asdict())


async def earners_of_period(
    work: UnitOfWork, org_id: str, start_at: datetime, end_at: datetime
) -> tuple[list[Record], list[Record]]:
    """Read who earns on an organisation in a period, in the order of time; their rates are read apart.

    Returns its own partners, and those of the billing accounts that pay for it.
    """
    parameters = {
        "tenant_id": work.tenant_id,
        "org_id": org_id,
        "start_at": start_at,
        "end_at": end_at,
    }
    own, of_accounts = await work.execute_all(
        (_SQL["earners_of_period"], parameters), (_SQL["account_earners_of_period"], parameters)
    )
    return [
        Record(
            row.start_at,
            row.end_at,
            Earner(row.partner_id, row.tier, row.start_at, dispute_id=row.dispute_id),
        )
        for row in own
    ], [
        Record(
            row.start_at,
            row.end_at,
            Earner(
                row.partner_id,
                row.tier,
                row.start_at,
                billing_account_id=row.billing_account_id,
            ),
        )
        for row in of_accounts
    ]


async def rates_of_tiers(
    work: UnitOfWork, tiers: Collection[str], skus: Collection[str]
) -> dict[str, dict[str, Decimal]]:
    """Return the rates of each tier by SKU, "" for all others."""
    parameters = {"tenant_id": work.tenant_id, "tiers": sorted(tiers), "skus": sorted(skus)}
    found: dict[str, dict[str, Decimal]] = {tier: {} for tier in tiers}
    for row in await work.execute(_SQL["rates_of_tiers"], parameters):
        found[row.partner_tier][row.sku] = row.pct
    return found


async def _load(
    work: UnitOfWork, kept: _EntityTable, *conditions: ColumnElement[bool]
) -> list[Entity]:
    query = select(kept.table).where(kept.table.c.tenant_id == work.tenant_id, or_(*conditions))
    rows = await work.execute(query)
    return [
        kept.adapter.validate_python(row._asdict()) async for row in in_slices(rows, _PART_ROWS)
    ]


async def _newest_plans(
    work: UnitOfWork, plan_ids: Collection[str], model_ids: Collection[str]
) -> list[Plan]:
    rows = await work.execute(
        _SQL["newest_plans"],
        {
            "tenant_id": work.tenant_id,
            "plan_ids": list(plan_ids),
            "model_ids": list(model_ids),
        },
    )
    # A single plan may be a thousand prices of a thousand tiers: too much for a turn of the loop.
    return await asyncio.to_thread(lambda: [_plan(row) for row in rows])


# The price lists of a page come as text, so that each is read in its turn.
def _plan(row: Any) -> Plan:
    return _PLAN.validate_python({**row._asdict(), "prices": json.loads(row.prices)})


def _entitlement(row: Any) -> Entitlement:
    return _ENTITLEMENT.validate_python({**row._asdict(), "overrides": json.loads(row.overrides)})


async def _save_plans(work: UnitOfWork, changes: Sequence[Change]) -> None:
    plans = [change.after for change in changes]
    await _upsert(work, tables.plan, plans)
    drafts = [plan for plan in plans if isinstance(plan, Plan) and plan.version == 0]
    await _upsert(work, tables.plan_draft, drafts)
    published = [change.after for change in changes if _is_new_version(change)]
    versions, prices = await asyncio.to_thread(_version_rows, work.tenant_id, work.now, published)
    await _write(work, insert(tables.plan_version), versions)
    await _write(work, insert(tables.plan_price), prices)
    if published:
        ended = [plan.key[0] for plan in published]
        parameters = {"tenant_id": work.tenant_id, "plan_ids": ended}
        work.later(_SQL["end_drafts"], parameters)


def _version_rows(
    tenant_id: str, now: datetime, published: Iterable[Entity]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    versions, prices = [], []
    for item in published:
        assert isinstance(item, Plan)
        head = {"tenant_id": tenant_id, "plan_id": item.plan_id, "version": item.version}
        versions.append(
            {
                **head,
                "currency_code": item.currency_code,
                "effective_at": item.effective_at,
                "proration": item.proration.value if item.proration else None,
                "published_at": now,
            }
        )
        prices += [
            {
                **head,
                "sku": price.sku,
                "price": document(price.price),
                "tax_code": price.tax_code,
            }
            for price in item.prices
        ]
    return versions, prices


def _is_new_version(change: Change) -> bool:
    assert isinstance(change.after, Plan)
    before = change.before
    if change.after.version == 0:
        return False
    return not isinstance(before, Plan) or before.version != change.after.version


async def _upsert(work: UnitOfWork, table: Table, entities: Iterable[Entity]) -> None:
    statement = insert(table)
    keys = [column.name for column in table.primary_key]
    others = {column.name: statement.excluded[column.name] for column in table.c}
    changed = {name: value for name, value in others.items() if name not in keys}
    rows = await asyncio.to_thread(_rows, table, work.tenant_id, entities)
    statement = statement.on_conflict_do_update(index_elements=keys, set_=changed)
    await _write(work, statement, rows)


async def _write(work: UnitOfWork, statement: Insert, rows: Sequence[dict[str, Any]]) -> None:
    """Run a statement for rows, if there are any, in parts between which others have their turns."""
    for start in range(0, len(rows), _PART_ROWS):
        await work.execute(statement, rows[start : start + _PART_ROWS])


def _rows(table: Table, tenant_id: str, entities: Iterable[Entity]) -> list[dict[str, Any]]:
    return [{"tenant_id": tenant_id, **_row(table, entity)} for entity in entities]


def _row(table: Table, entity: Entity) -> dict[str, Any]:
    written = document(entity)
    row = {}
    for column in table.c:
        if column.name == "tenant_id":
            continue
        value = getattr(entity, column.name)
        if isinstance(column.type, JSONB):
            nothing: Any = None if column.nullable else {} if isinstance(value, dict) else []
            value = written.get(column.name, nothing)
        # The driver would write the name of an enum's member.
        row[column.name] = value.value if isinstance(value, Enum) else value
    return row


def _grouped(changes: Sequence[Change]) -> list[tuple[str, list[Change]]]:
    """Group what changed by entity, in the order of its first appearance."""
    groups: dict[str, list[Change]] = {}
    for change in changes:
        if change.before != change.after:
            groups.setdefault(change.after.entity, []).append(change)
    return list(groups.items())


def _is_any(column: ColumnElement[str], values: Collection[str]) -> ColumnElement[bool]:
    return column == any_(literal(sorted(values), ARRAY(Text)))
