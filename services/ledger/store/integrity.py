"""What a verification reads, page by page; and who verifies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.ledger.domain.chain import BookedTransfer, Place
from services.ledger.domain.holds import Hold, HoldState
from services.ledger.domain.integrity_accounts import (
    KeptBalance,
    KeptEntry,
    PendingSums,
    Running,
    SidesOfCurrency,
)
from services.ledger.domain.integrity_postings import Earlier, KeptPosting, NamedTransfer
from services.ledger.domain.integrity_reversals import KeptReversal, Note
from services.ledger.domain.integrity_transfers import (
    HoldEnds,
    HoldFacts,
    IdWithTransfer,
    KeptId,
    TransferFacts,
)
from services.ledger.domain.transfers import Kind, Reference, Transfer
from services.ledger.store import reversals
from services.ledger.store.chain import read_booked
from services.ledger.store.posting import read_views, transfer_of
from services.ledger.store.postings import values_of
from services.ledger.store.rows import parts
from services.runtime.database import UnitOfWork
from services.runtime.money import MINOR_UNITS_MAX
from services.runtime.postgres import sql

_SQL = sql.load("services.ledger", "queries/integrity.sql")
_BY_INDEX = sql.load("services.ledger", "queries/entries.sql")["by_index"]
_LAST_PLACE = Place(2**63 - 1, 2**31 - 1)
_LEAST_ID = UUID(int=0)


async def postings_page(work: UnitOfWork, after: UUID | None, limit: int) -> list[KeptPosting]:
    """Read postings behind an id, by id, with their transfers."""
    keys = {"tenant_id": work.tenant_id, "after": after or _LEAST_ID, "limit": limit}
    return await _postings(work, list(await work.execute(_SQL["postings_page"], keys)))


async def read_earlier(
    work: UnitOfWork, posting_ids: Collection[UUID], transfer_ids: Collection[UUID]
) -> Earlier:
    """Read postings, and transfers that stand for others, with their places."""
    rows: list[Any] = []
    for ids in parts(sorted(posting_ids)):
        keys = {"tenant_id": work.tenant_id, "posting_ids": ids}
        rows += await work.execute(_SQL["postings_by_id"], keys)
    postings = await _postings(work, rows)
    views = await read_views(work, sorted(transfer_ids)) if transfer_ids else {}
    places = await _places(work, views)
    return Earlier(
        {posting.posting_id: posting for posting in postings},
        {i: (view.transfer, places[i]) for i, view in views.items()},
    )


async def _postings(work: UnitOfWork, rows: Sequence[Any]) -> list[KeptPosting]:
    wanted = [transfer_id for row in rows for transfer_id in row.transfer_ids]
    views = await read_views(work, wanted) if wanted else {}
    first = {
        row.posting_id: next((i for i in row.transfer_ids if i in views), None) for row in rows
    }
    places = await _places(work, {each for each in first.values() if each is not None})
    notes = await _notes(work, wanted)
    return [
        KeptPosting(
            posting_id=row.posting_id,
            recipe=row.recipe,
            version=row.version,
            reference=Reference(row.reference_kind, row.reference_id, row.reference_part),
            parameters=values_of(row.parameters),
            effective_at=row.effective_at,
            places=tuple(zip(row.legs, row.groups, row.transfer_ids, strict=True)),
            transfers={i: views[i].transfer for i in row.transfer_ids if i in views},
            place=places.get(first[row.posting_id]),
            notes={i: notes[i] for i in row.transfer_ids if i in notes},
        )
        for row in rows
    ]


async def _notes(work: UnitOfWork, transfer_ids: Collection[UUID]) -> dict[UUID, Note]:
    """Read what transfers are noted to take back."""
    found: dict[UUID, Note] = {}
    for ids in parts(sorted(transfer_ids)):
        keys = {"tenant_id": work.tenant_id, "transfer_ids": ids}
        for row in await work.execute(_SQL["notes_of_reversals"], keys):
            found[row.transfer_id] = Note(row.reversed_id, row.amount_minor)
    return found


async def reversals_page(
    work: UnitOfWork, after: tuple[UUID, UUID] | None, limit: int
) -> tuple[list[KeptReversal], dict[UUID, int]]:
    """Read notes of reversals behind one, and what was taken back in all of what they reverse."""
    reversed_id, transfer_id = after or (_LEAST_ID, _LEAST_ID)
    keys = {
        "tenant_id": work.tenant_id,
        "reversed_id": reversed_id,
        "transfer_id": transfer_id,
        "limit": limit,
    }
    page = [
        KeptReversal(
            row.reversed_id,
            row.transfer_id,
            row.amount_minor,
            row.moved_minor,
            None if row.posted_minor is None else int(row.posted_minor),
        )
        for row in await work.execute(_SQL["reversals_page"], keys)
    ]
    return page, await reversals.sums(work, {note.reversed_id for note in page})


async def _places(work: UnitOfWork, transfer_ids: Collection[UUID]) -> dict[UUID | None, Place]:
    found: dict[UUID | None, Place] = {}
    for ids in parts(sorted(transfer_ids)):
        keys = {"tenant_id": work.tenant_id, "transfer_ids": ids}
        rows = (await work.execute(_SQL["places"], keys)).tuples()
        found |= {transfer_id: Place(*place) for transfer_id, *place in rows}
    return found


async def named_page(
    work: UnitOfWork, after: Place, limit: int
) -> tuple[list[NamedTransfer], int, Place]:
    """Look at transfers behind a place, and return those that say they are of a posting, how many were looked at, and
    the last place.
    """
    keys = {
        "tenant_id": work.tenant_id,
        "batch_no": after.batch_no,
        "position": after.position,
        "limit": limit,
    }
    rows = list(await work.execute(_SQL["named_page"], keys))
    named = [
        NamedTransfer(row.transfer_id, row.posting_id, row.is_named)
        for row in rows
        if row.posting_id is not None
    ]
    return named, len(rows), Place(rows[-1].batch_no, rows[-1].position) if rows else after


async def lease(work: UnitOfWork, owner: UUID, lease_ms: int) -> bool:
    """Take the right to verify the tenant's books, or hold on to it; False when another has it."""
    parameters = {"tenant_id": work.tenant_id, "owner": owner, "lease_ms": lease_ms}
    return (await work.execute(_SQL["lease"], parameters)).first() is not None


async def end_lease(work: UnitOfWork, owner: UUID) -> None:
    """Give the right back, if it is held still."""
    await work.execute(_SQL["end_lease"], {"tenant_id": work.tenant_id, "owner": owner})


async def sum_currencies(work: UnitOfWork) -> list[SidesOfCurrency]:
    """Add all balances up, in one statement and so in one snapshot."""
    rows = await work.execute(_SQL["sum_currencies"], {"tenant_id": work.tenant_id})
    return [SidesOfCurrency(code, *map(int, sums)) for code, *sums in rows.tuples()]


async def differing_pending_sums(work: UnitOfWork, limit: int) -> tuple[int, list[PendingSums]]:
    """Return how many accounts there are, and those whose pending sums or closing differ from their holds."""
    counted, rows = await work.execute_all(
        (_SQL["count_accounts"], {"tenant_id": work.tenant_id}),
        (_SQL["differing_pending_sums"], {"tenant_id": work.tenant_id, "limit": limit}),
    )
    return int(counted.scalar_one()), [PendingSums(*row) for row in rows.tuples()]


@dataclass(frozen=True, slots=True)
class AccountsPlace:
    """Where a page of accounts begins.

    Attributes:
        running: of the account whose entries go on.
        inclusive: the page begins with that account; else behind it.
    """

    running: Running
    inclusive: bool


@dataclass(frozen=True, slots=True)
class AccountsPage:
    """Balances of accounts and their entries, read in one snapshot.

    Attributes:
        all_read: these are all entries of these accounts.
        is_last: there are no more accounts behind.
    """

    balances: Sequence[KeptBalance]
    entries: Sequence[KeptEntry]
    all_read: bool
    is_last: bool


async def accounts_page(
    work: UnitOfWork, place: AccountsPlace, accounts: int, entries: int
) -> AccountsPage:
    """Read the next accounts, so many at most, and so many of their entries at most."""
    running = place.running
    where = {
        "tenant_id": work.tenant_id,
        "account_id": running.account_id,
        "inclusive": place.inclusive,
        "limit": accounts,
    }
    *_, rows = await work.execute_all((_BY_INDEX, {}), (_SQL["balances_page"], where))
    balances = [KeptBalance(*row) for row in rows.tuples()]
    is_last = len(balances) < accounts
    where = {
        "tenant_id": work.tenant_id,
        "account_id": running.account_id,
        "seq": running.seq if place.inclusive else MINOR_UNITS_MAX,
        "last_account_id": None if is_last else balances[-1].account_id,
        "limit": entries,
    }
    found = [KeptEntry(*row) for row in (await work.execute(_SQL["entries_page"], where)).tuples()]
    return AccountsPage(balances, found, len(found) < entries, is_last)


async def transfers_page(
    work: UnitOfWork, after: Place, limit: int
) -> tuple[list[TransferFacts], dict[UUID, Transfer]]:
    """Read transfers behind a place with what is kept of them elsewhere, and those that they reverse."""
    booked = await read_booked(work, after, _LAST_PLACE, limit)
    facts = await _beside(work, booked)
    wanted = {each.transfer.reverses_id for each in booked} - {None}
    reversed_ = await _transfers(work, [each for each in wanted if each is not None])
    return facts, {row.transfer_id: transfer_of(row) for row in reversed_}


async def _beside(work: UnitOfWork, booked: Sequence[BookedTransfer]) -> list[TransferFacts]:
    parameters = {
        "tenant_id": work.tenant_id,
        "transfer_ids": [each.transfer.transfer_id for each in booked],
        "pending_ids": [each.transfer.pending_id for each in booked],
    }
    beside = {
        row.transfer_id: row for row in await work.execute(_SQL["transfers_beside"], parameters)
    }
    notes = await _notes(
        work, {each.transfer.transfer_id for each in booked if each.transfer.reverses_id}
    )
    return [
        _facts(each, beside[each.transfer.transfer_id], notes.get(each.transfer.transfer_id))
        for each in booked
    ]


def _facts(booked: BookedTransfer, row: Any, note: Note | None) -> TransferFacts:
    id_row = None
    if row.fingerprint is not None:
        id_row = KeptId(bytes(row.fingerprint), row.result, row.recorded_at)
    return TransferFacts(booked, id_row, row.has_hold, row.ends_hold, note)


async def _transfers(work: UnitOfWork, transfer_ids: Collection[UUID]) -> list[Any]:
    if not transfer_ids:
        return []
    parameters = {"tenant_id": work.tenant_id, "transfer_ids": sorted(transfer_ids)}
    return (await work.execute(_SQL["transfers_by_id"], parameters)).all()


def _behind(work: UnitOfWork, after: UUID | None, limit: int) -> dict[str, Any]:
    return {
        "tenant_id": work.tenant_id,
        "after": after or _LEAST_ID,
        "is_first": after is None,
        "limit": limit,
    }


async def ids_page(work: UnitOfWork, after: UUID | None, limit: int) -> list[IdWithTransfer]:
    """Read ids that were decided on, behind one; None for the first."""
    parameters = _behind(work, after, limit)
    rows = await work.execute(_SQL["ids_page"], parameters)
    return [IdWithTransfer(*row) for row in rows.tuples()]


async def holds_page(work: UnitOfWork, after: UUID | None, limit: int) -> list[HoldFacts]:
    """Read holds behind an id, with the transfers that made and ended them; None for the first."""
    parameters = _behind(work, after, limit)
    holds = [
        Hold(**{**row._asdict(), "state": HoldState(row.state)})
        for row in await work.execute(_SQL["holds_page"], parameters)
    ]
    ids = [hold.transfer_id for hold in holds]
    made = {row.transfer_id: row for row in await _transfers(work, ids)}
    ends: dict[UUID, list[HoldEnds]] = defaultdict(list)
    keys = {"tenant_id": work.tenant_id, "transfer_ids": ids}
    for row in await work.execute(_SQL["ends_of_holds"], keys):
        ends[row.pending_id].append(_ends(row))
    return [
        HoldFacts(
            hold,
            transfer_of(made[hold.transfer_id]) if hold.transfer_id in made else None,
            made[hold.transfer_id].recorded_at if hold.transfer_id in made else None,
            ends[hold.transfer_id],
        )
        for hold in holds
    ]


def _ends(row: Any) -> HoldEnds:
    return HoldEnds(
        kind=Kind(row.kind),
        debit_account_id=row.debit_account_id,
        credit_account_id=row.credit_account_id,
        currency_code=row.currency_code,
        code=row.code,
        count=row.ends,
        amount_minor=int(row.amount_minor),
    )
