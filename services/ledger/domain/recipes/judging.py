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
from services.ledger.domain.recipes.errors import SOURCES_EXHAUSTED, RecipeRefused
from services.ledger.domain.recipes.evaluation import Move, Plan, Tender
from services.ledger.domain.recipes.recipe import OnRefusal
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
    """

    balances: dict[str, Balance]
    holds: dict[UUID, Hold]
    tenant_id: str
    now: datetime
    closed_through: Mapping[str, datetime] = field(default_factory=dict)

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
    """

    leg: str
    group: int
    asked: Transfer
    resolved: Transfer
    hold: HoldView | None = None


@dataclass(frozen=True, slots=True)
class Suspended:
    """An account that refused a leg, and the one that stands in for it."""

    leg: str
    account_id: str
    stand_in_id: str


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
    refused: _Refused = {}
    posting_id = plan.fact.posting_id(books.tenant_id)
    while True:
        chain = _Chain(plan, books, refused, round_no, posting_id)
        chain.build()
        fault = chain.post()
        if fault is None:
            return chain.judged()
        refused[fault.key] = fault


@dataclass(frozen=True, slots=True)
class _Fault:
    """An account that refuses one side of a move, and so of all behind it."""

    account_id: str
    is_debit: bool
    move: int
    result: str

    @property
    def key(self) -> tuple[str, bool]:
        return self.account_id, self.is_debit


_Refused = dict[tuple[str, bool], _Fault]


@dataclass(frozen=True, slots=True)
class _Link:
    """A transfer of a chain, and the move that it is of."""

    move: int
    transfer: Transfer


@dataclass(slots=True)
class _Chain:
    """One try to post a plan: the transfers between the accounts that nobody has refused yet."""

    plan: Plan
    books: OpenBooks
    refused: _Refused
    round_no: int
    posting_id: UUID
    links: list[_Link] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    missing: dict[str, Account] = field(default_factory=dict)
    fresh: dict[str, Balance] = field(default_factory=dict)
    suspended: list[Suspended] = field(default_factory=list)
    # What the transfers so far add to an account: credits less debits, and by side what is only held.
    moved: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    held: dict[tuple[str, bool], int] = field(default_factory=lambda: defaultdict(int))

    def build(self) -> None:
        """Choose accounts and amounts. Raises RecipeRefused."""
        for at, move in enumerate(self.plan.moves):
            if move.leg.kind.ends_hold:
                amount_minor = move.amount.minor_units if move.amount else None
                self._link(at, move, 0, "", "", amount_minor)
                continue
            assert move.amount is not None
            if move.tenders:
                self._take(at, move, move.amount.minor_units)
            else:
                debit = self._chosen(at, move, move.debits, is_debit=True)
                credit = self._chosen(at, move, move.credits, is_debit=False)
                self._link(at, move, 0, debit, credit, move.amount.minor_units)

    def post(self) -> _Fault | None:
        """Judge the transfers as one chain: None once they are posted, else who is at fault. Raises RecipeRefused."""
        transfers = [
            replace(link.transfer, linked=at < len(self.links) - 1)
            for at, link in enumerate(self.links)
        ]
        books = Books(
            self._balances(transfers),
            self.books.now,
            holds=self.books.holds,
            closed_through=self.books.closed_through,
        )
        evaluation = evaluate(transfers, books)
        for at, verdict in enumerate(evaluation.verdicts):
            if verdict.result not in (_R.OK, _R.LINKED_EVENT_FAILED):
                return self._fault(at, verdict.result)
        self.books.balances.update(self.fresh)
        self.books.holds.update(evaluation.opened)
        for link, asked, posting in zip(self.links, transfers, evaluation.postings, strict=True):
            move = self.plan.moves[link.move]
            hold = evaluation.opened.get(asked.transfer_id)
            view = HoldView(hold.state, hold.remaining_minor, hold.expires_at) if hold else None
            self.made.append(Made(move.leg.name, move.group, asked, posting.transfer, view))
        return None

    def judged(self) -> Judged:
        """Return the posting, once it is posted."""
        return Judged(
            self.plan,
            self.posting_id,
            tuple(self.made),
            tuple(self.missing.values()),
            tuple(self.suspended),
        )

    # ---- Accounts

    def _chosen(self, at: int, move: Move, accounts: Sequence[Account], *, is_debit: bool) -> str:
        """Choose the first account that serves and has not refused. Raises RecipeRefused."""
        result = ""
        for place, account in enumerate(accounts):
            fault = self.refused.get((account.account_id, is_debit))
            if fault is not None and at >= fault.move:
                result = fault.result
                continue
            is_reversed = move.reverses and place == 0
            result = "" if is_reversed else self._unfit(account)
            if not result:
                self._use(account)
                if place:
                    self.suspended.append(
                        Suspended(move.leg.name, accounts[0].account_id, account.account_id)
                    )
                return account.account_id
        raise self._refusal(move, accounts[0].account_id, result)

    def _unfit(self, account: Account) -> str:
        """Say why an account that exists cannot serve; one with an owner or limits of its own can."""
        balance = self._balance(account.account_id)
        if balance is None:
            return ""
        if balance.currency_code != account.currency_code:
            return "EXISTS_WITH_DIFFERENT_CURRENCY"
        return "" if balance.type is account.type else "EXISTS_WITH_DIFFERENT_TYPE"

    def _use(self, account: Account) -> None:
        if self._balance(account.account_id) is None:
            self.missing[account.account_id] = account
            self.fresh[account.account_id] = Balance(
                account.account_id,
                account.currency_code,
                account.type,
                account.flags,
                limits=account.limits,
            )

    def _balance(self, account_id: str) -> Balance | None:
        return self.books.balances.get(account_id) or self.fresh.get(account_id)

    def _balances(self, transfers: Sequence[Transfer]) -> dict[str, Balance]:
        used = {account_id for item in transfers for account_id in _accounts_of(item)}
        for item in transfers:
            hold = self.books.holds.get(item.pending_id) if item.pending_id else None
            if hold is not None:
                used |= {hold.debit_account_id, hold.credit_account_id}
        found = {account_id: self._balance(account_id) for account_id in used}
        return {account_id: balance for account_id, balance in found.items() if balance}

    # ---- Sources

    def _take(self, at: int, move: Move, amount_minor: int) -> None:
        """Take an amount from sources in their order. Raises RecipeRefused."""
        is_debit = bool(move.leg.debit_from)
        left = amount_minor
        for place, tender in enumerate(move.tenders):
            taken = min(left, self._offered(at, tender, is_debit=is_debit, asked=left))
            if not taken:
                continue
            source = self._chosen(at, move, tender.accounts, is_debit=is_debit)
            other = self._chosen(
                at, move, move.credits if is_debit else move.debits, is_debit=not is_debit
            )
            debit, credit = (source, other) if is_debit else (other, source)
            self._link(at, move, place, debit, credit, taken)
            left -= taken
        if left:
            raise self._refusal(move, move.tenders[-1].accounts[0].account_id, SOURCES_EXHAUSTED)

    def _offered(self, at: int, tender: Tender, *, is_debit: bool, asked: int) -> int:
        """Return the most that a source gives; one that is closed or refuses gives nothing, unless it is unbounded."""
        cap = asked if tender.cap_minor is None else tender.cap_minor
        if tender.unbounded:
            return cap
        account = tender.accounts[0]
        fault = self.refused.get((account.account_id, is_debit))
        balance = self._balance(account.account_id)
        if balance is None or balance.closed or (fault is not None and at >= fault.move):
            return 0
        if self._unfit(account):
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

    def _link(
        self, at: int, move: Move, tender: int, debit: str, credit: str, amount_minor: int | None
    ) -> None:
        fact = self.plan.fact
        leg = move.leg
        self.links.append(
            _Link(
                at,
                Transfer(
                    transfer_id=self._transfer_id(move, tender),
                    debit_account_id=debit,
                    credit_account_id=credit,
                    currency_code=move.amount.currency_code if move.amount else "",
                    amount_minor=amount_minor,
                    code=leg.code,
                    kind=leg.kind,
                    effective_at=self.books.effective_at(self.plan),
                    metadata=move.metadata,
                    pending_id=move.pending_id,
                    timeout_ms=leg.timeout_ms,
                    flags=_MULTI_CAPTURE if leg.multi_capture else NO_FLAGS,
                    reference=fact.reference,
                    posting_id=self.posting_id,
                ),
            )
        )
        if amount_minor is not None and leg.kind is Kind.PENDING:
            self.held[debit, True] += amount_minor
            self.held[credit, False] += amount_minor
        elif amount_minor is not None:
            self.moved[debit] -= amount_minor
            self.moved[credit] += amount_minor

    def _transfer_id(self, move: Move, tender: int) -> UUID:
        reference = self.plan.fact.reference
        return derived_uuid(
            "ledger.recipe",
            self.books.tenant_id,
            reference.kind,
            reference.id,
            reference.part,
            self.plan.recipe.name,
            move.leg.name,
            str(move.group),
            str(tender),
            str(self.round_no),
        )

    def _fault(self, at: int, result: TransferResult) -> _Fault:
        """Say which account is at fault. Raises RecipeRefused where none is, or none may stand in."""
        link = self.links[at]
        move = self.plan.moves[link.move]
        is_debit = result in _DEBIT_AT_FAULT
        if not is_debit and result not in _CREDIT_AT_FAULT:
            raise self._refusal(move, "", result.name)
        accounts = _accounts_of(link.transfer)
        account_id = accounts[0 if is_debit else 1]
        if move.leg.kind.ends_hold:
            raise self._refusal(move, account_id, result.name)
        return _Fault(account_id, is_debit, link.move, result.name)

    def _refusal(self, move: Move, account_id: str, result: str) -> RecipeRefused:
        return RecipeRefused.of(self.plan.recipe.name, move.leg.name, account_id, result)


def wanted_accounts(plans: Iterator[Plan]) -> set[str]:
    """Return the names of all accounts that postings may use."""
    return {account.account_id for plan in plans for account in plan.accounts}


def _accounts_of(transfer: Transfer) -> tuple[str, str]:
    return transfer.debit_account_id, transfer.credit_account_id


def told(suspended: Sequence[Suspended]) -> str:
    """Say which legs stand where they should not; the posting itself has those that are too many to name."""
    told = [
        f"leg {each.leg} is booked on {each.stand_in_id}, since account {each.account_id} refused it"
        for each in suspended[:SUSPENDED_TOLD_MAX]
    ]
    left_out = len(suspended) - len(told)
    return "; ".join([*told, f"and {left_out} more"] if left_out else told)
