"""Transfers that post themselves later: kept, found when they are due, ended."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.ledger.domain.posting import StoredTransfer
from services.ledger.domain.scheduled import Scheduled, ScheduledView, ScheduleState
from services.ledger.domain.transfers import Transfer, TransferResult, fingerprint
from services.ledger.store.posting import flag_bits, transfer_flags
from services.ledger.store.rows import hot, parts, reference_of, uuids
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.postgres import sql
from services.runtime.work import Claim, Lag, claims, lag

_SQL = sql.load("services.ledger", "queries/scheduled.sql")
_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


async def insert_scheduled(work: UnitOfWork, scheduled: Collection[Scheduled]) -> None:
    """Keep what a batch accepted to be posted later."""
    call = current()
    for part in parts(list(scheduled)):
        transfers = [each.transfer for each in part]
        references = [t.reference for t in transfers]
        parameters = {
            "tenant_id": work.tenant_id,
            "now": work.now,
            "transfer_ids": uuids([t.transfer_id for t in transfers]),
            "first_ids": uuids([each.first_id for each in part]),
            "positions": [each.position for each in part],
            "debit_account_ids": [t.debit_account_id for t in transfers],
            "credit_account_ids": [t.credit_account_id for t in transfers],
            "currency_codes": [t.currency_code for t in transfers],
            "amounts": [t.amount_minor for t in transfers],
            "codes": [t.code for t in transfers],
            "linked": [t.linked for t in transfers],
            "effective_at": [t.effective_at for t in transfers],
            "metadata": [json.dumps(dict(t.metadata)) for t in transfers],
            "flags": [flag_bits(t.flags) for t in transfers],
            "reference_kinds": [r and r.kind for r in references],
            "reference_ids": [r and r.id for r in references],
            "reference_parts": [None if r is None else r.part for r in references],
            "not_before": [t.not_before for t in transfers],
            "correlation_id": call.correlation_id,
            "causation_id": call.causation_id,
            "traceparent": call.traceparent,
        }
        work.later(_SQL["insert_scheduled"], parameters)


async def with_waiting(
    work: UnitOfWork,
    known: Mapping[UUID, StoredTransfer],
    asked: Mapping[UUID, Collection[bytes]],
) -> dict[UUID, StoredTransfer]:
    """Add the transfer to what is known of ids that wait, where `asked` has another fingerprint."""
    completed = dict(known)
    differing = [
        transfer_id
        for transfer_id, stored in known.items()
        if stored.result is TransferResult.SCHEDULED
        and set(asked[transfer_id]) != {stored.fingerprint}
    ]
    for view in await _read(work, differing):
        stored = known[view.transfer.transfer_id]
        completed[view.transfer.transfer_id] = StoredTransfer(
            stored.fingerprint, stored.result, view.transfer
        )
    return completed


async def lock_chain(work: UnitOfWork, transfer_id: UUID) -> list[ScheduledView]:
    """Lock the chain of a scheduled transfer, and return it in order; nothing where there is none."""
    keys = {"tenant_id": work.tenant_id, "transfer_id": transfer_id}
    ids = [row[0] for row in await hot(work, _SQL["read_chain"], keys)]
    for part in parts(sorted(ids)):
        await hot(work, _SQL["lock_ids"], {"tenant_id": work.tenant_id, "transfer_ids": part})
    return await _read(work, ids)


async def free_ids(work: UnitOfWork, chain: Sequence[ScheduledView]) -> None:
    """Give up the claims of a chain that is locked, so that posting it claims them anew."""
    for part in parts(chain):
        ids = uuids([view.transfer.transfer_id for view in part])
        work.later(_SQL["free_ids"], {"tenant_id": work.tenant_id, "transfer_ids": ids})


async def end_posted(work: UnitOfWork, chain: Sequence[ScheduledView]) -> None:
    """Note that a chain was posted."""
    _end(work, chain, ScheduleState.POSTED, [None] * len(chain))


async def end_refused(
    work: UnitOfWork, chain: Sequence[ScheduledView], refusals: Sequence[TransferResult]
) -> None:
    """Burn the ids of a chain for good, and note why each was refused."""
    _burn(work, chain, refusals)
    _end(work, chain, ScheduleState.REFUSED, refusals)


async def end_cancelled(work: UnitOfWork, chain: Sequence[ScheduledView], reason: str) -> None:
    """Burn the ids of a chain for good, and note why it was cancelled."""
    _burn(work, chain, [TransferResult.CANCELLED] * len(chain))
    _end(work, chain, ScheduleState.CANCELLED, [None] * len(chain), reason)


def _burn(
    work: UnitOfWork, chain: Sequence[ScheduledView], refusals: Sequence[TransferResult]
) -> None:
    for part in parts(list(zip(chain, refusals, strict=True))):
        parameters = {
            "tenant_id": work.tenant_id,
            "now": work.now,
            "transfer_ids": uuids([view.transfer.transfer_id for view, _ in part]),
            "fingerprints": [fingerprint(view.transfer) for view, _ in part],
            "results": [int(refusal) for _, refusal in part],
        }
        work.later(_SQL["burn_ids"], parameters)


def _end(
    work: UnitOfWork,
    chain: Sequence[ScheduledView],
    state: ScheduleState,
    refusals: Sequence[TransferResult | None],
    reason: str = "",
) -> None:
    for part in parts(list(zip(chain, refusals, strict=True))):
        parameters = {
            "tenant_id": work.tenant_id,
            "now": work.now,
            "state": int(state),
            "cancel_reason": reason,
            "transfer_ids": uuids([view.transfer.transfer_id for view, _ in part]),
            "refusals": [None if refusal is None else int(refusal) for _, refusal in part],
        }
        work.later(_SQL["end_scheduled"], parameters)


async def find_scheduled(database: Database, transfer_id: UUID) -> ScheduledView | None:
    """Read one scheduled transfer of the current tenant."""
    keys = {"tenant_id": current().tenant_id, "transfer_ids": [transfer_id]}
    row = (await database.ask(_SQL["read_scheduled"], keys)).one_or_none()
    return None if row is None else _view(row)


async def list_scheduled(
    work: UnitOfWork, state: ScheduleState, after: tuple[datetime, UUID] | None, limit: int
) -> list[ScheduledView]:
    """List scheduled transfers that stand so, behind a place, by when they are due and by id."""
    not_before, transfer_id = after or (_BEFORE_ALL, UUID(int=0))
    parameters = {
        "tenant_id": work.tenant_id,
        "state": int(state),
        "not_before": not_before,
        "transfer_id": transfer_id,
        "limit": limit,
    }
    return [_view(row) for row in await work.execute(_SQL["list_scheduled"], parameters)]


async def claim_scheduled(work: UnitOfWork, owner: str, lease_ms: int, limit: int) -> list[Claim]:
    """Lease chains of any tenant that are due and that nobody posts yet."""
    return await claims(work, _SQL["claim_scheduled"], owner=owner, lease_ms=lease_ms, batch=limit)


async def scheduled_lag(database: Database) -> Lag:
    """Tell how many chains are due and not posted yet."""
    return await lag(database, _SQL["scheduled_lag"])


async def _read(work: UnitOfWork, transfer_ids: Sequence[UUID]) -> list[ScheduledView]:
    found: dict[UUID, ScheduledView] = {}
    for part in parts(transfer_ids):
        keys = {"tenant_id": work.tenant_id, "transfer_ids": part}
        for row in await work.execute(_SQL["read_scheduled"], keys):
            found[row.transfer_id] = _view(row)
    return [found[transfer_id] for transfer_id in transfer_ids]


def _view(row: Any) -> ScheduledView:
    return ScheduledView(
        transfer=Transfer(
            transfer_id=row.transfer_id,
            debit_account_id=row.debit_account_id,
            credit_account_id=row.credit_account_id,
            currency_code=row.currency_code,
            amount_minor=row.amount_minor,
            code=row.code,
            linked=row.linked,
            effective_at=row.effective_at,
            metadata=row.metadata,
            flags=transfer_flags(row.flags),
            reference=reference_of(row),
            not_before=row.not_before,
        ),
        first_id=row.first_id,
        state=ScheduleState(row.state),
        accepted_at=row.accepted_at,
        ended_at=row.ended_at,
        refusal=None if row.refusal is None else TransferResult(row.refusal),
        cancel_reason=row.cancel_reason,
    )
