"""Scheduled transfers, as messages."""

from __future__ import annotations

from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import schedule_pb2, scheduled_pb2

from services.ledger.domain.holds import TransferView
from services.ledger.domain.scheduled import Cancelled, ScheduledView
from services.ledger.domain.transfers import Transfer
from services.ledger.messages import books
from services.runtime.edge import values as edge


def found_transfer(
    view: TransferView | None, scheduled: ScheduledView | None
) -> service_pb.GetTransferResponse:
    """Write a transfer that is in the books, or was scheduled, or both."""
    found = pb.RecordedTransfer() if view is None else books.recorded_transfer(view)
    if scheduled is not None:
        found.schedule.CopyFrom(_schedule(scheduled))
        if view is None:
            found.transfer.CopyFrom(_as_sent(scheduled.transfer))
    return service_pb.GetTransferResponse(transfer=found)


def _schedule(view: ScheduledView) -> schedule_pb2.Schedule:
    return schedule_pb2.Schedule(
        state=int(view.state),  # type: ignore[arg-type] # numbers agree, see the tests
        accepted_at=edge.stamp(view.accepted_at),
        ended_at=edge.stamp_or_none(view.ended_at),
        refusal="" if view.refusal is None else view.refusal.name,
        cancel_reason=view.cancel_reason,
        first_transfer_id=str(view.first_id),
    )


def scheduled_transfer(view: ScheduledView) -> scheduled_pb2.ScheduledTransfer:
    """Write a scheduled transfer as it was sent, and how it stands."""
    return scheduled_pb2.ScheduledTransfer(
        transfer=_as_sent(view.transfer), schedule=_schedule(view)
    )


def cancelled(done: Cancelled) -> scheduled_pb2.CancelScheduledTransferResponse:
    """Write what was taken back."""
    return scheduled_pb2.CancelScheduledTransferResponse(
        scheduled_transfer=scheduled_transfer(done.view), cancelled_count=done.count
    )


def _as_sent(shown: Transfer) -> pb.Transfer:
    return books.transfer(shown, shown.effective_at)
