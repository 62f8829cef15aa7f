"""Types that tenants registered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import insert

from services.events import tables
from services.events.domain.types import EventType, Registration, Version
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.events", "queries.sql")


async def lock(work: UnitOfWork) -> None:
    """Hold off the tenant's other registrations until the end of the transaction."""
    await work.execute(_SQL["lock_types"], {"tenant_id": work.tenant_id})


async def count(work: UnitOfWork) -> int:
    """Return how many types the tenant registered."""
    result = await work.execute(_SQL["count_types"], {"tenant_id": work.tenant_id})
    return int(result.scalar_one())


async def subjects_after(work: UnitOfWork, after: str, limit: int) -> list[str]:
    """Return the tenant's first subjects behind one."""
    asked = {"tenant_id": work.tenant_id, "after": after, "limit": limit}
    return list((await work.execute(_SQL["subjects_after"], asked)).scalars())


async def find(work: UnitOfWork, subjects: Collection[str]) -> Mapping[str, EventType]:
    """Return the tenant's types of some subjects; what is not there is left out."""
    asked = {"tenant_id": work.tenant_id, "subjects": sorted(subjects)}
    rows = list((await work.execute(_SQL["types"], asked)).mappings())
    if not rows:
        return {}
    versions: dict[str, list[Version]] = defaultdict(list)
    for row in (await work.execute(_SQL["versions"], asked)).mappings():
        values = dict(row)
        versions[values.pop("subject")].append(Version(**values))
    return {
        row["subject"]: EventType(
            **{**row, "consumers": tuple(row["consumers"])},
            versions=tuple(versions[row["subject"]]),
        )
        for row in rows
    }


async def save(work: UnitOfWork, registration: Registration) -> None:
    """Store what a registration changed."""
    type_ = registration.type
    await _upsert(
        work,
        tables.event_type,
        {
            "subject": type_.subject,
            "owner": type_.owner,
            "consumers": list(type_.consumers),
            "description": type_.description,
            "key_field": type_.key_field,
            "registered_at": work.now,
        },
    )
    for version in registration.changed:
        await _upsert(
            work,
            tables.event_type_version,
            {
                "subject": type_.subject,
                "version": version.version,
                "json_schema": version.json_schema,
                "published_at": version.published_at,
                "cutover_at": version.cutover_at,
            },
        )


async def _upsert(work: UnitOfWork, table: Table, values: Mapping[str, object]) -> None:
    keys = [column.name for column in table.primary_key]
    statement = insert(table).values(tenant_id=work.tenant_id, **values)
    changes = {name: statement.excluded[name] for name in values if name not in keys}
    await work.execute(statement.on_conflict_do_update(index_elements=keys, set_=changes))
