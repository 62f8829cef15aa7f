"""Every statement of the ledger, from and to domain values. Nothing here decides."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import select

from services.ledger.domain.accounts import (
    NO_LIMITS,
    Account,
    AccountFilter,
    AccountType,
    AccountView,
    EntryColumns,
    EntryFilter,
    EntryPlace,
    EntryView,
    Flags,
    Limits,
)
from services.ledger.domain.holds import Hold, HoldState, HoldView, TransferView
from services.ledger.domain.posting import (
    Balance,
    Evaluation,
    Leg,
    Posting,
    StoredTransfer,
)
from services.ledger.domain.transfers import (
    NO_FLAGS,
    Kind,
    Transfer,
    TransferFlags,
    TransferResult,
    moved,
)
from services.ledger.domain.trial_balance import TypeSums
from services.ledger.tables import account as account_table
from services.ledger.tables import balance as balance_table
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.postgres import sql
from services.runtime.postgres.session import Rows
from services.runtime.turns import in_slices
from services.runtime.work import Claim, Lag, claims, lag

RowT = TypeVar("RowT")

_SQL = sql.load("services.ledger", "queries.sql")
# Rows of a statement: the driver writes all of them before anybody else has a turn.
_PART_ROWS = 500
_GROW_BY_DEBIT = [int(each) for each in AccountType if each.grows_by_debit]


# ---- Accounts


async def insert_accounts(work: UnitOfWork, accounts: Sequence[Account]) -> set[str]:
    """Create the accounts that do not exist, with empty balances; return the ids of those created."""
    created: set[str] = set()
    # Sorted, as locks are taken by the statement: two batches cannot wait for each other.
    for part in _parts(sorted(accounts, key=lambda account: account.account_id)):
        created |= await _insert_accounts(work, part)
    return created


async def _insert_accounts(work: UnitOfWork, accounts: Sequence[Account]) -> set[str]:
    parameters = {
        "tenant_id": work.tenant_id,
        "now": work.now,
        "account_ids": [a.account_id for a in accounts],
        "currency_codes": [a.currency_code for a in accounts],
        "types": [int(a.type) for a in accounts],
        "no_overdrafts": [a.flags.debits_must_not_exceed_credits for a in accounts],
        "no_overpays": [a.flags.credits_must_not_exceed_debits for a in accounts],
        "closed": [a.flags.closed for a in accounts],
        "owners": [a.owner for a in accounts],
        "metadata": [json.dumps(dict(a.metadata)) for a in accounts],
        "floors": [a.limits.floor_minor for a in accounts],
        "ceilings": [a.limits.ceiling_minor for a in accounts],
    }
    rows = await work.execute(_SQL["insert_accounts"], parameters)
    created = {row.account_id for row in rows}
    if created:
        keys = {"tenant_id": work.tenant_id, "account_ids": sorted(created)}
        await work.execute(_SQL["insert_balances"], keys)
    return created


async def read_accounts(work: UnitOfWork, account_ids: Collection[str]) -> dict[str, Account]:
    """Read what is fixed about accounts, by id."""
    found: dict[str, Account] = {}
    for ids in _parts(list(account_ids)):
        keys = {"tenant_id": work.tenant_id, "account_ids": ids}
        for row in await work.execute(_SQL["read_accounts"], keys):
            found[row.account_id] = _account(row)
    return found


async def list_accounts(
    work: UnitOfWork, wanted: AccountFilter, after: str, limit: int
) -> list[AccountView]:
    """List accounts with balances behind `after`, by id."""
    table, sums = account_table, balance_table
    query = (
        select(
            table,
            sums.c.debits_posted,
            sums.c.credits_posted,
            sums.c.debits_pending,
            sums.c.credits_pending,
            sums.c.closed.label("closed_now"),
        )
        .join(
            sums,
            (sums.c.tenant_id == table.c.tenant_id) & (sums.c.account_id == table.c.account_id),
        )
        .where(table.c.tenant_id == work.tenant_id, table.c.account_id > after)
        .order_by(table.c.account_id)
        .limit(limit)
    )
    if wanted.owner:
        query = query.where(table.c.owner == wanted.owner)
    if wanted.currency_code:
        query = query.where(table.c.currency_code == wanted.currency_code)
    if wanted.type is not None:
        query = query.where(table.c.type == int(wanted.type))
    return [_view(row) for row in await work.execute(query)]


async def find_account(database: Database, account_id: str) -> AccountView | None:
    """Read one account of the current tenant with its balances."""
    keys = {"tenant_id": current().tenant_id, "account_id": account_id}
    row = (await database.ask(_SQL["read_account"], keys)).one_or_none()
    return None if row is None else _view(row)


async def read_account(work: UnitOfWork, account_id: str) -> AccountView | None:
    """Read one account with its balances."""
    keys = {"tenant_id": work.tenant_id, "account_id": account_id}
    row = (await work.execute(_SQL["read_account"], keys)).one_or_none()
    return None if row is None else _view(row)


# ---- Posting


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a batch holds until its transaction ends.

    Attributes:
        transfer_ids: those that nobody claimed before.
        holds: by transfer id.
        balances: by account.
        batch_no: which nobody who waited for these locks has drawn before.
    """

    transfer_ids: set[UUID]
    holds: dict[UUID, Hold]
    balances: dict[str, Balance]
    batch_no: int


async def claim(
    work: UnitOfWork,
    fingerprints: Mapping[UUID, bytes],
    hold_ids: Collection[UUID],
    account_ids: Collection[str],
) -> Claimed:
    """Claim transfer ids, lock holds and balances and draw a batch's number, in one go, each sorted by id."""
    ids = [
        (
            _SQL["claim_ids"],
            {
                "tenant_id": work.tenant_id,
                "transfer_ids": part,
                "fingerprints": [fingerprints[transfer_id] for transfer_id in part],
            },
        )
        for part in _parts(sorted(fingerprints))
    ]
    holds = [
        (_SQL["lock_holds"], {"tenant_id": work.tenant_id, "transfer_ids": part})
        for part in _parts(sorted(hold_ids))
    ]
    locks = [
        (_SQL["lock_balances"], {"tenant_id": work.tenant_id, "account_ids": part})
        for part in _parts(sorted(account_ids))
    ]
    answers = await work.execute_all(*ids, *holds, *locks, (_SQL["next_batch_no"], {}))
    claimed = Claimed(set(), {}, {}, int(answers[-1].scalar_one()))
    async for answer in in_slices(answers[: len(ids)], 1):
        claimed.transfer_ids.update(row[0] for row in answer.tuples())
    async for answer in in_slices(answers[len(ids) : len(ids) + len(holds)], 1):
        claimed.holds.update(_holds(answer))
    async for answer in in_slices(answers[len(ids) + len(holds) : -1], 1):
        claimed.balances.update(_balances(answer))
    return claimed


async def hold_accounts(
    work: UnitOfWork, transfer_ids: Collection[UUID]
) -> dict[UUID, tuple[str, str]]:
    """Read which accounts, debited and credited, each of the holds is between."""
    found: dict[UUID, tuple[str, str]] = {}
    for ids in _parts(list(transfer_ids)):
        keys = {"tenant_id": work.tenant_id, "transfer_ids": ids}
        for transfer_id, debit, credit in await _hot(work, "read_hold_accounts", keys):
            found[transfer_id] = (debit, credit)
    return found


async def known_among(
    work: UnitOfWork, transfer_ids: Collection[UUID]
) -> tuple[dict[UUID, tuple[str, str]], set[UUID]]:
    """Return which of these ids are holds, with the accounts that they are between, and which are other transfers."""
    holds: dict[UUID, tuple[str, str]] = {}
    others: set[UUID] = set()
    for ids in _parts(list(transfer_ids)):
        keys = {"tenant_id": work.tenant_id, "transfer_ids": ids}
        for transfer_id, debit, credit in await _hot(work, "read_posted", keys):
            if debit is None:
                others.add(transfer_id)
            else:
                holds[transfer_id] = (debit, credit)
    return holds, others


async def lock_holds(work: UnitOfWork, transfer_ids: Collection[UUID]) -> dict[UUID, Hold]:
    """Lock holds, in the order of their ids, until the transaction ends."""
    found: dict[UUID, Hold] = {}
    for ids in _parts(sorted(transfer_ids)):
        keys = {"tenant_id": work.tenant_id, "transfer_ids": ids}
        found |= _holds(await work.execute(_SQL["lock_holds"], keys))
    return found


async def read_known(
    work: UnitOfWork, asked: Mapping[UUID, Collection[bytes]]
) -> dict[UUID, StoredTransfer]:
    """Read what is stored of ids that others claimed; the transfer too where `asked` has another fingerprint."""
    known: dict[UUID, StoredTransfer] = {}
    for ids in _parts(list(asked)):
        keys = {"tenant_id": work.tenant_id, "transfer_ids": ids}
        for transfer_id, content, result in await _hot(work, "read_ids", keys):
            known[transfer_id] = StoredTransfer(bytes(content), TransferResult(result))
    differing = [
        transfer_id
        for transfer_id, stored in known.items()
        if stored.result is TransferResult.OK and set(asked[transfer_id]) != {stored.fingerprint}
    ]
    for ids in _parts(differing):
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


def _transfer_view(row: Any) -> TransferView | None:
    if row is None:
        return None
    hold = None
    if row.state is not None:
        hold = HoldView(HoldState(row.state), row.remaining_minor, row.expires_at)
    return TransferView(_transfer(row), row.effective_at, row.recorded_at, hold, row.reversed_by_id)


async def booked_of_payment(work: UnitOfWork, payment_id: str) -> int:
    """Return what the books hold of a payment, in minor units: its charges less its refunds."""
    keys = {"tenant_id": work.tenant_id, "payment_id": payment_id}
    return int((await work.execute(_SQL["booked_of_payment"], keys)).scalar_one())


async def lock_balances(work: UnitOfWork, account_ids: Iterable[str]) -> dict[str, Balance]:
    """Lock the balances of accounts, in order of the ids, until the transaction ends."""
    balances: dict[str, Balance] = {}
    for ids in _parts(sorted(account_ids)):
        keys = {"tenant_id": work.tenant_id, "account_ids": ids}
        balances |= _balances(await work.execute(_SQL["lock_balances"], keys))
    return balances


def _balances(rows: Rows) -> dict[str, Balance]:
    return {
        row[0]: Balance(
            account_id=row[0],
            currency_code=row[1],
            type=AccountType(row[2]),
            flags=Flags(row[3], row[4], row[5]),
            closed=row[5],
            debits_posted=row[6],
            credits_posted=row[7],
            last_seq=row[8],
            debits_pending=row[9],
            credits_pending=row[10],
            limits=_limits(row[11], row[12]),
        )
        for row in rows.tuples()
    }


def _holds(rows: Rows) -> dict[UUID, Hold]:
    return {
        row.transfer_id: Hold(**{**row._asdict(), "state": HoldState(row.state)}) for row in rows
    }


def _limits(floor_minor: int | None, ceiling_minor: int | None) -> Limits:
    if floor_minor is None and ceiling_minor is None:
        return NO_LIMITS
    return Limits(floor_minor, ceiling_minor)


async def settle_ids(
    work: UnitOfWork, claimed: Mapping[UUID, bytes], evaluation: Evaluation
) -> None:
    """Correct the claims: release the ids that nothing was decided on, record those that were burnt.

    `claimed` are the ids that this batch claimed, with the fingerprint that it claimed them with.
    """
    decided = {
        posting.transfer.transfer_id: StoredTransfer(posting.fingerprint, TransferResult.OK)
        for posting in evaluation.postings
    } | evaluation.burnt
    released = [transfer_id for transfer_id in claimed if transfer_id not in decided]
    corrected = {
        transfer_id: outcome
        for transfer_id, outcome in decided.items()
        if outcome.result is not TransferResult.OK or claimed[transfer_id] != outcome.fingerprint
    }
    for ids in _parts(released):
        work.later(_SQL["release_ids"], {"tenant_id": work.tenant_id, "transfer_ids": ids})
    for ids in _parts(list(corrected)):
        parameters = {
            "tenant_id": work.tenant_id,
            "transfer_ids": ids,
            "fingerprints": [corrected[transfer_id].fingerprint for transfer_id in ids],
            "results": [int(corrected[transfer_id].result) for transfer_id in ids],
        }
        work.later(_SQL["correct_ids"], parameters)


async def insert_postings(work: UnitOfWork, postings: Sequence[Posting], batch_no: int) -> None:
    """Write accepted transfers and their entries."""
    async for part in in_slices(list(_parts(postings)), 1):
        _insert_transfers(work, part, batch_no)
        _insert_entries(work, part)


def _insert_transfers(work: UnitOfWork, postings: Sequence[Posting], batch_no: int) -> None:
    transfers = [posting.transfer for posting in postings]
    parameters = {
        "tenant_id": work.tenant_id,
        "batch_no": batch_no,
        "now": work.now,
        "transfer_ids": [t.transfer_id for t in transfers],
        "positions": [posting.index for posting in postings],
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
        "flags": [_flag_bits(t.flags) for t in transfers],
        "asked_all": [t.asked_all for t in transfers],
        "reverses_ids": [t.reverses_id for t in transfers],
    }
    work.later(_SQL["insert_transfers"], parameters)


def _insert_entries(work: UnitOfWork, postings: Sequence[Posting]) -> None:
    legs: list[tuple[Leg, UUID, int]] = []
    for posting in postings:
        transfer = posting.transfer
        if posting.debit is not None and posting.credit is not None:
            legs.append((posting.debit, transfer.transfer_id, moved(transfer)))
            legs.append((posting.credit, transfer.transfer_id, -moved(transfer)))
    if not legs:
        return
    parameters = {
        "tenant_id": work.tenant_id,
        "account_ids": [leg.account_id for leg, _, _ in legs],
        "seqs": [leg.seq for leg, _, _ in legs],
        "transfer_ids": [transfer_id for _, transfer_id, _ in legs],
        "amounts": [amount for _, _, amount in legs],
        "balances": [leg.balance_after for leg, _, _ in legs],
    }
    work.later(_SQL["insert_entries"], parameters)


async def update_balances(work: UnitOfWork, balances: Collection[Balance]) -> None:
    """Write the balances that a batch moved."""
    async for part in in_slices(list(_parts(list(balances))), 1):
        parameters = {
            "tenant_id": work.tenant_id,
            "now": work.now,
            "account_ids": [b.account_id for b in part],
            "debits": [b.debits_posted for b in part],
            "credits": [b.credits_posted for b in part],
            "seqs": [b.last_seq for b in part],
            "debits_pending": [b.debits_pending for b in part],
            "credits_pending": [b.credits_pending for b in part],
            "closed": [b.closed for b in part],
        }
        work.later(_SQL["update_balances"], parameters)


async def insert_holds(work: UnitOfWork, holds: Collection[Hold]) -> None:
    """Write the holds that a batch made, as they stand at its end."""
    call = current()
    async for part in in_slices(list(_parts(list(holds))), 1):
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
    async for part in in_slices(list(_parts(list(holds))), 1):
        work.later(_SQL["update_holds"], _hold_parameters(work, part))


def _hold_parameters(work: UnitOfWork, holds: Sequence[Hold]) -> dict[str, Any]:
    return {
        "tenant_id": work.tenant_id,
        "transfer_ids": [h.transfer_id for h in holds],
        "remaining": [h.remaining_minor for h in holds],
        "states": [int(h.state) for h in holds],
    }


# ---- Holds that fall due


async def claim_due(work: UnitOfWork, owner: str, lease_ms: int, limit: int) -> list[Claim]:
    """Lease holds of any tenant whose time is over and that nobody gives up yet."""
    return await claims(work, _SQL["claim_due"], owner=owner, lease_ms=lease_ms, batch=limit)


async def due_lag(database: Database) -> Lag:
    """Tell how many holds are over and not given up yet."""
    return await lag(database, _SQL["due_lag"])


# ---- Reading the books


async def list_entries(
    work: UnitOfWork, account_id: str, after: int, limit: int, *, newest_first: bool
) -> list[EntryView]:
    """List entries of an account behind (or, newest first, before) place `after`."""
    statement = "list_entries_newest_first" if newest_first else "list_entries_oldest_first"
    parameters = {
        "tenant_id": work.tenant_id,
        "account_id": account_id,
        "after": after,
        "limit": limit,
    }
    return [EntryView(**row._asdict()) for row in await work.execute(_SQL[statement], parameters)]


async def export_entries(
    work: UnitOfWork, wanted: EntryFilter, after: EntryPlace, limit: int
) -> tuple[EntryColumns, EntryPlace | None]:
    """Read entries behind a place by column, by account and number, and say behind which place more may stand.

    `limit` is the number of entries that are looked at, whether they were recorded in time or not.
    """
    parameters = {
        "tenant_id": work.tenant_id,
        "account_id": after.account_id,
        "seq": after.seq,
        "limit": limit,
        "owner": wanted.owner,
        "account_ids": list(wanted.account_ids),
        "grow_by_debit": _GROW_BY_DEBIT,
        "recorded_from": wanted.recorded_from,
        "recorded_before": wanted.recorded_before,
    }
    rows = await work.execute(_SQL["export_entries"], parameters)
    ((looked_at, account_id, seq, *columns),) = rows.tuples()
    entries = EntryColumns(*(column or [] for column in columns))
    return entries, EntryPlace(account_id, seq) if looked_at == limit else None


async def sum_accounts(work: UnitOfWork) -> list[TypeSums]:
    """Add all accounts up by currency and type, in one statement and so in one snapshot."""
    rows = await work.execute(_SQL["sum_accounts"], {"tenant_id": work.tenant_id})
    return [
        TypeSums(
            row.currency_code,
            AccountType(row.type),
            row.accounts,
            int(row.debits),
            int(row.credits),
        )
        for row in rows
    ]


# ---- Rows


def _parts(rows: Sequence[RowT]) -> Iterator[Sequence[RowT]]:
    for start in range(0, len(rows), _PART_ROWS):
        yield rows[start : start + _PART_ROWS]


async def _hot(work: UnitOfWork, name: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Run a statement of the posting path: thousands of rows without a row object each."""
    return (await work.execute(_SQL[name], parameters)).tuples()


async def _read_transfers(work: UnitOfWork, transfer_ids: Sequence[UUID]) -> list[Transfer]:
    keys = {"tenant_id": work.tenant_id, "transfer_ids": list(transfer_ids)}
    rows = await work.execute(_SQL["read_transfers"], keys)
    return [_transfer(row) for row in rows]


def _transfer(row: Any) -> Transfer:
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
        flags=_flags_of(row.flags),
        asked_all=row.asked_all,
        reverses_id=row.reverses_id,
    )


_FLAG_NAMES = (
    "balancing_debit",
    "balancing_credit",
    "closing_debit",
    "closing_credit",
    "multi_capture",
)


def _flag_bits(flags: TransferFlags) -> int:
    if flags is NO_FLAGS:
        return 0
    return sum(1 << bit for bit, name in enumerate(_FLAG_NAMES) if getattr(flags, name))


def _flags_of(bits: int) -> TransferFlags:
    if not bits:
        return NO_FLAGS
    return TransferFlags(**{name: bool(bits >> bit & 1) for bit, name in enumerate(_FLAG_NAMES)})


def _account(row: Any) -> Account:
    return Account(
        account_id=row.account_id,
        currency_code=row.currency_code,
        type=AccountType(row.type),
        flags=Flags(
            row.debits_must_not_exceed_credits, row.credits_must_not_exceed_debits, row.closed
        ),
        owner=row.owner,
        metadata=row.metadata,
        limits=_limits(row.floor_minor, row.ceiling_minor),
    )


def _view(row: Any) -> AccountView:
    return AccountView(
        _account(row),
        row.debits_posted,
        row.credits_posted,
        row.debits_pending,
        row.credits_pending,
        row.closed_now,
        row.created_at,
    )
