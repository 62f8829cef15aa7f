"""What a recipe makes of a fact: accounts and transfers, before anybody looks at the books."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from services.ledger.domain.accounts import Account, AccountType
from services.ledger.domain.recipes.errors import (
    EARLIER_LEG_NOT_FOUND,
    EARLIER_LEG_OF_SEVERAL,
    RecipeRefused,
)
from services.ledger.domain.recipes.parameters import Parameter, Value, Values, bind, is_given
from services.ledger.domain.recipes.recipe import (
    Allocation,
    Earlier,
    Leg,
    OnRefusal,
    Recipe,
    Source,
)
from services.ledger.domain.recipes.splitting import split
from services.ledger.domain.recipes.templates import Scope, places
from services.ledger.domain.transfers import Reference, Transfer, moved
from services.runtime.errors import InvalidField
from services.runtime.ids import derived_uuid
from services.runtime.money import Money

SUSPENSE = "suspense:"
TRANSFERS_MAX = 8190


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact that is posted by a recipe.

    Attributes:
        version: of the recipe; 0 for the newest.
        parameters: as they came.
        effective_at: when it takes effect in the books; None for when it is recorded.
    """

    recipe: str
    version: int
    parameters: Values
    reference: Reference
    effective_at: datetime | None = None

    @property
    def size(self) -> int:
        """How many groups its lists have: what it takes to work on it grows with that."""
        return sum(len(value) for value in self.parameters.values() if isinstance(value, tuple))

    def posting_id(self, tenant_id: str) -> UUID:
        """Return the id of its posting."""
        return posting_id(tenant_id, self.recipe, self.reference)


@dataclass(frozen=True, slots=True)
class EarlierPosting:
    """A posting that others name, which may not be in the books."""

    recipe: str
    reference: Reference

    def posting_id(self, tenant_id: str) -> UUID:
        """Return its id."""
        return posting_id(tenant_id, self.recipe, self.reference)


# Transfers of earlier postings, by posting, leg and group; those that stand for one by their ids.
Posted = Mapping[tuple[EarlierPosting, str, int] | UUID, Transfer | None]


@dataclass(frozen=True, slots=True)
class Tender:
    """A source that an amount is taken from: its account and who stands in for it, in the order of trying.

    Attributes:
        cap_minor: the most that is taken; None for no such cap.
    """

    accounts: tuple[Account, ...]
    cap_minor: int | None
    unbounded: bool


@dataclass(frozen=True, slots=True)
class Reversing:
    """What a move takes back.

    Attributes:
        transfer_id: of the transfer that it reverses.
        posted_minor: what that moved.
        amount_minor: what is taken back of it; below zero where it goes the same way again.
    """

    transfer_id: UUID
    posted_minor: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Move:
    """One transfer to make, or one a source.

    Attributes:
        group: place of the group that it is made for; else 0.
        debits, credits: accounts for either side, in the order in which they are tried; empty for those of a hold, and
            for the side of the sources.
        tenders: the sources, in their order; empty where the accounts are named.
        amount: more than zero; None for all of a hold.
        reverses: the earlier leg whose accounts these are, whatever their types are; None for none.
    """

    leg: Leg
    group: int
    debits: tuple[Account, ...]
    credits: tuple[Account, ...]
    amount: Money | None
    metadata: Mapping[str, str]
    tenders: tuple[Tender, ...] = ()
    pending_id: UUID | None = None
    reverses: Reversing | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe makes of a fact."""

    recipe: Recipe
    fact: Fact
    moves: tuple[Move, ...]
    values: Values = field(default_factory=dict)

    @property
    def reverses(self) -> set[UUID]:
        """The transfers that are reversed."""
        return {move.reverses.transfer_id for move in self.moves if move.reverses is not None}

    @property
    def accounts(self) -> Iterator[Account]:
        """Every account that may be used, stand-ins among them."""
        for move in self.moves:
            yield from move.debits
            yield from move.credits
            for tender in move.tenders:
                yield from tender.accounts


def posting_id(tenant_id: str, recipe: str, reference: Reference) -> UUID:
    """Return the id of the posting of a recipe for a reference."""
    return derived_uuid(
        "ledger.posting", tenant_id, recipe, reference.kind, reference.id, reference.part
    )


def earlier_postings(recipe: Recipe, fact: Fact, values: Values) -> Iterator[EarlierPosting]:
    """Name the postings that the legs of a fact depend on."""
    for leg, scope, _ in _instances(recipe, fact, values):
        if leg.earlier is not None:
            yield _named(leg.earlier, scope)


def earlier_transfers(recipe: Recipe, fact: Fact, values: Values) -> Iterator[UUID]:
    """Name the transfers that stand for earlier legs which no recipe posted.

    Raises:
        InvalidField: what names one is no id of a transfer.
    """
    for leg, scope, _ in _instances(recipe, fact, values):
        if leg.earlier is not None and (found := _standing(leg.earlier, scope)) is not None:
            yield found


def bound(recipe: Recipe, fact: Fact) -> dict[str, Value]:
    """Return the parameters of a fact, once each is known to be what the recipe takes.

    Raises:
        InvalidField: a parameter is not, or the reference is of another kind.
    """
    if recipe.reference_kind not in ("", fact.reference.kind):
        raise InvalidField.one(
            "reference.kind", f"recipe {recipe.name} is posted for a {recipe.reference_kind}"
        )
    return bind(recipe.parameters, fact.parameters)


def evaluate(
    recipe: Recipe, fact: Fact, values: Values, posted: Posted, *, cuts: bool = False
) -> Plan:
    """Return what a recipe makes of a fact whose parameters are bound.

    `cuts` is for what an earlier release may have posted: it cut metadata that is too long.

    Raises:
        InvalidField: the parameters cannot be split as the recipe says, make more transfers than a posting has, or
            longer metadata than a transfer has.
        RecipeRefused: an earlier leg that it depends on is not in the books.
    """
    moves: list[Move] = []
    for leg, scope, group in _instances(recipe, fact, values, cuts=cuts):
        move = _Instance(recipe, fact, leg, scope, group, posted).move()
        if move is not None:
            moves.append(move)
    if sum(max(1, len(move.tenders)) for move in moves) > TRANSFERS_MAX:
        raise InvalidField.one(
            "parameters", f"make more than {TRANSFERS_MAX} transfers; post them in several parts"
        )
    return Plan(recipe, fact, tuple(moves), values)


def _instances(
    recipe: Recipe, fact: Fact, values: Values, *, cuts: bool = False
) -> Iterator[tuple[Leg, Scope, int]]:
    """Go through the legs that are made, group by group where neighbours are made for each group of one list."""
    at = 0
    while at < len(recipe.legs):
        listed = recipe.legs[at].for_each
        stop = at + 1
        while listed and stop < len(recipe.legs) and recipe.legs[stop].for_each == listed:
            stop += 1
        parameters = recipe.in_scope(listed)
        for group, scope in enumerate(_scopes(fact, parameters, values, listed, cuts=cuts)):
            for leg in recipe.legs[at:stop]:
                if _is_made(leg, scope):
                    yield leg, scope, group
        at = stop


def _scopes(
    fact: Fact, parameters: Mapping[str, Parameter], values: Values, listed: str, *, cuts: bool
) -> Iterator[Scope]:
    if not listed:
        yield Scope(fact.reference, parameters, values, cuts=cuts)
        return
    groups = values.get(listed, ())
    assert isinstance(groups, tuple)
    for group in groups:
        yield Scope(fact.reference, parameters, values, group, cuts)


def _is_made(leg: Leg, scope: Scope) -> bool:
    wanted = not leg.when or is_given(scope.value(leg.when))
    return wanted and not (leg.unless and is_given(scope.value(leg.unless)))


def _named(earlier: Earlier, scope: Scope) -> EarlierPosting:
    reference = scope.reference
    part = scope.in_text(earlier.part) or ""
    return EarlierPosting(earlier.recipe, Reference(reference.kind, reference.id, part))


def _standing(earlier: Earlier, scope: Scope) -> UUID | None:
    text = scope.in_text(earlier.transfer)
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        named = [place.name for place in places(earlier.transfer)]
        field_name = f"parameters.{named[0]}" if named else "recipe"
        raise InvalidField.one(field_name, "must be the id of a transfer: a UUID") from None


class _Instance:
    """A leg that is made, for its group."""

    def __init__(
        self, recipe: Recipe, fact: Fact, leg: Leg, scope: Scope, group: int, posted: Posted
    ) -> None:
        self.recipe, self.fact, self.leg, self.scope = recipe, fact, leg, scope
        self.group, self.posted = group, posted
        self.templates = {account.name: account for account in recipe.accounts}
        self.allocations = {each.name: each for each in recipe.allocations}

    def move(self) -> Move | None:
        """Return what it makes; None where nothing moves."""
        leg = self.leg
        amount = self._amount(leg.amount) if leg.amount else None
        if leg.amount and (amount is None or not amount.minor_units):
            return None
        metadata = self.scope.metadata(leg.metadata)
        if leg.kind.ends_hold:
            hold = self._earlier(leg.hold)
            if hold is None:
                raise self._refused(EARLIER_LEG_NOT_FOUND)
            return Move(leg, self.group, (), (), amount, metadata, (), hold.transfer_id)
        assert amount is not None, "checked when the recipe was stored"
        reversed_ = self._earlier(leg.reverses)
        debits, credits = self._sides(amount, reversed_)
        reverses = None
        if reversed_ is not None:
            posted_minor = moved(reversed_)
            reverses = Reversing(reversed_.transfer_id, posted_minor, amount.minor_units)
        if amount.minor_units < 0:
            debits, credits, amount = credits, debits, -amount
        tenders = tuple(self._tender(source) for source in leg.sources)
        return Move(
            leg,
            self.group,
            debits,
            credits,
            amount,
            metadata,
            tenders,
            reverses=reverses,
        )

    def _sides(
        self, amount: Money, reversed_: Transfer | None
    ) -> tuple[tuple[Account, ...], tuple[Account, ...]]:
        leg = self.leg
        if reversed_ is not None:
            if reversed_.currency_code != amount.currency_code:
                raise InvalidField.one(
                    f"parameters.{leg.amount}",
                    f"must be in {reversed_.currency_code}, as the leg that it reverses",
                )
            return self._of_reversed(reversed_, amount)
        if leg.reverses is not None and not leg.debit:
            raise self._refused(EARLIER_LEG_NOT_FOUND)
        return self._named_side(leg.debit), self._named_side(leg.credit)

    def _of_reversed(
        self, reversed_: Transfer, amount: Money
    ) -> tuple[tuple[Account, ...], tuple[Account, ...]]:
        """Return the accounts that a leg came to, the other way round. They exist, whatever their types are."""
        leg = self.leg
        found = []
        for account_id, name in (
            (reversed_.credit_account_id, leg.debit),
            (reversed_.debit_account_id, leg.credit),
        ):
            template = self.templates.get(name)
            kind = template.type if template else AccountType.ASSET
            found.append(self._with_stand_ins(Account(account_id, amount.currency_code, kind)))
        return found[0], found[1]

    def _named_side(self, name: str) -> tuple[Account, ...]:
        return self._with_stand_ins(self._account(name)) if name else ()

    def _tender(self, source: Source) -> Tender:
        cap = self._amount(source.up_to) if source.up_to else None
        accounts = self._with_stand_ins(self._account(source.account))
        return Tender(accounts, cap.minor_units if cap else None, source.unbounded)

    def _account(self, name: str) -> Account:
        template = self.templates[name]
        return Account(
            account_id=self.scope.in_name(template.account_id),
            currency_code=self.scope.in_name(template.currency),
            type=template.type,
            flags=template.flags,
            owner=self.scope.in_name(template.owner),
            metadata=self.scope.metadata(template.metadata),
            limits=template.limits,
        )

    def _with_stand_ins(self, account: Account) -> tuple[Account, ...]:
        """Return the account and who stands in for it where what has happened cannot be refused.

        The last is used for this reference only, under a name that nobody knows before.
        """
        if self.recipe.on_refusal is OnRefusal.REFUSE:
            return (account,)
        reference = self.fact.reference
        derived = derived_uuid(
            "suspense", account.account_id, reference.kind, reference.id, reference.part
        )
        names = [f"{SUSPENSE}{derived}"]
        if not account.account_id.startswith(SUSPENSE):
            names.insert(0, SUSPENSE + account.account_id)
        stand_ins = (
            Account(name, account.currency_code, account.type, owner=account.owner)
            for name in names
        )
        return (account, *stand_ins)

    def _amount(self, name: str) -> Money | None:
        allocation, _, part = name.partition(".")
        if not part:
            value = self.scope.value(name)
            return value if isinstance(value, Money) else None
        return self._part(self.allocations[allocation], part)

    def _part(self, allocation: Allocation, part: str) -> Money | None:
        whole = self._amount(allocation.of)
        return None if whole is None else split(allocation, whole, self.scope)[part]

    def _earlier(self, earlier: Earlier | None) -> Transfer | None:
        if earlier is None:
            return None
        key = (_named(earlier, self.scope), earlier.leg, self.group)
        posted = self.posted.get(key)
        if posted is None and key in self.posted:
            # To take one of them, or the accounts that are named for want of any, would move money between others.
            raise self._refused(EARLIER_LEG_OF_SEVERAL)
        standing = _standing(earlier, self.scope) if posted is None else None
        return posted if standing is None else self.posted.get(standing)

    def _refused(self, result: str) -> RecipeRefused:
        return RecipeRefused.of(self.recipe.name, self.leg.name, "", result)
