"""What a batch of transfers locks, reads and writes; holds that fall due."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

from services.ledger.domain.accounts import AccountType
from services.ledger.domain.balance import Balance
from services.ledger.domain.holds import Hold, HoldState, HoldView, TransferView
from services.ledger.domain.monitors import Monitor
from services.ledger.domain.posting import Evaluation, Leg, Posting, StoredTransfer
from services.ledger.domain.transfers import (
    NO_FLAGS,
    Kind,
    Transfer,
    TransferFlags,
    TransferResult,
    moved,
)
from services.ledger.store import monitors, periods
from services.ledger.store.rows import (
    flags_of,
    hot,
    limits_of,
    names,
    numbers,
    parts,
    reference_of,
    uuids,
)
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.postgres import sql
from services.runtime.postgres.session import Rows
from services.runtime.turns import in_slices
from services.runtime.work import Claim, Lag, claims, lag

_SQL = sql.load("services.ledger", "queries/posting.sql")
# As Postgres sorts ids; comparing them themselves takes ten times as long.
_by_bytes = attrgetter("int")
_TYPES = {int(each): each for each in AccountType}


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a batch holds until its transaction ends.

    Attributes:
        transfer_ids: those that nobody claimed before.
        holds: by transfer id.
        balances: by account.
        batch_no: which nobody who waited for these locks has drawn before.
        monitors: those of prefixes; none is put meanwhile.
        closed_through: how far the books are closed, by currency.
    """

    transfer_ids: set[UUID]
    holds: dict[UUID, Hold]
    balances: dict[str, Balance]
    batch_no: int
    monitors: list[Monitor]
    closed_through: dict[str, datetime]


async def claim(
    work: UnitOfWork,
    fingerprints: Mapping[UUID, bytes],
    hold_ids: Collection[UUID],
    account_ids: Collection[str],
    claimed_ids: set[UUID] | None = None,
) -> Claimed:
    """Share the periods, claim transfer ids, lock holds and balances and draw a batch's number, in one go.

    Ids, holds and balances are each sorted by id. `claimed_ids` are those of a batch whose ids were claimed before, as
    far as they were new.
    """
    asked = [] if claimed_ids is not None else sorted(fingerprints, key=_by_bytes)
    ids = [(_SQL["claim_ids"], _claim(work, part, fingerprints)) for part in parts(asked)]
    holds = [
        (_SQL["lock_holds"], {"tenant_id": work.tenant_id, "transfer_ids": part})
        for part in parts(sorted(hold_ids))
    ]
    locks = [
        (_SQL["lock_balances"], {"tenant_id": work.tenant_id, "account_ids": names(part)})
        for part in parts(sorted(account_ids))
    ]
    monitors.share(work)
    _, closed, *answers, watching, drawn = await work.execute_all(
        *periods.sharing(work),
        *ids,
        *holds,
        *locks,
        (monitors.PREFIXES, {"tenant_id": work.tenant_id}),
        (_SQL["next_batch_no"], {}),
    )
    claimed = Claimed(
        transfer_ids=claimed_ids or set(),
        holds={},
        balances={},
        batch_no=int(drawn.scalar_one()),
        monitors=monitors.read_monitors(watching),
        closed_through=periods.closed_through(closed),
    )
    for part, answer in zip(parts(asked), answers, strict=False):
        # Most parts are claimed whole, and then nobody lists them.
        ((new,),) = answer.tuples()
        claimed.transfer_ids.update(part if new is None else new)
    async for answer in in_slices(answers[len(ids) : len(ids) + len(holds)], 1):
        claimed.holds.update(_holds(answer))
    async for answer in in_slices(answers[len(ids) + len(holds) :], 1):
        claimed.balances.update(_balances(answer))
    return claimed


def _claim(
    work: UnitOfWork, transfer_ids: Sequence[UUID], fingerprints: Mapping[UUID, bytes]
) -> dict[str, object]:
    return {
        "tenant_id": work.tenant_id,
        "now": work.now,
        "transfer_ids": uuids(transfer_ids),
        "fingerprints": b"".join([fingerprints[each] for each in transfer_ids]),
        "count": len(transfer_ids),
    }


async def hold_accounts(
    work: UnitOfWork, transfer_ids: Collection[UUID]
) -> dict[UUID, tuple[str, str]]:
    """Read which accounts, debited and credited, each of the holds is between."""
    found: dict[UUID, tuple[str, str]] = {}
    for ids in parts(list(transfer_ids)):
        keys = {"tenant_id": work.tenant_id, "transfer_ids": ids}
        for transfer_id, debit, credit in await hot(work, _SQL["read_hold_accounts"], keys):
            found[transfer_id] = (debit, credit)
    return found


async def known_among(
    work: UnitOfWork, transfer_ids: Collection[UUID]
) -> tuple[dict[UUID, tuple[str, str]], set[UUID]]:
    """Return which of these ids are holds, with the accounts that they are between, and which are other transfers."""
    holds: dict[UUID, tuple[str, str]] = {}
    others: set[UUID] = set()
    for ids in parts(list(transfer_ids)):
        keys = {"tenant_id": work.tenant_id, "transfer_ids": ids}
        for transfer_id, debit, credit in await hot(work, _SQL["read_posted"], keys):
            if debit is None:
                others.add(transfer_id)
            else:
                holds[transfer_id] = (debit, credit)
    return holds, others


async def lock_holds(work: UnitOfWork, transfer_ids: Collection[UUID]) -> dict[UUID, Hold]:
    """Lock holds, in the order of their ids, until the transaction ends."""
    found: dict[UUID, Hold] = {}
    for ids in parts(sorted(transfer_ids)):
        keys = {"tenant_id": work.tenant_id, "transfer_ids": ids}
        found |= _holds(await work.execute(_SQL["lock_holds"], keys))
    return found


async def read_known(
    work: UnitOfWork, asked: Mapping[UUID, Collection[bytes]]
) -> dict[UUID, StoredTransfer]:
    """Read what is stored of ids that others claimed; the transfer too where `asked` has another fingerprint."""
    known: dict[UUID, StoredTransfer] = {}
    for ids in parts(list(asked)):
        keys = {"tenant_id": work.tenant_id, "transfer_ids": ids}
        for transfer_id, content, result in await hot(work, _SQL["read_ids"], keys):
            known[transfer_id] = StoredTransfer(bytes(content), TransferResult(result))
    differing = [
        transfer_id
        for transfer_id, stored in known.items()
        if stored.result is TransferResult.OK and set(asked[transfer_id]) != {stored.fingerprint}
    ]
    for ids in parts(differing):
        for transfer in await _read_transfers(work, ids):
            stored = known[transfer.transfer_id]
            known[transfer.transfer_id] = StoredTransfer(
                stored.fingerprint, stored.result, transfer
            )
    return known


async def find_transfer(database: Database, transfer_id: UUID) -> TransferView | None:
    """Read one transfer of the current tenant, how it stands if it is a hold, and what reversed it."""
    keys = {"tenant_id": current().tenant_id, "transfer_id": transfer_id}
    return _transfer_view((await database.ask(_SQL["read_transfer"], keys)).one_or_none())


async def read_transfer(work: UnitOfWork, transfer_id: UUID) -> TransferView | None:
    """Read one transfer, how it stands if it is a hold, and what reversed it."""
    keys = {"tenant_id": work.tenant_id, "transfer_id": transfer_id}
    return _transfer_view((await work.execute(_SQL["read_transfer"], keys)).one_or_none())


async def read_views(work: UnitOfWork, transfer_ids: Sequence[UUID]) -> dict[UUID, TransferView]:
    """Read transfers as they stand, by id."""
    found: dict[UUID, TransferView] = {}
    for ids in parts(transfer_ids):
        keys = {"tenant_id": work.tenant_id, "transfer_ids": ids}
        for row in await work.execute(_SQL["read_views"], keys):
            found[row.transfer_id] = transfer_view(row, row.reversed_by_id)
    return found


def _transfer_view(row: Any) -> TransferView | None:
    return None if row is None else transfer_view(row, row.reversed_by_id)


def transfer_view(row: Any, reversed_by_id: UUID | None) -> TransferView:
    """Read a transfer, and how it stands if it is a hold."""
    hold = None
    if row.state is not None:
        hold = HoldView(HoldState(row.state), row.remaining_minor, row.expires_at)
    return TransferView(transfer_of(row), row.effective_at, row.recorded_at, hold, reversed_by_id)


async def lock_balances(work: UnitOfWork, account_ids: Iterable[str]) -> dict[str, Balance]:
    """Lock the balances of accounts, in order of the ids, until the transaction ends."""
    balances: dict[str, Balance] = {}
    for ids in parts(sorted(account_ids)):
        keys = {"tenant_id": work.tenant_id, "account_ids": names(ids)}
        balances |= _balances(await work.execute(_SQL["lock_balances"], keys))
    return balances


def _balances(rows: Rows) -> dict[str, Balance]:
    return {
        row[0]: Balance(
            account_id=row[0],
            currency_code=row[1],
            type=_TYPES[row[2]],
            flags=flags_of(row[3], row[4], row[5], row[14]),
            closed=row[5],
            debits_posted=row[6],
            credits_posted=row[7],
            last_seq=row[8],
            debits_pending=row[9],
            credits_pending=row[10],
            limits=limits_of(row[11], row[12]),
            monitored=row[13],
        )
        for row in rows.tuples()
    }


def _holds(rows: Rows) -> dict[UUID, Hold]:
    return {
        row.transfer_id: Hold(**{**row._asdict(), "state": HoldState(row.state)}) for row in rows
    }


async def settle_ids(
    work: UnitOfWork, claimed: Mapping[UUID, bytes], evaluation: Evaluation
) -> None:
    """Correct the claims: release the ids that nothing was decided on, record those that were burnt.

    `claimed` are the ids that this batch claimed, with the fingerprint that it claimed them with.
    """
    posted = len(evaluation.postings)
    if posted == len(claimed) and not evaluation.burnt and evaluation.is_as_claimed(claimed):
        return
    decided = {
        posting.transfer.transfer_id: StoredTransfer(posting.fingerprint, TransferResult.OK)
        for posting in evaluation.postings
    } | evaluation.burnt
    for transfer_id, waiting in evaluation.scheduled.items():
        decided[transfer_id] = StoredTransfer(waiting.fingerprint, TransferResult.SCHEDULED)
    released = [transfer_id for transfer_id in claimed if transfer_id not in decided]
    corrected = {
        transfer_id: outcome
        for transfer_id, outcome in decided.items()
        if outcome.result is not TransferResult.OK or claimed[transfer_id] != outcome.fingerprint
    }
    for ids in parts(released):
        work.later(_SQL["release_ids"], {"tenant_id": work.tenant_id, "transfer_ids": ids})
    for ids in parts(list(corrected)):
        parameters = {
            "tenant_id": work.tenant_id,
            "transfer_ids": ids,
            "fingerprints": [corrected[transfer_id].fingerprint for transfer_id in ids],
            "results": [int(corrected[transfer_id].result) for transfer_id in ids],
        }
        work.later(_SQL["correct_ids"], parameters)


async def insert_postings(work: UnitOfWork, postings: Sequence[Posting], batch_no: int) -> None:
    """Write accepted transfers and their entries."""
    async for part in in_slices(list(parts(postings)), 1):
        if all(posting.transfer.is_plain for posting in part):
            _insert_plain(work, part, batch_no)
        else:
            _insert_transfers(work, part, batch_no)
            _insert_entries(work, part)


def _insert_plain(work: UnitOfWork, postings: Sequence[Posting], batch_no: int) -> None:
    """Write plain transfers and their entries by one statement: they say nothing but what it has columns for."""
    transfers = [posting.transfer for posting in postings]
    debits, credits = _legs(postings)
    metadata = [json.dumps(dict(t.metadata)) if t.metadata else None for t in transfers]
    effective_at = [t.effective_at for t in transfers]
    parameters = {
        "tenant_id": work.tenant_id,
        "batch_no": batch_no,
        "now": work.now,
        "transfer_ids": uuids([t.transfer_id for t in transfers]),
        "positions": numbers([posting.position for posting in postings]),
        "debit_account_ids": names([leg.account_id for leg in debits]),
        "debit_seqs": numbers([leg.seq for leg in debits]),
        "debit_balances": numbers([leg.balance_after for leg in debits]),
        "credit_account_ids": names([leg.account_id for leg in credits]),
        "credit_seqs": numbers([leg.seq for leg in credits]),
        "credit_balances": numbers([leg.balance_after for leg in credits]),
        "currency_codes": names([t.currency_code for t in transfers]),
        "amounts": numbers([moved(t) for t in transfers]),
        "codes": numbers([t.code for t in transfers]),
        "linked": numbers([int(t.linked) for t in transfers]),
        # Most have none: then no row looks for its own.
        "metadata": metadata if any(metadata) else None,
        "effective_at": effective_at if any(effective_at) else None,
    }
    work.later(_SQL["insert_plain"], parameters)


def _legs(postings: Sequence[Posting]) -> tuple[list[Leg], list[Leg]]:
    debits = [posting.debit for posting in postings if posting.debit is not None]
    credits = [posting.credit for posting in postings if posting.credit is not None]
    assert len(debits) == len(credits) == len(postings), "what is plain has both its entries"
    return debits, credits


def _insert_transfers(work: UnitOfWork, postings: Sequence[Posting], batch_no: int) -> None:
    transfers = [posting.transfer for posting in postings]
    parameters = {
        "tenant_id": work.tenant_id,
        "batch_no": batch_no,
        "now": work.now,
        "transfer_ids": [t.transfer_id for t in transfers],
        "positions": [posting.position for posting in postings],
        "debit_account_ids": [t.debit_account_id for t in transfers],
        "credit_account_ids": [t.credit_account_id for t in transfers],
        "currency_codes": [t.currency_code for t in transfers],
        "amounts": [t.amount_minor for t in transfers],
        "codes": [t.code for t in transfers],
        "kinds": [t.kind for t in transfers],
        "linked": [t.linked for t in transfers],
        "effective_at": [t.effective_at for t in transfers],
        "metadata": [json.dumps(dict(t.metadata)) if t.metadata else "{}" for t in transfers],
        "pending_ids": [t.pending_id for t in transfers],
        "timeouts_ms": [t.timeout_ms for t in transfers],
        "flags": [flag_bits(t.flags) for t in transfers],
        "asked_all": [t.asked_all for t in transfers],
        "reverses_ids": [t.reverses_id for t in transfers],
        "reference_kinds": [t.reference and t.reference.kind for t in transfers],
        "reference_ids": [t.reference and t.reference.id for t in transfers],
        "reference_parts": [t.reference and t.reference.part for t in transfers],
        "posting_ids": [t.posting_id for t in transfers],
        "not_before": [t.not_before for t in transfers],
    }
    work.later(_SQL["insert_transfers"], parameters)


def _insert_entries(work: UnitOfWork, postings: Sequence[Posting]) -> None:
    legs: list[tuple[Leg, int, str, Transfer]] = []
    for posting in postings:
        transfer = posting.transfer
        if posting.debit is not None and posting.credit is not None:
            amount, debit, credit = moved(transfer), posting.debit, posting.credit
            legs.append((debit, amount, credit.account_id, transfer))
            legs.append((credit, -amount, debit.account_id, transfer))
    if not legs:
        return
    parameters = {
        "tenant_id": work.tenant_id,
        "now": work.now,
        "account_ids": [leg.account_id for leg, _, _, _ in legs],
        "seqs": [leg.seq for leg, _, _, _ in legs],
        "transfer_ids": [transfer.transfer_id for _, _, _, transfer in legs],
        "amounts": [amount for _, amount, _, _ in legs],
        "balances": [leg.balance_after for leg, _, _, _ in legs],
        "counter_account_ids": [counter for _, _, counter, _ in legs],
        "currency_codes": [transfer.currency_code for _, _, _, transfer in legs],
        "codes": [transfer.code for _, _, _, transfer in legs],
        "effective_at": [transfer.effective_at for _, _, _, transfer in legs],
    }
    work.later(_SQL["insert_entries"], parameters)


async def update_balances(work: UnitOfWork, balances: Collection[Balance]) -> None:
    """Write the balances that a batch moved."""
    async for part in in_slices(list(parts(list(balances))), 1):
        parameters = {
            "tenant_id": work.tenant_id,
            "now": work.now,
            "account_ids": names([b.account_id for b in part]),
            "debits": numbers([b.debits_posted for b in part]),
            "credits": numbers([b.credits_posted for b in part]),
            "seqs": numbers([b.last_seq for b in part]),
            "debits_pending": numbers([b.debits_pending for b in part]),
            "credits_pending": numbers([b.credits_pending for b in part]),
            "closed": [b.closed for b in part],
        }
        work.later(_SQL["update_balances"], parameters)


async def insert_holds(work: UnitOfWork, holds: Collection[Hold]) -> None:
    """Write the holds that a batch made, as they stand at its end."""
    call = current()
    async for part in in_slices(list(parts(list(holds))), 1):
        parameters = {
            **_hold_parameters(work, part),
            "debit_account_ids": [h.debit_account_id for h in part],
            "credit_account_ids": [h.credit_account_id for h in part],
            "currency_codes": [h.currency_code for h in part],
            "codes": [h.code for h in part],
            "amounts": [h.amount_minor for h in part],
            "expires_at": [h.expires_at for h in part],
            "closing_debits": [h.closing_debit for h in part],
            "closing_credits": [h.closing_credit for h in part],
            "multi_captures": [h.multi_capture for h in part],
            "correlation_id": call.correlation_id,
            "causation_id": call.causation_id,
            "traceparent": call.traceparent,
        }
        work.later(_SQL["insert_holds"], parameters)


async def update_holds(work: UnitOfWork, holds: Collection[Hold]) -> None:
    """Write what became of holds of earlier batches; nobody has the lease of one after that."""
    async for part in in_slices(list(parts(list(holds))), 1):
        work.later(_SQL["update_holds"], _hold_parameters(work, part))


def _hold_parameters(work: UnitOfWork, holds: Sequence[Hold]) -> dict[str, Any]:
    return {
        "tenant_id": work.tenant_id,
        "transfer_ids": [h.transfer_id for h in holds],
        "remaining": [h.remaining_minor for h in holds],
        "states": [int(h.state) for h in holds],
    }


async def claim_due(work: UnitOfWork, owner: str, lease_ms: int, limit: int) -> list[Claim]:
    """Lease holds of any tenant whose time is over and that nobody gives up yet."""
    return await claims(work, _SQL["claim_due"], owner=owner, lease_ms=lease_ms, batch=limit)


async def due_lag(database: Database) -> Lag:
    """Tell how many holds are over and not given up yet."""
    return await lag(database, _SQL["due_lag"])


async def _read_transfers(work: UnitOfWork, transfer_ids: Sequence[UUID]) -> list[Transfer]:
    keys = {"tenant_id": work.tenant_id, "transfer_ids": list(transfer_ids)}
    rows = await work.execute(_SQL["read_transfers"], keys)
    return [transfer_of(row) for row in rows]


def transfer_of(row: Any) -> Transfer:
    """Read a transfer from its row."""
    # Given or not, it was recorded as when it takes effect: nobody gives the very microsecond of the recording.
    is_given = row.effective_at != row.recorded_at
    return Transfer(
        transfer_id=row.transfer_id,
        debit_account_id=row.debit_account_id,
        credit_account_id=row.credit_account_id,
        currency_code=row.currency_code,
        amount_minor=row.amount_minor,
        code=row.code,
        kind=Kind(row.kind),
        linked=row.linked,
        effective_at=row.effective_at if is_given else None,
        metadata=row.metadata,
        pending_id=row.pending_id,
        timeout_ms=row.timeout_ms,
        flags=transfer_flags(row.flags),
        asked_all=row.asked_all,
        reverses_id=row.reverses_id,
        reference=reference_of(row),
        posting_id=row.posting_id,
        not_before=row.not_before,
    )


_FLAG_NAMES = (
    "balancing_debit",
    "balancing_credit",
    "closing_debit",
    "closing_credit",
    "multi_capture",
)


def flag_bits(flags: TransferFlags) -> int:
    """Write what is special about a transfer as a number."""
    if flags is NO_FLAGS:
        return 0
    return sum(1 << bit for bit, name in enumerate(_FLAG_NAMES) if getattr(flags, name))


def transfer_flags(bits: int) -> TransferFlags:
    """Read what is special about a transfer off a number."""
    if not bits:
        return NO_FLAGS
    return TransferFlags(**{name: bool(bits >> bit & 1) for bit, name in enumerate(_FLAG_NAMES)})
