"""Every statement of merchant configurations."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert

from services.orchestration.domain.config import Capture, MerchantConfig, Split, StoredConfig
from services.orchestration.store import codec
from services.orchestration.tables import MERCHANT_CONFIG
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.orchestration", "queries.sql")


async def lock_merchant(work: UnitOfWork, merchant_id: str) -> None:
    """Make other writers of this merchant's configuration wait until this transaction ends."""
    await work.execute(
        _SQL["lock_merchant"], {"tenant_id": work.tenant_id, "merchant_id": merchant_id}
    )


async def insert_config(work: UnitOfWork, config: MerchantConfig, created_by: str) -> None:
    """Store a version."""
    await work.execute(
        insert(MERCHANT_CONFIG).values(
            tenant_id=work.tenant_id,
            merchant_id=config.merchant_id,
            version=config.version,
            methods=codec.methods_to_json(config.methods),
            attempts_per_processor_max=config.attempts_per_processor_max,
            call_timeout_ms=config.call_timeout_ms,
            partial_allowed=config.partial_allowed,
            capture=config.capture.value,
            processors=codec.processors_to_json(config.processors),
            routing=codec.routing_to_json(config.routing),
            limits=codec.limits_to_json(config.limits),
            split=config.split.value,
            backoff_ms=config.backoff_ms,
            created_at=work.now,
            created_by=created_by,
        )
    )


async def find_configs(
    work: UnitOfWork, merchant_id: str, *, version: int = 0, before: int = 0, limit: int = 1
) -> list[StoredConfig]:
    """Return versions of a merchant, the newest first; `version` picks one, `before` pages."""
    table = MERCHANT_CONFIG
    query = sa.select(table).where(
        table.c.tenant_id == work.tenant_id, table.c.merchant_id == merchant_id
    )
    if version:
        query = query.where(table.c.version == version)
    if before:
        query = query.where(table.c.version < before)
    rows = await work.execute(query.order_by(table.c.version.desc()).limit(limit))
    return [_config(row) for row in rows]


def which(tenant_id: str, merchant_id: str) -> tuple[str, dict[str, Any]]:
    """Return the statement that tells which version of a merchant holds, with its values."""
    return _SQL["current_version"], {"tenant_id": tenant_id, "merchant_id": merchant_id}


async def find_current(work: UnitOfWork, *, after: str, limit: int) -> list[StoredConfig]:
    """Return the current version of each merchant behind an id, by merchant_id."""
    table = MERCHANT_CONFIG
    query = (
        sa.select(table)
        .where(table.c.tenant_id == work.tenant_id, table.c.merchant_id > after)
        .ext(distinct_on(table.c.merchant_id))
        .order_by(table.c.merchant_id, table.c.version.desc())
        .limit(limit)
    )
    return [_config(row) for row in await work.execute(query)]


def _config(row: Any) -> StoredConfig:
    config = MerchantConfig(
        row.merchant_id,
        row.version,
        codec.methods_from_json(row.methods),
        row.attempts_per_processor_max,
        row.call_timeout_ms,
        row.partial_allowed,
        Capture(row.capture),
        codec.processors_from_json(row.processors),
        codec.routing_from_json(row.routing),
        codec.limits_from_json(row.limits),
        Split(row.split),
        row.backoff_ms,
    )
    return StoredConfig(config, row.created_at, row.created_by)
