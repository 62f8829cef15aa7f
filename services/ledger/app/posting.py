"""Posting batches of transfers, reversing one, giving up a hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from uuid import UUID

from services.ledger import facts
from services.ledger.app.balances import load_timelines
from services.ledger.app.monitors import tell_crossings
from services.ledger.domain import measures
from services.ledger.domain.holds import HoldState, TransferView
from services.ledger.domain.monitors import Trail, watched
from services.ledger.domain.plain import Layout, PlainBatch, lay_out
from services.ledger.domain.posting import POSTED, Books, Evaluation, Verdict, evaluate, release
from services.ledger.domain.reversals import (
    Reversal,
    ReversalRefused,
    TransferAlreadyReversed,
    opposite,
)
from services.ledger.domain.transfers import (
    Malformed,
    Transfer,
    TransferResult,
    fingerprint,
    moved,
)
from services.ledger.store import monitors, periods, plain, reversals, scheduled
from services.ledger.store import posting as store
from services.ledger.store.posting import Claimed
from services.runtime.database import UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.turns import aside, in_slices

# Between two looks at what else is to be done.
SLICE_ITEMS = 100


async def post_transfers(
    batch: Sequence[Transfer | Malformed],
    work: UnitOfWork,
    claimed_ids: set[UUID] | None = None,
) -> Evaluation:
    """Post a batch within a transaction. Locks: periods, transfer ids, holds, then balances, each in sorted order.

    `claimed_ids` are those that this transaction claimed for the batch before, all that were new; None for none.
    """
    transfers = [item for item in batch if isinstance(item, Transfer)]
    contents = [
        fingerprint(item) if isinstance(item, Transfer) else b""
        async for item in in_slices(batch, SLICE_ITEMS)
    ]
    first: dict[UUID, bytes] = {}
    # Of ids that stand in the batch with several contents: of most there is one, and no set is made for it.
    several: dict[UUID, set[bytes]] = {}
    for transfer, content in zip(transfers, filter(None, contents), strict=True):
        if first.setdefault(transfer.transfer_id, content) != content:
            several.setdefault(transfer.transfer_id, set()).add(content)
    account_ids = {t.debit_account_id for t in transfers} | {t.credit_account_id for t in transfers}
    pending_ids = {t.pending_id for t in transfers if t.kind.ends_hold and t.pending_id is not None}
    between = await store.hold_accounts(work, pending_ids) if pending_ids else {}
    account_ids = account_ids.union(*between.values()) - {""}
    claimed = await store.claim(work, first, between, account_ids, claimed_ids)
    others = {
        transfer_id: {first[transfer_id], *several.get(transfer_id, ())}
        for transfer_id in first.keys() - claimed.transfer_ids
    }
    known = await scheduled.with_waiting(work, await store.read_known(work, others), others)
    no_holds = await _late_holds(work, claimed, pending_ids - between.keys())
    await load_timelines(work, claimed.balances.values(), (item.effective_at for item in transfers))
    books = Books(
        claimed.balances,
        work.now,
        known=known,
        holds=claimed.holds,
        no_holds=no_holds,
        closed_through=claimed.closed_through,
        prefixes=[monitor.account_prefix for monitor in claimed.monitors],
    )
    evaluation = await aside(len(batch), evaluate, batch, books, contents)
    await store.settle_ids(
        work, {transfer_id: first[transfer_id] for transfer_id in claimed.transfer_ids}, evaluation
    )
    await scheduled.insert_scheduled(work, evaluation.scheduled.values())
    if evaluation.postings:
        accounts = evaluation.moved
        await store.insert_postings(work, evaluation.postings, claimed.batch_no)
        await store.insert_holds(work, evaluation.opened.values())
        await store.update_holds(work, evaluation.moved_holds.values())
        await store.update_balances(work, [claimed.balances[account_id] for account_id in accounts])
        work.publish(
            facts.batch_posted(evaluation.postings, claimed.batch_no, len(accounts), work.now)
        )
        await tell_crossings(work, evaluation.trail, claimed.monitors, claimed.batch_no)
    _count(work, evaluation)
    return evaluation


async def post_plain(batch: PlainBatch, work: UnitOfWork) -> Sequence[Verdict]:
    """Post plain transfers within a transaction: as a whole where nothing speaks against one, else one by one."""
    layout = await aside(len(batch), lay_out, batch)
    claimed_ids: set[UUID] | None = None
    if layout is not None:
        posted = await plain.post_plain(work, batch, layout)
        if posted.batch_no is not None:
            _tell_posted(work, batch, layout, posted.batch_no)
            return [POSTED] * len(batch)
        claimed_ids = posted.claimed
    return (await post_transfers(list(batch.transfers()), work, claimed_ids)).verdicts


def _tell_posted(work: UnitOfWork, batch: PlainBatch, layout: Layout, batch_no: int) -> None:
    counts = Counter(batch.currency_codes)
    sums = {currency: 0 for currency in counts}
    for currency, amount in zip(batch.currency_codes, batch.amounts_minor, strict=True):
        sums[currency] += amount
    accounts = len(layout.account_ids)
    work.publish(facts.batch_told(len(batch), sums, batch_no, accounts, work.now))
    work.count(measures.TRANSFERS, len(batch), result=TransferResult.OK.name.lower())
    for currency, count in counts.items():
        work.count(measures.ENTRIES, 2 * count, currency=currency)
        work.count(measures.POSTED, sums[currency], currency=currency)


async def _late_holds(work: UnitOfWork, claimed: Claimed, strange: set[UUID]) -> set[UUID]:
    """Lock the holds that were committed while this batch waited for its locks; return the ids that are none.

    They are locked out of order: of two that wait for each other Postgres ends one, and that one starts over.
    """
    no_holds: set[UUID] = set()
    while strange:
        late, no_holds = await store.known_among(work, strange)
        if not late:
            break
        claimed.holds.update(await store.lock_holds(work, late.keys()))
        missing = {name for names in late.values() for name in names} - claimed.balances.keys()
        claimed.balances.update(await store.lock_balances(work, missing))
        strange = strange - late.keys()
    return no_holds


async def reverse_transfer(command: Reversal, work: UnitOfWork) -> TransferView:
    """Post the opposite of a transfer, once.

    Raises:
        NotFound: there is no such transfer in the books.
        TransferNotReversible: it posted nothing.
        TransferAlreadyReversed: its opposite was posted before.
        ReversalRefused: an account refuses the opposite, or others have reversed a part of it or of what it gives back.
    """
    # Ahead of what is locked below, as every batch does.
    await periods.share(work)
    monitors.share(work)
    view = await store.read_transfer(work, command.transfer_id)
    if view is None:
        raise NotFound("transfer", str(command.transfer_id))
    reversal = opposite(view.transfer, command.reason)
    taken = await reversals.lock(work, {command.transfer_id})
    taken_minor = taken.minor.get(command.transfer_id, 0)
    (verdict,) = (await post_transfers([reversal], work)).verdicts
    if verdict.result is TransferResult.EXISTS or view.reversed_by_id is not None:
        raise TransferAlreadyReversed(
            f"transfer {command.transfer_id} was reversed by {reversal.transfer_id}",
            transfer_id=str(command.transfer_id),
            reversal_id=str(reversal.transfer_id),
        )
    amount_minor = moved(reversal)
    if taken_minor > 0 and verdict.result is TransferResult.OK:
        raise ReversalRefused.in_part(command.transfer_id, taken_minor, amount_minor)
    beyond = taken.beyond(command.transfer_id, amount_minor)
    if beyond is not None and verdict.result is TransferResult.OK:
        raise ReversalRefused.by_others(command.transfer_id, *beyond)
    if verdict.result is not TransferResult.OK:
        # The refusal undoes the transaction, and with it the claim of the reversal's id: it can be tried again.
        raise ReversalRefused(
            f"transfer {command.transfer_id} is not reversed: {verdict.result.name}",
            transfer_id=str(command.transfer_id),
            result=verdict.result.name,
        )
    if amount_minor:
        reversals.insert(work, command.transfer_id, reversal.transfer_id, amount_minor)
    return TransferView(reversal, work.now, work.now, None, None)


async def expire_hold(work: UnitOfWork, transfer_id: UUID) -> bool:
    """Give up what is left of a hold whose time is over; says whether it was open until now."""
    monitors.share(work)
    hold = (await store.lock_holds(work, {transfer_id})).get(transfer_id)
    if hold is None or hold.state is not HoldState.OPEN or not hold.is_due(work.now):
        return False
    balances = await store.lock_balances(work, {hold.debit_account_id, hold.credit_account_id})
    debit, credit = balances[hold.debit_account_id], balances[hold.credit_account_id]
    of_prefixes = await monitors.of_prefixes(work)
    trail = Trail(watched(balances, [monitor.account_prefix for monitor in of_prefixes]))
    release(hold, debit, credit, hold.remaining_minor, HoldState.EXPIRED)
    trail.note(0, transfer_id, hold.debit_account_id, hold.credit_account_id)
    await store.update_holds(work, [hold])
    await store.update_balances(work, [debit, credit])
    await tell_crossings(work, trail, of_prefixes, 0)
    return True


def _count(work: UnitOfWork, evaluation: Evaluation) -> None:
    for result, count in Counter(verdict.result for verdict in evaluation.verdicts).items():
        work.count(measures.TRANSFERS, count, result=result.name.lower())
    posted: dict[str, list[int]] = defaultdict(list)
    for posting in evaluation.postings:
        if posting.debit is not None:
            posted[posting.transfer.currency_code].append(moved(posting.transfer))
    for currency, amounts in posted.items():
        work.count(measures.ENTRIES, 2 * len(amounts), currency=currency)
        work.count(measures.POSTED, sum(amounts), currency=currency)
