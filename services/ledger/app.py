"""Use cases of the ledger: load and lock, decide (domain), store, tell; each in one unit of work."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.ledger import facts, store
from services.ledger.domain import measures, payments
from services.ledger.domain.accounts import (
    Account,
    AccountFilter,
    AccountResult,
    AccountView,
    EntryColumns,
    EntryFilter,
    EntryPlace,
    EntryView,
    compare,
)
from services.ledger.domain.holds import HoldState, TransferView
from services.ledger.domain.payments import Booking, Charge
from services.ledger.domain.posting import Books, Evaluation, Verdict, evaluate, release
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
from services.ledger.domain.trial_balance import CurrencySums, add_up
from services.ledger.store import Claimed
from services.runtime.commands import Commands
from services.runtime.contracts import INVARIANT
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.money import MINOR_UNITS_MAX
from services.runtime.turns import aside, in_slices
from services.runtime.violations import ViolationReporter

# Between two looks at what else is to be done.
SLICE_ITEMS = 100
# A booking passes over ids that somebody else has taken, but not for ever.
BOOKING_TRIES = 100
PAYMENTS_IN_BOOKS = "ledger/payments-in-books"
PAYMENT_IN_SUSPENSE = "ledger/payment-in-suspense"


class Ledger:
    """The books of the tenant that the running call acts for."""

    def __init__(
        self, database: Database, commands: Commands, violations: ViolationReporter
    ) -> None:
        self._database = database
        self._commands = commands
        self._violations = violations

    async def create_accounts(self, accounts: Sequence[Account]) -> list[AccountResult]:
        """Create accounts and answer for each, in their order.

        Raises:
            DatabaseUnavailable: nothing was created.
        """
        return await self._commands.apply("ledger.create_accounts", create_accounts, accounts)

    async def post_transfers(self, batch: Sequence[Transfer | Malformed]) -> list[Verdict]:
        """Post a batch in one transaction and answer for each transfer, in their order.

        Raises:
            DatabaseUnavailable: nothing is known to be posted; the same batch may be sent again.
        """
        posted = await self._commands.apply("ledger.post_transfers", post_transfers, batch)
        return posted.verdicts

    async def get_account(self, account_id: str) -> AccountView:
        """Return an account with its balances. Raises NotFound."""
        return _existing(await store.find_account(self._database, account_id), account_id)

    async def get_transfer(self, transfer_id: UUID) -> TransferView:
        """Return a transfer that is in the books. Raises NotFound."""
        found = await store.find_transfer(self._database, transfer_id)
        if found is None:
            raise NotFound("transfer", str(transfer_id))
        return found

    async def list_accounts(
        self, wanted: AccountFilter, after: str, limit: int
    ) -> list[AccountView]:
        """List accounts behind `after`, by id."""
        async with self._database.read() as work:
            return await store.list_accounts(work, wanted, after, limit)

    async def list_entries(
        self, account_id: str, after: int | None, limit: int, *, newest_first: bool
    ) -> tuple[AccountView, list[EntryView]]:
        """List entries of an account behind place `after`; None begins at the first. Raises NotFound."""
        if after is None:
            after = MINOR_UNITS_MAX if newest_first else 0
        async with self._database.read() as work:
            account = _existing(await store.read_account(work, account_id), account_id)
            entries = await store.list_entries(
                work, account_id, after, limit, newest_first=newest_first
            )
        return account, entries

    async def export_entries(
        self, wanted: EntryFilter, after: EntryPlace, limit: int
    ) -> tuple[EntryColumns, EntryPlace | None]:
        """Read entries behind a place by column, and say behind which place more may stand.

        Raises:
            NotFound: an account that was named does not exist.
        """
        async with self._database.read() as work:
            if wanted.account_ids:
                known = await store.read_accounts(work, wanted.account_ids)
                for account_id in wanted.account_ids:
                    if account_id not in known:
                        raise NotFound("account", account_id)
            return await store.export_entries(work, wanted, after, limit)

    async def trial_balance(self) -> tuple[datetime, list[CurrencySums]]:
        """Add up all accounts in one snapshot, and say when; a difference is reported as a violation.

        Raises:
            AmountOverflow: a sum is beyond 64 bits.
        """
        async with self._database.read() as work:
            now, currencies = work.now, add_up(await store.sum_accounts(work))
        for item in currencies:
            if item.difference.minor_units:
                message = f"debits and credits of {item.currency_code} differ: {item.difference}"
                self._violations.tell(INVARIANT, "CRITICAL", message, "trial-balance")
        return now, currencies


async def create_accounts(accounts: Sequence[Account], work: UnitOfWork) -> list[AccountResult]:
    """Create accounts within a transaction; of two of the same id in a call the first is created."""
    first: dict[str, Account] = {}
    for account in accounts:
        first.setdefault(account.account_id, account)
    created = await store.insert_accounts(work, list(first.values()))
    existing = await store.read_accounts(work, first.keys() - created)
    results = []
    async for account in in_slices(accounts, SLICE_ITEMS):
        if account.account_id in created and first[account.account_id] is account:
            results.append(AccountResult.OK)
        else:
            before = existing.get(account.account_id) or first[account.account_id]
            results.append(compare(before, account))
    return results


async def post_transfers(batch: Sequence[Transfer | Malformed], work: UnitOfWork) -> Evaluation:
    """Post a batch within a transaction. Locks: transfer ids, holds, then balances, each in sorted order."""
    transfers = [item for item in batch if isinstance(item, Transfer)]
    first: dict[UUID, bytes] = {}
    # Of ids that stand in the batch with several contents: of most there is one, and no set is made for it.
    several: dict[UUID, set[bytes]] = {}
    async for transfer in in_slices(transfers, SLICE_ITEMS):
        content = fingerprint(transfer)
        if first.setdefault(transfer.transfer_id, content) != content:
            several.setdefault(transfer.transfer_id, set()).add(content)
    account_ids = {t.debit_account_id for t in transfers} | {t.credit_account_id for t in transfers}
    pending_ids = {t.pending_id for t in transfers if t.kind.ends_hold and t.pending_id is not None}
    between = await store.hold_accounts(work, pending_ids) if pending_ids else {}
    account_ids = account_ids.union(*between.values()) - {""}
    claimed = await store.claim(work, first, between, account_ids)
    others = {
        transfer_id: {first[transfer_id], *several.get(transfer_id, ())}
        for transfer_id in first.keys() - claimed.transfer_ids
    }
    known = await store.read_known(work, others)
    no_holds = await _late_holds(work, claimed, pending_ids - between.keys())
    books = Books(claimed.balances, work.now, known=known, holds=claimed.holds, no_holds=no_holds)
    evaluation = await aside(len(batch), evaluate, batch, books)
    await store.settle_ids(
        work, {transfer_id: first[transfer_id] for transfer_id in claimed.transfer_ids}, evaluation
    )
    if evaluation.postings:
        accounts = evaluation.moved
        await store.insert_postings(work, evaluation.postings, claimed.batch_no)
        await store.insert_holds(work, evaluation.opened.values())
        await store.update_holds(work, evaluation.moved_holds.values())
        await store.update_balances(work, [claimed.balances[account_id] for account_id in accounts])
        work.publish(
            facts.batch_posted(evaluation.postings, claimed.batch_no, len(accounts), work.now)
        )
    _count(work, evaluation)
    return evaluation


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
        ReversalRefused: an account refuses the opposite.
    """
    view = await store.read_transfer(work, command.transfer_id)
    if view is None:
        raise NotFound("transfer", str(command.transfer_id))
    reversal = opposite(view.transfer, command.reason)
    (verdict,) = (await post_transfers([reversal], work)).verdicts
    if verdict.result is TransferResult.EXISTS or view.reversed_by_id is not None:
        raise TransferAlreadyReversed(
            f"transfer {command.transfer_id} was reversed by {reversal.transfer_id}",
            transfer_id=str(command.transfer_id),
            reversal_id=str(reversal.transfer_id),
        )
    if verdict.result is not TransferResult.OK:
        # The refusal undoes the transaction, and with it the claim of the reversal's id: it can be tried again.
        raise ReversalRefused(
            f"transfer {command.transfer_id} is not reversed: {verdict.result.name}",
            transfer_id=str(command.transfer_id),
            result=verdict.result.name,
        )
    return TransferView(reversal, work.now, work.now, None, None)


async def expire_hold(work: UnitOfWork, transfer_id: UUID) -> bool:
    """Give up what is left of a hold whose time is over; says whether it was open until now."""
    hold = (await store.lock_holds(work, {transfer_id})).get(transfer_id)
    if hold is None or hold.state is not HoldState.OPEN or not hold.is_due(work.now):
        return False
    balances = await store.lock_balances(work, {hold.debit_account_id, hold.credit_account_id})
    debit, credit = balances[hold.debit_account_id], balances[hold.credit_account_id]
    release(hold, debit, credit, hold.remaining_minor, HoldState.EXPIRED)
    await store.update_holds(work, [hold])
    await store.update_balances(work, [debit, credit])
    return True


def _count(work: UnitOfWork, evaluation: Evaluation) -> None:
    for result, count in Counter(verdict.result for verdict in evaluation.verdicts).items():
        work.count(measures.TRANSFERS, count, result=result.name.lower())
    posted: dict[str, list[int]] = defaultdict(list)
    for posting in evaluation.postings:
        if posting.legs:
            posted[posting.transfer.currency_code].append(moved(posting.transfer))
    for currency, amounts in posted.items():
        work.count(measures.ENTRIES, 2 * len(amounts), currency=currency)
        work.count(measures.POSTED, sum(amounts), currency=currency)


async def book_charge(work: UnitOfWork, charge: Charge) -> Transfer:
    """Book a charge within a transaction; returns the transfer that books it, now or before.

    Raises:
        PaymentNotBookable: its currency is unknown, or its amount is not positive; the caller must roll back.
    """
    return await _book(work, payments.book_charge(charge), charge.payment_id)


async def book_refund(
    work: UnitOfWork, charge: Charge, attempt_id: str, refunded_at: datetime | None
) -> None:
    """Book a refund within a transaction, and before it the charge that it gives back.

    Raises:
        PaymentNotBookable: as of the charge.
    """
    booked = await book_charge(work, charge)
    booking = payments.book_refund(charge, booked, attempt_id, refunded_at)
    await _book(work, booking, charge.payment_id)


async def check_payment(work: UnitOfWork, payment_id: str, kept_minor: int) -> None:
    """Compare what is booked of a finished payment with what was kept of it, and report a difference."""
    booked_minor = await store.booked_of_payment(work, payment_id)
    if booked_minor != kept_minor:
        message = f"payment {payment_id} kept {kept_minor}, but the ledger has {booked_minor} (minor units)"
        work.violation(PAYMENTS_IN_BOOKS, "CRITICAL", message, subject_id=payment_id)


async def _book(work: UnitOfWork, booking: Booking, payment_id: str) -> Transfer:
    """Post a booking once, where the books take it.

    What a processor did cannot be refused afterwards, so an account that refuses is passed over.

    Raises:
        PaymentNotBookable: no account takes it, or others have taken all of its ids.
    """
    round_no = 0
    for _ in range(BOOKING_TRIES):
        transfer_id = booking.transfer_id(round_no)
        known = (await store.read_known(work, {transfer_id: set()})).get(transfer_id)
        if known is None:
            transfer = await _placed(work, booking, transfer_id, payment_id)
            (verdict,) = (await post_transfers([transfer], work)).verdicts
            if verdict.result is TransferResult.OK:
                _tell_of_suspense(work, transfer, payment_id)
                return transfer
            # The balances are locked, so only the id can have been taken meanwhile: look at it again.
        elif known.transfer is not None and booking.is_done_by(known.transfer):
            return known.transfer
        else:
            round_no += 1
    raise payments.not_bookable(payment_id, str(transfer_id), "IDS_TAKEN")


async def _placed(
    work: UnitOfWork, booking: Booking, transfer_id: UUID, payment_id: str
) -> Transfer:
    """Find accounts that take a booking, create those that are missing and lock their balances.

    It is tried in memory first: a refusal by the posting itself would burn the id.
    """
    debits, credits = list(booking.debits), list(booking.credits)
    while debits and credits:
        debit, credit = debits[0], credits[0]
        serves = [payments.can_serve(r) for r in await create_accounts([debit, credit], work)]
        if not all(serves):
            del debits[: not serves[0]], credits[: not serves[1]]
            continue
        transfer = booking.transfer(transfer_id, debit, credit)
        balances = await store.lock_balances(work, {debit.account_id, credit.account_id})
        (verdict,) = evaluate([transfer], Books(balances, work.now)).verdicts
        if verdict.result is TransferResult.OK:
            return transfer
        at_debit = payments.debit_is_at_fault(verdict.result)
        if at_debit is None:
            raise payments.not_bookable(payment_id, str(transfer_id), verdict.result.name)
        (debits if at_debit else credits).pop(0)
    raise payments.not_bookable(payment_id, str(transfer_id), "NO_ACCOUNT_LEFT")


def _tell_of_suspense(work: UnitOfWork, transfer: Transfer, payment_id: str) -> None:
    if payments.in_suspense(transfer):
        message = (
            f"payment {payment_id} is booked from {transfer.debit_account_id} to {transfer.credit_account_id}:"
            " the account of the processor or of the payer refused it"
        )
        work.violation(PAYMENT_IN_SUSPENSE, "HIGH", message, subject_id=payment_id)


def _existing(account: AccountView | None, account_id: str) -> AccountView:
    if account is None:
        raise NotFound("account", account_id)
    return account
