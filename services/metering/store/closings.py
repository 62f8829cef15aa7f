"""Periods that charges closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from services.metering.domain.events import Place
from services.metering.domain.late import Closing
from services.metering.domain.receipts import Total
from services.metering.store.rows import rows_of
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.metering", "queries/closings.sql")


async def hold_closings(work: UnitOfWork) -> None:
    """Let no period of the tenant be closed until the commit."""
    await work.execute(*hold(work))


async def touches_closed(work: UnitOfWork, totals: Sequence[Total]) -> bool:
    """Whether stored usage may lie in closed periods."""
    asked = touching(
        work,
        [total.org_id for total in totals],
        [total.sku for total in totals],
        [total.first_event_at for total in totals],
        [total.last_event_at for total in totals],
    )
    return bool((await work.execute(*asked)).scalar_one())


def hold(work: UnitOfWork) -> tuple[str, Mapping[str, object]]:
    """Let no period of the tenant be closed until the commit, as a statement."""
    return _SQL["hold_closings"], {"tenant_id": work.tenant_id}


def touching(
    work: UnitOfWork,
    org_ids: Sequence[str],
    skus: Sequence[str],
    firsts: Sequence[datetime],
    lasts: Sequence[datetime],
) -> tuple[str, Mapping[str, object]]:
    """Ask whether usage may count in closed periods: by first and last event of each organisation and SKU."""
    return _SQL["touches_closed"], {
        "tenant_id": work.tenant_id,
        "org_ids": org_ids,
        "skus": skus,
        "firsts": firsts,
        "lasts": lasts,
    }


async def charges_of(
    work: UnitOfWork,
    places: Sequence[Place],
    heard_until: datetime | None = None,
) -> dict[Place, str]:
    """Return the charges that have closed the periods in which usage counts; usage that none has is left out.

    Args:
        heard_until: closings that were heard of later do not count; None: all do.
    """
    asked = list(dict.fromkeys(places))
    rows = await rows_of(
        work,
        _SQL,
        "charges_of",
        org_ids=[place.org_id for place in asked],
        project_ids=[place.project_id for place in asked],
        skus=[place.sku for place in asked],
        event_times=[place.event_time for place in asked],
        heard_until_at=heard_until,
    )
    return {asked[row.place - 1]: row.charge_id for row in rows}


async def wait_for_batches(work: UnitOfWork) -> None:
    """Let every batch of the tenant that is under way end, and others wait, until the commit."""
    await rows_of(work, _SQL, "wait_for_batches")


async def is_closed(work: UnitOfWork, charge_id: str) -> bool:
    """Whether the period of a charge is kept as closed."""
    return bool(await rows_of(work, _SQL, "is_closed", charge_id=charge_id))


async def close_period(work: UnitOfWork, closing: Closing, heard_ordinal: int) -> bool:
    """Keep a period as closed; False when it was.

    Args:
        heard_ordinal: up to which batches know nothing of the closing.
    """
    rows = await rows_of(
        work,
        _SQL,
        "close_period",
        charge_id=closing.charge_id,
        org_id=closing.org_id,
        start_at=closing.start_at,
        end_at=closing.end_at,
        usage_ordinal=closing.usage_ordinal,
        heard_ordinal=heard_ordinal,
        heard_at=work.now,
    )
    return bool(rows)


async def carry_skus(work: UnitOfWork, charge_id: str, skus: Sequence[str]) -> None:
    """Keep whose levels hold on into the period of a charge; those that are kept stay."""
    if skus:
        await rows_of(work, _SQL, "carry_skus", charge_id=charge_id, skus=list(skus))


async def advance_closing(work: UnitOfWork, charge_id: str, usage_ordinal: int) -> None:
    """Keep that usage up to an ordinal is billed for the period of a charge, and none of it late any more."""
    names = {"charge_id": charge_id, "usage_ordinal": usage_ordinal}
    await rows_of(work, _SQL, "advance_closing", **names)
    await rows_of(work, _SQL, "forget_billed", **names)


async def reopen_period(work: UnitOfWork, charge_id: str) -> None:
    """Forget that a charge closed its period, and what was late by it."""
    await rows_of(work, _SQL, "forget_late", charge_id=charge_id)
    await rows_of(work, _SQL, "forget_carried", charge_id=charge_id)
    await rows_of(work, _SQL, "forget_closing", charge_id=charge_id)
