"""Posting of a batch: a pure function of the batch, the locked balances and what is known of its ids.

Every decision is made here, in memory, on rows that nobody else can change meanwhile; the store then writes what
was accepted. A refusal undoes a list and raises nothing, so a batch of mixed fate costs no savepoint.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from services.ledger.domain.balance import Balance
from services.ledger.domain.holds import Hold, HoldState
from services.ledger.domain.monitors import Trail, watched
from services.ledger.domain.rules import beyond_limits, capped, closed, currencies, fits
from services.ledger.domain.scheduled import Scheduled, not_before_refusal
from services.ledger.domain.transfers import (
    BURNING,
    Kind,
    Malformed,
    Transfer,
    TransferResult,
    content_refusal,
    ending_refusal,
    fingerprint,
    first_difference,
    moved,
)
from services.runtime.money import MINOR_UNITS_MAX

_R = TransferResult


@dataclass(frozen=True, slots=True)
class StoredTransfer:
    """What is stored of a transfer_id.

    Attributes:
        fingerprint: of the content that came first.
        result: OK for a posted transfer, SCHEDULED for one that waits, else the refusal that burnt the id.
        transfer: the posted transfer, or the one that waits; may be absent when the fingerprints agree.
    """

    fingerprint: bytes
    result: TransferResult
    transfer: Transfer | None = None


class Leg(NamedTuple):
    """One entry to write: the account's next place and its debits minus credits from then on."""

    account_id: str
    seq: int
    balance_after: int


class Posting(NamedTuple):
    """An accepted transfer with its two entries, or with none where nothing was posted.

    Attributes:
        position: its place in the batch.
        transfer: with the accounts and the amount that it came to, whatever its sender had left open.
    """

    position: int
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
    """Answer to one transfer; `original` is the refusal that burnt its id, or SCHEDULED of one that waited before."""

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
        scheduled: what it accepted to be posted later.
        trail: how the accounts that monitors watch stood behind each posting.
    """

    verdicts: list[Verdict]
    postings: list[Posting] = field(default_factory=list)
    burnt: dict[UUID, StoredTransfer] = field(default_factory=dict)
    opened: dict[UUID, Hold] = field(default_factory=dict)
    moved_holds: dict[UUID, Hold] = field(default_factory=dict)
    scheduled: dict[UUID, Scheduled] = field(default_factory=dict)
    trail: Trail = field(default_factory=Trail)

    def is_as_claimed(self, fingerprints: Mapping[UUID, bytes]) -> bool:
        """True when every posting has the fingerprint that its id was claimed with."""
        return all(
            posting.fingerprint == fingerprints.get(posting.transfer.transfer_id)
            for posting in self.postings
        )

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
        prefixes: how the accounts begin that monitors watch, besides those that are monitored by name.
    """

    balances: Mapping[str, Balance]
    now: datetime
    known: Mapping[UUID, StoredTransfer] = field(default_factory=dict)
    holds: Mapping[UUID, Hold] = field(default_factory=dict)
    no_holds: Collection[UUID] = ()
    prefixes: Sequence[str] = ()
    closed_through: Mapping[str, datetime] = field(default_factory=dict)

    def effective_at(self, transfer: Transfer) -> datetime:
        """Return when a transfer takes effect: as given, or now."""
        return transfer.effective_at or self.now

    def period_closed(self, transfer: Transfer, currency_code: str) -> bool:
        """True when a transfer would take effect in a period that is closed."""
        closed_through = self.closed_through.get(currency_code)
        return closed_through is not None and self.effective_at(transfer) <= closed_through


def evaluate(
    batch: Sequence[Transfer | Malformed], books: Books, contents: Sequence[bytes] | None = None
) -> Evaluation:
    """Judge a batch in its order and move the balances and the holds of what it accepts.

    `contents` are the fingerprints of its transfers, for whoever has them already; of what is malformed any bytes.
    """
    if contents is None:
        contents = [fingerprint(i) if isinstance(i, Transfer) else b"" for i in batch]
    evaluator = _Evaluator(batch, books, contents)
    for start, stop in _chains(batch):
        if stop - start > 1 or not evaluator.post_plain(start):
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


POSTED = Verdict(_R.OK)
_WHOLE = frozenset({_R.EXISTS, _R.SCHEDULED, _R.ID_ALREADY_FAILED})


class _Evaluator:
    def __init__(
        self, batch: Sequence[Transfer | Malformed], books: Books, contents: Sequence[bytes]
    ) -> None:
        self.batch = batch
        self.contents = contents
        self.books = books
        self.balances = books.balances
        self.posted: dict[UUID, Posting] = {}
        self.trail = Trail(watched(books.balances, books.prefixes))
        self.outcome = Evaluation([Verdict(_R.LINKED_EVENT_FAILED)] * len(batch), trail=self.trail)
        # Of the chain that is being judged; a transfer alone is judged before it changes anything.
        self.journal: list[_Before] | None = None

    def post_plain(self, index: int) -> bool:
        """Post a plain transfer of a new id that no rule refuses and no limit touches; False leaves all as it is.

        Most transfers are such; `post` says the same of them, at four times the cost.
        """
        transfer = self.batch[index]
        if isinstance(transfer, Malformed) or transfer.linked or not transfer.is_plain:
            return False
        transfer_id, amount = transfer.transfer_id, moved(transfer)
        debit = self.balances.get(transfer.debit_account_id)
        credit = self.balances.get(transfer.credit_account_id)
        if (
            debit is None
            or credit is None
            or debit is credit
            or not debit.is_unbounded
            or not credit.is_unbounded
            or not debit.currency_code == credit.currency_code == transfer.currency_code
            or amount <= 0
            or debit.debits_posted + debit.debits_pending + amount > MINOR_UNITS_MAX
            or credit.credits_posted + credit.credits_pending + amount > MINOR_UNITS_MAX
            or self.books.closed_through
            or transfer_id in self.posted
            or transfer_id in self.outcome.burnt
            or transfer_id in self.outcome.scheduled
            or transfer_id in self.books.known
        ):
            return False
        self._post(index, transfer, transfer, debit, credit)
        self.outcome.verdicts[index] = POSTED
        return True

    def post(self, start: int, stop: int) -> None:
        """Post one chain whole or not at all."""
        last = self.batch[stop - 1]
        if last.linked:
            self.outcome.verdicts[stop - 1] = Verdict(_R.LINKED_EVENT_CHAIN_OPEN)
            return
        known = self._all_known(start, stop) if stop - start > 1 else None
        if known is not None:
            self.outcome.verdicts[start:stop] = known
            return
        self.journal = [] if stop - start > 1 else None
        for index in range(start, stop):
            verdict = self._post_one(index, start)
            if verdict.result is not _R.OK:
                self._fail(index, verdict, start)
                return
        result = _R.SCHEDULED if self._waits(last) else _R.OK
        self.outcome.verdicts[start:stop] = [Verdict(result)] * (stop - start)

    def _all_known(self, start: int, stop: int) -> list[Verdict] | None:
        """Say what a chain is answered that came before as a whole; None for any other.

        It is in the books, it waits, or it failed: when it was due or by cancelling, each member with its own verdict.
        """
        verdicts: list[Verdict] = []
        for index, item in enumerate(self.batch[start:stop], start):
            if isinstance(item, Malformed):
                return None
            existing = self._existing(item.transfer_id)
            if existing is None:
                return None
            verdicts.append(self._repeated(existing, index))
            result = verdicts[-1].result
            if result not in _WHOLE or result is not verdicts[0].result:
                return None
        return verdicts

    def _waits(self, item: Transfer | Malformed) -> bool:
        if isinstance(item, Malformed) or item.not_before is None:
            return False
        return item.not_before > self.books.now

    def _fail(self, index: int, verdict: Verdict, start: int) -> None:
        """Undo the chain so far, keep the refusal of its first failing member, burn that id if it must be."""
        self._undo(start)
        self.outcome.verdicts[index] = verdict
        if verdict.result in BURNING:
            transfer = self.batch[index]
            assert isinstance(transfer, Transfer)
            burnt = StoredTransfer(self.contents[index], verdict.result)
            self.outcome.burnt[transfer.transfer_id] = burnt

    def _post_one(self, index: int, start: int) -> Verdict:
        transfer = self.batch[index]
        if isinstance(transfer, Malformed):
            return Verdict(_R.INVALID_TRANSFER)
        transfer_id = transfer.transfer_id
        earlier = self.posted.get(transfer_id) or self.outcome.scheduled.get(transfer_id)
        if earlier is not None and earlier.position >= start:
            return Verdict(_R.DUPLICATE_IN_CHAIN)
        existing = self._existing(transfer_id)
        if existing is not None:
            return self._repeated(existing, index)
        first = self.batch[start]
        assert isinstance(first, Transfer), "a chain fails at its first malformed member"
        return Verdict(self._post_new(index, transfer, first))

    def _post_new(self, index: int, transfer: Transfer, first: Transfer) -> TransferResult:
        refused = not_before_refusal(transfer, first)
        if refused:
            return refused
        if self._waits(transfer):
            return self._schedule(index, transfer, first.transfer_id)
        if transfer.kind.ends_hold:
            return self._end_hold(index, transfer)
        return self._move(index, transfer)

    def _existing(self, transfer_id: UUID) -> StoredTransfer | None:
        posted = self.posted.get(transfer_id)
        if posted is not None:
            return StoredTransfer(posted.fingerprint, _R.OK, posted.transfer)
        waiting = self.outcome.scheduled.get(transfer_id)
        if waiting is not None:
            return StoredTransfer(waiting.fingerprint, _R.SCHEDULED, waiting.transfer)
        return self.outcome.burnt.get(transfer_id) or self.books.known.get(transfer_id)

    def _repeated(self, existing: StoredTransfer, index: int) -> Verdict:
        asked = self.batch[index]
        assert isinstance(asked, Transfer)
        waits = existing.result is _R.SCHEDULED
        if existing.result is not _R.OK and not waits:
            return Verdict(_R.ID_ALREADY_FAILED, existing.result)
        same = _R.SCHEDULED if waits else _R.EXISTS
        original = _R.SCHEDULED if waits else None
        if existing.fingerprint == self.contents[index]:
            return Verdict(same, original)
        assert existing.transfer is not None, (
            "the store loads the transfer when fingerprints differ"
        )
        difference = first_difference(existing.transfer, asked, waits=waits)
        return Verdict(same, original) if difference is _R.EXISTS else Verdict(difference)

    def _schedule(self, index: int, asked: Transfer, first_id: UUID) -> TransferResult:
        """Judge a transfer that waits by what will not change until it is due, and keep it."""
        refused = content_refusal(asked) or self._account_missing(asked)
        if refused is None:
            debit = self.balances[asked.debit_account_id]
            refused = currencies(asked, debit, self.balances[asked.credit_account_id])
        if refused:
            return refused
        waiting = Scheduled(index, asked, self.contents[index], first_id)
        self.outcome.scheduled[asked.transfer_id] = waiting
        return _R.OK

    def _move(self, index: int, asked: Transfer) -> TransferResult:
        """Judge a transfer that moves or holds an amount, and do it."""
        refused = content_refusal(asked) or self._account_missing(asked)
        if refused:
            return refused
        debit = self.balances[asked.debit_account_id]
        credit = self.balances[asked.credit_account_id]
        refused = fits(asked, debit, credit)
        if refused:
            return refused
        is_hold = asked.kind is Kind.PENDING
        if not is_hold and self.books.period_closed(asked, debit.currency_code):
            return _R.EFFECTIVE_AT_IN_CLOSED_PERIOD
        resolved = capped(asked, debit, credit)
        if isinstance(resolved, TransferResult):
            # Nothing moves, so no sum overflows: of the rules that come first only that of the timeout is left.
            return self._timeout_overflow(asked) or resolved
        # A hold counts from now on, whenever what is posted of it will take effect.
        since = self.books.now if is_hold else self.books.effective_at(asked)
        refused = self._overflow(resolved, debit, credit) or beyond_limits(
            resolved, debit, credit, since, self.books.now
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
            refused = closed(debit, credit)
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
        return beyond_limits(resolved, debit, credit, at, self.books.now, released_minor)

    def _hold_of(self, pending_id: UUID | None) -> Hold | TransferResult:
        assert pending_id is not None
        hold = self.outcome.opened.get(pending_id) or self.books.holds.get(pending_id)
        if hold is not None:
            return hold
        is_other = pending_id in self.posted or pending_id in self.books.no_holds
        return _R.PENDING_TRANSFER_NOT_PENDING if is_other else _R.PENDING_TRANSFER_NOT_FOUND

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
        posting = Posting(index, resolved, self.contents[index], debit, credit)
        self.outcome.postings.append(posting)
        self.posted[asked.transfer_id] = posting
        if self.trail.before:
            accounts = (resolved.debit_account_id, resolved.credit_account_id)
            self.trail.note(index, resolved.transfer_id, *accounts)

    def _remember(self, debit: Balance, credit: Balance, hold: Hold | None, *, opens: bool) -> None:
        if self.journal is not None:
            balances = ((debit, replace(debit)), (credit, replace(credit)))
            held = None if hold is None else (hold, replace(hold))
            moves_first = hold is not None and not (
                hold.transfer_id in self.outcome.opened
                or hold.transfer_id in self.outcome.moved_holds
            )
            self.journal.append(_Before(balances, held, opens, moves_first))

    def _undo(self, start: int) -> None:
        if self.journal is None:
            return  # a transfer alone is judged before it changes anything
        self.trail.undo(start)
        scheduled = self.outcome.scheduled
        while scheduled and next(reversed(scheduled.values())).position >= start:
            scheduled.popitem()
        for before in reversed(self.journal):
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


def _next_leg(balance: Balance) -> Leg:
    balance.last_seq += 1
    after = balance.debits_posted - balance.credits_posted
    return Leg(balance.account_id, balance.last_seq, after)
