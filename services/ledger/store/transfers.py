"""Lists of transfers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, literal_column, or_, select, tuple_

from services.ledger.domain.holds import TransferView
from services.ledger.domain.reads import (
    LOOKED_AT_MAX,
    Looked,
    PlacedTransfer,
    TransferPlace,
    TransfersWanted,
)
from services.ledger.domain.reversals import reversal_id
from services.ledger.store.entries import BY_INDEX
from services.ledger.store.posting import transfer_view
from services.ledger.tables import hold as hold_table
from services.ledger.tables import transfer as transfer_table
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.ledger", "queries/transfers.sql")


async def list_transfers(
    work: UnitOfWork, wanted: TransfersWanted, after: TransferPlace | None, size: int
) -> Looked[PlacedTransfer, TransferPlace]:
    """List transfers behind a place, and say behind which place more may stand."""
    most = LOOKED_AT_MAX if wanted.is_filtered else size + 1
    looked_at = transfers_looked_at(work.tenant_id, wanted, after, most)
    _, found = await work.execute_all((BY_INDEX, {}), (_page(looked_at, wanted, size + 1), None))
    rows = list(found)
    place = _place(rows[size - 1]) if len(rows) > size else None
    if place is None and wanted.is_filtered:
        place = await _last_looked_at(work, looked_at, most)
    shown = rows[:size]
    views = await _views(work, shown)
    items = [PlacedTransfer(view, _place(row)) for view, row in zip(views, shown, strict=True)]
    return Looked(items, place)


def transfers_looked_at(
    tenant_id: str, wanted: TransfersWanted, after: TransferPlace | None, limit: int
) -> Select[Any]:
    """Compose the statement of the transfers that a page looks at: those that an index finds, in its order."""
    t = transfer_table.c
    query = select(transfer_table).where(t.tenant_id == tenant_id)
    if wanted.recorded_in is not None:
        query = query.where(
            t.recorded_at >= wanted.recorded_in.start_at, t.recorded_at < wanted.recorded_in.end_at
        )
    if wanted.reference_id:
        query = query.where(
            t.reference_kind == wanted.reference_kind, t.reference_id == wanted.reference_id
        )
    order = _order(wanted)
    if not wanted.reference_id:
        # Of every transfer, and what the index of times is for.
        query = query.where(t.batch_no >= literal_column("0"))
    if after is not None:
        place = [getattr(after, column.name) for column in order]
        behind = (
            tuple_(*order) < tuple_(*place)
            if wanted.newest_first
            else tuple_(*order) > tuple_(*place)
        )
        query = query.where(behind)
        if not wanted.reference_id:
            # Says the same of the months, which a place of several columns does not.
            query = query.where(
                t.recorded_at <= after.recorded_at
                if wanted.newest_first
                else t.recorded_at >= after.recorded_at
            )
    ordered = [column.desc() for column in order] if wanted.newest_first else order
    return query.order_by(*ordered).limit(limit)


def _order(wanted: TransfersWanted) -> list[Any]:
    t = transfer_table.c
    place = [t.batch_no, t.position]
    return place if wanted.reference_id else [t.recorded_at, *place]


def _page(looked_at: Select[Any], wanted: TransfersWanted, limit: int) -> Select[Any]:
    near = looked_at.subquery("t")
    h = hold_table.c
    query = (
        select(near, h.remaining_minor, h.state, h.expires_at)
        .join(
            hold_table,
            (h.tenant_id == near.c.tenant_id) & (h.transfer_id == near.c.transfer_id),
            isouter=True,
        )
        .limit(limit)
    )
    if wanted.reference_part is not None:
        query = query.where(near.c.reference_part == wanted.reference_part)
    if wanted.account_id:
        query = query.where(
            or_(
                near.c.debit_account_id == wanted.account_id,
                near.c.credit_account_id == wanted.account_id,
            )
        )
    if wanted.code is not None:
        query = query.where(near.c.code == wanted.code)
    order = [near.c[column.name] for column in _order(wanted)]
    return query.order_by(*([c.desc() for c in order] if wanted.newest_first else order))


async def _last_looked_at(
    work: UnitOfWork, looked_at: Select[Any], most: int
) -> TransferPlace | None:
    t = transfer_table.c
    last = (
        looked_at.with_only_columns(t.recorded_at, t.batch_no, t.position).limit(1).offset(most - 1)
    )
    row = (await work.execute(last)).one_or_none()
    return None if row is None else _place(row)


def _place(row: Any) -> TransferPlace:
    return TransferPlace(row.recorded_at, row.batch_no, row.position)


async def _views(work: UnitOfWork, rows: Sequence[Any]) -> list[TransferView]:
    reversed_by = await _reversed_by(work, [row.transfer_id for row in rows])
    return [transfer_view(row, reversed_by.get(row.transfer_id)) for row in rows]


async def _reversed_by(work: UnitOfWork, transfer_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """Read what reversed each of these transfers, by the id that its reversal would have."""
    if not transfer_ids:
        return {}
    keys = {
        "tenant_id": work.tenant_id,
        "transfer_ids": [reversal_id(transfer_id) for transfer_id in transfer_ids],
    }
    rows = await work.execute(_SQL["read_reversals"], keys)
    return {row.reverses_id: row.transfer_id for row in rows}
