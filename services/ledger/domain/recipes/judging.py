"""Judges what a recipe made of a fact by the books: which accounts serve, what the sources hold, what is refused.

Done in memory on rows that nobody else can change meanwhile, before an id is claimed: what is refused leaves nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from services.ledger.domain.accounts import Account
from services.ledger.domain.balance import Balance
from services.ledger.domain.holds import Hold, HoldView
from services.ledger.domain.posting import Books, evaluate
from services.ledger.domain.recipes.errors import (
    EXCEEDS_EARLIER_LEG,
    SOURCES_EXHAUSTED,
    RecipeRefused,
)
from services.ledger.domain.recipes.evaluation import Move, Plan, Reversing, Tender
from services.ledger.domain.recipes.recipe import OnRefusal
from services.ledger.domain.reversals import Taken
from services.ledger.domain.transfers import (
    NO_FLAGS,
    Kind,
    Transfer,
    TransferFlags,
    TransferResult,
)
from services.runtime.ids import derived_uuid

_R = TransferResult
# Legs in suspense that are told of by name.
SUSPENDED_TOLD_MAX = 10
_MULTI_CAPTURE = TransferFlags(multi_capture=True)
_DEBIT_AT_FAULT = frozenset(
    {
        _R.DEBIT_ACCOUNT_NOT_FOUND,
        _R.DEBIT_ACCOUNT_CLOSED,
        _R.OVERFLOWS_DEBITS,
        _R.OVERFLOWS_DEBITS_PENDING,
        _R.EXCEEDS_CREDITS,
        _R.DEBIT_ACCOUNT_BELOW_FLOOR,
        _R.DEBIT_ACCOUNT_ABOVE_CEILING,
    }
)
_CREDIT_AT_FAULT = frozenset(
    {
        _R.CREDIT_ACCOUNT_NOT_FOUND,
        _R.CREDIT_ACCOUNT_CLOSED,
        _R.OVERFLOWS_CREDITS,
        _R.OVERFLOWS_CREDITS_PENDING,
        _R.EXCEEDS_DEBITS,
        _R.CREDIT_ACCOUNT_BELOW_FLOOR,
        _R.CREDIT_ACCOUNT_ABOVE_CEILING,
    }
)


@dataclass(slots=True)
class OpenBooks:
    """What postings are judged by: all locked, and changed by what is accepted.

    Attributes:
        balances: of the accounts that exist, and of those that accepted postings create.
        holds: that postings may end.
        tenant_id: whose books they are.
        now: time of recording.
        closed_through: how far they are closed, by currency.
        taken: what was taken back before of the transfers that postings reverse.
    """

    balances: dict[str, Balance]
    holds: dict[UUID, Hold]
    tenant_id: str
    now: datetime
    closed_through: Mapping[str, datetime] = field(default_factory=dict)
    taken: Taken = field(default_factory=Taken)

    def effective_at(self, plan: Plan) -> datetime | None:
        """Return when the transfers of a posting take effect; None for now.

        What has happened cannot be refused: where its time is in a closed period, it is booked as of now.
        """
        wanted = plan.fact.effective_at
        if wanted is None or plan.recipe.on_refusal is not OnRefusal.SUSPENSE:
            return wanted
        currencies = {move.amount.currency_code for move in plan.moves if move.amount is not None}
        closed = (self.closed_through.get(currency) for currency in currencies)
        return None if any(each is not None and wanted <= each for each in closed) else wanted


@dataclass(frozen=True, slots=True)
class Made:
    """A transfer of a posting.

    Attributes:
        group: place of the group that it was made for; else 0.
        asked: as it is posted.
        resolved: with the accounts and the amount that it comes to.
        hold: how it stands, if it is a hold.
        reverses: what it takes back of an earlier transfer; None for nothing.
    """

    leg: str
    group: int
    asked: Transfer
    resolved: Transfer
    hold: HoldView | None = None
    reverses: Reversing | None = None


@dataclass(frozen=True, slots=True)
class Suspended:
    """An account that refused a leg, and the one that stands in for it.

    Attributes:
        is_beyond: it did not refuse: the leg takes more back than is left of what it reverses.
    """

    leg: str
    account_id: str
    stand_in_id: str
    is_beyond: bool = False

    def __str__(self) -> str:
        """Say where the leg is, and why."""
        why = (
            f"account {self.account_id} is given back more than was posted on it"
            if self.is_beyond
            else f"account {self.account_id} refused it"
        )
        return f"leg {self.leg} is booked on {self.stand_in_id}, since {why}"


@dataclass(frozen=True, slots=True)
class Judged:
    """A posting that the books take.

    Attributes:
        missing: accounts to create for it.
    """

    plan: Plan
    posting_id: UUID
    made: tuple[Made, ...]
    missing: tuple[Account, ...]
    suspended: tuple[Suspended, ...]


def judge(plan: Plan, books: OpenBooks, round_no: int) -> Judged:
    """Accept a posting, and move the balances and holds that it moves.

    `round_no` is that of its transfers' ids: 0, unless others have taken ids of earlier rounds.

    Raises:
        RecipeRefused: an account does not take a leg, and nothing may stand in for it; the books are as before.
    """
    posting = _Posting(plan, books, round_no)
    try:
        for move in plan.moves:
            posting.post(move)
    except RecipeRefused:
        posting.undo()
        raise
    return posting.judged()


@dataclass(frozen=True, slots=True)
class _Link:
    """A transfer that was accepted, and the move that it is of."""

    move: Move
    asked: Transfer
    resolved: Transfer
    reverses: Reversing | None


class _Posting:
    """A plan that is posted move by move, each in the books that the moves before it left.

    An account that refuses one side of a move is not asked again for that side: so a move is judged anew only for an
    account that had not refused before, and the work grows with the moves however many accounts refuse.
    """

    def __init__(self, plan: Plan, books: OpenBooks, round_no: int) -> None:
        self.plan, self.books, self.round_no = plan, books, round_no
        self.posting_id = plan.fact.posting_id(books.tenant_id)
        self.effective_at = books.effective_at(plan)
        # What each account answered that refused, by side.
        self.refused: dict[tuple[str, bool], str] = {}
        self.links: list[_Link] = []
        self.missing: dict[str, Account] = {}
        self.suspended: list[Suspended] = []
        self.opened: dict[UUID, Hold] = {}
        # How that stood which it has touched; None for an account that there was not.
        self.balances_before: dict[str, Balance | None] = {}
        self.holds_before: dict[UUID, Hold] = {}
        self.taken_before = books.taken.touched(plan.reverses)

    def post(self, move: Move) -> None:
        """Post one move between the accounts that nobody has refused yet. Raises RecipeRefused."""
        while True:
            attempt = _Attempt(self, move)
            attempt.build()
            refusal = self._judged(attempt)
            if refusal is None:
                return
            self._note(move, *refusal)

    def undo(self) -> None:
        """Leave the books as they were before the first move."""
        for account_id, balance in self.balances_before.items():
            if balance is None:
                self.books.balances.pop(account_id, None)
            else:
                self.books.balances[account_id] = balance
        self.books.holds.update(self.holds_before)
        for transfer_id in self.opened:
            del self.books.holds[transfer_id]
        self.books.taken.minor.update(self.taken_before)

    def judged(self) -> Judged:
        """Return the posting, once all moves are posted."""
        last = len(self.links) - 1
        made = tuple(self._made(link, linked=at < last) for at, link in enumerate(self.links))
        return Judged(
            self.plan, self.posting_id, made, tuple(self.missing.values()), tuple(self.suspended)
        )

    def _made(self, link: _Link, *, linked: bool) -> Made:
        hold = self.opened.get(link.asked.transfer_id)
        view = HoldView(hold.state, hold.remaining_minor, hold.expires_at) if hold else None
        return Made(
            link.move.leg.name,
            link.move.group,
            replace(link.asked, linked=linked),
            replace(link.resolved, linked=linked),
            view,
            link.reverses,
        )

    def _judged(self, attempt: _Attempt) -> tuple[Transfer, TransferResult] | None:
        """Judge the transfers of a move as one chain: None once they are posted, else the first that is refused."""
        last = len(attempt.transfers) - 1
        chain = [
            replace(transfer, linked=at < last) for at, transfer in enumerate(attempt.transfers)
        ]
        books = Books(
            self._touched(attempt, chain),
            self.books.now,
            holds=self.books.holds,
            closed_through=self.books.closed_through,
        )
        # Their ids are unknown, so nothing is compared by content.
        evaluation = evaluate(chain, books, [b""] * len(chain))
        for asked, verdict in zip(chain, evaluation.verdicts, strict=True):
            if verdict.result not in (_R.OK, _R.LINKED_EVENT_FAILED):
                return asked, verdict.result
        self.books.balances.update(attempt.fresh)
        self.books.holds.update(evaluation.opened)
        self.opened |= evaluation.opened
        self.missing |= attempt.missing
        self.suspended += attempt.suspended
        reverses = None if attempt.is_beyond else attempt.move.reverses
        self.links += [
            _Link(attempt.move, asked, posting.transfer, reverses)
            for asked, posting in zip(chain, evaluation.postings, strict=True)
        ]
        if reverses is not None:
            self.books.taken.take(reverses.transfer_id, reverses.amount_minor)
        return None

    def _touched(self, attempt: _Attempt, transfers: Sequence[Transfer]) -> dict[str, Balance]:
        """Return the balances that transfers may move, and keep how these and their holds stand."""
        used = {account_id for item in transfers for account_id in _accounts_of(item)}
        for item in transfers:
            hold = self.books.holds.get(item.pending_id) if item.pending_id else None
            if hold is not None:
                used |= {hold.debit_account_id, hold.credit_account_id}
                if hold.transfer_id not in self.opened:
                    self.holds_before.setdefault(hold.transfer_id, replace(hold))
        for account_id in used - self.balances_before.keys():
            balance = self.books.balances.get(account_id)
            self.balances_before[account_id] = replace(balance) if balance else None
        found = {account_id: attempt.balance(account_id) for account_id in used}
        return {account_id: balance for account_id, balance in found.items() if balance}

    def _note(self, move: Move, asked: Transfer, result: TransferResult) -> None:
        """Note which account refused. Raises RecipeRefused where none did, or none may stand in."""
        is_debit = result in _DEBIT_AT_FAULT
        if not is_debit and result not in _CREDIT_AT_FAULT:
            raise self.refusal(move, "", result.name)
        account_id = _accounts_of(asked)[0 if is_debit else 1]
        if move.leg.kind.ends_hold:
            raise self.refusal(move, account_id, result.name)
        self.refused[account_id, is_debit] = result.name

    def refusal(self, move: Move, account_id: str, result: str) -> RecipeRefused:
        """Say why a move is not posted."""
        return RecipeRefused.of(self.plan.recipe.name, move.leg.name, account_id, result)


class _Attempt:
    """One try to post a move: its transfers, and what they need."""

    def __init__(self, posting: _Posting, move: Move) -> None:
        self.posting, self.move = posting, move
        reverses = move.reverses
        # It takes more back than is left.
        self.is_beyond = reverses is not None and posting.books.taken.exceeds(
            reverses.transfer_id, reverses.posted_minor, reverses.amount_minor
        )
        self.transfers: list[Transfer] = []
        self.missing: dict[str, Account] = {}
        self.fresh: dict[str, Balance] = {}
        self.suspended: list[Suspended] = []
        # What its transfers so far add to an account: credits less debits, and by side what is only held.
        self.moved: dict[str, int] = defaultdict(int)
        self.held: dict[tuple[str, bool], int] = defaultdict(int)

    def build(self) -> None:
        """Choose accounts and amounts. Raises RecipeRefused."""
        move = self.move
        if move.leg.kind.ends_hold:
            self._add(0, "", "", move.amount.minor_units if move.amount else None)
            return
        assert move.amount is not None
        if self.is_beyond and self.posting.plan.recipe.on_refusal is OnRefusal.REFUSE:
            raise self.posting.refusal(move, "", EXCEEDS_EARLIER_LEG)
        if move.tenders:
            self._take(move.amount.minor_units)
        else:
            debit = self._chosen(move.debits, is_debit=True)
            credit = self._chosen(move.credits, is_debit=False)
            self._add(0, debit, credit, move.amount.minor_units)

    def balance(self, account_id: str) -> Balance | None:
        """Return how an account stands; None where there is none."""
        return self.posting.books.balances.get(account_id) or self.fresh.get(account_id)

    # ---- Accounts

    def _chosen(self, accounts: Sequence[Account], *, is_debit: bool) -> str:
        """Choose the first account that serves and has not refused. Raises RecipeRefused."""
        result = ""
        for place, account in enumerate(accounts):
            if self.is_beyond and not place:
                continue
            refused = self.posting.refused.get((account.account_id, is_debit))
            if refused is not None:
                result = refused
                continue
            is_reversed = self.move.reverses is not None and place == 0
            result = "" if is_reversed else self._unfit(account)
            if not result:
                self._use(account)
                if place:
                    self.suspended.append(
                        Suspended(
                            self.move.leg.name,
                            accounts[0].account_id,
                            account.account_id,
                            self.is_beyond,
                        )
                    )
                return account.account_id
        raise self.posting.refusal(self.move, accounts[0].account_id, result)

    def _unfit(self, account: Account) -> str:
        """Say why an account that exists cannot serve; one with an owner or limits of its own can."""
        balance = self.balance(account.account_id)
        if balance is None:
            return ""
        if balance.currency_code != account.currency_code:
            return "EXISTS_WITH_DIFFERENT_CURRENCY"
        return "" if balance.type is account.type else "EXISTS_WITH_DIFFERENT_TYPE"

    def _use(self, account: Account) -> None:
        if self.balance(account.account_id) is None:
            self.missing[account.account_id] = account
            self.fresh[account.account_id] = Balance(
                account.account_id,
                account.currency_code,
                account.type,
                account.flags,
                limits=account.limits,
            )

    # ---- Sources

    def _take(self, amount_minor: int) -> None:
        """Take an amount from sources in their order. Raises RecipeRefused."""
        move = self.move
        is_debit = bool(move.leg.debit_from)
        left = amount_minor
        for place, tender in enumerate(move.tenders):
            taken = min(left, self._offered(tender, is_debit=is_debit, asked=left))
            if not taken:
                continue
            source = self._chosen(tender.accounts, is_debit=is_debit)
            other = self._chosen(move.credits if is_debit else move.debits, is_debit=not is_debit)
            debit, credit = (source, other) if is_debit else (other, source)
            self._add(place, debit, credit, taken)
            left -= taken
        if left:
            source = move.tenders[-1].accounts[0].account_id
            raise self.posting.refusal(move, source, SOURCES_EXHAUSTED)

    def _offered(self, tender: Tender, *, is_debit: bool, asked: int) -> int:
        """Return the most that a source gives; one that is closed or refuses gives nothing, unless it is unbounded."""
        cap = asked if tender.cap_minor is None else tender.cap_minor
        if tender.unbounded:
            return cap
        account = tender.accounts[0]
        balance = self.balance(account.account_id)
        if balance is None or balance.closed:
            return 0
        if (account.account_id, is_debit) in self.posting.refused or self._unfit(account):
            return 0
        return max(0, min(cap, self._available(balance, is_debit=is_debit)))

    def _available(self, balance: Balance, *, is_debit: bool) -> int:
        """Return what can be taken until both sides are even, holds counted."""
        account_id = balance.account_id
        net = balance.credits_posted - balance.debits_posted + self.moved[account_id]
        held = self.held[account_id, is_debit]
        if is_debit:
            return net - balance.debits_pending - held
        return -net - balance.credits_pending - held

    # ---- Transfers

    def _add(self, tender: int, debit: str, credit: str, amount_minor: int | None) -> None:
        posting, move = self.posting, self.move
        leg = move.leg
        self.transfers.append(
            Transfer(
                transfer_id=self._transfer_id(tender),
                debit_account_id=debit,
                credit_account_id=credit,
                currency_code=move.amount.currency_code if move.amount else "",
                amount_minor=amount_minor,
                code=leg.code,
                kind=leg.kind,
                effective_at=posting.effective_at,
                metadata=move.metadata,
                pending_id=move.pending_id,
                timeout_ms=leg.timeout_ms,
                flags=_MULTI_CAPTURE if leg.multi_capture else NO_FLAGS,
                reference=posting.plan.fact.reference,
                posting_id=posting.posting_id,
            ),
        )
        if amount_minor is not None and leg.kind is Kind.PENDING:
            self.held[debit, True] += amount_minor
            self.held[credit, False] += amount_minor
        elif amount_minor is not None:
            self.moved[debit] -= amount_minor
            self.moved[credit] += amount_minor

    def _transfer_id(self, tender: int) -> UUID:
        posting = self.posting
        reference = posting.plan.fact.reference
        return derived_uuid(
            "ledger.recipe",
            posting.books.tenant_id,
            reference.kind,
            reference.id,
            reference.part,
            posting.plan.recipe.name,
            self.move.leg.name,
            str(self.move.group),
            str(tender),
            str(posting.round_no),
        )


def wanted_accounts(plans: Iterator[Plan]) -> set[str]:
    """Return the names of all accounts that postings may use."""
    return {account.account_id for plan in plans for account in plan.accounts}


def _accounts_of(transfer: Transfer) -> tuple[str, str]:
    return transfer.debit_account_id, transfer.credit_account_id


def told(suspended: Sequence[Suspended]) -> str:
    """Say which legs stand where they should not; the posting itself has those that are too many to name."""
    told = [str(each) for each in suspended[:SUSPENDED_TOLD_MAX]]
    left_out = len(suspended) - len(told)
    return "; ".join([*told, f"and {left_out} more"] if left_out else told)
