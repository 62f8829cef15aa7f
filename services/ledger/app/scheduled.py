"""Scheduled transfers: posted when they are due, or taken back before."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from services.ledger import facts
from services.ledger.app.posting import post_transfers
from services.ledger.domain.scheduled import (
    Cancellation,
    Cancelled,
    ScheduledTransferEnded,
    ScheduledView,
    ScheduleState,
    refused_at,
)
from services.ledger.store import monitors
from services.ledger.store import scheduled as store
from services.runtime.database import UnitOfWork
from services.runtime.errors import NotFound


async def post_due(transfer_id: UUID, work: UnitOfWork) -> bool:
    """Judge a chain that is due as if it were sent now, and post it or keep its refusal; says whether it waited.

    Whoever does so holds the rows of its ids, so nobody does it twice, whatever leases say.
    """
    monitors.share(work)
    chain = await store.lock_chain(work, transfer_id)
    if not chain or not all(_is_due(view, work) for view in chain):
        return False
    await store.free_ids(work, chain)
    verdicts = (await post_transfers([view.transfer for view in chain], work)).verdicts
    refused = refused_at(verdicts)
    if refused is None:
        await store.end_posted(work, chain)
    else:
        await store.end_refused(work, chain, [verdict.result for verdict in verdicts])
        work.publish(
            facts.scheduled_refused(chain, refused, verdicts[refused].result.name, work.now)
        )
    return True


def _is_due(view: ScheduledView, work: UnitOfWork) -> bool:
    not_before = view.transfer.not_before
    assert not_before is not None, "what is scheduled says when"
    # A clock that was set back meanwhile: it is tried again.
    return view.state is ScheduleState.WAITING and not_before <= work.now


async def cancel_scheduled(command: Cancellation, work: UnitOfWork) -> Cancelled:
    """Take a scheduled transfer back, with all of its chain.

    Raises:
        NotFound: no transfer of this id was scheduled.
        ScheduledTransferEnded: it does not wait any more.
    """
    chain = await store.lock_chain(work, command.transfer_id)
    named = next((v for v in chain if v.transfer.transfer_id == command.transfer_id), None)
    if named is None:
        raise NotFound("scheduled transfer", str(command.transfer_id))
    if named.state is not ScheduleState.WAITING:
        raise ScheduledTransferEnded(
            f"transfer {command.transfer_id} does not wait any more: it is {named.state.name}",
            transfer_id=str(command.transfer_id),
            state=named.state.name,
        )
    await store.end_cancelled(work, chain, command.reason)
    said = {"state": ScheduleState.CANCELLED.name, "reason": command.reason, "count": len(chain)}
    before = {"state": named.state.name}
    work.audit("scheduled_transfer", str(named.first_id), before, said)
    cancelled = replace(
        named,
        state=ScheduleState.CANCELLED,
        ended_at=work.now,
        cancel_reason=command.reason,
    )
    return Cancelled(cancelled, len(chain))
