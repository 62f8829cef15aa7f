"""Posting of a batch: a pure function of the batch, the locked balances and what is known of its ids.

Every decision is made here, in memory, on rows that nobody else can change meanwhile; the store then writes what
was accepted. A refusal undoes a list and raises nothing, so a batch of mixed fate costs no savepoint.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.ledger.domain.accounts import NO_LIMITS, AccountType, Flags, Limits
from services.ledger.domain.contents import content_refusal, ending_refusal
from services.ledger.domain.holds import Hold, HoldState
from services.ledger.domain.timelines import Timeline
from services.ledger.domain.transfers import (
    BURNING,
    Kind,
    Malformed,
    Transfer,
    TransferResult,
    fingerprint,
    first_difference,
    moved,
)
from services.runtime.money import MINOR_UNITS_MAX

_R = TransferResult


@dataclass(slots=True)
class Balance:
    """A locked account while its batch is judged. Sums in minor units; `last_seq` counts its entries.

    `closed` says whether it is closed now; its flags, whether it was created so. `timeline` is of an account that keeps
    its limits at every instant, and begins with the first one that its batch is about.
    """

    account_id: str
    currency_code: str
    type: AccountType
    flags: Flags
    debits_posted: int = 0
    credits_posted: int = 0
    last_seq: int = 0
    debits_pending: int = 0
    credits_pending: int = 0
    closed: bool = False
    limits: Limits = NO_LIMITS
    timeline: Timeline | None = None


@dataclass(frozen=True, slots=True)
class StoredTransfer:
    """What is stored of a transfer_id.

    Attributes:
        fingerprint: of the content that came first.
        result: OK for a posted transfer, else the refusal that burnt the id.
        transfer: the posted transfer; may be absent when the fingerprints agree.
    """

    fingerprint: bytes
    result: TransferResult
    transfer: Transfer | None = None


@dataclass(frozen=True, slots=True)
class Leg:
    """One entry to write: the account's next place and its debits minus credits from then on."""

    account_id: str
    seq: int
    balance_after: int


@dataclass(frozen=True, slots=True)
class Posting:
    """An accepted transfer with its two entries, or with none where nothing was posted.

    Attributes:
        index: its place in the batch.
        transfer: with the accounts and the amount that it came to, whatever its sender had left open.
    """

    index: int
    transfer: Transfer
    fingerprint: bytes
    debit: Leg | None
    credit: Leg | None

    @property
    def legs(self) -> tuple[Leg, ...]:
        """The entries to write."""
        return tuple(leg for leg in (self.debit, self.credit) if leg is not None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answer to one transfer; `original` is the refusal that burnt its id, if one did."""

    result: TransferResult
    original: TransferResult | None = None


@dataclass(slots=True)
class Evaluation:
    """Outcome of a batch.

    Attributes:
        verdicts: one a transfer, in their order.
        postings: what to write, in order.
        burnt: ids that this batch burns, with the fingerprint and refusal of the burning attempt.
        opened: holds that this batch made, as they stand at its end.
        moved_holds: holds of earlier batches that this one posted or voided.
        moved: accounts whose balances it changed.
    """

    verdicts: list[Verdict]
    postings: list[Posting] = field(default_factory=list)
    burnt: dict[UUID, StoredTransfer] = field(default_factory=dict)
    opened: dict[UUID, Hold] = field(default_factory=dict)
    moved_holds: dict[UUID, Hold] = field(default_factory=dict)

    @property
    def moved(self) -> set[str]:
        """The accounts whose balances were changed."""
        return {
            account_id
            for posting in self.postings
            for account_id in (
                posting.transfer.debit_account_id,
                posting.transfer.credit_account_id,
            )
        }


@dataclass(frozen=True, slots=True)
class Books:
    """What a batch is judged by: all locked, and changed by what is accepted.

    Attributes:
        balances: the accounts of the batch that exist, those of its holds among them.
        now: time of recording.
        known: what earlier batches left of its ids.
        holds: the holds that it posts or voids.
        no_holds: the transfers that it takes for holds and that are none.
        closed_through: by currency, the last instant at which nothing can take effect any more.
    """

    balances: Mapping[str, Balance]
    now: datetime
    known: Mapping[UUID, StoredTransfer] = field(default_factory=dict)
    holds: Mapping[UUID, Hold] = field(default_factory=dict)
    no_holds: Collection[UUID] = ()
    closed_through: Mapping[str, datetime] = field(default_factory=dict)

    def effective_at(self, transfer: Transfer) -> datetime:
        """Return when a transfer takes effect: as given, or now."""
        return transfer.effective_at or self.now

    def period_closed(self, transfer: Transfer, currency_code: str) -> bool:
        """True when a transfer would take effect in a period that is closed."""
        closed_through = self.closed_through.get(currency_code)
        return closed_through is not None and self.effective_at(transfer) <= closed_through


def evaluate(batch: Sequence[Transfer | Malformed], books: Books) -> Evaluation:
    """Judge a batch in its order and move the balances and the holds of what it accepts."""
    evaluator = _Evaluator(batch, books)
    for start, stop in _chains(batch):
        evaluator.post(start, stop)
    return evaluator.outcome


def _chains(batch: Sequence[Transfer | Malformed]) -> Iterator[tuple[int, int]]:
    """Cut a batch into chains, as half-open ranges; a transfer that is not linked is a chain of its own."""
    start = 0
    for index, item in enumerate(batch):
        if not item.linked or index == len(batch) - 1:
            yield start, index + 1
            start = index + 1


@dataclass(frozen=True, slots=True)
class _Before:
    """How things stood before a member of a chain was accepted.

    Attributes:
        balances, hold: what it changes, each with a copy.
        opened: it made a hold.
        moves_first: nothing of the batch had moved the hold before.
    """

    balances: tuple[tuple[Balance, Balance], ...]
    hold: tuple[Hold, Hold] | None
    opened: bool
    moves_first: bool


class _Evaluator:
    def __init__(self, batch: Sequence[Transfer | Malformed], books: Books) -> None:
        self.batch = batch
        self.books = books
        self.balances = books.balances
        self.posted: dict[UUID, Posting] = {}
        self.outcome = Evaluation([Verdict(_R.LINKED_EVENT_FAILED)] * len(batch))
        # Of the chain that is being judged; a transfer alone is judged before it changes anything.
        self.journal: list[_Before] | None = None

    def post(self, start: int, stop: int) -> None:
        """Post one chain whole or not at all."""
        last = self.batch[stop - 1]
        if last.linked:
            self.outcome.verdicts[stop - 1] = Verdict(_R.LINKED_EVENT_CHAIN_OPEN)
            return
        if stop - start > 1 and self._all_exist(start, stop):
            self.outcome.verdicts[start:stop] = [Verdict(_R.EXISTS)] * (stop - start)
            return
        self.journal = [] if stop - start > 1 else None
        for index in range(start, stop):
            verdict = self._post_one(index, start)
            if verdict.result is not _R.OK:
                self._fail(index, verdict)
                return
        self.outcome.verdicts[start:stop] = [Verdict(_R.OK)] * (stop - start)

    def _all_exist(self, start: int, stop: int) -> bool:
        for item in self.batch[start:stop]:
            if isinstance(item, Malformed):
                return False
            existing = self._existing(item.transfer_id)
            if existing is None or self._repeated(existing, item).result is not _R.EXISTS:
                return False
        return True

    def _fail(self, index: int, verdict: Verdict) -> None:
        """Undo the chain so far, keep the refusal of its first failing member, burn that id if it must be."""
        self._undo()
        self.outcome.verdicts[index] = verdict
        if verdict.result in BURNING:
            transfer = self.batch[index]
            assert isinstance(transfer, Transfer)
            burnt = StoredTransfer(fingerprint(transfer), verdict.result)
            self.outcome.burnt[transfer.transfer_id] = burnt

    def _post_one(self, index: int, start: int) -> Verdict:
        transfer = self.batch[index]
        if isinstance(transfer, Malformed):
            return Verdict(_R.INVALID_TRANSFER)
        earlier = self.posted.get(transfer.transfer_id)
        if earlier is not None and earlier.index >= start:
            return Verdict(_R.DUPLICATE_IN_CHAIN)
        existing = self._existing(transfer.transfer_id)
        if existing is not None:
            return self._repeated(existing, transfer)
        if transfer.kind.ends_hold:
            return Verdict(self._end_hold(index, transfer))
        return Verdict(self._move(index, transfer))

    def _existing(self, transfer_id: UUID) -> StoredTransfer | None:
        posted = self.posted.get(transfer_id)
        if posted is not None:
            return StoredTransfer(posted.fingerprint, _R.OK, posted.transfer)
        return self.outcome.burnt.get(transfer_id) or self.books.known.get(transfer_id)

    @staticmethod
    def _repeated(existing: StoredTransfer, asked: Transfer) -> Verdict:
        if existing.result is not _R.OK:
            return Verdict(_R.ID_ALREADY_FAILED, existing.result)
        if existing.fingerprint == fingerprint(asked):
            return Verdict(_R.EXISTS)
        assert existing.transfer is not None, (
            "the store loads the transfer when fingerprints differ"
        )
        return Verdict(first_difference(existing.transfer, asked))

    def _move(self, index: int, asked: Transfer) -> TransferResult:
        """Judge a transfer that moves or holds an amount, and do it."""
        refused = content_refusal(asked) or self._account_missing(asked)
        if refused:
            return refused
        debit = self.balances[asked.debit_account_id]
        credit = self.balances[asked.credit_account_id]
        refused = _fits(asked, debit, credit)
        if refused:
            return refused
        is_hold = asked.kind is Kind.PENDING
        if not is_hold and self.books.period_closed(asked, debit.currency_code):
            return _R.EFFECTIVE_AT_IN_CLOSED_PERIOD
        resolved = _capped(asked, debit, credit)
        if isinstance(resolved, TransferResult):
            # Nothing moves, so no sum overflows: of the rules that come first only that of the timeout is left.
            return self._timeout_overflow(asked) or resolved
        # A hold counts from now on, whenever what is posted of it will take effect.
        since = self.books.now if is_hold else self.books.effective_at(asked)
        refused = self._overflow(resolved, debit, credit) or self._beyond_limits(
            resolved, debit, credit, since
        )
        if refused:
            return refused
        self._remember(debit, credit, None, opens=is_hold)
        if is_hold:
            self._hold(index, asked, resolved, debit, credit)
        else:
            self._post(index, asked, resolved, debit, credit)
        return _R.OK

    def _account_missing(self, transfer: Transfer) -> TransferResult | None:
        if transfer.debit_account_id not in self.balances:
            return _R.DEBIT_ACCOUNT_NOT_FOUND
        if transfer.credit_account_id not in self.balances:
            return _R.CREDIT_ACCOUNT_NOT_FOUND
        return None

    def _post(
        self, index: int, asked: Transfer, resolved: Transfer, debit: Balance, credit: Balance
    ) -> None:
        amount, at = moved(resolved), self.books.effective_at(resolved)
        debit.debits_posted += amount
        credit.credits_posted += amount
        if debit.timeline is not None:
            debit.timeline = debit.timeline.moved(at, amount)
        if credit.timeline is not None:
            credit.timeline = credit.timeline.moved(at, -amount)
        self._accept(index, asked, resolved, _next_leg(debit), _next_leg(credit))

    def _hold(
        self, index: int, asked: Transfer, resolved: Transfer, debit: Balance, credit: Balance
    ) -> None:
        amount, flags = moved(resolved), asked.flags
        debit.debits_pending += amount
        credit.credits_pending += amount
        debit.closed |= flags.closing_debit
        credit.closed |= flags.closing_credit
        timeout = timedelta(milliseconds=asked.timeout_ms)
        self.outcome.opened[asked.transfer_id] = Hold(
            transfer_id=asked.transfer_id,
            debit_account_id=debit.account_id,
            credit_account_id=credit.account_id,
            currency_code=debit.currency_code,
            code=asked.code,
            amount_minor=amount,
            remaining_minor=amount,
            expires_at=self.books.now + timeout if asked.timeout_ms else None,
            closing_debit=flags.closing_debit,
            closing_credit=flags.closing_credit,
            multi_capture=flags.multi_capture,
        )
        self._accept(index, asked, resolved, None, None)

    def _end_hold(self, index: int, asked: Transfer) -> TransferResult:
        """Judge a transfer that posts or voids a hold, and do it.

        Limits were kept when the hold was made; at instants before now it did not stand yet.
        """
        hold = ending_refusal(asked) or self._hold_of(asked.pending_id)
        if isinstance(hold, TransferResult):
            return hold
        debit = self.balances[hold.debit_account_id]
        credit = self.balances[hold.credit_account_id]
        is_void = asked.kind.voids_hold
        refused = hold.refusal(asked, self.books.now)
        if refused is None and not is_void:
            refused = _closed(debit, credit)
        if refused is not None:
            return refused
        resolved = hold.ending(asked)
        released = moved(resolved) if hold.multi_capture else hold.remaining_minor
        refused = None if is_void else self._unpostable(resolved, debit, credit, released)
        if refused is not None:
            return refused
        self._remember(debit, credit, hold, opens=False)
        release(hold, debit, credit, released, HoldState.VOIDED if is_void else HoldState.POSTED)
        if hold.transfer_id not in self.outcome.opened:
            self.outcome.moved_holds[hold.transfer_id] = hold
        if is_void:
            self._accept(index, asked, resolved, None, None)
        else:
            self._post(index, asked, resolved, debit, credit)
        return _R.OK

    def _unpostable(
        self, resolved: Transfer, debit: Balance, credit: Balance, released_minor: int
    ) -> TransferResult | None:
        """Judge what is posted of a hold by when it takes effect."""
        if self.books.period_closed(resolved, debit.currency_code):
            return _R.EFFECTIVE_AT_IN_CLOSED_PERIOD
        if debit.timeline is None and credit.timeline is None:
            return None
        at = self.books.effective_at(resolved)
        return self._beyond_limits(resolved, debit, credit, at, released_minor)

    def _hold_of(self, pending_id: UUID | None) -> Hold | TransferResult:
        assert pending_id is not None
        hold = self.outcome.opened.get(pending_id) or self.books.holds.get(pending_id)
        if hold is not None:
            return hold
        is_other = pending_id in self.posted or pending_id in self.books.no_holds
        return _R.PENDING_TRANSFER_NOT_PENDING if is_other else _R.PENDING_TRANSFER_NOT_FOUND

    def _beyond_limits(
        self,
        transfer: Transfer,
        debit: Balance,
        credit: Balance,
        since: datetime,
        released_minor: int = 0,
    ) -> TransferResult | None:
        """Judge by the limits of both accounts; holds count as if they were posted where that is the worse case.

        Args:
            since: from when on the amount counts, for an account that keeps its limits at every instant.
            released_minor: what the transfer itself takes out of a hold.
        """
        amount, now = moved(transfer), self.books.now
        most = amount + _highest(debit, since, now, debit.debits_pending - released_minor)
        least = _lowest(credit, since, now, credit.credits_pending - released_minor) - amount
        if debit.flags.debits_must_not_exceed_credits and most > 0:
            return _R.EXCEEDS_CREDITS
        if credit.flags.credits_must_not_exceed_debits and least < 0:
            return _R.EXCEEDS_DEBITS
        rises = debit.type.grows_by_debit
        if debit.limits is not NO_LIMITS and not _within(debit.limits, most, rises=rises):
            return _R.DEBIT_ACCOUNT_ABOVE_CEILING if rises else _R.DEBIT_ACCOUNT_BELOW_FLOOR
        rises = not credit.type.grows_by_debit
        if credit.limits is not NO_LIMITS and not _within(credit.limits, -least, rises=rises):
            return _R.CREDIT_ACCOUNT_ABOVE_CEILING if rises else _R.CREDIT_ACCOUNT_BELOW_FLOOR
        return None

    def _overflow(
        self, transfer: Transfer, debit: Balance, credit: Balance
    ) -> TransferResult | None:
        amount = moved(transfer)
        if transfer.kind is Kind.PENDING:
            if debit.debits_pending + amount > MINOR_UNITS_MAX:
                return _R.OVERFLOWS_DEBITS_PENDING
            if credit.credits_pending + amount > MINOR_UNITS_MAX:
                return _R.OVERFLOWS_CREDITS_PENDING
        if debit.debits_posted + debit.debits_pending + amount > MINOR_UNITS_MAX:
            return _R.OVERFLOWS_DEBITS
        if credit.credits_posted + credit.credits_pending + amount > MINOR_UNITS_MAX:
            return _R.OVERFLOWS_CREDITS
        return self._timeout_overflow(transfer)

    def _timeout_overflow(self, transfer: Transfer) -> TransferResult | None:
        if transfer.timeout_ms:
            left = datetime.max.replace(tzinfo=UTC) - self.books.now
            if transfer.timeout_ms > left // timedelta(milliseconds=1):
                return _R.OVERFLOWS_TIMEOUT
        return None

    def _accept(
        self,
        index: int,
        asked: Transfer,
        resolved: Transfer,
        debit: Leg | None,
        credit: Leg | None,
    ) -> None:
        posting = Posting(index, resolved, fingerprint(asked), debit, credit)
        self.outcome.postings.append(posting)
        self.posted[asked.transfer_id] = posting

    def _remember(self, debit: Balance, credit: Balance, hold: Hold | None, *, opens: bool) -> None:
        if self.journal is not None:
            balances = ((debit, replace(debit)), (credit, replace(credit)))
            held = None if hold is None else (hold, replace(hold))
            moves_first = hold is not None and not (
                hold.transfer_id in self.outcome.opened
                or hold.transfer_id in self.outcome.moved_holds
            )
            self.journal.append(_Before(balances, held, opens, moves_first))

    def _undo(self) -> None:
        for before in reversed(self.journal or ()):
            posting = self.outcome.postings.pop()
            transfer_id = posting.transfer.transfer_id
            del self.posted[transfer_id]
            for balance, stood in before.balances:
                _restore(balance, stood)
            if before.hold is not None:
                _restore(*before.hold)
                if before.moves_first:
                    del self.outcome.moved_holds[before.hold[0].transfer_id]
            if before.opened:
                del self.outcome.opened[transfer_id]
        self.journal = None


def release(
    hold: Hold, debit: Balance, credit: Balance, amount_minor: int, ended: HoldState
) -> None:
    """Take an amount out of a hold and off the pending sums; once nothing is left it has ended, in this state."""
    debit.debits_pending -= amount_minor
    credit.credits_pending -= amount_minor
    hold.remaining_minor -= amount_minor
    if hold.remaining_minor == 0:
        hold.state = ended
    if ended is not HoldState.POSTED:
        debit.closed &= not hold.closing_debit
        credit.closed &= not hold.closing_credit


def _restore(item: Balance | Hold, stood: Balance | Hold) -> None:
    for name in type(item).__dataclass_fields__:
        setattr(item, name, getattr(stood, name))


def _fits(transfer: Transfer, debit: Balance, credit: Balance) -> TransferResult | None:
    if debit.currency_code != credit.currency_code:
        return _R.ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY
    if transfer.amount_minor is not None and transfer.currency_code != debit.currency_code:
        return _R.AMOUNT_MUST_HAVE_THE_CURRENCY_OF_THE_ACCOUNTS
    return _closed(debit, credit)


def _closed(debit: Balance, credit: Balance) -> TransferResult | None:
    if debit.closed:
        return _R.DEBIT_ACCOUNT_CLOSED
    return _R.CREDIT_ACCOUNT_CLOSED if credit.closed else None


def _capped(transfer: Transfer, debit: Balance, credit: Balance) -> Transfer | TransferResult:
    """Return a transfer with the amount that it comes to, or why nothing can move."""
    flags = transfer.flags
    if not flags.is_balancing:
        return transfer
    amount = MINOR_UNITS_MAX if transfer.amount_minor is None else transfer.amount_minor
    # What closes an account may be of nothing, as when the account is even.
    closes = transfer.kind is Kind.PENDING and flags.is_closing
    if flags.balancing_debit:
        left = debit.credits_posted - debit.debits_posted - debit.debits_pending
        amount = max(min(amount, left), 0)
        if amount == 0 and not closes:
            return _R.EXCEEDS_CREDITS
    if flags.balancing_credit:
        left = credit.debits_posted - credit.credits_posted - credit.credits_pending
        amount = max(min(amount, left), 0)
        if amount == 0 and not closes:
            return _R.EXCEEDS_DEBITS
    return replace(
        transfer,
        amount_minor=amount,
        currency_code=debit.currency_code,
        asked_all=transfer.amount_minor is None,
    )


def _highest(balance: Balance, since: datetime, now: datetime, held_minor: int) -> int:
    """Return the most that debits exceed credits, so many held ones counted; from an instant on if that matters."""
    if balance.timeline is not None:
        return balance.timeline.highest(since, now, held_minor)
    return balance.debits_posted - balance.credits_posted + held_minor


def _lowest(balance: Balance, since: datetime, now: datetime, held_minor: int) -> int:
    """Return the least that debits exceed credits, so many held credits counted."""
    if balance.timeline is not None:
        return balance.timeline.lowest(since, now, held_minor)
    return balance.debits_posted - balance.credits_posted - held_minor


def _within(limits: Limits, net: int, *, rises: bool) -> bool:
    """True where a balance that moved towards one of its limits keeps it; `net` is counted in that direction."""
    if rises:
        return limits.ceiling_minor is None or net <= limits.ceiling_minor
    return limits.floor_minor is None or -net >= limits.floor_minor


def _next_leg(balance: Balance) -> Leg:
    balance.last_seq += 1
    after = balance.debits_posted - balance.credits_posted
    return Leg(balance.account_id, balance.last_seq, after)
