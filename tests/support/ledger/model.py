"""The posting rules of the ledger on plain dictionaries: what the product's posting is measured against.

Written from the contract (payments.ledger.v1) and the two-phase rules that it follows. One transfer at a time, a chain
by copying everything, each rule as a sentence, nothing remembered that can be added up again: slow, and short enough
to be checked by reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.ledger.domain.accounts import AccountType, Flags, Limits
from services.ledger.domain.holds import HoldState
from services.ledger.domain.transfers import (
    Kind,
    Malformed,
    Transfer,
    TransferFlags,
    TransferResult,
)

R = TransferResult
MAX = 2**63 - 1
END_OF_TIME = datetime.max.replace(tzinfo=UTC)

# "Burns the id" in the contract.
BURNS = {
    R.PENDING_TRANSFER_NOT_FOUND,
    R.DEBIT_ACCOUNT_NOT_FOUND,
    R.CREDIT_ACCOUNT_NOT_FOUND,
    R.DEBIT_ACCOUNT_CLOSED,
    R.CREDIT_ACCOUNT_CLOSED,
    R.EFFECTIVE_AT_IN_CLOSED_PERIOD,
    R.EXCEEDS_CREDITS,
    R.EXCEEDS_DEBITS,
    R.DEBIT_ACCOUNT_BELOW_FLOOR,
    R.DEBIT_ACCOUNT_ABOVE_CEILING,
    R.CREDIT_ACCOUNT_BELOW_FLOOR,
    R.CREDIT_ACCOUNT_ABOVE_CEILING,
}

# A verdict, and the refusal that burnt the id where the verdict is ID_ALREADY_FAILED; SCHEDULED of one that waited.
Answer = tuple[TransferResult, TransferResult | None]


@dataclass
class Account:
    """An account: what is posted to it, in minor units; what is held is added up from the holds.

    `moves` says when each debit (more than zero) and each credit takes effect.
    """

    currency: str
    type: AccountType
    flags: Flags
    limits: Limits
    debits: int = 0
    credits: int = 0
    balances_after: tuple[int, ...] = ()
    moves: tuple[tuple[datetime, int], ...] = ()


@dataclass
class Held:
    """A hold. Amounts in minor units; `left` is 0 once it has ended."""

    debit: str
    credit: str
    currency: str
    code: int
    amount: int
    left: int
    expires_at: datetime | None = None
    closes: frozenset[str] = frozenset()
    in_parts: bool = False
    state: HoldState = HoldState.OPEN


@dataclass(frozen=True)
class Done:
    """A transfer in the books: as it was sent, and what it came to."""

    asked: Transfer
    debit: str
    credit: str
    currency: str
    amount: int
    code: int


@dataclass(frozen=True)
class Waiting:
    """A transfer that posts itself later, as it was sent, and the first of its chain."""

    asked: Transfer
    first: UUID


@dataclass
class Model:
    """Books as dictionaries, by account_id and transfer_id."""

    accounts: dict[str, Account]
    now: datetime
    done: dict[UUID, Done] = field(default_factory=dict)
    burnt: dict[UUID, TransferResult] = field(default_factory=dict)
    held: dict[UUID, Held] = field(default_factory=dict)
    waiting: dict[UUID, Waiting] = field(default_factory=dict)
    closed_through: dict[str, datetime] = field(default_factory=dict)

    # Batches and chains.

    def post(self, batch: Sequence[Transfer | Malformed]) -> list[Answer]:
        """Post a batch; one answer a transfer."""
        answers: list[Answer] = []
        chain: list[Transfer | Malformed] = []
        for item in batch:
            chain.append(item)
            if not item.linked:
                answers += self._post_chain(chain)
                chain = []
        if chain:
            answers += [(R.LINKED_EVENT_FAILED, None)] * len(chain)
            answers[-1] = (R.LINKED_EVENT_CHAIN_OPEN, None)
        return answers

    def expire(self) -> None:
        """Give up the holds whose time is over."""
        for held in self.held.values():
            if held.state is HoldState.OPEN and self._is_due(held):
                held.left, held.state = 0, HoldState.EXPIRED

    def post_due(self, first: UUID) -> list[Answer]:
        """Post the chain of a scheduled transfer as if it were sent now; a refusal is kept, whatever it is."""
        chain = self._chain_of(first)
        for transfer in chain:
            del self.waiting[transfer.transfer_id]
        answers = self.post(chain)
        for transfer, (answer, _) in zip(chain, answers, strict=True):
            if answer is not R.OK:
                self.burnt[transfer.transfer_id] = answer
        return answers

    def cancel(self, transfer_id: UUID) -> None:
        """Take the chain of a scheduled transfer back; its ids stay used."""
        for transfer in self._chain_of(self.waiting[transfer_id].first):
            del self.waiting[transfer.transfer_id]
            self.burnt[transfer.transfer_id] = R.CANCELLED

    def _chain_of(self, first: UUID) -> list[Transfer]:
        return [waiting.asked for waiting in self.waiting.values() if waiting.first == first]

    def _post_chain(self, chain: list[Transfer | Malformed]) -> list[Answer]:
        repeats = [self._repeated(item) for item in chain if isinstance(item, Transfer)]
        for known, original in ((R.EXISTS, None), (R.SCHEDULED, R.SCHEDULED)):
            if repeats == [known] * len(chain):
                return [(known, original)] * len(chain)
        if repeats == [R.ID_ALREADY_FAILED] * len(chain):
            return [
                (R.ID_ALREADY_FAILED, self.burnt[item.transfer_id])
                for item in chain
                if isinstance(item, Transfer)
            ]
        copied = self._copy()
        for index, item in enumerate(chain):
            earlier = {t.transfer_id for t in chain[:index] if isinstance(t, Transfer)}
            answer = self._post_one(item, earlier, chain[0])
            if answer is not R.OK:
                self.__dict__.update(copied.__dict__)
                return self._failed(chain, index, answer)
        waits = isinstance(chain[0], Transfer) and chain[0].transfer_id in self.waiting
        return [(R.SCHEDULED if waits else R.OK, None)] * len(chain)

    def _failed(
        self, chain: list[Transfer | Malformed], index: int, answer: TransferResult
    ) -> list[Answer]:
        item, original = chain[index], None
        if isinstance(item, Transfer):
            original = self.burnt.get(item.transfer_id) if answer is R.ID_ALREADY_FAILED else None
            original = answer if answer is R.SCHEDULED else original
            if answer in BURNS:
                self.burnt[item.transfer_id] = answer
        answers: list[Answer] = [(R.LINKED_EVENT_FAILED, None)] * len(chain)
        answers[index] = (answer, original)
        return answers

    def _copy(self) -> Model:
        accounts = {name: replace(account) for name, account in self.accounts.items()}
        held = {name: replace(hold) for name, hold in self.held.items()}
        return replace(
            self,
            accounts=accounts,
            held=held,
            done=dict(self.done),
            burnt=dict(self.burnt),
            waiting=dict(self.waiting),
        )

    # One transfer.

    def _post_one(
        self, item: Transfer | Malformed, earlier: set[UUID], first: Transfer | Malformed
    ) -> TransferResult:
        if isinstance(item, Malformed):
            return R.INVALID_TRANSFER
        if item.transfer_id in earlier:
            return R.DUPLICATE_IN_CHAIN
        assert isinstance(first, Transfer), "a chain fails at its first malformed member"
        refusal = self._repeated(item) or next(self.broken(item, first), None)
        if refusal is not None:
            return refusal
        if self._waits(item):
            self.waiting[item.transfer_id] = Waiting(item, first.transfer_id)
        elif item.kind in (Kind.POST_PENDING, Kind.VOID_PENDING):
            self._end(item)
        else:
            self._move(item)
        return R.OK

    def _repeated(self, again: Transfer) -> TransferResult | None:
        """An id that was seen before answers for what came first. What is left open differs from nothing."""
        if again.transfer_id in self.burnt:
            return R.ID_ALREADY_FAILED
        if again.transfer_id in self.waiting:
            return self._repeated_early(again)
        if again.transfer_id not in self.done:
            return None
        done = self.done[again.transfer_id]
        first = done.asked
        ends_hold = again.kind in (Kind.POST_PENDING, Kind.VOID_PENDING)
        debits = {done.debit, ""} if ends_hold else {done.debit}
        credits = {done.credit, ""} if ends_hold else {done.credit}
        codes = {done.code, 0} if ends_hold else {done.code}
        same = {
            R.EXISTS_WITH_DIFFERENT_LINKED: again.linked == first.linked,
            R.EXISTS_WITH_DIFFERENT_KIND: again.kind == first.kind,
            R.EXISTS_WITH_DIFFERENT_FLAGS: again.flags == first.flags,
            R.EXISTS_WITH_DIFFERENT_PENDING_ID: again.pending_id == first.pending_id,
            R.EXISTS_WITH_DIFFERENT_TIMEOUT: again.timeout_ms == first.timeout_ms,
            R.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID: again.debit_account_id in debits,
            R.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID: again.credit_account_id in credits,
            R.EXISTS_WITH_DIFFERENT_AMOUNT: self._same_amount(done, again),
            R.EXISTS_WITH_DIFFERENT_CODE: again.code in codes,
            R.EXISTS_WITH_DIFFERENT_METADATA: again.metadata == first.metadata,
            R.EXISTS_WITH_DIFFERENT_EFFECTIVE_AT: again.effective_at == first.effective_at,
            R.EXISTS_WITH_DIFFERENT_NOT_BEFORE: again.not_before == first.not_before,
            R.EXISTS_WITH_DIFFERENT_REFERENCE: again.reference == first.reference,
        }
        return next((result for result, is_same in same.items() if not is_same), R.EXISTS)

    def _repeated_early(self, again: Transfer) -> TransferResult:
        """Nothing has come of what waits: any other content is another."""
        first = self.waiting[again.transfer_id].asked
        same = {
            R.EXISTS_WITH_DIFFERENT_LINKED: again.linked == first.linked,
            R.EXISTS_WITH_DIFFERENT_KIND: again.kind == first.kind,
            R.EXISTS_WITH_DIFFERENT_FLAGS: again.flags == first.flags,
            R.EXISTS_WITH_DIFFERENT_PENDING_ID: again.pending_id == first.pending_id,
            R.EXISTS_WITH_DIFFERENT_TIMEOUT: again.timeout_ms == first.timeout_ms,
            R.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID: again.debit_account_id
            in self._left_open(again, first.debit_account_id),
            R.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID: again.credit_account_id
            in self._left_open(again, first.credit_account_id),
            R.EXISTS_WITH_DIFFERENT_AMOUNT: (again.amount_minor, again.currency_code)
            == (first.amount_minor, first.currency_code),
            R.EXISTS_WITH_DIFFERENT_CODE: again.code == first.code,
            R.EXISTS_WITH_DIFFERENT_METADATA: again.metadata == first.metadata,
            R.EXISTS_WITH_DIFFERENT_EFFECTIVE_AT: again.effective_at == first.effective_at,
            R.EXISTS_WITH_DIFFERENT_NOT_BEFORE: again.not_before == first.not_before,
            R.EXISTS_WITH_DIFFERENT_REFERENCE: again.reference == first.reference,
        }
        return next((result for result, is_same in same.items() if not is_same), R.SCHEDULED)

    @staticmethod
    def _left_open(again: Transfer, first: str) -> set[str]:
        return {first, ""} if again.kind in (Kind.POST_PENDING, Kind.VOID_PENDING) else {first}

    @staticmethod
    def _same_amount(done: Done, again: Transfer) -> bool:
        """What was sent; of a balancing transfer, whatever allows what moved."""
        if again.flags.balancing_debit or again.flags.balancing_credit:
            return again.amount_minor is None or (
                again.currency_code == done.currency and again.amount_minor >= done.amount
            )
        first = done.asked
        return (again.amount_minor, again.currency_code) == (
            first.amount_minor,
            first.currency_code,
        )

    def broken(self, asked: Transfer, first: Transfer | None = None) -> Iterator[TransferResult]:
        """Every rule that a transfer with a new id breaks, in order of precedence, as far as they can be judged.

        `first` is that of its chain. Of what waits, the state of its accounts is judged when it is due.
        """
        if asked.not_before is not None and asked.kind is not Kind.POSTED:
            yield R.NOT_BEFORE_RESERVED_FOR_POSTED_TRANSFER
        if first is not None and asked.not_before != first.not_before:
            yield R.LINKED_EVENT_HAS_DIFFERENT_NOT_BEFORE
        if self._waits(asked):
            yield from self._broken_by_content(asked)
            yield from self._broken_by_names(asked)
        elif asked.kind in (Kind.POST_PENDING, Kind.VOID_PENDING):
            yield from self._broken_by_end(asked)
        else:
            yield from self._broken_by_content(asked)
            yield from self._broken_by_accounts(asked)

    def _broken_by_content(self, asked: Transfer) -> Iterator[TransferResult]:
        is_hold, flags, amount = asked.kind is Kind.PENDING, asked.flags, asked.amount_minor
        closes = flags.closing_debit or flags.closing_credit
        if flags.multi_capture and not is_hold:
            yield R.FLAGS_ARE_MUTUALLY_EXCLUSIVE
        if asked.timeout_ms and not is_hold:
            yield R.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER
        if asked.debit_account_id == asked.credit_account_id:
            yield R.ACCOUNTS_MUST_BE_DIFFERENT
        if asked.pending_id is not None:
            yield R.PENDING_ID_MUST_BE_ZERO
        if closes and not is_hold:
            yield R.CLOSING_TRANSFER_MUST_BE_PENDING
        if amount is not None and (amount < 0 or (amount == 0 and not (is_hold and closes))):
            yield R.AMOUNT_MUST_BE_POSITIVE

    def _waits(self, asked: Transfer) -> bool:
        return asked.not_before is not None and asked.not_before > self.now

    def _broken_by_names(self, asked: Transfer) -> Iterator[TransferResult]:
        debit = self.accounts.get(asked.debit_account_id)
        credit = self.accounts.get(asked.credit_account_id)
        if debit is None:
            yield R.DEBIT_ACCOUNT_NOT_FOUND
        if credit is None:
            yield R.CREDIT_ACCOUNT_NOT_FOUND
        if debit is None or credit is None:
            return
        if debit.currency != credit.currency:
            yield R.ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY
        if asked.amount_minor is not None and asked.currency_code != debit.currency:
            yield R.AMOUNT_MUST_HAVE_THE_CURRENCY_OF_THE_ACCOUNTS

    def _broken_by_accounts(self, asked: Transfer) -> Iterator[TransferResult]:
        yield from self._broken_by_names(asked)
        if not {asked.debit_account_id, asked.credit_account_id} <= self.accounts.keys():
            return
        yield from self._closed(asked.debit_account_id, asked.credit_account_id)
        if asked.kind is Kind.POSTED:
            currency = self.accounts[asked.debit_account_id].currency
            yield from self._closed_period(asked, currency)
        amount = self._amount(asked)
        if amount > 0 or not (asked.flags.balancing_debit or asked.flags.balancing_credit):
            yield from self._overflowed(asked, amount)
        if timedelta(milliseconds=asked.timeout_ms) > END_OF_TIME - self.now:
            yield R.OVERFLOWS_TIMEOUT
        yield from self._unbalanced(asked)
        since = self.now if asked.kind is Kind.PENDING else asked.effective_at or self.now
        held = self._both_held(asked)
        yield from self._beyond_limits(
            asked.debit_account_id, asked.credit_account_id, amount, since, held
        )

    def _overflowed(self, asked: Transfer, amount: int) -> Iterator[TransferResult]:
        debit = self.accounts[asked.debit_account_id]
        credit = self.accounts[asked.credit_account_id]
        held_debits, held_credits = self._both_held(asked)
        if asked.kind is Kind.PENDING and held_debits + amount > MAX:
            yield R.OVERFLOWS_DEBITS_PENDING
        if asked.kind is Kind.PENDING and held_credits + amount > MAX:
            yield R.OVERFLOWS_CREDITS_PENDING
        if debit.debits + held_debits + amount > MAX:
            yield R.OVERFLOWS_DEBITS
        if credit.credits + held_credits + amount > MAX:
            yield R.OVERFLOWS_CREDITS

    def _unbalanced(self, asked: Transfer) -> Iterator[TransferResult]:
        if _closes(asked):
            return  # what closes an account may be of nothing
        cap, debit_room, credit_room = self._rooms(asked)
        if asked.flags.balancing_debit and min(cap, debit_room) <= 0:
            yield R.EXCEEDS_CREDITS
        if asked.flags.balancing_credit and min(cap, credit_room) <= 0:
            yield R.EXCEEDS_DEBITS

    def _closed_period(self, asked: Transfer, currency: str) -> Iterator[TransferResult]:
        closed_through = self.closed_through.get(currency)
        if closed_through is not None and (asked.effective_at or self.now) <= closed_through:
            yield R.EFFECTIVE_AT_IN_CLOSED_PERIOD

    def _instants(self, account: Account, since: datetime) -> list[datetime]:
        """Every instant from one on at which the balance of an account, or what counts of its holds, may change."""
        moved = [at for at, _ in account.moves if at > since]
        return [since, *moved, max(since, self.now)]

    def _posted_at(self, account: Account, instant: datetime) -> int:
        return sum(amount for at, amount in account.moves if at <= instant)

    def _beyond_limits(
        self, debit_id: str, credit_id: str, amount: int, since: datetime, held: tuple[int, int]
    ) -> Iterator[TransferResult]:
        """`held` is what is held of debits of the one and of credits of the other, beside this amount."""
        debit, credit = self.accounts[debit_id], self.accounts[credit_id]
        most = debit.debits - debit.credits + held[0] + amount
        if debit.flags.limits_at_every_instant:
            most = amount + max(
                self._posted_at(debit, instant) + (held[0] if instant >= self.now else 0)
                for instant in self._instants(debit, since)
            )
        least = credit.debits - credit.credits - held[1] - amount
        if credit.flags.limits_at_every_instant:
            least = -amount + min(
                self._posted_at(credit, instant) - (held[1] if instant >= self.now else 0)
                for instant in self._instants(credit, since)
            )
        if debit.flags.debits_must_not_exceed_credits and most > 0:
            yield R.EXCEEDS_CREDITS
        if credit.flags.credits_must_not_exceed_debits and least < 0:
            yield R.EXCEEDS_DEBITS
        # The debit account as it stands if none of its held credits is ever posted, the credit account likewise.
        debit_balance = _on_its_side(debit, most)
        credit_balance = _on_its_side(credit, least)
        if _rises_by_debit(debit):
            if (
                debit.limits.ceiling_minor is not None
                and debit_balance > debit.limits.ceiling_minor
            ):
                yield R.DEBIT_ACCOUNT_ABOVE_CEILING
        elif debit.limits.floor_minor is not None and debit_balance < debit.limits.floor_minor:
            yield R.DEBIT_ACCOUNT_BELOW_FLOOR
        if _rises_by_debit(credit):
            if credit.limits.floor_minor is not None and credit_balance < credit.limits.floor_minor:
                yield R.CREDIT_ACCOUNT_BELOW_FLOOR
        elif (
            credit.limits.ceiling_minor is not None and credit_balance > credit.limits.ceiling_minor
        ):
            yield R.CREDIT_ACCOUNT_ABOVE_CEILING

    def _broken_by_end(self, asked: Transfer) -> Iterator[TransferResult]:
        if asked.flags != TransferFlags():
            yield R.FLAGS_ARE_MUTUALLY_EXCLUSIVE
        if asked.pending_id is None:
            yield R.PENDING_ID_MUST_NOT_BE_ZERO
        if asked.pending_id == asked.transfer_id:
            yield R.PENDING_ID_MUST_BE_DIFFERENT
        if asked.timeout_ms:
            yield R.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER
        if asked.pending_id is None:
            return
        held = self.held.get(asked.pending_id)
        if held is not None:
            yield from self._broken_by_hold(asked, held)
        elif asked.pending_id in self.done:
            yield R.PENDING_TRANSFER_NOT_PENDING
        else:
            yield R.PENDING_TRANSFER_NOT_FOUND

    def _broken_by_hold(self, asked: Transfer, held: Held) -> Iterator[TransferResult]:
        if asked.debit_account_id not in ("", held.debit):
            yield R.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID
        if asked.credit_account_id not in ("", held.credit):
            yield R.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID
        if asked.currency_code not in ("", held.currency):
            yield R.PENDING_TRANSFER_HAS_DIFFERENT_CURRENCY
        if asked.code not in (0, held.code):
            yield R.PENDING_TRANSFER_HAS_DIFFERENT_CODE
        yield from self._broken_by_amount(asked, held)
        if held.state is HoldState.POSTED:
            yield R.PENDING_TRANSFER_ALREADY_POSTED
        if held.state is HoldState.VOIDED:
            yield R.PENDING_TRANSFER_ALREADY_VOIDED
        if held.state is HoldState.EXPIRED or self._is_due(held):
            yield R.PENDING_TRANSFER_EXPIRED
        if asked.kind is Kind.POST_PENDING:
            amount = held.left if asked.amount_minor is None else asked.amount_minor
            if amount <= 0:
                yield R.AMOUNT_MUST_BE_POSITIVE
            yield from self._closed(held.debit, held.credit)
            yield from self._closed_period(asked, held.currency)
            yield from self._beyond_instants(asked, held, amount)

    def _beyond_instants(
        self, asked: Transfer, held: Held, amount: int
    ) -> Iterator[TransferResult]:
        """What is posted of a hold breaks no limit of the final balance, but may break one of an instant."""
        released = amount if held.in_parts else held.left
        others = (
            self.pending(held.debit)[0] - released,
            self.pending(held.credit)[1] - released,
        )
        since = asked.effective_at or self.now
        accounts = (self.accounts[held.debit], self.accounts[held.credit])
        if any(account.flags.limits_at_every_instant for account in accounts):
            yield from self._beyond_limits(held.debit, held.credit, amount, since, others)

    def _broken_by_amount(self, asked: Transfer, held: Held) -> Iterator[TransferResult]:
        """A hold that has ended is measured by all that was held, or it could not answer that it has ended."""
        amount, is_void = asked.amount_minor, asked.kind is Kind.VOID_PENDING
        if amount is None:
            return
        has_ended = held.state is not HoldState.OPEN or self._is_due(held)
        if amount > (held.amount if has_ended or is_void else held.left):
            yield R.EXCEEDS_PENDING_TRANSFER_AMOUNT
        whole = held.left if held.in_parts else held.amount
        if is_void and amount != whole and not (held.in_parts and has_ended):
            yield R.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT

    # What is accepted.

    def _move(self, asked: Transfer) -> None:
        debit, credit, flags = asked.debit_account_id, asked.credit_account_id, asked.flags
        amount, currency = self._amount(asked), self.accounts[debit].currency
        if asked.kind is Kind.PENDING:
            closes = {debit} if flags.closing_debit else set()
            closes |= {credit} if flags.closing_credit else set()
            timeout = timedelta(milliseconds=asked.timeout_ms)
            self.held[asked.transfer_id] = Held(
                debit,
                credit,
                currency,
                asked.code,
                amount,
                amount,
                self.now + timeout if timeout else None,
                frozenset(closes),
                flags.multi_capture,
            )
        else:
            self._book(debit, credit, amount, asked.effective_at or self.now)
        self.done[asked.transfer_id] = Done(asked, debit, credit, currency, amount, asked.code)

    def _end(self, asked: Transfer) -> None:
        assert asked.pending_id is not None
        held = self.held[asked.pending_id]
        amount = held.left if asked.amount_minor is None else asked.amount_minor
        held.left = held.left - amount if held.in_parts else 0
        if asked.kind is Kind.POST_PENDING:
            self._book(held.debit, held.credit, amount, asked.effective_at or self.now)
        if held.left == 0:
            is_post = asked.kind is Kind.POST_PENDING
            held.state = HoldState.POSTED if is_post else HoldState.VOIDED
        done = Done(asked, held.debit, held.credit, held.currency, amount, held.code)
        self.done[asked.transfer_id] = done

    def _book(self, debit: str, credit: str, amount: int, at: datetime) -> None:
        self.accounts[debit].debits += amount
        self.accounts[debit].moves += ((at, amount),)
        self.accounts[credit].credits += amount
        self.accounts[credit].moves += ((at, -amount),)
        for name in (debit, credit):
            account = self.accounts[name]
            account.balances_after += (account.debits - account.credits,)

    # What is added up.

    def pending(self, name: str) -> tuple[int, int]:
        """Debits and credits that the open holds of an account have left."""
        opened = [held for held in self.held.values() if held.state is HoldState.OPEN]
        debits = sum(held.left for held in opened if held.debit == name)
        return debits, sum(held.left for held in opened if held.credit == name)

    def is_closed(self, name: str) -> bool:
        """True for an account that was created closed or that a hold closes, open or posted."""
        standing = (HoldState.OPEN, HoldState.POSTED)
        return self.accounts[name].flags.closed or any(
            name in held.closes and held.state in standing for held in self.held.values()
        )

    def _closed(self, debit: str, credit: str) -> Iterator[TransferResult]:
        if self.is_closed(debit):
            yield R.DEBIT_ACCOUNT_CLOSED
        if self.is_closed(credit):
            yield R.CREDIT_ACCOUNT_CLOSED

    def _is_due(self, held: Held) -> bool:
        return held.expires_at is not None and held.expires_at <= self.now

    def _both_held(self, asked: Transfer) -> tuple[int, int]:
        return self.pending(asked.debit_account_id)[0], self.pending(asked.credit_account_id)[1]

    def _rooms(self, asked: Transfer) -> tuple[int, int, int]:
        """The most that may move: as asked, until the debit account is even, until the credit account is."""
        debit = self.accounts[asked.debit_account_id]
        credit = self.accounts[asked.credit_account_id]
        held_debits, held_credits = self._both_held(asked)
        cap = MAX if asked.amount_minor is None else asked.amount_minor
        return (
            cap,
            debit.credits - debit.debits - held_debits,
            credit.debits - credit.credits - held_credits,
        )

    def _amount(self, asked: Transfer) -> int:
        amount, debit_room, credit_room = self._rooms(asked)
        if asked.flags.balancing_debit:
            amount = min(amount, debit_room)
        if asked.flags.balancing_credit:
            amount = min(amount, credit_room)
        return max(amount, 0) if _closes(asked) and asked.flags.is_balancing else amount


def _closes(asked: Transfer) -> bool:
    return asked.kind is Kind.PENDING and (asked.flags.closing_debit or asked.flags.closing_credit)


def _rises_by_debit(account: Account) -> bool:
    return account.type in (AccountType.ASSET, AccountType.EXPENSE)


def _on_its_side(account: Account, debits_less_credits: int) -> int:
    return debits_less_credits if _rises_by_debit(account) else -debits_less_credits
