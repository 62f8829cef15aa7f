"""What settlement does on others' events: it notes that a settled charge is to be taken in."""

from __future__ import annotations

from collections.abc import Callable

from payments.events.v1.billing_events_pb2 import ChargeCreated

from services.runtime.database import UnitOfWork
from services.runtime.events.envelope import Envelope, Reaction
from services.settlement.store import earnings as store


def reactions(wake: Callable[[], None]) -> tuple[Reaction, ...]:
    """Build them; `wake` tells the worker of this process that a charge is to be taken in."""

    async def on_charge(work: UnitOfWork, envelope: Envelope) -> None:
        # A charge is noted once, unless it says that nobody earns on it.
        fact = envelope.payload
        assert isinstance(fact, ChargeCreated)
        if fact.HasField("partner_line_count") and not fact.partner_line_count:
            return
        store.note_charge(work, fact.charge_id)
        work.after_commit(wake)

    # Charges may be taken in in any order: balances are sums, and nothing is paid beyond them.
    return (
        Reaction(
            consumer="settlement.commissions",
            subjects=("charge.created",),
            handler=on_charge,
            on_dead="skip",
        ),
    )
