"""Postings of recipes, as they were posted."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from services.ledger.domain.holds import TransferView
from services.ledger.domain.recipes.parameters import Value, Values
from services.ledger.domain.recipes.postings import LegView, PostingView
from services.ledger.domain.transfers import Reference
from services.ledger.store import posting as transfers
from services.ledger.store.rows import parts
from services.runtime.database import UnitOfWork
from services.runtime.money import Money
from services.runtime.postgres import sql

_SQL = sql.load("services.ledger", "queries/recipes.sql")
_LOCKS = 1024


async def lock_postings(work: UnitOfWork, posting_ids: Collection[UUID]) -> None:
    """Wait until no other transaction decides on any of these postings."""
    keys = sorted({posting_id.int % _LOCKS for posting_id in posting_ids})
    await work.execute(_SQL["lock_postings"], {"keys": keys})


async def read_postings(work: UnitOfWork, posting_ids: Collection[UUID]) -> dict[UUID, PostingView]:
    """Read postings with their transfers, by id."""
    rows: list[Any] = []
    for ids in parts(sorted(posting_ids)):
        keys = {"tenant_id": work.tenant_id, "posting_ids": ids}
        rows += await work.execute(_SQL["read_postings"], keys)
    wanted = [transfer_id for row in rows for transfer_id in row.transfer_ids]
    views = await transfers.read_views(work, wanted) if wanted else {}
    return {row.posting_id: _posting(row, views) for row in rows}


def insert_posting(work: UnitOfWork, posting: PostingView) -> None:
    """Store a posting, with what the transaction does next."""
    reference = posting.reference
    parameters = {
        "tenant_id": work.tenant_id,
        "posting_id": posting.posting_id,
        "recipe": posting.recipe,
        "version": posting.version,
        "reference_kind": reference.kind,
        "reference_id": reference.id,
        "reference_part": reference.part,
        "parameters": json.dumps(_document(posting.parameters)),
        "legs": [leg.leg for leg in posting.legs],
        "groups": [leg.group for leg in posting.legs],
        "transfer_ids": [leg.view.transfer.transfer_id for leg in posting.legs],
        "effective_at": posting.effective_at,
        "now": posting.recorded_at,
    }
    work.later(_SQL["insert_posting"], parameters)


def _posting(row: Any, views: Mapping[UUID, TransferView]) -> PostingView:
    return PostingView(
        posting_id=row.posting_id,
        recipe=row.recipe,
        version=row.version,
        reference=Reference(row.reference_kind, row.reference_id, row.reference_part),
        parameters=values_of(row.parameters),
        effective_at=row.effective_at,
        recorded_at=row.recorded_at,
        legs=tuple(
            LegView(leg, group, views[transfer_id])
            for leg, group, transfer_id in zip(row.legs, row.groups, row.transfer_ids, strict=True)
        ),
    )


def _document(values: Values) -> dict[str, Any]:
    return {name: _written(value) for name, value in values.items()}


def _written(value: Value) -> dict[str, Any]:
    """Write a value under its kind, so that it is read as what it was."""
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, bool):
        return {"flag": value}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, Money):
        return {"amount": [value.currency_code, value.minor_units]}
    return {"list": [_document(group) for group in value]}


def values_of(document: Mapping[str, Any]) -> dict[str, Value]:
    """Read the parameters that a posting was posted with."""
    return {name: _read(item) for name, item in document.items()}


def _read(item: Mapping[str, Any]) -> Value:
    ((kind, value),) = item.items()
    match kind:
        case "amount":
            return Money(*value)
        case "decimal":
            return Decimal(value)
        case "list":
            return tuple(values_of(group) for group in value)
        case _:
            found: Value = value
            return found
