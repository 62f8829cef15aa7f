"""Posting of a batch: a pure function of the batch, the locked balances and what is known of its ids.

Every decision is made here, in memory, on rows that nobody else can change meanwhile; the store then writes what
was accepted. A refusal undoes a list and raises nothing, so a batch of mixed fate costs no savepoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from services.ledger.domain.accounts import AccountType, Flags
from services.ledger.domain.transfers import (
    BURNING,
    Malformed,
    Transfer,
    TransferResult,
    fingerprint,
    first_difference,
)
from services.runtime.money import MINOR_UNITS_MAX

_R = TransferResult


@dataclass(slots=True)
class Balance:
    """A locked account while its batch is judged. Sums in minor units; `last_seq` counts its entries."""

    account_id: str
    currency_code: str
    type: AccountType
    flags: Flags
    debits_posted: int = 0
    credits_posted: int = 0
    last_seq: int = 0


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
    """An accepted transfer with its two entries; `index` is its place in the batch."""

    index: int
    transfer: Transfer
    fingerprint: bytes
    debit: Leg
    credit: Leg


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
    """

    verdicts: list[Verdict]
    postings: list[Posting] = field(default_factory=list)
    burnt: dict[UUID, StoredTransfer] = field(default_factory=dict)


def evaluate(
    batch: Sequence[Transfer | Malformed],
    balances: Mapping[str, Balance],
    known: Mapping[UUID, StoredTransfer],
) -> Evaluation:
    """Judge a batch in its order and move the balances of what it accepts.

    `balances` holds the accounts of the batch that exist, and is changed; `known` what earlier batches left of its ids.
    """
    evaluator = _Evaluator(batch, balances, known)
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


class _Evaluator:
    def __init__(
        self,
        batch: Sequence[Transfer | Malformed],
        balances: Mapping[str, Balance],
        known: Mapping[UUID, StoredTransfer],
    ) -> None:
        self.batch = batch
        self.balances = balances
        self.known = known
        self.posted: dict[UUID, Posting] = {}
        self.outcome = Evaluation([Verdict(_R.LINKED_EVENT_FAILED)] * len(batch))

    def post(self, start: int, stop: int) -> None:
        """Post one chain whole or not at all."""
        last = self.batch[stop - 1]
        if last.linked:
            self.outcome.verdicts[stop - 1] = Verdict(_R.LINKED_EVENT_CHAIN_OPEN)
            return
        if stop - start > 1 and self._all_exist(start, stop):
            self.outcome.verdicts[start:stop] = [Verdict(_R.EXISTS)] * (stop - start)
            return
        mark = len(self.outcome.postings)
        for index in range(start, stop):
            verdict = self._post_one(index, start)
            if verdict.result is not _R.OK:
                self._fail(index, mark, verdict)
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

    def _fail(self, index: int, mark: int, verdict: Verdict) -> None:
        """Undo the chain so far, keep the refusal of its first failing member, burn that id if it must be."""
        self._undo(mark)
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
        result = self._judge(transfer)
        if result is _R.OK:
            self._apply(index, transfer)
        return Verdict(result)

    def _existing(self, transfer_id: UUID) -> StoredTransfer | None:
        posted = self.posted.get(transfer_id)
        if posted is not None:
            return StoredTransfer(posted.fingerprint, _R.OK, posted.transfer)
        return self.outcome.burnt.get(transfer_id) or self.known.get(transfer_id)

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

    def _judge(self, transfer: Transfer) -> TransferResult:
        if transfer.debit_account_id == transfer.credit_account_id:
            return _R.ACCOUNTS_MUST_BE_DIFFERENT
        if transfer.amount_minor <= 0:
            return _R.AMOUNT_MUST_BE_POSITIVE
        debit = self.balances.get(transfer.debit_account_id)
        credit = self.balances.get(transfer.credit_account_id)
        if debit is None:
            return _R.DEBIT_ACCOUNT_NOT_FOUND
        if credit is None:
            return _R.CREDIT_ACCOUNT_NOT_FOUND
        return _fits(transfer, debit, credit) or _within_limits(transfer, debit, credit)

    def _apply(self, index: int, transfer: Transfer) -> None:
        debit = self.balances[transfer.debit_account_id]
        credit = self.balances[transfer.credit_account_id]
        debit.debits_posted += transfer.amount_minor
        credit.credits_posted += transfer.amount_minor
        posting = Posting(
            index, transfer, fingerprint(transfer), _next_leg(debit), _next_leg(credit)
        )
        self.outcome.postings.append(posting)
        self.posted[transfer.transfer_id] = posting

    def _undo(self, mark: int) -> None:
        for posting in reversed(self.outcome.postings[mark:]):
            transfer = posting.transfer
            debit = self.balances[transfer.debit_account_id]
            credit = self.balances[transfer.credit_account_id]
            debit.debits_posted -= transfer.amount_minor
            credit.credits_posted -= transfer.amount_minor
            debit.last_seq -= 1
            credit.last_seq -= 1
            del self.posted[transfer.transfer_id]
        del self.outcome.postings[mark:]


def _fits(transfer: Transfer, debit: Balance, credit: Balance) -> TransferResult | None:
    if debit.currency_code != credit.currency_code:
        return _R.ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY
    if transfer.currency_code != debit.currency_code:
        return _R.AMOUNT_MUST_HAVE_THE_CURRENCY_OF_THE_ACCOUNTS
    if debit.flags.closed:
        return _R.DEBIT_ACCOUNT_CLOSED
    if credit.flags.closed:
        return _R.CREDIT_ACCOUNT_CLOSED
    return None


def _within_limits(transfer: Transfer, debit: Balance, credit: Balance) -> TransferResult:
    debits = debit.debits_posted + transfer.amount_minor
    credits = credit.credits_posted + transfer.amount_minor
    if debits > MINOR_UNITS_MAX:
        return _R.OVERFLOWS_DEBITS
    if credits > MINOR_UNITS_MAX:
        return _R.OVERFLOWS_CREDITS
    if debit.flags.debits_must_not_exceed_credits and debits > debit.credits_posted:
        return _R.EXCEEDS_CREDITS
    if credit.flags.credits_must_not_exceed_debits and credits > credit.debits_posted:
        return _R.EXCEEDS_DEBITS
    return _R.OK


def _next_leg(balance: Balance) -> Leg:
    balance.last_seq += 1
    after = balance.debits_posted - balance.credits_posted
    return Leg(balance.account_id, balance.last_seq, after)
