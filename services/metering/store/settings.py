"""Ingest settings of a tenant."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from services.metering.domain.settings import IngestSettings, LatePolicy
from services.metering.store.rows import rows_of
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.metering", "queries/settings.sql")


async def read_settings(work: UnitOfWork) -> IngestSettings:
    """Return the tenant's settings; the defaults while nobody has set them."""
    rows = await rows_of(work, _SQL, "read_settings")
    return _settings(rows[0]) if rows else IngestSettings()


async def lock_settings(work: UnitOfWork) -> IngestSettings:
    """Return the tenant's settings and keep others from changing them until the commit."""
    await rows_of(work, _SQL, "ensure_settings", **_values(IngestSettings()))
    return _settings((await rows_of(work, _SQL, "lock_settings"))[0])


async def update_settings(work: UnitOfWork, settings: IngestSettings) -> None:
    """Set the tenant's settings."""
    await rows_of(
        work, _SQL, "update_settings", updated_at=settings.updated_at, **_values(settings)
    )


def _settings(row: Any) -> IngestSettings:
    return IngestSettings(
        accept_past=timedelta(microseconds=row.accept_past_us),
        accept_future=timedelta(microseconds=row.accept_future_us),
        updated_at=row.updated_at,
        late=LatePolicy(row.late),
        metadata_allowed=tuple(row.metadata_allowed),
        rollup_keys=tuple(row.rollup_keys),
    )


def _values(settings: IngestSettings) -> dict[str, object]:
    microsecond = timedelta(microseconds=1)
    return {
        "accept_past_us": settings.accept_past // microsecond,
        "accept_future_us": settings.accept_future // microsecond,
        "late": settings.late.value,
        "metadata_allowed": list(settings.metadata_allowed),
        "rollup_keys": list(settings.rollup_keys),
    }
