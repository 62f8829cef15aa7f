"""Statements of agreements and their logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row, literal, select, tuple_

from services.agreements.domain.edits import KINDS, Edit, Entry
from services.agreements.domain.listing import Place
from services.agreements.store import SQL
from services.agreements.tables import agreement as table
from services.runtime.database import UnitOfWork
from services.runtime.turns import aside

_CHARACTERS_A_PART = 60
_BODIES: dict[str, TypeAdapter[Edit]] = {name: TypeAdapter(kind) for name, kind in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Head:
    """An agreement in a list, without its log."""

    agreement_id: str
    created_at: datetime


def insert(work: UnitOfWork, agreement_id: str, entries: Sequence[Entry]) -> None:
    """Store a new agreement with its log, with the next statement."""
    row = {**_key(work, agreement_id), "revision": entries[-1].revision}
    work.later(SQL["insert_agreement"], {**row, "created_at": entries[0].recorded_at})
    _insert_edits(work, agreement_id, entries)


def grow(work: UnitOfWork, agreement_id: str, entries: Sequence[Entry]) -> None:
    """Add to the log of an agreement that is locked, with the next statement."""
    row = {**_key(work, agreement_id), "revision": entries[-1].revision}
    work.later(SQL["grow_agreement"], row)
    _insert_edits(work, agreement_id, entries)


async def lock(work: UnitOfWork, agreement_id: str) -> int | None:
    """Return the revision of an agreement that nobody else edits until the transaction ends."""
    row = (await work.execute(SQL["lock_agreement"], _key(work, agreement_id))).first()
    return None if row is None else int(row.revision)


async def edits(
    work: UnitOfWork, agreement_id: str, limit: int, after_revision: int = 0
) -> list[Entry]:
    """Return entries of a log, by revision."""
    values = {**_key(work, agreement_id), "after_revision": after_revision, "limit": limit}
    rows = (await work.execute(SQL["edits"], values)).all()
    # An edit weighs as much as it has ramp steps or installments, each of some 60 characters.
    parts = sum(len(row.body) for row in rows) // _CHARACTERS_A_PART
    return await aside(max(len(rows), parts), _entries, rows)


async def heads(work: UnitOfWork, after: Place | None, limit: int) -> list[Head]:
    """List agreements behind `after`, the latest made first."""
    query = (
        select(table.c.agreement_id, table.c.created_at)
        .where(table.c.tenant_id == work.tenant_id)
        .order_by(table.c.created_at.desc(), table.c.agreement_id.desc())
        .limit(limit)
    )
    if after is not None:
        place = tuple_(table.c.created_at, table.c.agreement_id)
        query = query.where(place < tuple_(literal(after.created_at), literal(after.agreement_id)))
    rows = await work.execute(query)
    return [Head(row.agreement_id, row.created_at.astimezone(UTC)) for row in rows]


def _entries(rows: Sequence[Row[Any]]) -> list[Entry]:
    return [
        Entry(
            revision=row.revision,
            edit=_BODIES[row.kind].validate_json(row.body),
            effective_at=row.effective_at.astimezone(UTC),
            recorded_at=row.recorded_at.astimezone(UTC),
            principal_id=row.principal_id,
        )
        for row in rows
    ]


def _insert_edits(work: UnitOfWork, agreement_id: str, entries: Sequence[Entry]) -> None:
    rows = [
        {
            **_key(work, agreement_id),
            "revision": entry.revision,
            "kind": entry.edit.name,
            "body": _BODIES[entry.edit.name].dump_json(entry.edit).decode(),
            "effective_at": entry.effective_at,
            "recorded_at": entry.recorded_at,
            "principal_id": entry.principal_id,
        }
        for entry in entries
    ]
    work.later(SQL["insert_edit"], rows)


def _key(work: UnitOfWork, agreement_id: str) -> dict[str, str]:
    return {"tenant_id": work.tenant_id, "agreement_id": agreement_id}
