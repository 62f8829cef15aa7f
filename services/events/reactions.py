"""What the event service does on events: it makes the deliveries of webhooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.events.store import webhooks_delivery as store
from services.runtime.database import UnitOfWork
from services.runtime.events.envelope import Envelope, Reaction


def webhooks(wake: Callable[[], None]) -> Reaction:
    """Make one delivery for each endpoint of the event's tenant that asked for its subject.

    One statement for a batch; a tenant that never had an endpoint costs nothing. Deliveries are no money and
    unordered by design, so a dead letter holds nobody up.

    Args:
        wake: tells the sender of this process that there is something to send.
    """

    async def handle(work: UnitOfWork, envelopes: Sequence[Envelope]) -> None:
        if await store.add(work, envelopes):
            wake()

    return Reaction(
        "events.webhooks",
        ("*",),
        on_dead="skip",
        takes_json=True,
        reads_payload=False,
        by_tenant=True,
        batch_handler=handle,
    )
