"""Rejected events: listed, and taken in after all, each once."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from services.metering.app.guarding import Guard, Guarding, rated_anew
from services.metering.app.metering import Judge, Metering, new_receipt_id, store_batch
from services.metering.domain.events import Refuse, StoreBatch
from services.metering.domain.receipts import RECEIPT_PREFIX, ReceiptKind
from services.metering.domain.rejected import (
    REPLAYED_MAX,
    RejectedEvent,
    RejectedFilter,
    RejectedId,
    Replayed,
)
from services.metering.domain.settings import LatePolicy
from services.metering.store import rejected as store
from services.runtime.commands import Commands, Request, ResponseT, UseCase
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound


@dataclass(frozen=True, slots=True)
class Replay:
    """Rejected events that were judged anew.

    Attributes:
        places: of the events, in the order of the batch.
        stored: the batch.
        guard: counts it against budgets.
    """

    places: Sequence[RejectedId]
    stored: StoreBatch
    guard: Guard


class Rejected:
    """The use cases.

    Args:
        database: what is read.
        commands: runs what changes something.
        metering: judges events as it does those that are sent.
        guarding: counts them against budgets, likewise.
    """

    def __init__(
        self, database: Database, commands: Commands, metering: Metering, guarding: Guarding
    ) -> None:
        self._database = database
        self._commands = commands
        self._metering = metering
        self._guarding = guarding

    async def list(
        self, wanted: RejectedFilter, after: RejectedId | None, limit: int
    ) -> Sequence[RejectedEvent]:
        """List the first rejected events behind `after`."""
        async with self._database.read() as work:
            return await store.list_rejected(work, wanted, after, limit)

    async def find(
        self, ids: Sequence[RejectedId], wanted: RejectedFilter
    ) -> Sequence[RejectedEvent]:
        """Return those rejected events that are named and were not replayed; by the filter where no id names any.

        Raises:
            NotFound: an id names none.
        """
        async with self._database.read() as work:
            if not ids:
                return await store.list_rejected(work, wanted, None, REPLAYED_MAX)
            found = await store.find_rejected(work, ids)
        missing = set(ids) - {event.place for event in found}
        if missing:
            first = min(missing, key=lambda item: (item.receipt_id, item.index))
            raise NotFound("rejected event", f"{RECEIPT_PREFIX}{first.receipt_id}/{first.index}")
        return [event for event in found if event.replayed_receipt_id is None]

    async def replay(
        self,
        use_case: UseCase[Replay, Replayed, ResponseT],
        request: Request,
        found: Sequence[RejectedEvent],
        skus: Set[str],
        judge: Judge,
        refuse: Refuse,
    ) -> ResponseT:
        """Judge rejected events anew, and take in what passes the rules and has room in its budgets.

        Raises:
            DependencyUnavailable: the catalogue or pricing is needed and cannot be reached.
        """
        batch, settings = await self._metering.judged(skus, judge)
        refuses_late = settings.late is LatePolicy.REJECT
        stored = StoreBatch(new_receipt_id(), batch, refuse, refuses_late, keeps_refused=False)
        places = [event.place for event in found]

        async def attempt() -> ResponseT:
            guard = await self._guarding.guard(batch, refuse)
            return await self._commands.run(use_case, Replay(places, stored, guard), request)

        return await rated_anew(attempt)


async def replay(command: Replay, work: UnitOfWork) -> Replayed:
    """Store what passes the rules now, and mark it as taken in; the rest stays rejected as it is.

    Of two replays at once the second finds the events stored: their ids are taken once.
    """
    if not command.places:
        return Replayed((), None)
    receipt = await store_batch(command.guard, command.stored, work, ReceiptKind.REPLAY)
    replayed = Replayed(command.places, receipt)
    await store.mark_replayed(work, receipt.receipt_id, replayed.taken_in)
    return replayed
