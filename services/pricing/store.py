"""Every statement of pricing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import ARRAY, ColumnElement, Table, Text, any_, literal, or_, select
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert

from services.pricing import tables
from services.pricing.domain.catalog import (
    Aggregation,
    BusinessModel,
    Catalog,
    CommissionRate,
    Entitlement,
    Entity,
    OrgBusinessModel,
    Partner,
    PartnerOfRecord,
    Plan,
    Sku,
)
from services.pricing.domain.changes import Change, StoredEntities, entity_key, named
from services.pricing.domain.values import document
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql
from services.runtime.turns import in_slices

_SQL = sql.load("services.pricing", "queries.sql")
# Rows that are made or written before others have their turn.
_PART_ROWS = 200
_PLAN = TypeAdapter(Plan)
_ENTITLEMENT = TypeAdapter(Entitlement)


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
}


async def lock_catalog(work: UnitOfWork) -> None:
    """Wait until no other transaction applies a catalogue of this tenant."""
    await work.execute(_SQL["lock_catalog"], {"tenant_id": work.tenant_id})


async def load_stored(work: UnitOfWork, catalog: Catalog) -> StoredEntities:
    """Load all that a declaration names, and what it could collide with."""
    ids = named(catalog)
    found: list[Entity] = []
    for entity, kept in _ENTITY_TABLES.items():
        if wanted := ids.get(entity):
            found += await _load(work, kept, _is_any(kept.table.c[kept.found_by], wanted))
    codes = {model.code or model.model_id for model in catalog.business_models}
    if codes:
        model = _ENTITY_TABLES[BusinessModel.entity]
        found += await _load(work, model, _is_any(model.table.c.code, codes))
    model_ids = {model.model_id for model in catalog.business_models}
    found += await _newest_plans(work, ids.get(Plan.entity, set()), model_ids)
    return {entity_key(entity): entity for entity in found}


async def save(work: UnitOfWork, changes: Sequence[Change]) -> None:
    """Store what changed, in the order of the changes."""
    for entity, kept in _grouped(changes):
        if entity == Plan.entity:
            await _save_plans(work, kept)
        else:
            await _upsert(work, _ENTITY_TABLES[entity].table, [change.after for change in kept])


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


async def aggregations(work: UnitOfWork, skus: Collection[str]) -> dict[str, Aggregation]:
    """Return how the events of each SKU become its quantity."""
    table = tables.sku
    query = select(table.c.sku, table.c.aggregation).where(
        table.c.tenant_id == work.tenant_id, _is_any(table.c.sku, skus)
    )
    return {row.sku: Aggregation(row.aggregation) for row in await work.execute(query)}


async def commissions(
    work: UnitOfWork, org_id: str, at: datetime, skus: Collection[str]
) -> tuple[str, dict[str, Decimal]]:
    """Return the partner that earns on an organisation ("" for none) and its rates by SKU ("" for all others)."""
    rows = await work.execute(
        _SQL["commissions"],
        {"tenant_id": work.tenant_id, "org_id": org_id, "at": at, "skus": list(skus)},
    )
    partner_id, rates = "", {}
    for row in rows:
        partner_id = row.partner_id
        rates[row.sku] = row.pct
    return partner_id, rates


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
    published = [change.after for change in changes if _is_new_version(change)]
    versions, prices = await asyncio.to_thread(_version_rows, work.tenant_id, work.now, published)
    await _write(work, insert(tables.plan_version), versions)
    await _write(work, insert(tables.plan_price), prices)


def _version_rows(
    tenant_id: str, now: datetime, published: Iterable[Entity]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    versions, prices = [], []
    for item in published:
        assert isinstance(item, Plan)
        head = {"tenant_id": tenant_id, "plan_id": item.plan_id, "version": item.version}
        effective = {"currency_code": item.currency_code, "effective_at": item.effective_at}
        versions.append({**head, **effective, "published_at": now})
        prices += [
            {**head, "sku": price.sku, "price": document(price.price)} for price in item.prices
        ]
    return versions, prices


def _is_new_version(change: Change) -> bool:
    assert isinstance(change.after, Plan)
    before = change.before
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
            value = written.get(column.name, {} if isinstance(value, dict) else [])
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
